"""Runs commands in a root folder of their own: ``python isolate.py DESCRIPTOR FOLDER < PLAN``, by lpack's own Python.

It forks for each command, which takes far less time than starting a Python for it; held_memory.py lies beside it. PLAN is a
`Plan` in the form of `marshal`; FOLDER, which is empty, is where the root is put together. As root or in a user namespace
(user_namespaces(7)), it makes namespaces for mounts and processes; its exit status is 97 where the machine does not allow that.
DESCRIPTOR is a socket of datagrams. One byte is sent on it as soon as commands can be run. Each datagram that then comes has
three descriptors: a connection, the command's output, and its answer, a file. When it is closed, all commands end.

On a command's connection comes its order, a `CommandOrder` in the form of `marshal` after its length (four bytes). The reply is
a sequence of `NOTE`s, a kind and a number each, the last one `OVER`: after it, nothing runs that the command has started, since
the first process of its process namespace has ended (pid_namespaces(7)). Whoever closes the connection before that kills it.

A command sees its root alone: no process, network, shared memory or host name but its own. It can write to /tmp, a file system
in memory, and nowhere else. It runs as a user without privileges, who can get none, within limits of time, memory and files.
"""

from __future__ import annotations

import _socket  # not socket, nor json or signal: they import more than all of this takes
import ctypes
import errno
import fcntl
import marshal
import os
import resource
import select
import struct
import sys
import time

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(sys.argv[0]))
    from held_memory import MemoryLimit, read_file, scarce_memory  # type: ignore[import-not-found]
    from mounts import (  # type: ignore[import-not-found]
        BIND,
        LOCKED,
        NODEV,
        NOEXEC,
        NOSUID,
        RDONLY,
        REC,
        REMOUNT,
        SLAVE,
        check,
        libc,
        mount,
        show,
        show_made,
    )
    from runtime_api import RuntimeApi  # type: ignore[import-not-found]
else:
    from builders.inside.held_memory import MemoryLimit, read_file, scarce_memory
    from builders.inside.mounts import (
        BIND,
        LOCKED,
        NODEV,
        NOEXEC,
        NOSUID,
        RDONLY,
        REC,
        REMOUNT,
        SLAVE,
        check,
        libc,
        mount,
        show,
        show_made,
    )
    from builders.inside.runtime_api import RuntimeApi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, Protocol, TypedDict

    class Limit(Protocol):
        """What processes may hold of memory: ``excess`` returns the bytes that they hold, where these are too many, else 0."""

        def excess(self) -> int: ...

    class Plan(TypedDict):
        """What every command sees.

        ``base`` are folders that become the root, each on top of those after it; none for a new one. On top come ``folders``,
        ``links`` (target, place),
        ``files`` (place, mode, content), ``shown`` (path of this machine, place), and ``hidden``, folders of these that are to
        be empty. The folder of each place must be there, or in the list; all is read-only. ``user`` is the identity (user,
        group) of commands, ``filter`` a program for seccomp(2), ``host`` the name of the machine.
        """

        base: list[str]
        folders: list[str]
        links: list[tuple[str, str]]
        files: list[tuple[str, int, bytes]]
        shown: list[tuple[str, str]]
        hidden: list[str]
        user: tuple[int, int]
        filter: bytes
        host: str

    class CommandOrder(TypedDict):
        """A command with its variables, and the folder it starts in.

        ``shown`` are pairs of a folder of this machine and its place, in order, read-only; several with a colon before each lie
        on top of each other, the first one uppermost. ``same`` are paths that must be the same as where the order comes from,
        with their devices and inodes. ``storage`` is the size of /tmp, ``memory`` what all processes may hold together (0: as
        much as they want), ``file`` the size of one file, in bytes; ``seconds`` are of a processor. With ``runtime``, an
        address, the command finds Lambda's runtime API there (`RuntimeApi`), and is killed as soon as it asks for its first
        event.
        """

        command: list[str]
        variables: dict[str, str]
        start: str
        shown: list[tuple[str, str]]
        same: list[tuple[str, int, int]]
        storage: int
        memory: int
        file: int
        seconds: int
        runtime: str


