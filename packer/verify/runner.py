"""Runs what was written: the handler is imported, and gets its sample events, in the target's own Python, as Lambda would."""

from __future__ import annotations

import json
import marshal
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import replace

from builders.documents import parse_json, read_text
from builders.errors import BuildError, UnavailableError
from builders.inside import read_script
from builders.once import Once
from builders.runtimes import (
    LANG_FOLDER,
    LAYERS_MOUNT,
    LIBRARY_FOLDER,
    MEGABYTE,
    REQUEST_LIMIT,
    RESPONSE_LIMIT,
    RUNTIME_API,
    RUNTIME_FOLDER,
    STORAGE_RANGE,
    TASK_FOLDER,
    is_native,
)
from builders.sandbox.emulator import REMEDY, find_emulator
from builders.sandbox.table import Sandboxes
from builders.sandbox.task import LAYERS_PLACEHOLDER, TREE_PLACEHOLDER, LayerStack, Sandbox, Task, TaskResult
from packer import __version__
from packer.cache.store import Store, digest_of, store_errors
from packer.core.errors import ToolError, UsageError, VerificationError
from packer.core.fingerprint import fingerprint
from packer.core.model import Function, Tree
from packer.core.options import EXPECTED
from packer.core.redaction import escape_controls
from packer.core.units import format_size
from packer.formats.unpack import LayerArchive, LayerFolders, open_archive, scratch_folder, unpack
from packer.formats.zip_writer import WrittenArchive
from packer.source.layer_content import LayerContent

NOTHING = Tree(())
"""No packages."""
_FORM = "2"
_SCRATCH = 1 << 20
"""Bytes that the files of a run may take, beside what it runs."""
_KIND = "verified"
# What of a layer lies where, in a package without layers, the function's own does.
_IN_LAYERS = re.compile(rf"{LAYERS_MOUNT}/python(/lib/python3\.\d+/site-packages)?\b|{LAYERS_MOUNT}(?=/(lib|bin)\b)")
_LONGEST_TEXT = 50_000
"""Letters of a message, a traceback or a log that are shown."""
MACHINE_LIBRARY = "Runtime.MachineLibrary"
"""The type of error of a function that has loaded a library which is not there on Lambda."""
_TRACEBACK_HEADER = "Traceback (most recent call last):\n"
_TRACEBACK = re.compile(rf"^(?={re.escape(_TRACEBACK_HEADER)})", re.MULTILINE)
_FRAME = re.compile(r'^ {2}(?:File "[^\n]*|\[Previous line [^\n]*)\n(?: {4}[^\n]*(?:\n|\Z))*', re.MULTILINE)
_FRAMES = re.compile(rf"{re.escape(_TRACEBACK_HEADER)}(?: {{2}}[^\n]*(?:\n|\Z))*")
_OWN_FRAME = re.compile(rf'  File "(?:{TASK_FOLDER}|{LAYERS_MOUNT})/')
_RUNTIME_FRAME = f'  File "{RUNTIME_FOLDER}/'
_PROBE, _EMULATE = "probe.py", "emulate.py"
# What every function of Lambda's sees (AWS "Using Lambda environment variables", "Defined runtime environment variables"), with
# credentials that open nothing.
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "lpack",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    "AWS_LAMBDA_LOG_STREAM_NAME": "lpack",
    "AWS_LAMBDA_RUNTIME_API": RUNTIME_API,
    "AWS_REGION": "us-east-1",
    "AWS_SECRET_ACCESS_KEY": "lpack",
    "AWS_SESSION_TOKEN": "lpack",
    "LAMBDA_RUNTIME_DIR": RUNTIME_FOLDER,
    "LAMBDA_TASK_ROOT": TREE_PLACEHOLDER,
    "LANG": "en_US.UTF-8",
    "LD_LIBRARY_PATH": f"{LANG_FOLDER}/lib:/lib64:/usr/lib64:{RUNTIME_FOLDER}:{RUNTIME_FOLDER}/{LIBRARY_FOLDER}:"
    f"{TREE_PLACEHOLDER}:{TREE_PLACEHOLDER}/{LIBRARY_FOLDER}:{LAYERS_PLACEHOLDER}/{LIBRARY_FOLDER}",
    "PATH": f"{LANG_FOLDER}/bin:/usr/local/bin:/usr/bin/:/bin:{LAYERS_PLACEHOLDER}/bin",
    "PYTHONHASHSEED": "0",
    "TZ": ":UTC",
}
_MEMORY = 1024
"""Megabytes that a function gets in its proof where nobody has said how much it has."""


