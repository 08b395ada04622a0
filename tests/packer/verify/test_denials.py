"""What errors say that Lambda denies: of the standard library, and of packages that say it in their own words."""

from __future__ import annotations

import pytest

from packer.verify.denials import find_denial, is_below

TASK = '  File "/var/task/app.py", line 3, in <module>\n'
LOCKS = '  File "/var/task/billiard/synchronize.py", line 99, in __init__\n    sl = self._semlock = _billiard.SemLock(\n'
PROGRAM = '  File "/usr/lib/python3.12/subprocess.py", line 1953, in _execute_child\n    raise child_exception_type\n'
LOG = '  File "/var/lang/lib/python3.12/logging/__init__.py", line 1263, in _open\n'
DENIED = {
    "a path": ("OSError", "[Errno 30] Read-only file system: '/srv/x'", TASK, ("/srv/x", True, "/tmp")),
    "a path of the package": ("OSError", "[Errno 30] Read-only file system: 'a/../x'", TASK, ("/var/task/x", True, "/tmp")),
    "two paths": ("OSError", "[Errno 30] Read-only file system: '/opt/a' -> '/opt/b'", TASK, ("/opt/a", True, "/tmp")),
    "another's words": (
        "ansible.errors.AnsibleError",
        "Unable to create local directories(x): [Errno 30] Read-only file system: b'/home/sbx_user1051'",
        TASK,
        ("/home/sbx_user1051", False, "HOME"),
    ),
    "numba's words": (
        "RuntimeError",
        "cannot cache function 'total': no locator available for file '/var/task/app.py'",
        TASK,
        ("", False, "NUMBA_CACHE_DIR"),
    ),
    "a lock": ("FileNotFoundError", "[Errno 2] No such file or directory", TASK + LOCKS, ("", True, "multiprocessing.Pipe")),
    "memory": ("FileNotFoundError", "[Errno 2] No such file or directory: '/dev/shm/a'", TASK, ("", True, "threads")),
    "git": ("FileNotFoundError", "[Errno 2] No such file or directory: 'git'", TASK + PROGRAM, ("git", True, "bin/")),
    "a log": (
        "FileNotFoundError",
        "[Errno 2] No such file or directory: 'logs/a'",
        TASK + LOG,
        ("/var/task/logs/a", True, "/tmp"),
    ),
    "data": (
        "FileNotFoundError",
        "[Errno 2] No such file or directory: 'a.csv'",
        TASK,
        ("/var/task/a.csv", True, "its source"),
    ),
    "a program": ("FileNotFoundError", "[Errno 2] No such file or directory: 'curl'", TASK + PROGRAM, ("curl", False, "bin/")),
}


@pytest.mark.parametrize(("kind", "message", "trace", "expected"), DENIED.values(), ids=DENIED)
def test_what_lambda_denies_is_recognized(kind, message, trace, expected):
    found = find_denial(kind, message, trace)
    assert found is not None
    assert (found.path, found.certain) == expected[:2]
    assert expected[2] in found.remedy


OTHERS = {
    "a system call": ("OSError", "[Errno 38] Function not implemented", TASK + LOCKS + TASK + TASK),
    "an absent file": ("FileNotFoundError", "[Errno 2] No such file or directory: '/etc/data.json'", TASK),
    "an absent module": ("ModuleNotFoundError", "No module named 'git'", TASK),
}


@pytest.mark.parametrize(("kind", "message", "trace"), OTHERS.values(), ids=OTHERS)
def test_other_errors_are_not(kind, message, trace):
    assert find_denial(kind, message, trace) is None


@pytest.mark.parametrize(
    ("path", "folder", "expected"),
    [("/a/b", "/a", True), ("/a", "/a/", True), ("/ab", "/a", False), ("/a", "", False), ("/a", "/", False), ("", "/a", False)],
)
def test_a_folder_holds_what_lies_in_it(path, folder, expected):
    assert is_below(path, folder) is expected