UNAVAILABLE = 97
NOTE = struct.Struct("=cq")
READY, REFUSED, FAILED, LOST = b"r", b"n", b"f", b"l"
"""Kinds of notes: everything is in its place (0); the machine refuses to isolate it (the error's number); the command itself
cannot be started (the error's number); it is killed, since it cannot be watched any more (the error's number)."""
ASKED, ENDED, MEMORY, SCARCE, OVER = b"a", b"e", b"m", b"s", b"."
"""More of them: it asks for an event (0), or reports that it cannot start (1, and its answer is what it says); it has ended
(its wait status); it is killed for the memory that it holds (bytes), or that the machine has left (bytes); nothing of it is
left (0)."""
SHORTAGES = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
"""Errors of a machine that has too few processes, too little memory or too few open files left: it allows all the same."""
LENGTH = struct.Struct("I")
ANSWER = 3
"""The descriptor of the file that a command's answer goes to."""
_DESCRIPTORS = struct.Struct("3i")
_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_DETACH = 2
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1
_KILL, _CHILD_ENDED = 9, 17
_SET_DEATH_SIGNAL, _SET_DUMPABLE, _DROP_BOUNDING, _SET_SECCOMP, _NO_NEW_PRIVILEGES = 1, 4, 24, 22, 38
_SECCOMP_FILTER = 2
_CAPABILITIES = 64
"""More than there are (capabilities(7))."""
_PROCESSES, _FILES = 1024, 1024
"""How many processes a function may run, and files it may open (AWS "Lambda quotas")."""
_FEWEST_FILES, _BYTES_OF_FILE = 1024, 8192
"""Files that /tmp can hold: as many as on a disk, or so, since names in memory take room that its size does not count."""
_FIELDS = 50
"""Fields of /proc/self/stat after the name of the program (proc_pid_stat(5))."""
_DEVICES = ("full", "null", "random", "urandom", "zero")
_END_INTERVAL = 5
"""Milliseconds between two looks for what has ended, on a kernel that tells nobody (before 5.3, pidfd_open(2))."""
_MEMORY_INTERVAL = 10
"""Milliseconds between two looks at the memory that a command holds."""


def main(descriptor: str, folder: str) -> int:
    """Make the namespaces and the root, and run what is asked for until nobody is left to ask."""
    try:
        plan: Plan = marshal.loads(sys.stdin.buffer.read())  # noqa: S302 from lpack itself
        user, group = plan["user"]
        os.umask(0o022)  # others read what is made here
        libc().signal(_CHILD_ENDED, None)  # who started lpack may have had it ignored, and then nobody can be waited for
        separate(user, group)
        process = os.fork()  # the first process in the new process namespace
        if process:
            os.close(int(descriptor))
            return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) & 0xFF
        check(libc().prctl(_SET_DEATH_SIGNAL, _KILL), "prctl")
        root = os.path.join(folder, "root")
        os.mkdir(root)
        make_root(plan, root)
        server = Server(_socket.socket(fileno=int(descriptor)), plan, root)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1 if error.errno in SHORTAGES else UNAVAILABLE
    return server.serve()


class Server:
    """Runs commands, each in a process namespace of its own."""

    def __init__(self, channel: _socket.socket, plan: Plan, root: str) -> None:
        self._channel = channel
        self._plan = plan
        self._root = root
        self._own = os.open("/proc/self/ns/pid", os.O_RDONLY)
        self._connections: dict[int, _socket.socket] = {}  # by the process
        self._processes: dict[int, int] = {}  # by the descriptor of its connection
        self._ends: dict[int, int] = {}  # descriptors that tell of a process's end
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)
        os.set_inheritable(channel.fileno(), False)

    def serve(self) -> int:
        """Run what is asked for until nobody is left to ask: all that runs then is killed by the end of this process."""
        self._channel.send(b".")
        while True:
            for descriptor, _ in self._poll.poll(_END_INTERVAL if len(self._ends) < len(self._connections) else None):
                if descriptor == self._channel.fileno():
                    data, extra, _, _ = self._channel.recvmsg(1, _socket.CMSG_SPACE(_DESCRIPTORS.size))
                    if not data:
                        return 0
                    if extra:
                        self._take(*_DESCRIPTORS.unpack(extra[0][2]))
                elif descriptor in self._processes:  # there is nothing to be read but its end
                    self._poll.unregister(descriptor)
                    os.kill(self._processes.pop(descriptor), _KILL)
            self._reap()

    def _take(self, descriptor: int, output: int, answer: int) -> None:
        """Start a command."""
        for each in (descriptor, output, answer):
            os.set_inheritable(each, False)  # what was received is not so by itself (recvmsg(2), MSG_CMSG_CLOEXEC)
        connection = _socket.socket(fileno=descriptor)
        try:
            order = marshal.loads(receive(connection, LENGTH.unpack(receive(connection, LENGTH.size))[0]))  # noqa: S302
            process = self._fork()
        except (OSError, EOFError) as error:  # who asked is gone, or the machine allows no more processes or namespaces
            if isinstance(error, OSError):
                tell_refusal(connection, error)
                tell(connection, OVER, 0)
            connection.close()
            process = -1
        if process == 0:
            become(connection, (output, answer), order, self._plan, self._root)
        os.close(output)
        os.close(answer)
        if process > 0:
            self._watch(process, connection)

    def _fork(self) -> int:
        """Fork; the new process is the first one of a process namespace."""
        check(libc().unshare(_NEWPID), "unshare")
        process = -1
        try:
            process = os.fork()
        finally:
            if process:
                check(libc().setns(self._own, _NEWPID), "setns")
        return process

    def _watch(self, process: int, connection: _socket.socket) -> None:
        self._connections[process] = connection
        self._processes[connection.fileno()] = process
        self._poll.register(connection, select.POLLIN)
        try:
            self._ends[process] = os.pidfd_open(process)
        except (AttributeError, OSError):
            return
        self._poll.register(self._ends[process], select.POLLIN)

    def _reap(self) -> None:
        """Tell of what has ended: the kernel has killed all of its namespace by then."""
        while self._connections:
            process, _ = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            connection, end = self._connections.pop(process), self._ends.pop(process, None)
            if self._processes.pop(connection.fileno(), None):
                self._poll.unregister(connection)
            if end is not None:
                self._poll.unregister(end)
                os.close(end)
            tell(connection, OVER, 0)
            connection.close()