class Event(Struct, frozen=True, kw_only=True):
    """A sample event; ``expected`` is None where any result will do, else a list of the one value."""

    name: str
    value: Any
    expected: tuple[Any, ...] | None = None


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of a run: the import's, and each event's, as `builders.inside.probe` writes it, or the ``failure`` of all.

    ``milliseconds`` are the import's; ``opened`` are paths of the artifact, where they were asked for. ``limit`` is what it
    goes beyond, if anything: a setting of the function, or Lambda's limit of results. ``late``: it was stopped for time.
    ``emulated``: that time or memory was measured on an emulated processor, which takes more of both than the target's own.
    ``status`` is how the interpreter has ended itself, where there is no other outcome: its exit status, or a negative signal.
    """

    imported: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[Mapping[str, Any], ...] = ()
    failure: str = ""
    limit: Literal["", "memory", "timeout", "result"] = ""
    late: bool = False
    emulated: bool = False
    status: int | None = None
    log: str = ""
    milliseconds: float = 0.0
    opened: tuple[str, ...] = ()

    def essence(self) -> str:
        """Return what two runs must agree in: results, and types and messages of errors, but not where they were raised."""
        found = [self.kind_of_failure, *(outcome_essence(each) for each in (self.imported, *self.events))]
        return json.dumps(found, sort_keys=True)

    @property
    def kind_of_failure(self) -> str:
        """What failed as a whole, but for how long it took until it was stopped."""
        return "late" if self.late else self.failure

    @property
    def works(self) -> bool:
        """Whether the handler could be imported."""
        return not self.failure and "error" not in self.imported

    def trouble(self) -> str:
        """Return what the first error was; empty where there was none."""
        if self.failure:
            return self.failure
        return next((text for each in (self.imported, *self.events) if (text := error_text(each))), "")

    def trace(self) -> str:
        """Return the first error's traceback, or what was printed."""
        found = (error_trace(each) for each in (self.imported, *self.events) if "error" in each)
        return next(found, visible_text(self.log.strip()))


def visible_text(text: str) -> str:
    """Return the end of a text of a function's as it may be shown."""
    return escape_controls(text[-_LONGEST_TEXT:])


def error_text(outcome: Mapping[str, Any]) -> str:
    """Return the type and message of an outcome's error; empty where there is none."""
    error = outcome.get("error")
    return f"{error['type']}: {error['message']}" if error else ""


def error_trace(outcome: Mapping[str, Any]) -> str:
    """Return the traceback of an outcome's error, from the function's first frame on; empty where there is none."""
    return shown_trace(str(outcome["error"]["trace"]).strip()) if "error" in outcome else ""


def shown_trace(trace: str) -> str:
    """Return a traceback without what has called the function's code: lpack's own script, and Python's import system.

    That is done to each of several tracebacks. Frames behind the first of the function's own stay, whatever they are of.
    """
    return "".join(map(_shown_part, _TRACEBACK.split(trace)))


def _shown_part(part: str) -> str:
    """Return one traceback, which may have text before it, or behind it."""
    if not part.startswith(_TRACEBACK_HEADER):
        return part
    frames = [frame for frame in _FRAME.findall(part) if "<frozen importlib" not in frame.partition("\n")[0]]
    own = (number for number, frame in enumerate(frames) if _OWN_FRAME.match(frame))
    first = next(own, None)
    kept = frames[first:] if first is not None else [frame for frame in frames if not frame.startswith(_RUNTIME_FRAME)]
    rest = part[_FRAMES.match(part).end() :]  # type: ignore[union-attr]
    return f"{_TRACEBACK_HEADER}{''.join(kept)}{rest}" if kept else rest


def outcome_essence(outcome: Mapping[str, Any]) -> Any:
    """Return what of an outcome two runs must agree in; where a file lies, in the function or in a layer, is not of it."""
    error = outcome.get("error")
    essence = [error["type"], error["message"]] if error else outcome.get("result")
    return json.loads(_IN_LAYERS.sub(TASK_FOLDER, json.dumps(essence)))


