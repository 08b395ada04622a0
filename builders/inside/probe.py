"""Runs a handler as Lambda does: ``python probe.py REQUEST ANSWER.json ROOT LATE LAYERS``, in the target's own Python.

It is started without site-packages. ROOT is where the function lies, LATE the folders of what the runtime has, with colons
between them, LAYERS where layers lie; both may be empty. REQUEST is a mapping in the form of `marshal`, version 2, which all
Pythons read: it has ``handler``, ``events`` (values), ``seconds`` for each, ``packages``, folders of LAYERS to import from,
``trace``, whether opened files are listed, ``longest``, the bytes that a result may have, and ``libraries`` and ``private``, as
`builders.sandbox.task.Sandbox` has them. ANSWER gets ``import`` and ``events``: what came of each, either a ``result`` or an
``error`` with its ``type`` and ``message``, and, before an event is handled, ``reached``, how many there were before it;
``milliseconds`` of the import; ``opened``, paths in the function's own package, as if what the layers have lay there too; and
``machine``, names of libraries that were loaded and that only this machine has.

A build may start it hundreds of times, and most runs are an import alone: what only the others need is imported by them.
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # the folder of this script, which the handler must not see

import marshal
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

TASK, LAYERS = "/var/task", "/opt"
"""What stands in the answer for the folders of the function and of its layers, wherever they lie."""
# inotify(7); reading often enough that the kernel's queue of at least 16384 events never runs over.
_IN_OPEN, _IN_ISDIR, _FLAGS, _BUFFER, _READ_AFTER = 0x20, 0x40000000, 0o2004000, 1 << 20, 256
HASH_SEED = "PYTHONHASHSEED"
"""The variable by which two runs have sets in the same order."""
NOTHING = {"result": None}
"""What comes of a call that returns nothing."""
SENDS_UTF8 = os.environ.get("AWS_EXECUTION_ENV") in {f"AWS_Lambda_python3.{minor}" for minor in range(12, 16)}
"""Whether Lambda's client sends results in UTF-8, or ASCII alone: the variable decides, when it starts (awslambdaric 4,
lambda_runtime_marshaller.py), and not the Python that it runs in, which images choose."""
_PUBLIC_ID = "00000000-0000-4000-8000-000000000000"


class HandlerNotFound(Exception):
    """A module has no handler of that name; told as Lambda tells it. ``names`` are those of the functions that it has."""

    __module__ = "Runtime"

    def __init__(self, message: str, names: Sequence[str]) -> None:
        super().__init__(message)
        self.names = names


class Context:
    """What a handler gets beside the event (AWS "Using the Lambda context object to retrieve Python function information")."""

    aws_request_id = _PUBLIC_ID
    log_group_name = "/aws/lambda/lpack"
    log_stream_name = "lpack"
    identity = None
    client_context = None

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self.function_name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "lpack")
        self.function_version = "$LATEST"
        self.memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
        self.invoked_function_arn = f"arn:aws:lambda:us-east-1:000000000000:function:{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        return max(0, round((self._end - time.monotonic()) * 1000))


def main(request_path: str, answer_path: str, root: str, late: str, layers: str = "") -> int:
    """Import the handler, give it the events, and write down what came of it."""
    with open(request_path, "rb") as file:
        request = marshal.load(file)  # noqa: S302 lpack itself has written it
    os.environ.pop(HASH_SEED, None)  # Lambda does not set it
    del sys.argv[1:]  # Lambda starts its runtime without arguments, which argparse would read
    add_builtins()
    sys.meta_path.insert(0, SharedMemory)
    package = Package(root, layers, request["packages"])
    sys.path[:0] = package.imported
    sys.path += late.split(os.pathsep) if late else []
    opened: set[str] = set()
    noticed = Notices(package) if request["trace"] else None
    if noticed:
        watch(package, opened, noticed)
    answer: dict[str, Any] = {"events": []}
    handlers: list[Callable[..., Any]] = []
    started = time.perf_counter()
    answer["import"] = outcome_of(lambda: handlers.append(handler_of(request["handler"])))
    answer["milliseconds"] = (time.perf_counter() - started) * 1000
    for number, event in enumerate(request["events"] if handlers else ()):
        with open(answer_path, "w", encoding="utf-8") as file:
            file.write(text_of({**answer, "events": [], "reached": number}, root, layers))
        answer["events"].append(outcome_in_time(handlers[0], event, request["seconds"], request["longest"]))
    if noticed:
        noticed.read()
        answer["opened"] = sorted(opened | noticed.opened | mapped_files(package))
    if request["libraries"] is not None:
        found = machine_libraries(package, set(request["libraries"]), request["private"])
        answer.update({"machine": found} if found else {})
    with open(answer_path, "w", encoding="utf-8") as file:
        file.write(text_of(answer, root, layers))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # what threads and exit handlers do now is not Lambda's way either


def text_of(answer: dict[str, Any], root: str, layers: str) -> str:
    """Return the answer in JSON, with Lambda's paths in the place of the folders that stand for them."""
    if answer["import"] == NOTHING and not answer["events"] and not {"opened", "machine", "reached"} & answer.keys():
        return f'{{"events": [], "import": {{"result": null}}, "milliseconds": {answer["milliseconds"]:.6f}}}'
    import json

    text = json.dumps(answer)
    places = [(root, TASK), *([(layers, LAYERS)] if layers else [])]
    for folder, place in sorted(places, key=lambda each: -len(each[0])):
        text = text.replace(json.dumps(folder)[1:-1], place)
    return text


