"""Divides what functions need between layers and the functions' own packages: the user's layers first, then the planner's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import force_setattr, replace

from builders.runtimes import LAYERS_LIMIT
from packer.core.errors import LimitError, UsageError
from packer.core.options import LayerOptions, NamedLayer
from packer.core.records import LayerRecord
from packer.formats.unpack import LayerArchive
from packer.layers.planner import Demand, Piece, plan_layers

_NOBODY, _NOTHING = "none is called", "Nothing needs"
_WILD = re.compile(r"[*?\[]")
_Known = Mapping[str, Sequence[tuple[str, str]]]
"""The digests and versions of a function's distributions, by their names."""


class Needed(Struct, frozen=True, kw_only=True):
    """A distribution as one function needs it: ``variant`` is the digest of what its trimming leaves, of ``size`` bytes.

    ``weight`` is how often it changes, in parts of how often others do; ``requires`` are the names of what it requires, where
    a named layer has to know that.
    """

    name: str
    version: str
    variant: str
    size: int
    weight: float = 1.0
    requires: tuple[str, ...] = ()


class Need(Struct, frozen=True, kw_only=True):
    """What one function needs: distributions by their wheels' digests, and the bytes of its own source.

    ``stuck`` are those that must lie beside its source, ``tied`` sets of those that must lie on one side together, and
    ``libraries`` the digests of the shared libraries in its source.
    """

    distributions: Mapping[str, Needed]
    own: int
    options: LayerOptions
    stuck: frozenset[str] = frozenset()
    tied: tuple[frozenset[str], ...] = ()
    libraries: tuple[str, ...] = ()


class LayerShare(Struct, frozen=True, kw_only=True):
    """A layer to be: the wheels' digests of what it holds, and its users, sorted; ``name`` is the user's, or empty."""

    pieces: tuple[str, ...]
    users: tuple[str, ...]
    name: str = ""


class MadeLayer(Struct, frozen=True, kw_only=True):
    """A layer: ``report`` is its record, and ``pieces`` are the wheels' digests of what it holds.

    ``staged`` is the archive where it is new.
    """

    name: str
    pieces: tuple[str, ...]
    report: LayerRecord
    archive: LayerArchive
    staged: Path | None


class Division(Struct, frozen=True, kw_only=True):
    """Which function gets what from which layer; ``unused`` says why a named layer is not used, by its name.

    ``by_function`` are the places in ``shares`` of each function's layers, and made of these.
    """

    shares: tuple[LayerShare, ...]
    unused: Mapping[str, str] = field(default_factory=dict)
    by_function: Mapping[str, tuple[int, ...]] = {}

    def __post_init__(self) -> None:
        force_setattr(self, "by_function", _places_of(self.shares))

    def of(self, function: str) -> tuple[LayerShare, ...]:
        """Return the layers of a function, in order."""
        return tuple(self.shares[place] for place in self.places(function))

    def places(self, function: str) -> tuple[int, ...]:
        """Return where the layers of a function stand in ``shares``, in order; a share's own hash is that of all its users."""
        return self.by_function.get(function, ())


def _places_of(shares: Sequence[LayerShare]) -> dict[str, tuple[int, ...]]:
    """Return by function where its layers stand."""
    found: dict[str, list[int]] = {}
    for place, share in enumerate(shares):
        for user in share.users:
            found.setdefault(user, []).append(place)
    return {user: tuple(places) for user, places in found.items()}


def shared(needs: Mapping[str, Need]) -> dict[str, tuple[str, ...]]:
    """Return the users of each distribution that may lie in a layer: all that are in one function alone are not among them."""
    users: dict[str, list[str]] = {}
    named: set[str] = set()
    for function in sorted(needs):
        need = needs[function]
        mine = {name for layer in need.options.named for name in layer.distributions}
        named |= mine
        for digest, each in need.distributions.items():
            if need.options.mode == "auto" or each.name in mine:
                users.setdefault(digest, []).append(function)
    return {
        digest: tuple(names)
        for digest, names in users.items()
        if len(names) > 1 or needs[names[0]].distributions[digest].name in named
    }


def with_required(needs: Mapping[str, Need]) -> dict[str, Need]:
    """Return the needs with all that a named layer's distributions require in that layer, as far as its functions have it."""
    layers = {layer.name: layer for need in needs.values() for layer in need.options.named if layer.closed}
    if not layers:
        return dict(needs)
    held = {name: set(layer.distributions) for name, layer in layers.items()}
    for need in needs.values():
        requires = {each.name: each.requires for each in need.distributions.values()}
        for layer in need.options.named:
            if layer.closed:
                held[layer.name] |= _reachable_names(layer.distributions, requires)
    whole = {name: replace(layer, distributions=tuple(sorted(held[name]))) for name, layer in layers.items()}
    return {
        name: replace(
            need, options=replace(need.options, named=tuple(whole.get(layer.name, layer) for layer in need.options.named))
        )
        for name, need in needs.items()
    }


