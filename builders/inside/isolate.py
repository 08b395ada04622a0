"""Runs commands where Lambda's paths are: ``python isolate.py DESCRIPTOR SPARE PLACE…``, by lpack's own Python.

It forks for each command, which takes far less time than a Python that is started for it. In private namespaces (see
namespaces(7)), as root or in a user namespace, it makes each PLACE that is missing, with the help of SPARE, an empty folder;
its exit status is 97 where the machine does not allow that. DESCRIPTOR is a socket of datagrams, each with a connection for one
command: when it ends, all end.

On its connection comes an order: its length (four bytes) and, in the form of `marshal`, what `Words` has. The answer is in
`NOTE`s, a kind and a number each, the last one `OVER`: after that, nothing runs that the command has started, in whatever group
or session (on kernels with CONFIG_PROC_CHILDREN; elsewhere, nothing of its group). Whoever ends the connection before kills it.
"""

from __future__ import annotations

import _socket  # not socket, nor json or signal: they import more than all of this takes
import ctypes
import errno
import fcntl
import marshal
import os
import select
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    # Whether /tmp is to be empty; where it starts; pairs of a folder and the place where it is seen, read-only (several with a
    # colon before each are seen on top of each other, the first one uppermost); its log; the command; its variables; and what
    # must be there and be the same as where the order comes from: paths, with their devices and inodes.
    Words = tuple[bool, str, list[tuple[str, str]], str, list[str], dict[str, str], list[tuple[str, int, int]]]

UNAVAILABLE = 97
NOTE = struct.Struct("=ci")
STARTED, READY, REFUSED, FAILED, OVER = b"s", b"r", b"n", b"f", b"."
"""Kinds of notes: a process was started (its number); all is seen where it belongs (0); it cannot be (the error's number); the
command cannot be started (the error's number); it is over (its wait status)."""
LENGTH = struct.Struct("I")
_NEWNS, _NEWIPC, _NEWUSER, _NEWNET = 0x20000, 0x8000000, 0x10000000, 0x40000000
_RDONLY, _REMOUNT, _BIND, _MOVE, _REC, _UNBINDABLE, _SLAVE = 1, 32, 4096, 8192, 16384, 1 << 17, 1 << 19
# What a mount in a user namespace has to keep of the one that it shows (mount_namespaces(7)): nosuid, nodev, noexec.
_LOCKED = 2 | 4 | 8
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1
_KILL, _CHILD_ENDED, _SET_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 9, 17, 1, 36
_OFTEN = 5
"""Milliseconds between two looks for what has ended, on a kernel that tells nobody (before 5.3, pidfd_open(2))."""


def main(descriptor: str, spare: str, *places: str) -> int:
    """Make the namespaces, and run what is asked for until nobody is left to ask."""
    try:
        separate()
        ensure(places, spare)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return UNAVAILABLE
    libc().prctl(_SET_CHILD_SUBREAPER, 1)  # what commands leave behind becomes a child of this (prctl(2))
    libc().signal(_CHILD_ENDED, None)  # who started lpack may have had it ignored, and then nobody can be waited for
    os.set_inheritable(int(descriptor), False)
    Server(_socket.socket(fileno=int(descriptor))).serve()
    return 0