def receive(connection: _socket.socket, length: int) -> bytes:
    """Read ``length`` bytes; raise ``EOFError`` where there are fewer."""
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def tell(connection: _socket.socket, kind: bytes, number: int) -> None:
    """Send a note, if there is still somebody to read it."""
    try:
        connection.send(NOTE.pack(kind, number))
    except OSError:
        pass  # nobody reads any more; who does all the same sees the connection end without `OVER`, which is an error there


def tell_refusal(connection: _socket.socket, error: OSError) -> None:
    """Send a note of why a command is not isolated: a machine that has too little left at the moment does not refuse that."""
    tell(connection, FAILED if error.errno in SHORTAGES else REFUSED, error.errno or 0)


def become(connection: _socket.socket, files: tuple[int, int], order: CommandOrder, plan: Plan, root: str) -> NoReturn:
    """Start a command in namespaces of its own, and end with it: this is the first process of them."""
    ready = False
    try:
        os.setsid()
        check_seen(order["same"])
        enter(plan, root, order)
        runtime = RuntimeApi(order["runtime"], files[1]) if order["runtime"] else None
        helper = enter_user_namespace(*plan["user"])
        give_up_privileges(*plan["user"])
        check(libc().prctl(_SET_DUMPABLE, 0), "prctl")
        blank_arguments()
        os.waitpid(helper, 0)  # so that a command sees no process but its own
        process = os.fork()
        if process == 0:
            start(connection, files, order, plan["filter"])
        ready = True
        tell(connection, READY, 0)
        os.close(files[0])
        memory = MemoryLimit(order["memory"]) if order["memory"] else None
        tell(connection, ENDED, wait(connection, process, memory, runtime))
    except OSError as error:
        if ready:
            tell(connection, LOST, error.errno or 0)
        else:
            tell_refusal(connection, error)
    finally:
        os._exit(UNAVAILABLE)


def enter_user_namespace(user: int, group: int) -> int:
    """Enter a user namespace of its own, where the machine allows one: in it, only a command's own processes count.

    Since Linux 5.14, RLIMIT_NPROC holds for a user of a namespace, and not for the same user of all others (setrlimit(2)).
    Returns a process that is about to end.
    """
    mine, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    helper = os.fork()  # who is outside may name any user in there
    if helper == 0:
        mine.close()
        name_users(theirs, user, group)
    theirs.close()
    if libc().unshare(_NEWUSER) == 0:
        mine.send(b".")
        if not mine.recv(1):
            raise OSError(errno.EPERM, "uid_map: " + os.strerror(errno.EPERM))
    mine.close()
    return helper


def name_users(entered: _socket.socket, user: int, group: int) -> NoReturn:
    """Name the one user that there is in the namespace of the parent, once it is in one."""
    try:
        if entered.recv(1):
            for name, number in (("uid_map", user), ("gid_map", group)):
                with open(f"/proc/{os.getppid()}/{name}", "wb", 0) as file:
                    file.write(b"%d %d 1" % (number, number))
            entered.send(b".")
    finally:
        os._exit(0)


def blank_arguments() -> None:
    """Blank /proc/1/cmdline, which every process may read: it has paths of this machine."""
    fields = read_file("/proc/self/stat").rpartition(b")")[2].split()
    if len(fields) < _FIELDS:  # of an emulator of another machine, which makes up this file
        return
    first, end = map(int, fields[45:47])  # arg_start and arg_end (proc_pid_stat(5))
    ctypes.memset(first, 0, end - first)


