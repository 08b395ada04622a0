"""What a function on Lambda may do and may not, as code to try from inside of a sandbox. Without pytest: any Python may run it.

Each row says where it is known from: a page of AWS's documentation, or what others have reported of functions on Lambda. What
Lambda denies because of how lpack proves things, and not by itself, says so.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from builders.sandbox.task import Sandbox
from tests.probing import ONE_USER_FOR_ALL, probe, results

QUOTAS = "AWS, Lambda quotas"
VARIABLES = "AWS, Defined runtime environment variables"
ISOLATION = "AWS, Security overview of AWS Lambda, Lambda isolation technologies"
EXECUTIONS = "AWS, Security overview of AWS Lambda, Lambda executions"
TMP_ALONE = "sachin-sankar/swiftshadow #17; sodadata/soda-core #1011"
HOMELESS = "langchain-ai/langchain #3866; youtype/awscliv2 #45; itk-wasm #1132"
SHARED_MEMORY = "PyGithub/PyGithub #2430; numba/numba #3344"
NAMESPACES = "aws/containers-roadmap #2102; aws/aws-lambda-base-images #143"
RAW = "lambci/yumda #21; gkrizek/bash-lambda-layer #30"
DEVICES = "awslabs/mountpoint-s3 #1322; aws/aws-lambda-base-images #211"
PROGRAMS = "nficano/python-lambda #131; steveukx/git-js #457"
USER = "simonko.dev, Non-root AWS Lambda container image; lambci/git-lambda-layer #3"
PROCESSES = "denialof.services, Reverse engineering AWS Lambda"
PARALLEL = "AWS Compute Blog, Parallel processing in Python with AWS Lambda"
BASE = "AWS, Working with Lambda container images for Python (the base images hold it)"
OWN = "lpack: a proof depends on nothing that is not packed, and reaches nothing"

MORE_THREADS = "start more threads"

HANDLER = """\
import ctypes, errno, os, socket, subprocess, sys, time

libc = ctypes.CDLL(None, use_errno=True)

def check(status):
    if status < 0:
        raise OSError(ctypes.get_errno(), "")

def handler(code, context):
    space = dict(globals(), result="done")
    try:
        exec(code, space)
    except socket.gaierror:
        return "gaierror"
    except OSError as error:
        return errno.errorcode[error.errno]
    except (RuntimeError, ValueError) as error:
        return type(error).__name__
    return space["result"]