class Server:
    """Runs commands, each in a process of its own."""

    def __init__(self, channel: _socket.socket) -> None:
        self._channel = channel
        self._connections: dict[int, _socket.socket] = {}  # by the process
        self._processes: dict[int, int] = {}  # by the descriptor of its connection
        self._ends: dict[int, int] = {}  # descriptors that tell of a process's end
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)

    def serve(self) -> None:
        """Run what is asked for, and kill all when nobody is left to ask."""
        while True:
            for descriptor, _ in self._poll.poll(_OFTEN if len(self._ends) < len(self._connections) else None):
                if descriptor == self._channel.fileno():
                    data, extra, _, _ = self._channel.recvmsg(1, _socket.CMSG_SPACE(LENGTH.size))
                    if not data:
                        for process in self._connections:
                            kill(process)
                        self._connections.clear()
                        self._end_strays()
                        return
                    if extra:
                        self._take(LENGTH.unpack(extra[0][2])[0])
                elif descriptor in self._processes:  # there is nothing to be read but its end
                    self._poll.unregister(descriptor)
                    kill(self._processes.pop(descriptor))
            self._reap()

    def _take(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)  # what was received is not so by itself (recvmsg(2), MSG_CMSG_CLOEXEC)
        connection = _socket.socket(fileno=descriptor)
        try:
            words = marshal.loads(receive(connection, LENGTH.unpack(receive(connection, LENGTH.size))[0]))  # noqa: S302
        except (OSError, EOFError):  # who asked is gone
            connection.close()
            return
        parent = os.getpid()
        try:
            process = os.fork()
        except OSError as error:
            tell(connection, FAILED, error.errno or 0)
            tell(connection, OVER, 0)
            connection.close()
            return
        if process == 0:
            become(connection, words, parent)
        self._connections[process] = connection
        self._processes[descriptor] = process
        self._poll.register(connection, select.POLLIN)
        try:
            self._ends[process] = os.pidfd_open(process)
        except (AttributeError, OSError):
            return
        self._poll.register(self._ends[process], select.POLLIN)

    def _reap(self) -> None:
        """Tell of what has ended, once nothing is left of it."""
        while self._connections:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return
            process = found.si_pid
            if process not in self._connections:  # some command has left it behind
                os.waitpid(process, 0)
                continue
            kill(process)  # the others of its group, which is its own for as long as it is waited for
            status = os.waitpid(process, 0)[1]
            connection, end = self._connections.pop(process), self._ends.pop(process, None)
            if self._processes.pop(connection.fileno(), None):
                self._poll.unregister(connection)
            if end is not None:
                self._poll.unregister(end)
                os.close(end)
            self._end_strays()
            tell(connection, OVER, status)
            connection.close()

    def _end_strays(self) -> None:
        """Kill what commands that are over have left behind, until nothing is left that these have started, either."""
        while True:
            strays = [(process, network_namespace(process)) for process in children() if process not in self._connections]
            running = {network_namespace(process) for process in self._connections} if strays else ()
            left = [process for process, of_command in strays if of_command not in running]
            for process in left:
                kill(process)
                os.waitpid(process, 0)
            if not left:
                return


def children() -> list[int]:
    """Return the children of this process; none where the kernel does not list them (proc_pid_task(5))."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def network_namespace(process: int) -> str:
    """Return the network namespace of a process, which no two commands share; empty where it has ended."""
    try:
        return os.readlink(f"/proc/{process}/ns/net")
    except OSError:
        return ""


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


def kill(process: int) -> None:
    """Kill a process and its group, which it may not have made yet."""
    for killing in (os.kill, os.killpg):
        try:
            killing(process, _KILL)
        except ProcessLookupError:
            pass  # it has ended, or leads no group yet; a refusal is an error, as waiting for what still runs never ends


def become(connection: _socket.socket, words: Words, parent: int) -> NoReturn:
    """Become a command, in namespaces of its own."""
    empty_tmp, start, shown, log, command, variables, same = words
    try:
        try:
            lead(parent)
            tell(connection, STARTED, os.getpid())
            check_seen(same)
            write_to(log)
            arrange(shown, start, empty_tmp=empty_tmp)
        except OSError as error:
            tell(connection, REFUSED, error.errno or 0)
        else:
            tell(connection, READY, 0)
            os.execve(command[0], command, variables)  # noqa: S606 a list, and no shell
    except OSError as error:
        tell(connection, FAILED, error.errno or 0)
    except ValueError:  # a name or a value that no process can have
        tell(connection, FAILED, errno.EINVAL)
    finally:
        os._exit(UNAVAILABLE)


def lead(parent: int) -> None:
    """Lead a group of processes, and end when ``parent`` does: were that ended by force, nobody else would end this one."""
    os.setsid()
    check(libc().prctl(_SET_DEATH_SIGNAL, _KILL), "prctl")
    if os.getppid() != parent:  # it was just before, which nobody has told of
        os._exit(UNAVAILABLE)


def check_seen(same: list[tuple[str, int, int]]) -> None:
    """Raise ``OSError`` where something is not what it is for others: it was made, or mounted, since this was started."""
    for path, device, inode in same:
        found = os.stat(path)
        if (found.st_dev, found.st_ino) != (device, inode):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)


def write_to(log: str) -> None:
    """Have all that is printed in a log, and nothing to be read."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    written = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(written, 1)
    os.dup2(written, 2)