def start(connection: _socket.socket, files: tuple[int, int], order: CommandOrder, seccomp: bytes) -> NoReturn:
    """Become the command itself."""
    isolated = False
    try:
        os.setsid()
        arrange_descriptors(files)
        limit(order)
        filter_calls(seccomp)
        isolated = True
        os.chdir(order["start"])
        execute(order["command"], order["variables"])
    except OSError as error:
        if isolated:
            tell(connection, FAILED, error.errno or 0)
        else:
            tell_refusal(connection, error)
    except ValueError:  # a name or a value that no process can have
        tell(connection, FAILED, errno.EINVAL)
    finally:
        os._exit(UNAVAILABLE)


def execute(command: list[str], variables: dict[str, str]) -> NoReturn:
    """Execute a command, whose name may have no folder: it is then looked for in PATH, as execvpe(3) does."""
    folders = [""] if "/" in command[0] else [folder + "/" for folder in variables.get("PATH", "").split(":")]
    for folder in folders:
        try:
            os.execve(folder + command[0], command, variables)  # noqa: S606 a list, and no shell
        except OSError as error:
            failure = error
    raise failure


def wait(connection: _socket.socket, process: int, limit: Limit | None, runtime: RuntimeApi | None = None) -> int:
    """Wait for a command, and kill it when it holds too much memory, or has asked for an event; return its wait status."""
    poll, often = select.poll(), float(_MEMORY_INTERVAL) if limit else None
    if runtime:
        runtime.watch(poll)
    try:
        poll.register(os.pidfd_open(process), select.POLLIN)
    except (AttributeError, OSError):
        often = _END_INTERVAL  # polling nothing waits for the time alone
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(often)}
        outcome = runtime.serve(ready) if runtime else None
        if outcome is not None:
            tell(connection, ASKED, outcome)
            os.kill(-1, _KILL)
            runtime = None
        while True:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == process:
                return status
            if not ended:
                break
        if limit:
            started = time.monotonic()
            held, left = limit.excess(), scarce_memory()
            often = max(_MEMORY_INTERVAL, 4000 * (time.monotonic() - started))  # with many processes, it takes long to look
            if held or left:
                tell(connection, *((MEMORY, held) if held else (SCARCE, left)))
                os.kill(-1, _KILL)
                limit = None


def check_seen(same: list[tuple[str, int, int]]) -> None:
    """Raise ``OSError`` where something is not what it is for others: it was made, or mounted, since this was started."""
    for path, device, inode in same:
        found = os.stat(path)
        if (found.st_dev, found.st_ino) != (device, inode):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)


def arrange_descriptors(files: tuple[int, int]) -> None:
    """Arrange for nothing to read, one place for all that is printed, and the answer; all else closes with the start."""
    output, answer = (fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, ANSWER + 1) for each in files)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(answer, ANSWER)


def limit(order: CommandOrder) -> None:
    """Set the limits that hold for each process."""
    limits = {
        resource.RLIMIT_CPU: order["seconds"],
        resource.RLIMIT_FSIZE: order["file"],
        resource.RLIMIT_NOFILE: _FILES,
        resource.RLIMIT_NPROC: _PROCESSES,
        resource.RLIMIT_CORE: 1,  # not 0, with which a program of this machine still gets core dumps that are piped (core(5))
    }
    for kind, wanted in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (most, most))


def give_up_privileges(user: int, group: int) -> None:
    """Become a user without privileges, who cannot get any."""
    for capability in range(_CAPABILITIES):
        libc().prctl(_DROP_BOUNDING, capability, 0, 0, 0)
    if os.getuid() != user:  # in a user namespace it is that already, and loses its capabilities when a command is started
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    check(libc().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "prctl")