def event_files(function: Function) -> tuple[Path, ...]:
    """Return the files of a function's events and of what is expected of them, whether these exist or not."""
    return tuple(path for event in function.verify.events for path in (event, _expected_path(event)))


def _expected_path(event: Path) -> Path:
    return event.with_name(event.name.removesuffix(".json") + EXPECTED)


def read_events(function: Function) -> tuple[Event, ...]:
    """Read the sample events of a function; raises `UsageError`."""
    found = []
    for path in function.verify.events:
        expected = _expected_path(path)
        value = (_read_json(expected),) if expected.is_file() else None
        found.append(Event(name=path.name, value=_read_event(path), expected=value))
    return tuple(found)


def _read_event(path: Path) -> Any:
    value = _read_json(path)
    if path.stat().st_size > REQUEST_LIMIT:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > REQUEST_LIMIT:
            what = f"The event {path} takes {size:,} bytes of JSON, and Lambda takes events of at most {REQUEST_LIMIT:,}."
            raise UsageError(what, remedy="Pass what is large through S3, as the function's callers have to.")
    return value


def _read_json(path: Path) -> Any:
    text = read_text(path, UsageError, "Name a file that exists, in UTF-8.", noun="the event")
    return parse_json(text, path, UsageError, "Fix the file at that place.")


class UnpackedFunction(Struct, frozen=True, kw_only=True):
    """The folders that a function is unpacked into: ``task`` its own files, ``late`` the runtime's packages, and its layers."""

    task: Path
    late: Path | None = None
    layers: LayerStack | None = None