def arrange(shown: list[tuple[str, str]], start: str, *, empty_tmp: bool) -> None:
    """Have a network and mounts that nobody else has."""
    check(libc().unshare(_NEWNS | _NEWIPC | _NEWNET), "unshare")
    bring_up_loopback()
    for folder, place in shown:
        show(folder, place)
    if empty_tmp:
        mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777")  # noqa: S108 the place itself
    os.chdir(start)


def libc() -> ctypes.CDLL:
    """Return the C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


def check(status: int, what: str) -> None:
    """Raise the ``OSError`` of a call that has failed."""
    if status:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def separate() -> None:
    """Leave the namespaces that other processes see."""
    user, group = os.getuid(), os.getgid()
    check(libc().unshare(_NEWNS | (_NEWUSER if user else 0)), "unshare")
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    mount("none", "/", "", _REC | _SLAVE)  # what is mounted elsewhere later is seen here, too, where others are told of it


def mount(source: str, place: str, kind: str, flags: int, options: str = "") -> None:
    """Call mount(2)."""
    words = [os.fsencode(word) or None for word in (source, place, kind)]
    check(libc().mount(*words, ctypes.c_ulong(flags), os.fsencode(options) or None), f"mount {place}")


def show(folder: str, place: str) -> None:
    """Let a folder, or several on top of each other, be seen, read-only, at a place that is there."""
    if folder[:1] == ":":
        mount("overlay", place, "overlay", _RDONLY, "lowerdir=" + folder[1:])
        return
    mount(folder, place, "", _BIND | _REC)
    mount("none", place, "", _REMOUNT | _BIND | _RDONLY | (os.statvfs(place).f_flag & _LOCKED))


def ensure(places: tuple[str, ...], spare: str) -> None:
    """Have a folder at each place, and all others where they were: nothing of it can be seen outside.

    Where one is missing, the process gets another root folder: a new one can be made in none of the machine's own, and nothing
    can be mounted over a folder (/, or where ``spare`` lies) whose content is still to be shown. In the end ``spare`` is free.
    """
    missing = [os.path.realpath(place) for place in places if not os.path.isdir(place)]
    if not missing:
        return
    root = os.path.join(spare, "root")
    os.mkdir(root)
    mount("tmpfs", root, "tmpfs", 0, "mode=755")
    mount("none", root, "", _UNBINDABLE)  # or it would show itself within itself
    show_neighbors("/", root, missing)
    for place in missing:
        os.makedirs(root + place)
    os.chdir(root)
    mount(".", "/", "", _MOVE)
    os.chroot(".")


def show_neighbors(old: str, new: str, missing: list[str]) -> None:
    """Let all folders below one be seen below another, and make those anew that lead to what is missing."""
    for name in os.listdir(old):
        path, at = os.path.join(old, name), os.path.join(new, name)
        if os.path.islink(path):
            os.symlink(os.readlink(path), at)
        elif os.path.isdir(path):
            os.mkdir(at)
            if any(place.startswith(path + "/") for place in missing):
                show_neighbors(path, at, missing)
            else:
                mount(path, at, "", _BIND | _REC)


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