def _reachable_names(names: Iterable[str], requires: Mapping[str, Sequence[str]]) -> set[str]:
    """Return what these names require, and what that requires, as far as it exists, with the names themselves."""
    waiting = [name for name in names if name in requires]
    seen = set(waiting)
    while waiting:
        more = [name for name in requires[waiting.pop()] if name in requires and name not in seen]
        waiting += more
        seen.update(more)
    return seen


def divide(needs: Mapping[str, Need], sizes: Mapping[str, Piece]) -> Division:
    """Divide what functions of one kind need; ``sizes`` has all that `shared` gives.

    Named layers have all that they are to hold (`with_required`). Raises `UsageError` where one cannot hold what its users
    need, or a function would have too many.
    """
    shares, unused = _named_shares(needs)
    named = Division(shares=shares)
    held = {name: frozenset(digest for share in named.of(name) for digest in share.pieces) for name in needs}
    slots = {name: _slots(name, need, len(named.places(name))) for name, need in needs.items()}
    free = _drop_tied(
        {name: _free(need, sizes, held[name]) for name, need in needs.items()},
        {name: need.tied for name, need in needs.items()},
    )
    demands = {
        name: Demand(pieces=pieces, slots=slots[name], own=_beside_pieces(needs[name], pieces, held[name], sizes))
        for name, pieces in free.items()
        if pieces
    }
    plan = plan_layers(demands, sizes)
    automatic = (LayerShare(pieces=layer.pieces, users=layer.users) for layer in plan.layers)
    return Division(shares=(*shares, *automatic), unused=unused)


def _free(need: Need, sizes: Mapping[str, Piece], held: frozenset[str]) -> frozenset[str]:
    """Return what the planner may put into layers of a function's distributions."""
    if need.options.mode != "auto":
        return frozenset()
    return frozenset(digest for digest in need.distributions if digest in sizes and digest not in held) - need.stuck


def _beside_pieces(need: Need, pieces: frozenset[str], held: frozenset[str], sizes: Mapping[str, Piece]) -> int:
    """Return the bytes that a function has beside what the planner may put into layers."""
    inside = sum(each.size for digest, each in need.distributions.items() if digest not in pieces and digest not in held)
    return need.own + sum(sizes[digest].unzipped for digest in held) + inside


def _slots(function: str, need: Need, named: int) -> int:
    """Return how many layers a function may still get; raises `LimitError` where it has too many."""
    attached = len(need.options.attached)
    if attached + named > LAYERS_LIMIT:
        raise LimitError(
            f"{function} needs {attached + named} layers ({named} named, {attached} attached), and Lambda takes "
            f"{LAYERS_LIMIT}.",
            remedy="Put some of the named layers together, or attach fewer.",
        )
    return LAYERS_LIMIT - attached - named


def _drop_tied(free: Mapping[str, frozenset[str]], tied: Mapping[str, Sequence[frozenset[str]]]) -> dict[str, frozenset[str]]:
    """Keep in functions what must lie beside something that others do not have beside it.

    What has the same users is never parted by the planner, and may go into a layer together. Each round takes a piece from
    some function, and so there are no more rounds than pieces of functions.
    """
    left = dict(free)
    while parted := _drop_parted(left, tied):
        left = {name: pieces - parted.get(name, frozenset()) for name, pieces in left.items()}
    return left


def _drop_parted(free: Mapping[str, frozenset[str]], tied: Mapping[str, Sequence[frozenset[str]]]) -> dict[str, frozenset[str]]:
    """Return by function what is tied to something with other users; functions without any are left out."""
    users: dict[str, list[str]] = {}
    for name in free if any(tied.values()) else ():
        for digest in free[name]:
            users.setdefault(digest, []).append(name)
    numbers: dict[tuple[str, ...], int] = {}
    alike = {digest: numbers.setdefault(tuple(names), len(numbers)) for digest, names in users.items()}
    found = {
        name: frozenset(
            digest for group in tied[name] if len(set(map(alike.get, group))) > 1 for digest in group if digest in pieces
        )
        for name, pieces in free.items()
        if tied[name]
    }
    return {name: pieces for name, pieces in found.items() if pieces}


def _named_shares(needs: Mapping[str, Need]) -> tuple[tuple[LayerShare, ...], dict[str, str]]:
    layers = {layer.name: layer for need in needs.values() for layer in need.options.named}
    known = {name: _by_name(needs[name]) for name in sorted(needs) if needs[name].options.named}
    users = _users_of(layers, known, needs)
    shares: list[LayerShare] = []
    unused: dict[str, str] = {}
    for layer in layers.values():
        pieces = tuple(sorted(_held_by(layer, users[layer.name], known)))
        if pieces:
            shares.append(LayerShare(pieces=pieces, users=tuple(users[layer.name]), name=layer.name))
        else:
            unused[layer.name] = _why_unused(layer, users[layer.name], needs)
    places = _places_of(shares)
    for name in needs:
        mine = [shares[place] for place in places.get(name, ())]
        _check_once(name, mine, needs[name])
        _check_together(name, mine, needs[name])
    return tuple(shares), unused