class Verifier:
    """Runs archives, each once: what came of it is kept in the store. May be used from many threads."""

    def __init__(
        self, store: Store, sandboxes: Sandboxes, executor: Executor, write: Callable[[Tree, Path], WrittenArchive]
    ) -> None:
        """``write`` writes a tree as an archive."""
        self._store = store
        self._sandboxes = sandboxes
        self._executor = executor
        self._write = write
        self._layers = LayerFolders(store, executor)
        self._attached: Once[str, LayerArchive] = Once()
        self._closing = ExitStack()

    def close(self) -> None:
        """Remove the layers that were unpacked."""
        self._layers.close()
        self._closing.close()

    def archive_layers(self, contents: Sequence[LayerContent]) -> tuple[LayerArchive, ...]:
        """Return archives of layers that lpack does not make; raises `LpackError`."""
        return tuple(self._attached.get(content.digest, partial(self._archive_layer, content)) for content in contents)

    def _archive_layer(self, content: LayerContent) -> LayerArchive:
        if content.archive is not None:
            return LayerArchive(path=content.archive, sha256=content.digest)
        path = self._closing.enter_context(self._store.workspace()) / "layer.zip"
        return LayerArchive(path=path, sha256=self._write(content.tree or NOTHING, path).sha256)

    def sandbox(self, function: Function) -> Sandbox:
        """Return the sandbox to run a function in; raises `ToolError` where there is none, or no emulator that it asks for."""
        try:
            found = self._sandboxes.find(function.target, function.verify.place, "run")
        except UnavailableError as error:
            what = f"{function.name} is not verified: nothing here runs {function.target.runtime.name} ({error.what})."
            raise ToolError(what, remedy=error.remedy) from None
        if function.verify.level == "rie":
            _require_emulator(function, found)
        return found

    def has_packages(self, function: Function) -> bool:
        """Return whether a function is run where the runtime's own packages are."""
        try:
            return self._sandboxes.find(function.target, function.verify.place, "run").has_packages
        except UnavailableError:
            return False

    def outcome(
        self,
        function: Function,
        archive: Path,
        digest: str,
        events: Sequence[Event],
        late: Tree = NOTHING,
        layers: Sequence[LayerArchive] = (),
    ) -> Outcome:
        """Run an archive with this SHA-256, unless that was done before; raises `VerificationError`.

        ``late`` are packages that the runtime has, ``layers`` the function's, in their order.
        """
        sandbox = self.sandbox(function)
        values = [(event.name, event.value) for event in events]
        variables = fingerprint(function_environment(function))
        options = fingerprint(function.verify, function.execution)
        where = (sandbox.identity, sandbox.place, "unconfined" if sandbox.unconfined else "")
        facts = (function.handler, options, variables, json.dumps(values), *where)
        runtime = (part for entry in late for part in (entry.path, entry.content.digest))
        attached = json.dumps([layer.sha256 for layer in layers])
        scripts = (read_script(name) for name in (_PROBE, _EMULATE))
        key = digest_of(__version__, _FORM, digest, str(function.target), *scripts, *facts, attached, *runtime)
        record = self._store.load(_KIND, key)
        if record is not None:
            return _read_outcome(record.payload, "", len(events))[0]
        with self.laid_out(archive, late, layers) as laid:
            outcome, stable = self.run(function, laid, sandbox, events)
        if stable:
            self._store.save(_KIND, key, _as_json(outcome))
        return outcome

    @contextmanager
    def laid_out(self, archive: Path, late: Tree = NOTHING, layers: Sequence[LayerArchive] = ()) -> Iterator[UnpackedFunction]:
        """Unpack an archive, what the runtime has, and the function's layers, for as long as they are needed."""
        with ExitStack() as needed:
            packed = needed.enter_context(open_archive(archive))
            stack = needed.enter_context(self._layers.stacked(layers)) if layers else None
            folder = needed.enter_context(scratch_folder(packed.size + late.size, self._store))
            packed.unpack(folder / "task", self._executor)
            if late:
                self._write(late, folder / "late.zip")
                unpack(folder / "late.zip", folder / "late", self._executor)
            yield UnpackedFunction(task=folder / "task", late=folder / "late" if late else None, layers=stack)

    def run(
        self,
        function: Function,
        laid: UnpackedFunction,
        sandbox: Sandbox,
        events: Sequence[Event],
        *,
        flags: Sequence[str] = (),
        trace: bool = False,
    ) -> tuple[Outcome, bool]:
        """Run a function now; return what came of it, and whether another run would end the same way."""
        emulator = _require_emulator(function, sandbox) if function.verify.level == "rie" else None
        request = {
            "handler": function.handler,
            "events": [event.value for event in events],
            "seconds": float(function.execution.timeout or function.verify.seconds),
            "packages": function.target.runtime.layer_packages,
            "trace": trace,
            "longest": RESPONSE_LIMIT,
            "libraries": None if sandbox.libraries is None else sorted(sandbox.libraries),
            "private": dict(sandbox.private),
        }
        with scratch_folder(_SCRATCH, self._store) as folder:
            # The version of marshal's form that all Sandboxes read.
            document = json.dumps(request).encode() if emulator else marshal.dumps(request, 2)
            with store_errors(folder, "write to"):
                for name in ("in", "work"):
                    (folder / name).mkdir()
                (folder / "in" / "request").write_bytes(document)
            task = Task(
                script=_EMULATE if emulator else _PROBE,
                arguments=("{in}/request", "{answer}", "{task}", "{late}", "{layers}", *(("{program}",) if emulator else ())),
                inputs=folder / "in",
                tree=laid.task,
                layers=laid.layers,
                late=laid.late,
                program=emulator,
                flags=flags,
                environment=function_environment(function),
                seconds=_longest_run(function, len(events)),
                storage=(function.execution.storage or STORAGE_RANGE[0]) * MEGABYTE,
                memory=None if emulator else (function.execution.memory or _MEMORY) * MEGABYTE,
            )
            try:
                done = sandbox.run(task, folder / "work")
            except BuildError as error:
                what = f"{function.name} cannot be verified in {sandbox.place}: {error.what}."
                raise VerificationError(what, detail=error.detail, remedy=error.remedy or "Build again.") from None
        return read_result(done, function, len(events))


def _longest_run(function: Function, events: int) -> float:
    """Return the seconds that a run may take: its init phase, which may begin again with the first call, and its calls."""
    timeout = function.execution.timeout
    if timeout is None:
        return function.verify.seconds
    return min(function.verify.seconds, _LONGEST_START + INIT_LIMIT + timeout * (1 + events))