def add_builtins() -> None:
    """Add what `site` adds to the built-in names; it is not run, for its folders are not on Lambda."""
    import site

    site.setquit()
    site.setcopyright()
    site.sethelper()


def handler_of(handler: str) -> Callable[..., Any]:
    """Find a handler as Lambda's runtime interface client does."""
    module, _, name = handler.rpartition(".")
    module = module.replace("/", ".")
    __import__(module)  # as importlib.import_module, but for -X importtime, which does not see what that imports
    found: Callable[..., Any] | None = getattr(sys.modules[module], name, None)
    if found is None:
        raise HandlerNotFound(f"Handler {name!r} missing on module {module!r}", function_names(sys.modules[module]))
    if not callable(found):
        raise HandlerNotFound(f"{handler} is no function", function_names(sys.modules[module]))
    return found


def function_names(module: Any) -> list[str]:
    """Return the public names of a module's functions, but for those that it has by the same name from another one."""
    found = []
    for name, value in [*vars(module).items()]:
        try:
            if name[:1] != "_" and callable(value) and not isinstance(value, type):
                own = getattr(value, "__module__", None) == module.__name__
                if own or getattr(value, "__name__", None) != name:
                    found.append(name)
        except Exception:  # noqa: BLE001, S112 a proxy asks what it stands for, and there is no such thing now (flask.request)
            continue
    return found


def outcome_in_time(handler: Callable[..., Any], event: Any, seconds: float, longest: int) -> dict[str, Any]:
    """Call a handler, and return the outcome: an error as Lambda's where it takes longer, or returns more, than it may.

    A call that ends with an error keeps that, however long it takes: it may have tried again and again what is not there here,
    such as the network.
    """
    context = Context(seconds)
    found = outcome_of(lambda: handler(event, context), longest)
    if "error" in found or context.get_remaining_time_in_millis():
        return found
    message = f"Task timed out after {seconds:.2f} seconds"
    return {"error": {"type": "Sandbox.Timedout", "message": message, "trace": ""}}


def outcome_of(call: Callable[[], Any], longest: int = 0) -> dict[str, Any]:
    """Call, and return the outcome; results are as Lambda would send them, and have at most ``longest`` bytes."""
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 SystemExit, too, is what came of it
        import traceback

        kind = type(error)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        names = {"names": ", ".join(error.names)} if isinstance(error, HandlerNotFound) else {}
        return {"error": {"type": name, "message": text_of_error(error), "trace": traceback.format_exc(), **names}}
    if result is None:
        return NOTHING
    if isinstance(result, bytes):  # which Lambda's client sends as they are, whatever is in them
        return too_large(len(result)) if len(result) > longest else {"result": result.decode("latin-1")}
    import json

    try:
        text = json.dumps(result, default=json_number)
        size = len(text)
        if size > longest and SENDS_UTF8:
            plain = json.dumps(result, default=json_number, ensure_ascii=False)
            size = len(plain.encode("utf-8", "surrogatepass"))
        return too_large(size) if size > longest else {"result": json.loads(text)}
    except (TypeError, ValueError) as error:
        return {"error": {"type": "Runtime.MarshalError", "message": str(error), "trace": ""}}


def text_of_error(error: BaseException) -> str:
    """Return an error's message, whatever it does when it is asked for it."""
    try:
        return str(error)
    except Exception as other:  # noqa: BLE001 the function's own code
        return f"its message cannot be shown ({type(other).__name__})"


def too_large(size: int) -> dict[str, Any]:
    """Return the outcome of a call whose result has too many bytes, named as Lambda names it."""
    return {"error": {"type": "Function.ResponseSizeTooLarge", "message": f"a result of {size:,} bytes", "trace": ""}}


def json_number(value: Any) -> float | int:
    """Return a decimal number as Lambda's client does (awslambdaric, lambda_runtime_marshaller.py); raises ``TypeError``."""
    decimal = sys.modules.get("decimal")
    if decimal is None or not isinstance(value, decimal.Decimal):
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    import json

    return json.loads(str(value)) if value.is_finite() else float(value)