def filter_calls(program: bytes) -> None:
    """Let a program decide which system calls are allowed from now on (seccomp(2))."""
    if program:
        kept = ctypes.create_string_buffer(program, len(program))
        head = struct.pack("@HP", len(program) // 8, ctypes.addressof(kept))
        check(libc().prctl(_SET_SECCOMP, _SECCOMP_FILTER, head, 0, 0), "seccomp")


def can_filter_calls() -> bool:
    """Return whether system calls can be filtered: an emulator of another machine has no filters (seccomp(2), EFAULT)."""
    return bool(libc().prctl(_SET_SECCOMP, _SECCOMP_FILTER, None, 0, 0)) and ctypes.get_errno() == errno.EFAULT


def separate(user: int, group: int) -> None:
    """Leave the namespaces that other processes see; without root's rights, be ``user`` of ``group`` in one's own."""
    real_user, real_group = os.getuid(), os.getgid()
    check(libc().unshare(_NEWNS | _NEWPID | (_NEWUSER if real_user else 0)), "unshare")
    if real_user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {real_user} 1"), ("gid_map", f"{group} {real_group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    mount("none", "/", "", REC | SLAVE)  # what is mounted elsewhere later is seen here, too, where others are told of it


def make_root(plan: Plan, root: str) -> None:
    """Put together what all commands see."""
    made = os.path.join(os.path.dirname(root), "made") if plan["base"] else root
    os.makedirs(made, exist_ok=True)
    mount("tmpfs", made, "tmpfs", NOSUID | NODEV, "mode=755")
    for place in plan["folders"]:
        os.makedirs(made + place, 0o755, exist_ok=True)
    for target, place in plan["links"]:
        os.symlink(target, made + place)
    if plan["base"]:
        put_on_top(made, plan, root)
    written = os.path.join(os.path.dirname(root), "files")
    os.mkdir(written)
    mount("tmpfs", written, "tmpfs", NOSUID | NODEV, "mode=755")
    shown = list(plan["shown"])
    for number, (place, mode, content) in enumerate(plan["files"]):
        path = os.path.join(written, str(number))
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, mode)
        shown.append((path, place))
    for path, place in shown:
        show_made(path, root + place)
    for place in plan["hidden"]:
        mount("tmpfs", root + place, "tmpfs", RDONLY | NOSUID | NODEV, "mode=755")
    make_devices(root + "/dev")
    mount("none", root, "", REMOUNT | BIND | RDONLY | NOSUID | NODEV | (os.statvfs(root).f_flag & LOCKED))


def put_on_top(made: str, plan: Plan, root: str) -> None:
    """Put what was made, and an empty file for each that is to be seen, on top of the folders that the root is made of."""
    for place in (
        *(place for place, _, _ in plan["files"]),
        *(place for path, place in plan["shown"] if not os.path.isdir(path)),
    ):
        os.close(os.open(made + place, os.O_WRONLY | os.O_CREAT, 0o644))
    # By names without the characters that options of mounts give a meaning, which are seen from the folder that they lie in.
    os.chdir(os.path.dirname(root))
    lower = [os.path.basename(made)]
    for number, path in enumerate(plan["base"]):
        lower.append(str(number))
        os.mkdir(lower[-1])
        mount(path, lower[-1], "", BIND | REC)
    mount("overlay", root, "overlay", RDONLY | NOSUID | NODEV, "lowerdir=" + ":".join(lower))
    os.chdir("/")


def make_devices(place: str) -> None:
    """Show the devices that every program may use, and no others: no shared memory either."""
    mount("tmpfs", place, "tmpfs", NOSUID, "mode=755")
    for name in _DEVICES:
        show_made("/dev/" + name, place + "/" + name)
    for target, name in (("fd", "fd"), ("fd/0", "stdin"), ("fd/1", "stdout"), ("fd/2", "stderr")):
        os.symlink("/proc/self/" + target, place + "/" + name)
    mount("none", place, "", REMOUNT | BIND | RDONLY | NOSUID)


def enter(plan: Plan, root: str, order: CommandOrder) -> None:
    """Enter namespaces that nobody else is in, and the root with what this command alone sees."""
    check(libc().unshare(_NEWNS | _NEWIPC | _NEWNET | _NEWUTS), "unshare")
    host = os.fsencode(plan["host"])
    check(libc().sethostname(host, ctypes.c_size_t(len(host))), "sethostname")
    bring_up_loopback()
    mount("proc", root + "/proc", "proc", NOSUID | NODEV | NOEXEC)
    files = max(_FEWEST_FILES, order["storage"] // _BYTES_OF_FILE)
    options = f"mode=1777,size={order['storage']},nr_inodes={files}"
    mount("tmpfs", root + "/tmp", "tmpfs", NOSUID | NODEV, options)  # noqa: S108 in the root
    for path, place in order["shown"]:
        show(path, root + place)
    os.chdir(root)
    check(libc().pivot_root(b".", b"."), "pivot_root")  # the old root lies on top of the new one now (pivot_root(2))
    check(libc().umount2(b".", _DETACH), "umount")
    os.chdir("/")


def bring_up_loopback() -> None:
    """Let programs in the new network reach each other: it starts with its only interface down (netdevice(7))."""
    any_socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, _GET_FLAGS, request))[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP))
    finally:
        any_socket.close()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