def _require_emulator(function: Function, sandbox: Sandbox) -> Path:
    """Find the emulator; raises `ToolError` where there is none, and `VerificationError` where it cannot be used."""
    found = find_emulator()
    if found is None:
        raise ToolError(f"{function.name} is not verified: there is no Runtime Interface Emulator.", remedy=REMEDY)
    if not sandbox.starts_programs:
        what = f"{function.name} is not verified: the Runtime Interface Emulator runs on this machine, not in {sandbox.place}."
        raise VerificationError(what, remedy='Write verify = { level = "events" }, or install that Python.')
    return found


def function_environment(function: Function) -> dict[str, str]:
    """Return the variables that a function sees, with the placeholders of `builders.sandbox.task` for its folders."""
    own = {
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.target.runtime.name}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.execution.memory or _MEMORY),
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "_HANDLER": function.handler,
    }
    return {**_ENVIRONMENT, **own, **function.variables}


def read_result(done: TaskResult, function: Function, events: int) -> tuple[Outcome, bool]:
    """Return what came of a run with so many events, and whether another one would end the same way."""
    emulated = not is_native(function.target.architecture)
    if done.memory:
        failure = f"it holds more than its {function.execution.memory or _MEMORY} MB of memory"
        return Outcome(failure=failure, limit="memory", emulated=emulated, log=done.log), False
    reached = _find_reached(done.answer, events)
    where = "" if reached is None else f" in its event {reached + 1} of {events}"
    timeout, longest = function.execution.timeout, _longest_run(function, events)
    if done.late and reached is not None and timeout is not None and longest < function.verify.seconds:
        return replace(_beyond_timeout(timeout, emulated=emulated), log=done.log), False
    if done.late:
        what = f"it was stopped after {longest:g} s{where}"
        return Outcome(failure=what, late=True, emulated=emulated, log=done.log), False
    if done.excess:
        what = f"its answer of {format_size(done.excess)} is too long to be read"
        return Outcome(failure=what, log=done.log), False
    if done.answer is None or reached is not None:
        how = f"signal {-done.status}" if done.status < 0 else f"status {done.status}"
        what = f"the interpreter ended with {how}{where}"
        return Outcome(failure=what, status=done.status, log=done.log), False
    outcome, stable = _read_outcome(done.answer, done.log, events)
    beyond = _find_excess(outcome) or _find_lateness(outcome, timeout, emulated=emulated)
    return (replace(beyond, log=done.log), False) if beyond else (outcome, stable)


def _beyond_timeout(timeout: int, *, emulated: bool) -> Outcome:
    return Outcome(failure=f"a call takes longer than its timeout of {timeout} s", limit="timeout", emulated=emulated)


def _find_excess(outcome: Outcome) -> Outcome | None:
    """Return what came of a run where the result of a call is too large for Lambda."""
    excess = next((each["error"] for each in outcome.events if each.get("error", {}).get("type") == _TOO_LARGE), None)
    if excess is None:
        return None
    what = f"{excess['message']}, and Lambda takes results of at most {RESPONSE_LIMIT:,} bytes"
    return Outcome(failure=what, limit="result")


def _find_reached(answer: bytes | None, events: int) -> int | None:
    """Return how many events were handled before the one that did not end; None where all were, or none was begun."""
    try:
        found = None if answer is None else msgspec.json.decode(answer, type=_Reached).reached
    except (ValueError, RecursionError):
        return None
    return found if found is not None and 0 <= found < events else None


def _find_lateness(outcome: Outcome, timeout: int | None, *, emulated: bool) -> Outcome | None:
    """Return what came of a run where something takes longer than it may on Lambda, and a timeout is set.

    An init phase that is stopped after 10 seconds starts again with the first call, and within its timeout (AWS "Lambda
    execution environment lifecycle"). An import that ends with an error keeps that, however long it takes: it may have tried
    again and again what is not there here, such as the network.
    """
    if timeout is None:
        return None
    if any(each.get("error", {}).get("type") == _TIMED_OUT for each in outcome.events):
        return _beyond_timeout(timeout, emulated=emulated)
    if "error" not in outcome.imported and outcome.milliseconds > 1000 * max(INIT_LIMIT, timeout):
        what = f"its import takes longer than Lambda's {INIT_LIMIT} s for that, and than its timeout of {timeout} s"
        return Outcome(failure=what, limit="timeout", emulated=emulated)
    return None