"""


class Row(Struct, frozen=True):
    """Something to try: what, by which code, what may come of it (an error's name, or ``result``), and who says so.

    ``{ABSTRACT}``, ``{SOCKET}`` and ``{PORT}`` in the code stand for where servers of this machine listen.
    """

    what: str
    code: str
    expected: tuple[Any, ...]
    source: str


def write(path: str, source: str = TMP_ALONE, mode: str = "w") -> Row:
    # Who may not write a file either is told so first, where the file system is only mounted so (open(2)).
    # An engine's /dev is root's, and not mounted so.
    expected = ("EROFS", "EACCES") if mode == "a" or path.startswith("/dev/") else ("EROFS",)
    return Row(f"{'append to' if mode == 'a' else 'make'} {path}", f"open({path!r}, {mode!r})", expected, source)


def system_call(name: str, x86: int, arm: int, *arguments: int) -> Row:
    words = "".join(f", {each}" for each in arguments)
    code = f"check(libc.syscall({x86} if os.uname().machine == 'x86_64' else {arm}{words}))"
    return Row(f"call {name}", code, ("EPERM", "ENOSYS"), ISOLATION)


DENIED = (
    *(write(f"{folder}/new") for folder in ("", "/var/task", "/opt", "/var", "/run", "/usr/bin", "/var/lang", "/var/tmp")),
    *(write(f"{folder}/new") for folder in ("/etc", "/home", "/mnt", "/var/runtime")),
    write("/dev/new", OWN),
    write("/var/task/app.py", mode="a"),
    write("/etc/hosts", mode="a"),
    Row("make a folder beside the code", "os.mkdir('cache')", ("EROFS",), "TeoZosa/structlog-sentry-logger #363"),
    Row("change the mode of the code", "os.chmod('/var/task/app.py', 0o755)", ("EROFS",), "nateshmbhat/webbot #70"),
    Row("remove the code", "os.remove('/var/task/app.py')", ("EROFS",), TMP_ALONE),
    Row("find a home in HOME", "result = os.environ.get('HOME')", (None,), HOMELESS),
    Row("make the home folder", "os.makedirs(os.path.expanduser('~/.cache'))", ("EROFS",), HOMELESS),
    Row("make shared memory by hand", "open('/dev/shm/one', 'w')", ("ENOENT",), SHARED_MEMORY),
    Row("lock between processes", "import multiprocessing; multiprocessing.Lock()", ("ENOSYS",), SHARED_MEMORY),
    Row("queue between processes", "import multiprocessing; multiprocessing.Queue()", ("ENOSYS",), "alex-sherman/unsync #21"),
    Row("pool of processes", "import multiprocessing; multiprocessing.Pool(2)", ("ENOSYS",), "nalepae/pandarallel #128"),
    Row(
        "executor of processes",
        "from concurrent.futures import ProcessPoolExecutor; ProcessPoolExecutor(2).submit(int).result()",
        ("ENOSYS",),
        SHARED_MEMORY,
    ),
    Row(
        "block of shared memory",
        "from multiprocessing.shared_memory import SharedMemory; SharedMemory(create=True, size=10)",
        ("ENOSYS", "ENOENT"),
        SHARED_MEMORY,
    ),
    Row("run git", "subprocess.run(['git', '--version'])", ("ENOENT",), PROGRAMS),
    Row(
        "find programs of a developer's machine",
        "import shutil; result = list(filter(shutil.which, 'git gcc cc make ffmpeg docker ssh sudo su uv pip'.split()))",
        ([],),
        PROGRAMS,
    ),
    Row("reach a server", "socket.create_connection(('192.0.2.1', 80), 5)", ("ENETUNREACH",), OWN),
    Row("reach a server by IPv6", "socket.create_connection(('2001:db8::1', 80), 5)", ("ENETUNREACH", "EADDRNOTAVAIL"), OWN),
    Row("look up a name", "socket.getaddrinfo('example.com', 80)", ("gaierror",), OWN),
    Row("ask for instance metadata", "socket.create_connection(('169.254.169.254', 80), 5)", ("ENETUNREACH",), OWN),
    Row("reach this machine's loopback", "socket.create_connection(('127.0.0.1', {PORT}), 5)", ("ECONNREFUSED",), EXECUTIONS),
    Row(
        "reach an abstract socket of this machine",
        "socket.socket(socket.AF_UNIX).connect('\\0{ABSTRACT}')",
        ("ECONNREFUSED",),
        ISOLATION,
    ),
    Row(
        "reach a socket in a file of this machine", "socket.socket(socket.AF_UNIX).connect('{SOCKET}')", ("ENOENT",), ISOLATION
    ),
    Row("reach a container engine", "socket.socket(socket.AF_UNIX).connect('/var/run/docker.sock')", ("ENOENT",), ISOLATION),
    Row("make raw sockets", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", ("EPERM",), RAW),
    Row("capture packets", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", ("EPERM",), RAW),
    Row("reach the host of a virtual machine", "socket.socket(40, 1).connect((2, 1024))", ("EAFNOSUPPORT",), ISOLATION),
    Row("be root", "result = 0 in (*os.getresuid(), *os.getresgid(), *os.getgroups())", (False,), USER),
    Row("become root", "os.setuid(0)", ("EPERM", "EINVAL"), USER),
    Row("give a file to root", "open('/tmp/of-root', 'w').close(); os.chown('/tmp/of-root', 0, 0)", ("EPERM", "EINVAL"), USER),
    Row(
        "have or gain capabilities",
        "result = [line.split()[1].strip('0') for line in open('/proc/self/status') if line[:3] == 'Cap']",
        ([""] * 5,),
        ISOLATION,
    ),
    Row("gain privileges by a program", "result = libc.prctl(39, 0, 0, 0, 0)", (1,), ISOLATION),
    Row("mount", "check(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None))", ("EPERM",), DEVICES),
    Row("mount the code writable", "check(libc.mount(b'none', b'/var/task', None, 32 | 4096, None))", ("EPERM",), DEVICES),
    Row("unmount", "check(libc.umount2(b'/var/task', 2))", ("EPERM",), DEVICES),
    Row("change the root", "os.chroot('/tmp')", ("EPERM",), ISOLATION),
    Row("make a user namespace", "check(libc.unshare(0x10000000))", ("EPERM",), NAMESPACES),
    system_call("clone for a user namespace", 56, 220, 0x10000000 | 17, 0, 0, 0, 0),
    system_call("clone3", 435, 435, 0, 88),
    Row("make a network namespace", "check(libc.unshare(0x40000000))", ("EPERM",), NAMESPACES),
    Row("join the first process's namespaces", "os.open('/proc/1/ns/net', os.O_RDONLY)", ("EACCES",), NAMESPACES),
    system_call("keyctl", 250, 219, 0, -3, 0),
    system_call("add_key", 248, 217, 0, 0, 0, 0, -3),
    system_call("bpf", 321, 280, 0, 0, 0),
    system_call("syslog", 103, 116, 10, 0, 0),
    system_call("memfd_secret", 447, 447, 0),
    Row("leave a core dump", "import resource; result = resource.getrlimit(resource.RLIMIT_CORE)[1]", (1,), OWN),
    system_call("perf_event_open", 298, 241, 0, 0, 0, 0, 0),
    system_call("process_vm_readv", 310, 270, 1, 0, 0, 0, 0, 0),
    system_call("io_uring_setup", 425, 425, 1, 0),
    system_call("reboot", 169, 142, 0, 0, 0, 0),
    Row("trace another process", "check(libc.ptrace(16, os.getppid(), 0, 0))", ("EPERM",), ISOLATION),
    Row("set the name of the machine", "socket.sethostname('mine')", ("EPERM",), ISOLATION),
    Row("set the clock", "time.clock_settime(time.CLOCK_REALTIME, 0)", ("EPERM",), ISOLATION),
    Row("go before others", "os.nice(-5)", ("EPERM",), ISOLATION),
    Row("set the kernel's parameters", "open('/proc/sys/kernel/hostname', 'w')", ("EACCES", "EROFS"), ISOLATION),
    Row(
        "see processes of others",
        "result = sorted({int(name) for name in os.listdir('/proc') if name.isdigit()} - {1, os.getpid()})",
        ([],),
        PROCESSES,
    ),
    Row("read what started it", "result = open('/proc/1/cmdline').read().strip('\\0')", ("",), OWN),
    Row("read the environment of what started it", "open('/proc/1/environ').read()", ("EACCES",), OWN),
    Row("read the memory of what started it", "open('/proc/1/mem', 'rb')", ("EACCES",), OWN),
    Row("list the files of what started it", "os.listdir('/proc/1/fd')", ("EACCES",), OWN),
    Row("leave the root by what started it", "os.listdir('/proc/1/root/')", ("EACCES",), OWN),
    Row("kill what started it", "os.kill(1, 9); os.kill(1, 19); time.sleep(0.05)", ("done", "EPERM"), OWN),
    Row("read root's home", "result = os.listdir('/root')", ([], "EACCES"), OWN),
    Row("read others' homes", "result = os.listdir('/home')", ([],), HOMELESS),
    Row(
        "have devices of a machine",
        "result = sorted(set(os.listdir('/dev')) - {*'fd full null random stderr stdin stdout urandom zero'.split()})",
        ([],),
        DEVICES,
    ),
    Row("make a device", "os.mknod('/tmp/device', 0o20600, os.makedev(1, 1))", ("EPERM",), DEVICES),
    Row("read the kernel's log", "result = open('/dev/kmsg')", ("ENOENT",), DEVICES),
    Row("have more files open", "files = []\nwhile True: files.append(open('/dev/null'))", ("EMFILE",), QUOTAS),
    Row("raise the number of files", "import resource; resource.setrlimit(7, (4096, 4096))", ("ValueError",), QUOTAS),
    Row("raise the number of processes", "import resource; resource.setrlimit(6, (4096, 4096))", ("ValueError",), QUOTAS),
    Row(
        MORE_THREADS,
        "import threading\nover = threading.Event(); threading.stack_size(1 << 16)\n"
        "try:\n    while True: threading.Thread(target=over.wait).start()\nfinally: over.set(); threading.stack_size(0)",
        ("RuntimeError",),
        QUOTAS,
    ),
    Row(
        "store more than it may",
        "with open('/tmp/much', 'wb') as file: os.posix_fallocate(file.fileno(), 0, (512 << 20) + 1)",
        ("ENOSPC",),
        QUOTAS,
    ),
)

GRANTED = (
    Row("write to /tmp", "open('/tmp/one', 'w').write('x'); result = open('/tmp/one').read()", ("x",), QUOTAS),
    Row("have 512 MB there", "it = os.statvfs('/tmp'); result = it.f_blocks * it.f_frsize >> 20", (512,), QUOTAS),
    Row(
        "run a program from /tmp",
        "open('/tmp/run', 'w').write('#!/bin/sh\\necho ran\\n'); os.chmod('/tmp/run', 0o755)\n"
        "result = subprocess.check_output(['/tmp/run'], text=True)",
        ("ran\n",),
        "AWS Compute Blog, Running executables in AWS Lambda",
    ),
    Row(
        "make links, pipes and sockets in /tmp",
        "os.symlink('one', '/tmp/link'); os.link('/tmp/one', '/tmp/same'); os.mkfifo('/tmp/pipe')\n"
        "socket.socket(socket.AF_UNIX).bind('/tmp/socket')\n"
        "result = {'link', 'same', 'pipe', 'socket'} <= {*os.listdir('/tmp')}",
        (True,),
        QUOTAS,
    ),
    Row("lock a file", "import fcntl; fcntl.flock(open('/tmp/lock', 'w'), fcntl.LOCK_EX)", ("done",), QUOTAS),
    Row(
        "map a file",
        "import mmap; file = open('/tmp/one', 'r+b'); result = mmap.mmap(file.fileno(), 0)[:].decode()",
        ("x",),
        QUOTAS,
    ),
    Row("find /tmp by tempfile", "import tempfile; result = tempfile.mkdtemp(prefix='of-')[:8]", ("/tmp/of-",), QUOTAS),
    Row(
        "keep a database in /tmp",
        "import sqlite3; db = sqlite3.connect('/tmp/db'); db.execute('create table t (a)')\n"
        "db.execute('insert into t values (1)'); db.commit(); result = db.execute('select * from t').fetchall()",
        ([[1]],),
        QUOTAS,
    ),
    Row(
        "run threads",
        "from concurrent.futures import ThreadPoolExecutor; result = sum(ThreadPoolExecutor(8).map(int, '1234'))",
        (10,),
        PARALLEL,
    ),
    Row("run the shell", "result = subprocess.check_output('echo $((1 + 1))', shell=True, text=True)", ("2\n",), BASE),
    Row(
        "run usual programs",
        "result = subprocess.check_output('ls /var/task | sort | head -1 | tr a-z A-Z; id -u', shell=True, text=True)",
        ("APP.PY\n993\n",),
        BASE,
    ),
    Row(
        "run Python",
        "result = subprocess.check_output(['python3', '-c', 'import sys; print(sys.prefix)'], text=True)",
        ("/var/lang\n",),
        BASE,
    ),
    Row("run Python by its own name", "result = os.access(sys.executable, os.X_OK)", (True,), BASE),
    Row(
        "fork",
        "child = os.fork()\nif not child: os._exit(3)\nresult = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])",
        (3,),
        PARALLEL,
    ),
    Row(
        "run processes and talk to them by pipes",
        "import multiprocessing as m; context = m.get_context('fork'); mine, theirs = context.Pipe()\n"
        "child = context.Process(target=theirs.send, args=('hello',)); child.start(); child.join(); result = mine.recv()",
        ("hello",),
        PARALLEL,
    ),
    Row(
        "serve on the loopback",
        "with socket.create_server(('127.0.0.1', 0)) as server, socket.create_connection(server.getsockname(), 5) as client:\n"
        "    result = client.getpeername()[0]",
        ("127.0.0.1",),
        "AWS, Building a custom runtime (the runtime API is at 127.0.0.1:9001)",
    ),
    Row("look up localhost", "result = socket.gethostbyname('localhost')", ("127.0.0.1",), BASE),
    Row("have a name for the machine", "result = bool(socket.gethostbyname(socket.gethostname()))", (True,), BASE),
    Row(
        "run an event loop",
        "import asyncio; result = asyncio.run(asyncio.wait_for(asyncio.sleep(0, 'woke'), 5))",
        ("woke",),
        BASE,
    ),
    Row(
        "verify certificates",
        "import ssl; result = len(ssl.create_default_context(cafile='/etc/pki/tls/certs/ca-bundle.crt').get_ca_certs()) > 50",
        (True,),
        BASE,
    ),
    Row(
        "know time zones",
        "import datetime as d, zoneinfo; result = d.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo('Europe/Oslo')).isoformat()",
        ("2024-07-01T00:00:00+02:00",),
        BASE,
    ),
    Row("be in UTC", "result = time.strftime('%z', time.localtime())", ("+0000",), VARIABLES),
    Row("know its user", "import pwd; result = pwd.getpwuid(os.getuid()).pw_name", ("sbx_user1051",), HOMELESS),
    Row("have a user's number", "result = os.getuid()", (993,), USER),
    Row("know its home, which is not there", "result = os.path.expanduser('~')", ("/home/sbx_user1051",), HOMELESS),
    Row("draw random numbers", "result = len(os.urandom(16) + open('/dev/urandom', 'rb').read(16))", (32,), BASE),
    Row("count processors", "result = os.cpu_count() >= 1", (True,), "AWS, Configure Lambda function memory"),
    Row(
        "read facts of itself",
        "result = bool(open('/proc/self/stat').read() and open('/proc/meminfo').read())",
        (True,),
        PROCESSES,
    ),
    Row(
        "handle signals",
        "import signal; got = []; signal.signal(signal.SIGALRM, lambda *_: got.append(1)); signal.setitimer(0, 0.01)\n"
        "time.sleep(0.1); result = got",
        ([1],),
        BASE,
    ),
    Row(
        "write any letters",
        "open('/tmp/ä', 'w').write('ß'); result = open('/tmp/ä').read() + sys.stdout.encoding",
        ("ßutf-8",),
        VARIABLES,
    ),
    Row("have callbacks from C", "made = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 7); result = made()", (7,), BASE),
    Row("open as many files", "result = len([open('/dev/null') for _ in range(1000)])", (1000,), QUOTAS),
    Row("be limited to as many processes", "import resource; result = resource.getrlimit(6)", ([1024, 1024],), QUOTAS),
    Row(
        "find what it is told by variables",
        "result = [os.environ[name] for name in ('LAMBDA_TASK_ROOT', 'LAMBDA_RUNTIME_DIR', 'LANG', 'TZ', '_HANDLER', 'PATH')]",
        (
            [
                *("/var/task", "/var/runtime", "en_US.UTF-8", ":UTC", "app.handler"),
                "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
            ],
        ),
        VARIABLES,
    ),
    Row(
        "find libraries by its variable",
        "result = os.environ['LD_LIBRARY_PATH']",
        ("/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",),
        VARIABLES,
    ),
)


@contextmanager
def listening() -> Iterator[dict[str, str]]:
    """Have servers of this machine that no function reaches, and give where they listen."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        port = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        names = {"PORT": str(port), "ABSTRACT": f"lpack-test-{port}", "SOCKET": f"{folder}/socket"}
        for place in (f"\0{names['ABSTRACT']}", names["SOCKET"]):
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(place)
            server.listen()
        Path(names["SOCKET"]).chmod(0o777)
        yield names


def try_all(python: Sandbox, folder: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Try every row in one run of a function with these variables; return what came of each."""
    rows = tuple(row for row in (*GRANTED, *DENIED) if row.what != MORE_THREADS or not ONE_USER_FOR_ALL)
    with listening() as names:
        codes = []
        for row in rows:
            code = row.code
            for name, value in names.items():
                code = code.replace(f"{{{name}}}", value)
            codes.append(code)
        done = probe(python, folder, *codes, handler=HANDLER, environment=environment, memory=1 << 30)
    return dict(zip((row.what for row in rows), results(done), strict=True))