def _by_name(need: Need) -> _Known:
    """Return the digests and versions of a function's distributions, by their names."""
    found: dict[str, list[tuple[str, str]]] = {}
    for digest, each in need.distributions.items():
        found.setdefault(each.name, []).append((digest, each.version))
    return found


def _users_of(layers: Mapping[str, NamedLayer], known: Mapping[str, _Known], needs: Mapping[str, Need]) -> dict[str, list[str]]:
    """Return who gets each named layer; a name stands for one layer in all of a project."""
    gets = {name: _who_gets(layer) for name, layer in layers.items()}
    users: dict[str, list[str]] = {name: [] for name in layers}
    for function, distributions in known.items():
        for layer in needs[function].options.named:
            if gets[layer.name](function, distributions):
                users[layer.name].append(function)
    return users


def unused_everywhere(groups: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """Return why named layers are not used that no group uses: what one target does not need, another may."""
    reasons = list(groups)
    nowhere = set[str].intersection(*map(set, reasons)) if reasons else set()
    return tuple(max((each[name] for each in reasons), key=_tells_most) for name in sorted(nowhere))


def _why_unused(layer: NamedLayer, users: Sequence[str], needs: Mapping[str, Need]) -> str:
    if layer.functions and not users:
        return f"No function gets the layer {layer.name}: {_NOBODY} {' or '.join(layer.functions)}."
    if layer.functions:
        return f"The layer {layer.name} is empty: no function that gets it needs any of {', '.join(layer.distributions)}."
    needed = {each.name for need in needs.values() for each in need.distributions.values()}
    missing = [name for name in layer.distributions if name not in needed]
    some = f" {_NOTHING} {' or '.join(missing)}." if 0 < len(missing) < len(layer.distributions) else ""
    return f"No function gets the layer {layer.name}: none needs all of {', '.join(layer.distributions)}.{some}"


def _tells_most(reason: str) -> tuple[bool, bool, int]:
    """Compare reasons: another group may have the functions that are missing in one, or more of what is needed."""
    return _NOBODY not in reason, _NOTHING in reason, -len(reason)


def _who_gets(layer: NamedLayer) -> Callable[[str, _Known], bool]:
    """Return what says whether a function with these distributions, by their names, gets a layer."""
    if not layer.functions:
        return lambda _, distributions: all(name in distributions for name in layer.distributions)
    patterns = [pattern for pattern in layer.functions if _WILD.search(pattern)]
    names = frozenset(layer.functions).difference(patterns)
    return lambda function, _: function in names or any(fnmatchcase(function, pattern) for pattern in patterns)


def _held_by(layer: NamedLayer, users: Sequence[str], known: Mapping[str, _Known]) -> Iterator[str]:
    """Return the wheels of a named layer; raises `UsageError` where its users need different versions of one."""
    for name in layer.distributions:
        found: dict[str, tuple[str, str]] = {}
        for user in users:
            for digest, version in known[user].get(name, ()):
                found.setdefault(digest, (user, version))
        if len(found) > 1:
            versions = " and ".join(f"{user} needs {name} {version}" for user, version in found.values())
            raise UsageError(
                f"The layer {layer.name} cannot hold {name}: {versions}.",
                remedy='Write resolution = "shared" so that versions agree, or name the layer\'s functions.',
            )
        yield from found


def _check_together(function: str, shares: Sequence[LayerShare], need: Need) -> None:
    """Refuse named layers that part what must lie on one side; raises `UsageError`."""
    if not shares:
        return
    held = {digest: share.name for share in shares for digest in share.pieces}
    names = {digest: each.name for digest, each in need.distributions.items()}
    for digest in sorted(need.stuck & held.keys(), key=names.__getitem__):
        raise UsageError(
            f"The layer {held[digest]} cannot hold {names[digest]} for {function}: it must lie beside what the function has "
            "itself, for one continues the other's package, or has the same files.",
            remedy="Leave it out of the layer, or name the layer's functions.",
        )
    for group in need.tied:
        inside = sorted(names[digest] for digest in group - held.keys())
        outside = sorted(names[digest] for digest in group & held.keys())
        if inside and outside:
            layer = held[next(digest for digest in group if names[digest] == outside[0])]
            raise UsageError(
                f"The layer {layer} would part {outside[0]} from {inside[0]}, which {function} must have on one side.",
                remedy=f"Put {', '.join(inside)} into a named layer, too.",
            )


def _check_once(function: str, shares: Sequence[LayerShare], need: Need) -> None:
    seen: dict[str, str] = {}
    for share in shares:
        for digest in share.pieces:
            if digest in seen:
                what = need.distributions[digest].name if digest in need.distributions else "a distribution"
                raise UsageError(
                    f"{function} would get {what} from two layers, {seen[digest]} and {share.name}.",
                    remedy="Name it in one of them.",
                )
            seen[digest] = share.name