_TIMED_OUT = "Sandbox.Timedout"
"""The type of error of a call that takes too long, as Lambda reports it."""
_LONGEST_START = 5
"""Seconds that a sandbox may take to start: a container does on a busy machine."""
_TOO_LARGE = "Function.ResponseSizeTooLarge"
"""The type of error of a call that returns too much, as Lambda reports it."""
INIT_LIMIT = 10
"""Seconds of an init phase (AWS "Lambda execution environment lifecycle")."""
_MOST_MILLISECONDS = 1e9
_DEEPEST_RESULT = 500
"""Arrays and objects within each other: results are compared and kept by recursion, which has a limit."""


class _Answer(Struct, frozen=True, kw_only=True):
    """What a run says came of it: foreign input, as the function can write what it likes in its place."""

    imported: _AnsweredCall = field(name="import")
    events: tuple[_AnsweredCall, ...]
    milliseconds: Annotated[float, Meta(ge=0, le=_MOST_MILLISECONDS)]
    failure: str = ""
    log: str | None = None
    opened: tuple[str, ...] = ()
    machine: tuple[str, ...] = ()


class _Reached(Struct, frozen=True, kw_only=True):
    """How far a run has come that did not end."""

    reached: int | None = None


class _AnsweredCall(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of a call: an error with at least its ``type``, ``message`` and ``trace``, or a result."""

    error: dict[str, str] | None = None
    result: Any = None

    def outcome(self) -> dict[str, Any]:
        """Return one of the two; raises ``ValueError`` for an error that lacks something, or a result that is too deep."""
        if self.error is None:
            if _is_deeper(self.result, _DEEPEST_RESULT):
                raise ValueError(f"a result of more than {_DEEPEST_RESULT} arrays and objects within each other")
            return {"result": self.result}
        if not {"type", "message", "trace"} <= self.error.keys():
            raise ValueError("an error without type, message and trace")
        return {"error": {name: visible_text(text) for name, text in self.error.items()}}


def _is_deeper(value: Any, most: int) -> bool:
    """Return whether a JSON value has more arrays and objects within each other."""
    level = [value]
    for _ in range(most + 1):
        level = [each for each in level if isinstance(each, (dict, list))]
        if not level:
            return False
        level = [child for each in level for child in (each.values() if isinstance(each, dict) else each)]
    return True


def _read_outcome(answer: bytes, log: str, events: int) -> tuple[Outcome, bool]:
    """Return what an answer says of so many events, and whether another run would say the same."""
    try:
        found = _decode_answer(answer)
        outcomes = tuple(each.outcome() for each in found.events)
        imported = found.imported.outcome()
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        return Outcome(failure=f"its answer cannot be read ({error})", log=log), False
    wanted = 0 if "error" in imported else events
    if not found.failure and len(outcomes) != wanted:
        return Outcome(failure=f"its answer has results of {len(outcomes)} events instead of {wanted}", log=log), False
    if found.machine and "error" not in imported:
        imported = {"error": {"type": MACHINE_LIBRARY, "message": visible_text(_machine_message(found.machine)), "trace": ""}}
        outcomes = ()
    outcome = Outcome(
        imported=imported,
        events=outcomes,
        failure=visible_text(found.failure),
        log=log if found.log is None else found.log,
        milliseconds=found.milliseconds,
        opened=found.opened,
    )
    return outcome, True


def _decode_answer(answer: bytes) -> _Answer:
    """Decode an answer; raises ``ValueError``, or ``RecursionError``.

    Results may hold what Python's json writes and reads and no other does, as Lambda's client does too (awslambdaric,
    lambda_runtime_marshaller.py): NaN, infinity, and halves of surrogate pairs, which are replaced.
    """
    try:
        return msgspec.json.decode(answer, type=_Answer)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        text = json.dumps(json.loads(answer), ensure_ascii=False)
        return msgspec.convert(json.loads(text.encode("utf-8", "replace")), _Answer)


def _machine_message(names: Sequence[str]) -> str:
    return f"{', '.join(names)} of this machine was loaded, which the runtime does not have"


def _as_json(outcome: Outcome) -> bytes:
    data = {
        "import": outcome.imported,
        "events": outcome.events,
        "failure": outcome.failure,
        "log": outcome.log[-4096:],
        "milliseconds": outcome.milliseconds,
    }
    return json.dumps(data).encode()
