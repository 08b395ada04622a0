"""Says why a handler's module cannot be imported: whether it would fail on Lambda as well, and what to do about it."""

from __future__ import annotations

import posixpath
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from builders.documents import read_toml
from builders.errors import LpackError
from builders.runtimes import LAYERS_MOUNT, RUNTIME_MODULES, TASK_FOLDER
from packer.core.model import OWN_SOURCE, Function, Tree, owner_label
from packer.core.names import PYPROJECT_FILE
from packer.core.records import UnverifiedCause
from packer.formats.distribution_names import canonical_name
from packer.source.layer_content import LayerContent, read_layer_sources
from packer.trim.material import Material
from packer.verify.denials import TRACED_FILES, Denial, find_denial, is_below, name_folder, sought_library, starts_program
from packer.verify.diagnosis import HANDLER_NOT_FOUND, IMPORTS, NO_NETWORK, is_broken, is_network, remedy_for
from packer.verify.handler_source import SourceFault, is_chosen, is_reached, may_bind, offer_names, surely_ends
from packer.verify.module_names import added_after, full_name, is_standard, leading_folder, likely_distribution, removed_from
from packer.verify.runner import Outcome
from packer.verify.surroundings import ABSENT_MODULE

# Messages are foreign input: these read each letter once.
_NO_METADATA = re.compile(r"No package metadata was found for (\S+)|The '([\w.-]++)[^'\n]*+' distribution was not found")
_LIBRARY = re.compile(r"(?<![\w.+-])([\w.+-]++)'?: cannot open shared object file")
_LOADS_LIBRARIES = re.compile(rb"\b(?:ctypes|cffi|find_library|_?dlopen)\b")
"""What sources use that look for libraries by themselves."""
# Python documentation, `traceback`: what stands between two tracebacks, and before the frames of each.
_DIRECT_CAUSE = "\nThe above exception was the direct cause of the following exception:\n"
_DURING = "\nDuring handling of the above exception, another exception occurred:\n"
_HEADER = re.compile(r"^Traceback \(most recent call last\):\n(?: [^\n]*\n)*", re.MULTILINE)
_NO_NAME = re.compile(rf"cannot import name '(\w+)' from '([\w.]+)' \((?:{TASK_FOLDER}|{LAYERS_MOUNT}/python)/([^)]+)\)")
_FRAME = re.compile(
    rf'File "(?:({TASK_FOLDER})|{LAYERS_MOUNT}(?:/python)?(?:/lib/python3\.\d+/site-packages)?)/([^"]+)", line (\d+)'
)
_CHAINED = re.compile(f"{_DIRECT_CAUSE}|{_DURING}")
# What a traceback says that was raised, behind its frames: the type, and the message's first line.
_RAISED = re.compile(r"^Traceback \(most recent call last\):\n(?: [^\n]*+\n)*+([\w.]++)(?:: ([^\n]*+))?", re.MULTILINE)
_OF_LOADING = IMPORTS | {"OSError", "AttributeError"}
_LOADERS = ("cffi/", "importlib_metadata/", "pkg_resources/")
"""Packages that look for what others ask them for."""
# What sources put on Python's path that no package has: file systems that are mounted, and what is fetched at the start.
_ELSEWHERE = re.compile(rb"sys\.path\b[^\n]*[\"'](?:/mnt|/tmp)\b|[\"']/mnt/")
# What reads variables: of the standard library, and of the packages that are most used for settings.
_VARIABLES = re.compile(rb"\b(?:environ|getenv|BaseSettings|decouple|dynaconf)")
# What asks services, of the standard library and of the packages that are most used for that.
_SERVICES = re.compile(
    rb"\b(?:urllib|urlopen|http\.client|socket|smtplib|ftplib|requests|httpx|aiohttp|boto3|botocore|redis|pymongo|psycopg2?)\b"
)
# What defines names for all modules.
_BUILTINS = re.compile(rb"\b(?:builtins|__builtins__)\b|\bgettext\b")
_COMMON_FOLDERS = frozenset(("", "var", "task", "opt", "usr", "lib", "home", "mnt", "srv", "etc"))
_SITE = re.compile(r"^(python/)?(lib/python3\.\d+/site-packages/)?")
_NAME_ERRORS = frozenset(("NameError", "UnboundLocalError"))
_QUOTED_NAME = re.compile(r"(?:name|variable) '(\w+)'")
_FAULTS = frozenset((signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV))
"""Signals that faults of native code end in. SIGABRT comes of checks, too, and SIGILL of another kind of processor."""
_NO_EXIT = 'Raise an error instead, or keep the exit below `if __name__ == "__main__":`.'
_GIVE_VARIABLES = 'Variables that it needs can be given: environment = { NAME = "…" }.'