class SharedMemory:
    """Has locks of multiprocessing fail as on Lambda, which has no /dev/shm: OSError 38 (PyGithub #2430).

    What newer C libraries say of a missing /dev/shm is that there is no such file.
    """

    @classmethod
    def find_spec(cls, name: str, _path: object = None, _target: object = None) -> Any:
        """Find the module that makes such locks, the first time that it is imported where there is no /dev/shm."""
        if name != "_multiprocessing":
            return None
        sys.meta_path.remove(cls)
        kind: Any = type(sys.__spec__)
        return None if os.path.isdir("/dev/shm") else kind(name, cls)  # noqa: S108 it is only looked for

    @staticmethod
    def create_module(_spec: object) -> Any:
        """Return the module, with locks that fail."""
        module: Any = __import__("_multiprocessing")
        made = module.SemLock

        class SemLock(made):  # type: ignore[misc, valid-type]
            """The same, which cannot be made."""

            def __new__(cls, *arguments: Any, **named: Any) -> Any:
                try:
                    return super().__new__(cls, *arguments, **named)
                except FileNotFoundError:
                    raise OSError(38, os.strerror(38)) from None

        module.SemLock = SemLock
        return module

    @staticmethod
    def exec_module(_module: object) -> None:
        """Do nothing more: it has run."""


class Package:
    """The folders of a function and of its layers, seen as the one package that they make together.

    ``packages`` are the layers' folders to import from, the innermost first: what lies there lies on the top of the function's
    own package, and what the layers have in lib/ and bin/ in the function's folders of these names.
    """

    def __init__(self, root: str, layers: str, packages: Sequence[str]) -> None:
        self.roots = [root, layers] if layers else [root]
        self.imported = [root, *(f"{layers}/{each}" for each in packages if layers)]
        self._inside = [each.rstrip("/") + "/" for each in (*self.imported, *self.roots[1:])]
        # As /proc tells of them, which follows links.
        self._real = [os.path.realpath(each) + "/" for each in self._inside]

    def path(self, path: str) -> str | None:
        """Return the path in the package of an absolute one; None for what lies elsewhere."""
        path = os.path.normpath(path)
        return next((path[len(each) :] for each in (*self._inside, *self._real) if path.startswith(each)), None)


class Notices:
    """What the kernel tells of a package's files that are opened: native code asks no interpreter (OpenSSL, SQLite).

    Where it tells nothing, because it is another kernel or its limits are too low, ``opened`` stays empty or has a part.
    """

    def __init__(self, package: Package) -> None:
        self.opened: set[str] = set()
        self._package = package
        self._folders: dict[int, str] = {}
        self._descriptor = -1
        try:
            import ctypes

            libc = ctypes.CDLL(None)
            self._descriptor = libc.inotify_init1(_FLAGS)
        except (ImportError, OSError, AttributeError):
            return
        for root in package.roots if self._descriptor >= 0 else ():
            for folder, _, _ in os.walk(root):
                self._folders[libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _IN_OPEN)] = folder

    def read(self) -> None:
        """Take in what there is to tell by now."""
        import struct

        event = struct.Struct("iIII")
        while self._descriptor >= 0:
            try:
                data = os.read(self._descriptor, _BUFFER)
            except OSError:  # nothing more
                return
            at = 0
            while at < len(data):
                number, mask, _, length = event.unpack_from(data, at)
                name = data[at + event.size : at + event.size + length].rstrip(b"\0")
                at += event.size + length
                if name and not mask & _IN_ISDIR and number in self._folders:
                    found = self._package.path(os.path.join(self._folders[number], os.fsdecode(name)))
                    if found:
                        self.opened.add(found)


def watch(package: Package, opened: set[str], noticed: Notices) -> None:
    """Write down each file of a package that is opened from now on."""
    unread = [0]

    def hook(event: str, arguments: Any) -> None:
        if event == "open":
            unread[0] += 1
            if unread[0] % _READ_AFTER == 0:
                noticed.read()
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.fsdecode(arguments[0])
            found = package.path(path if path[:1] == "/" else os.path.join(os.getcwd(), path))
            if found:
                opened.add(found)

    sys.addaudithook(hook)


def mapped_files(package: Package) -> set[str]:
    """Return the files of a package that the loader has mapped."""
    return {found for path in mapped_paths() if (found := package.path(path))}


def mapped_paths() -> set[str]:
    """Return the files that the loader has mapped (proc(5), /proc/pid/maps)."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
            return {line.split(None, 5)[5].rstrip("\n") for line in file if line.count("/")}
    except OSError:
        return set()


def machine_libraries(package: Package, libraries: set[str], private: dict[str, Sequence[str]]) -> list[str]:
    """Return the names of libraries that were loaded, and are neither of a package nor of the runtime."""
    own = (os.path.dirname(os.__file__) + "/", *(path + "/" for path in sys.path if path[:1] == "/"))
    found = []
    for path in mapped_paths() - libraries:
        name = path.rpartition("/")[2]
        if ".so" not in name or package.path(path) or path.startswith(own):
            continue
        if not any(not module or module in sys.modules for module in private.get(path, ())):
            found.append(name)
    return sorted(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