class Diagnosis(Struct, frozen=True, kw_only=True):
    """Why a function cannot be imported. ``broken``: it would fail on Lambda too, whatever variables and services it has there.

    ``reason`` is a clause, and ends the sentence "not verified: …" where it is not broken.
    """

    broken: bool
    reason: str
    remedy: str
    cause: UnverifiedCause = "deployment"


def diagnose(
    outcome: Outcome,
    material: Material,
    unfetched: str = "",
    layers: Sequence[LayerContent] = (),
    *,
    exact: bool = False,
) -> Diagnosis:
    """Return why a function cannot be imported, trimmed or not.

    ``unfetched`` says why the runtime's packages are not here, ``layers`` are attached and known, and ``exact`` whether it was
    run by the runtime's own files, on a processor of the target's kind.
    """
    error = outcome.imported.get("error")
    cause: UnverifiedCause = "interpreter" if outcome.emulated else "deployment"
    broken = Diagnosis(broken=is_broken(outcome), reason=outcome.trouble(), remedy=remedy_for(outcome), cause=cause)
    if outcome.status is not None:
        return _diagnose_end(outcome, material, exact=exact)
    if error is None or outcome.failure:
        return broken
    kind, message, trace = (str(error[key]) for key in ("type", "message", "trace"))
    if broken.broken:
        names = offer_names(material, error.get("names")) if kind == HANDLER_NOT_FOUND else ""
        return Diagnosis(broken=True, reason=broken.reason, remedy=names + broken.remedy)
    scene = _Scene(material, layers, trace)
    refused = None if kind in _NAME_ERRORS else find_denial(kind, message, trace)
    found = _diagnose_denial(refused, broken.reason, scene, exact=exact) if refused else None
    if kind in _NAME_ERRORS:
        found = _diagnose_name(message, broken.reason, scene, unfetched)
    absent = None if found else _find_absent(outcome, material, unfetched, layers)
    if absent is not None and scene.is_chosen():
        absent = replace(absent, broken=False)
    found = found or absent or (_diagnose_exit(broken.reason, scene) if kind == "SystemExit" else broken)
    return _reconsider(found, outcome, material, unfetched, layers) if found.broken else found


def _reconsider(
    found: Diagnosis, outcome: Outcome, material: Material, unfetched: str, layers: Sequence[LayerContent]
) -> Diagnosis:
    """Return a diagnosis of what was raised because of other errors: certain only if those would be raised on Lambda."""
    trace = str(outcome.imported["error"]["trace"])
    errors = [*_RAISED.finditer(trace)]
    if any(is_network(each[1], each[2] or "") for each in errors):
        return Diagnosis(broken=False, reason=found.reason, remedy=NO_NETWORK)
    if not _CHAINED.search(trace):
        return found
    if len(errors) < 2:  # it is cut off
        return replace(found, broken=False)
    if _is_handled_by_others(errors[-2][0], material):
        return found
    kind, message = errors[-2][1], errors[-2][2] or ""
    if kind in _OF_LOADING and ABSENT_MODULE.search(message) is None and outcome.imported["error"]["type"] in _OF_LOADING:
        return found  # it has tried one library after the other
    earlier = {"type": kind, "message": message, "trace": trace[: errors[-2].end()]}
    cause = diagnose(Outcome(imported={"error": earlier}), material, unfetched, layers)
    return found if cause.broken else replace(found, broken=False, cause=cause.cause)


def _is_handled_by_others(trace: str, material: Material) -> bool:
    """Return whether Python's own module or a distribution's handled an error, as its first frame says: that is usual."""
    first = _FRAME.search(trace.partition("\n")[2].partition("\n")[0])
    others = (entry.path for owner, tree in material.parts if owner != OWN_SOURCE for entry in tree)
    return first is None or first[2] in map(partial(_SITE.sub, ""), others)


class _Scene:
    """Where an error was raised, and what may decide there whether it is."""

    def __init__(self, material: Material, layers: Sequence[LayerContent], trace: str, part: str = "") -> None:
        """``part`` is what of the traceback takes part: by default what was raised last."""
        self.function: Function = material.function
        self.trace = trace
        self.place = _place(trace)
        self._material = material
        self._layers = layers
        part = part or _CHAINED.split(trace)[-1]
        self._lines = {(found[2], int(found[3])) for found in _FRAME.finditer(part)}
        files = TRACED_FILES.findall(part)
        self.ends_here = bool(files) and _FRAME.search(f'File "{files[-1]}", line 1') is not None
        """Whether it was raised in a file of the function's or a layer's, and not in what that calls, or in a text."""

    def sources(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield the sources that take part, wherever in a package they are imported from, with a line that was reached."""
        wanted = dict(self._lines)
        for _, tree in self._material.parts:
            for entry in tree:
                path = _SITE.sub("", entry.path)
                if path in wanted:
                    yield path, wanted[path], entry.content.read()
        for path, data in read_layer_sources(self._layers, wanted.keys()):
            yield _SITE.sub("", path), wanted[_SITE.sub("", path)], data

    def own(self) -> Iterator[bytes]:
        """Yield the sources that are the user's: of the function itself, and of known layers."""
        yield from _own_sources(self._material)
        yield from (data for _, data in read_layer_sources(self._layers))

    def at_place(self) -> Iterator[bytes]:
        """Yield the source in which it was raised."""
        path = self.place.rpartition(":")[0]
        return (data for each, _, data in self.sources() if each == path)

    def holds(self, path: str) -> bool:
        """Return whether a file or a folder is packed with the function, or in a known layer."""
        own = posixpath.relpath(path, TASK_FOLDER) if is_below(path, TASK_FOLDER) else posixpath.relpath(path, LAYERS_MOUNT)
        held = (entry.path for _, tree in self._material.parts for entry in tree) if is_below(path, TASK_FOLDER) else ()
        layered = (each for layer in self._layers for each in layer.paths) if is_below(path, LAYERS_MOUNT) else ()
        return any(is_below(each, own) for each in (*held, *layered))

    def is_certain(self) -> bool:
        """Return whether nothing decides that it is raised, but what the function is made of."""
        own = {entry.path for entry in dict(self._material.parts)[OWN_SOURCE]}
        data = {path: text for path, _, text in self.sources()}
        if all(path in own and is_reached(data[path], line) for path, line in self._lines):
            return True
        texts = (*data.values(), *self.own())
        return not any(_VARIABLES.search(each) or _SERVICES.search(each) or _ELSEWHERE.search(each) for each in texts)

    def is_chosen(self) -> bool:
        """Return whether a condition leads to it, in a source that reads variables."""
        data = {path: text for path, _, text in self.sources()}
        lines = ((line, data[path]) for path, line in self._lines if path in data)
        return any(_VARIABLES.search(text) and is_chosen(text, line) for line, text in lines)

    def reads_variables(self, path: str) -> bool:
        """Return whether a path or a program may come from a variable: a source that takes part, or names a part of it."""
        names = [name.encode() for name in path.split("/") if name not in _COMMON_FOLDERS]
        texts = (text for text in self.own() if any(name in text for name in names))
        return any(map(_VARIABLES.search, (*(text for _, _, text in self.sources()), *texts)))


def _own_sources(material: Material) -> Iterator[bytes]:
    return (entry.content.read() for entry in dict(material.parts)[OWN_SOURCE] if entry.path.endswith(".py"))


def _find_absent(outcome: Outcome, material: Material, unfetched: str, layers: Sequence[LayerContent]) -> Diagnosis | None:
    """Return why something is not found that a module imports, loads, or asks for; None where an error says no such thing."""
    kind, message, trace = (str(outcome.imported["error"][key]) for key in ("type", "message", "trace"))
    is_import = kind in IMPORTS or kind == "SystemExit"
    start, end = (0, len(trace)) if is_import else _direct_cause(trace)
    absent = [*ABSENT_MODULE.finditer(trace, start, end)]
    cause = trace[: absent[-1].start()] if absent else trace  # what others raise because of it comes behind
    search = _Search(material, _importer(cause), unfetched, layers)
    found = None
    if is_import or absent:
        named = [*ABSENT_MODULE.finditer(message)] or ([] if "cannot import name" in message else absent)
        found = search.module(full_name(named[-1][1], cause), message) if named else search.name(message)
    metadata = _NO_METADATA.search(message)
    if found is None and metadata:
        found = search.metadata(metadata[1] or metadata[2])
    library = _absent_library(message, trace, kind) or _sought_library(message, trace, kind, material, layers)
    if found is None and library is not None:
        name, at = library
        found = _Search(material, _importer(trace[:at]), unfetched, layers).library(name)
    return found


def _absent_library(message: str, trace: str, kind: str) -> tuple[str, int] | None:
    """Return the shared library that an error, or what it was raised because of, says is not found, and where it says so."""
    loads = _LIBRARY.search(message)
    if loads is not None:
        place = trace.rfind(loads[0])
        return loads[1], place if place >= 0 else len(trace)
    start, end = (0, len(trace)) if kind in IMPORTS else _direct_cause(trace)
    said = [*_LIBRARY.finditer(trace, start, end)]
    return (said[-1][1], said[-1].start()) if said else None


def _sought_library(
    message: str, trace: str, kind: str, material: Material, layers: Sequence[LayerContent]
) -> tuple[str, int] | None:
    """Return the same where code that looks for libraries by itself says so in its own words."""
    if kind not in IMPORTS and kind != "OSError":
        return None
    name = sought_library(message)
    involved = _Scene(material, layers, trace, trace[trace.rfind(_DURING) + 1 :]).sources() if name else ()
    return (name, len(trace)) if any(_LOADS_LIBRARIES.search(text) for _, _, text in involved) else None


def _direct_cause(trace: str) -> tuple[int, int]:
    """Return where in a trace that error stands which the last one was raised from (`raise … from …`), without its frames.

    Where the last one was raised from none, the place is empty. An error that was merely handled meanwhile is no cause.
    """
    before, _, behind = trace.rpartition(_DIRECT_CAUSE)
    headers = [] if _DURING in behind else [*_HEADER.finditer(before)]
    return (headers[-1].end(), len(before)) if headers else (0, 0)


def _diagnose_end(outcome: Outcome, material: Material, *, exact: bool) -> Diagnosis:
    """Return why a run has ended without an outcome: by an exit of its own, or by a signal."""
    reason, status = outcome.trouble(), outcome.status or 0
    if status < 0:
        return _diagnose_signal(reason, -status, material, exact=exact)
    remedy = f"{_NO_EXIT} {_GIVE_VARIABLES}"
    if material.function.layers.unknown:
        reason = f"{reason}, which what layer {' or '.join(material.function.layers.unknown)} holds may decide"
        return Diagnosis(broken=False, reason=reason, remedy=remedy, cause="layer")
    if any(map(_VARIABLES.search, _own_sources(material))) or not surely_ends(material):
        return Diagnosis(broken=False, reason=reason, remedy=remedy)
    return _broken(reason, _NO_EXIT)


def _diagnose_signal(reason: str, number: int, material: Material, *, exact: bool) -> Diagnosis:
    """Return why a signal has ended a run."""
    with suppress(ValueError):
        reason = f"{reason} ({signal.Signals(number).name})"
    if number not in _FAULTS:
        remedy = "See what ends it: nothing of lpack's does, but it may lack a variable, or this machine memory."
        return Diagnosis(broken=False, reason=reason, remedy=remedy)
    if exact:
        remedy = "Choose another version of the distribution whose native code does that, or build it from source: builder."
        return _broken(reason, remedy)
    runtime = material.function.target.runtime.name
    remedy = f"`lpack runtime pull {runtime}` brings the runtime's own files, which show whether it happens on Lambda."
    return Diagnosis(broken=False, reason=f"{reason}, outside of the runtime's own files", remedy=remedy, cause="interpreter")


def _diagnose_exit(trouble: str, scene: _Scene) -> Diagnosis:
    """Return why a module ends the process (SystemExit): the value of a variable may decide whether it does."""
    reason = f"{trouble.rstrip(': ')}{scene.place and f', at {scene.place}'}: its import ends the process"
    unknown = scene.function.layers.unknown
    if unknown or not scene.is_certain():
        reason = f"{reason}, which what layer {' or '.join(unknown)} holds may decide" if unknown else reason
        remedy = f"{_NO_EXIT} {_GIVE_VARIABLES}"
        return Diagnosis(broken=False, reason=reason, remedy=remedy, cause="layer" if unknown else "deployment")
    return _broken(reason, _NO_EXIT)


def _diagnose_name(message: str, trouble: str, scene: _Scene, unfetched: str) -> Diagnosis:
    """Return why a name is not defined: certain only where nothing binds it, and nothing but the source decides it."""
    reason = f"{trouble}{scene.place and f', at {scene.place}'}"
    named, line = _QUOTED_NAME.search(message), int(scene.place.rpartition(":")[2] or 0)
    texts = [*scene.at_place()]
    bound = named is None or not texts or not scene.ends_here or any(may_bind(text, named[1], line) for text in texts)
    if bound and scene.function.layers.unknown:
        layers = " or ".join(scene.function.layers.unknown)
        remedy = "For a proof, require what it imports from there."
        return Diagnosis(broken=False, reason=f"{reason}; it may come from layer {layers}", remedy=remedy, cause="layer")
    if bound and unfetched:
        reason = f"{reason}; it may come from what the runtime has and is not here ({unfetched})"
        return Diagnosis(broken=False, reason=reason, remedy="Build where that can be fetched.", cause="runtime")
    if bound or not scene.is_certain() or any(map(_BUILTINS.search, scene.own())):
        return Diagnosis(broken=False, reason=reason, remedy=f"Define it before that line in any case. {_GIVE_VARIABLES}")
    return _broken(reason, "Define it before that line, or import it there, and build again.")


def _diagnose_denial(denial: Denial, trouble: str, scene: _Scene, *, exact: bool) -> Diagnosis:
    """Return why a function cannot be imported that asks for what Lambda denies: its deployment may only say where to ask."""
    function, remedy = scene.function, denial.remedy
    at = f"{trouble}{scene.place and f', at {scene.place}'}"
    reason = f"{at}; {denial.what}"
    variable = next((name for name, value in function.variables.items() if is_below(denial.path, value)), "")
    if variable:
        return Diagnosis(broken=False, reason=reason, remedy=name_folder(variable))
    if denial.packed and scene.holds(denial.path):
        return _diagnose_packed(at, scene, exact=exact)
    own = posixpath.relpath(denial.path, TASK_FOLDER) if denial.packed and is_below(denial.path, TASK_FOLDER) else ""
    if own and (function.source / own).exists():
        remedy = f"`lpack build --explain {own}` says what leaves it out; a line !{own} in .lpackignore keeps it."
        reason = f"{reason}, though it lies in the source"
    elif (denial.program or (denial.packed and not own)) and function.layers.unknown:
        reason = f"{reason} here, and it may lie in layer {' or '.join(function.layers.unknown)}"
        return Diagnosis(broken=False, reason=reason, remedy=remedy, cause="layer")
    elsewhere = is_below(denial.path, "/mnt") or ((denial.program or denial.packed) and function.image.base)
    certain = denial.certain and not elsewhere and not (denial.path and scene.reads_variables(denial.path))
    return Diagnosis(broken=certain, reason=reason, remedy=remedy)


def _diagnose_packed(at: str, scene: _Scene, *, exact: bool) -> Diagnosis:
    """Return why a file is not found that is packed: a program whose interpreter is missing, or a path that leads elsewhere."""
    if starts_program(scene.trace):
        reason = f"{at}; it is packed, and what its first line names, or its loader, is not here"
        remedy = "Start it by a program that Lambda has: [sys.executable, path] for a Python script."
        return Diagnosis(broken=False, reason=reason, remedy=remedy, cause="deployment" if exact else "interpreter")
    return Diagnosis(
        broken=False, reason=f"{at}; it is packed", remedy="Look for it by its full path, below /var/task or /opt."
    )


def diagnose_fault(fault: SourceFault, material: Material) -> Diagnosis:
    """Return why a function whose source was only looked at cannot be imported."""
    if fault.module:
        return _Search(material, f" that {fault.place} imports", "").module(fault.module, "")
    outcome = Outcome(imported={"error": {"type": fault.reason.partition(":")[0], "message": "", "trace": ""}})
    remedy = remedy_for(outcome)
    if fault.reason.startswith(HANDLER_NOT_FOUND):
        remedy = offer_names(material, None) + remedy
    return Diagnosis(broken=True, reason=fault.reason, remedy=remedy)


class _Search:
    """Looks for what an import does not find, in all that a function has."""

    def __init__(self, material: Material, importer: str, unfetched: str, layers: Sequence[LayerContent] = ()) -> None:
        self._material = material
        self._function: Function = material.function
        self._minor = material.function.target.runtime.minor
        self._importer = importer
        self._unfetched = unfetched
        self._layers = layers

    def module(self, module: str, message: str) -> Diagnosis:
        """Return why a module is not found."""
        top = module.partition(".")[0]
        wanted = f"the module {module!r}{self._importer}"
        removed, added = removed_from(module, self._minor), added_after(module, self._minor)
        shadow = f"{top}.py"
        if top in RUNTIME_MODULES and "is not a package" not in message:
            why = self._unfetched or "another version of it may be on Lambda"
            reason = f"{wanted}, which the runtime has, is not here ({why})"
            return Diagnosis(
                broken=False, reason=reason, remedy=f"Build where {RUNTIME_MODULES[top]} can be fetched.", cause="runtime"
            )
        if "is not a package" in message and shadow in self._paths(OWN_SOURCE):
            return _broken(f"{shadow} of the function's own hides {wanted}", f"Give {shadow} another name.")
        if removed or added:
            return self._of_other_python(wanted, removed, added)
        if is_standard(module, self._minor):
            reason = f"the Python that ran it here was built without {wanted}"
            return Diagnosis(
                broken=False,
                reason=reason,
                remedy="Verify it with another Python 3." + str(self._minor) + ".",
                cause="interpreter",
            )
        return (
            self._elsewhere(wanted)
            or self._by_path_file(module, wanted)
            or self._misplaced(module, wanted)
            or self._nowhere(module, wanted)
        )

    def _of_other_python(self, wanted: str, removed: tuple[int, str] | None, added: tuple[int, str] | None) -> Diagnosis:
        minor, substitute = removed or added or (0, "")
        when = f"is not part of Python from 3.{minor} on" if removed else f"is part of Python only from 3.{minor} on"
        remedy = f"Require {substitute}, or choose another runtime." if substitute else "Choose another runtime."
        return _broken(f"{wanted} {when}, and nothing else provides it", remedy)

    def _elsewhere(self, wanted: str) -> Diagnosis | None:
        """Return the diagnosis of what may lie where nobody can look now: in unknown layers, or in a file system."""
        unknown = self._function.layers.unknown
        if unknown:
            reason = f"{wanted} is not here; it may lie in layer {' or '.join(unknown)}"
            remedy = (
                'For a proof, require it, and say that the layer holds it: attached = [{ arn = "…", distributions = ["…"] }].'
            )
            return Diagnosis(broken=False, reason=reason, remedy=remedy, cause="layer")
        values = "\n".join(self._function.variables.values()).encode()
        texts = [values, *(entry.content.read() for entry in self._tree(OWN_SOURCE) if entry.path.endswith(".py"))]
        if any(map(_ELSEWHERE.search, texts)) or b"/mnt/" in values:
            reason = f"{wanted} is not here; it may lie in a folder that only the deployed function has (/mnt, /tmp)"
            return Diagnosis(broken=False, reason=reason, remedy="Require it, if it is to be packed.")
        return None

    def _by_path_file(self, module: str, wanted: str) -> Diagnosis | None:
        """Return the diagnosis of a module that a .pth file would lead to (Python documentation, `site`)."""
        top = module.partition(".")[0]
        for owner, tree in self._material.parts:
            for entry in tree:
                if "/" in entry.path or not entry.path.endswith(".pth"):
                    continue
                text = entry.content.read().decode("utf-8", "replace")
                folder = leading_folder(text, {each.path for each in tree}, top)
                if folder:
                    where = f"{TASK_FOLDER}/{folder}"
                    remedy = f'Before the import, write sys.path.append("{where}"), or set the variable PYTHONPATH to {where}.'
                    return self._path_file(owner, entry.path, wanted, f" ({folder})", remedy)
                if re.search(rf"\b{re.escape(top)}\b", text):
                    remedy = (
                        f"Require a version of {owner_label(owner)} that needs none, or do in the handler what it would do."
                    )
                    return self._path_file(owner, entry.path, wanted, "", remedy)
        return None

    @staticmethod
    def _path_file(owner: str, path: str, wanted: str, leads: str, remedy: str) -> Diagnosis:
        reason = f"Lambda reads no .pth file, and {owner_label(owner)} relies on {path}{leads} to provide {wanted}"
        return _broken(reason, remedy)

    def _misplaced(self, module: str, wanted: str) -> Diagnosis | None:
        """Return the diagnosis of a module of the function's own in a folder where Python does not look."""
        top = module.partition(".")[0]
        for path in self._paths(OWN_SOURCE):
            folder, _, name = path.rpartition("/")
            package = name == "__init__.py" and folder.rpartition("/")[2] == top
            folder = folder.rpartition("/")[0] if package else folder
            if folder and (package or name == f"{top}.py"):
                dotted = folder.replace("/", ".")
                remedy = f'Import it as {dotted}.{module}, or let the source begin there: source = "…/{folder}".'
                return _broken(f"nothing provides {wanted}: it lies in {folder}/, where Python does not look", remedy)
        return None

    def _nowhere(self, module: str, wanted: str) -> Diagnosis:
        name, known = likely_distribution(module)
        who = (
            "neither the function, nor its layers, nor the runtime"
            if self._function.layers.attached
            else "neither the function nor the runtime"
        )
        plain = canonical_name(re.split(r"[<\[]", name)[0])
        if plain in self._function.exclude:
            return _broken(f"{who} provides {wanted}", f"Remove {plain} from exclude, and build again.")
        if any(each.name == plain for each in self._material.distributions):
            return _broken(f"{who} provides {wanted}", f"Require a version of {plain} that has it, and build again.")
        what = (
            f"what brings it to its requirements ({name})" if known else "the distribution that provides it to its requirements"
        )
        return _broken(f"{who} provides {wanted}", f"Add {what}, and build again.")

    def name(self, message: str) -> Diagnosis | None:
        """Return why a name cannot be imported from a module of the function's, where nothing in that could define it."""
        found = _NO_NAME.search(message)
        if not found:
            return None
        name, module = found[1], found[2]
        path = re.sub(r"^lib/python3\.\d+/site-packages/", "", found[3])
        layers = [(f"the layer {each.label}", each.tree) for each in self._layers if each.tree]
        for owner, tree in (*self._material.parts, *layers):
            source = next((entry for entry in tree if entry.path in {path, f"python/{path}", f"python/{found[3]}"}), None)
            if source is not None and not re.search(
                rf"\b{name}\b|\*|__getattr__|globals\(", source.content.read().decode("utf-8", "replace")
            ):
                is_ours = owner == OWN_SOURCE or owner.startswith("the layer ")
                remedy = "Define it there" if is_ours else f"Require a version of {owner} that has it"
                return _broken(f"{module} has no {name!r}{self._importer}", f"{remedy}, and build again.")
        return None

    def metadata(self, name: str) -> Diagnosis:
        """Return why the metadata of a distribution is not found."""
        wanted = f"the metadata of the distribution {name!r}{self._importer.replace('imports', 'asks for')}"
        found = self._elsewhere(wanted)
        if found is not None:
            return found
        if canonical_name(name) in map(canonical_name, RUNTIME_MODULES.values()):
            return Diagnosis(
                broken=False, reason=f"{wanted}, which the runtime has, is not here", remedy="Require it.", cause="runtime"
            )
        remedy = f"Add {name} to its requirements, and build again."
        if canonical_name(name) == _project_name(self._function):
            remedy = (
                'Require the project itself, so that its metadata is packed: a line "." in requirements.txt, or a lock with it.'
            )
        return _broken(f"nothing provides {wanted}", remedy)

    def library(self, name: str) -> Diagnosis | None:
        """Return why a shared library is not found."""
        users = (file.path for files in self._material.native.values() for file in files if name in file.needed)
        user = next(users, "")
        wanted = (
            f"the library {name} that {user} needs"
            if user
            else f"the library {name}{self._importer.replace('imports', 'loads')}"
        )
        found = self._elsewhere(wanted)
        if found is not None or self._has_library(name):
            return found
        if name in self._function.provided:
            return Diagnosis(broken=False, reason=f"{wanted}, is provided elsewhere", remedy="", cause="layer")
        remedy = (
            "Put it into lib/ of the source, attach a layer that has it, require a distribution that brings its own, or build "
            'an image whose base has it (format = "image", oci.base).'
        )
        return _broken(f"neither the function nor the runtime has {wanted}", remedy)

    def _has_library(self, name: str) -> bool:
        """Return whether the runtime, the function or a layer of its has a library, by its file's name or the stem of that."""
        if name in self._function.target.libraries:
            return True
        stem = name if name.startswith("lib") else f"lib{name}"
        trees = (*(tree for _, tree in self._material.parts), *(each.tree for each in self._layers if each.tree))
        held = {entry.path.rpartition("/")[2] for tree in trees for entry in tree}
        if name in held or ".so" in stem:
            return name in held
        return any(file.startswith((f"{stem}.so", f"{stem}-")) for file in (*self._function.target.libraries, *held))

    def _tree(self, name: str) -> Tree:
        return dict(self._material.parts)[name]

    def _paths(self, name: str) -> Iterator[str]:
        return (entry.path for entry in self._tree(name))


def _broken(reason: str, remedy: str) -> Diagnosis:
    return Diagnosis(broken=True, reason=reason, remedy=remedy)


def _importer(trace: str) -> str:
    """Return who imports, in words; empty where unknown."""
    place = _place(trace)
    return f" that {place} imports" if place else ""


def _place(trace: str) -> str:
    """Return the last place of a traceback in the function's own files and those of layers; empty where there is none."""
    frames = [found for found in _FRAME.finditer(trace) if not found[2].startswith(_LOADERS)]
    return f"{frames[-1][2]}:{frames[-1][3]}" if frames else ""


def _project_name(function: Function) -> str:
    """Return the normalized name of the project that a function's source belongs to; empty where there is none."""
    for folder in (function.source, *function.source.parents):
        path = folder / PYPROJECT_FILE
        if path.is_file():
            try:
                document = read_toml(path, LpackError, "")
            except LpackError:
                return ""
            tool = document.get("tool")
            tables = (document.get("project"), tool.get("poetry") if isinstance(tool, dict) else None)
            return next((canonical_name(str(each["name"])) for each in tables if isinstance(each, dict) and "name" in each), "")
        if folder == function.root:
            break
    return ""
