"""Divides what functions need between layers and the functions' own packages: the user's layers first, then the planner's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from builders.runtimes import LAYERS_LIMIT
from packer.core.errors import LimitError, UsageError
from packer.core.options import LayerOptions, NamedLayer
from packer.formats.unpack import LayerArchive
from packer.layers.planner import Demand, Piece, plan_layers

_NOBODY, _NOTHING = "none is called", "Nothing needs"


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


class Share(Struct, frozen=True, kw_only=True):
    """A layer to be: the wheels' digests of what it holds, and its users, sorted; ``name`` is the user's, or empty."""

    pieces: tuple[str, ...]
    users: tuple[str, ...]
    name: str = ""


class MadeLayer(Struct, frozen=True, kw_only=True):
    """A layer: ``report`` is its part of the manifest, and ``pieces`` are the wheels' digests of what it holds.

    ``staged`` is the archive where it is new.
    """

    name: str
    pieces: tuple[str, ...]
    report: Mapping[str, Any]
    archive: LayerArchive
    staged: Path | None


class Division(Struct, frozen=True, kw_only=True):
    """Who gets what from which layer; ``unused`` says why nobody gets a named layer, by its name."""

    shares: tuple[Share, ...]
    unused: Mapping[str, str] = field(default_factory=dict)

    def of(self, function: str) -> tuple[Share, ...]:
        """Give the layers of a function, in order."""
        return tuple(share for share in self.shares if function in share.users)


def shared(needs: Mapping[str, Need]) -> dict[str, tuple[str, ...]]:
    """Give the users of each distribution that may lie in a layer: all that are in one function alone are not among them."""
    users: dict[str, list[str]] = {}
    for function in sorted(needs):
        need = needs[function]
        for digest, each in need.distributions.items():
            if need.options.mode == "auto" or any(each.name in layer.distributions for layer in need.options.named):
                users.setdefault(digest, []).append(function)
    named = {name for need in needs.values() for layer in need.options.named for name in layer.distributions}
    return {
        digest: tuple(names)
        for digest, names in users.items()
        if len(names) > 1 or needs[names[0]].distributions[digest].name in named
    }


def with_required(needs: Mapping[str, Need]) -> dict[str, Need]:
    """Give each named layer all that its distributions require, as far as a function that needs it has that."""
    layers = {layer for need in needs.values() for layer in need.options.named if layer.closed}
    whole = {layer: replace(layer, distributions=tuple(sorted(_closure(layer, needs.values())))) for layer in layers}
    return {
        name: replace(need, options=replace(need.options, named=tuple(whole.get(layer, layer) for layer in need.options.named)))
        for name, need in needs.items()
    }


def _closure(layer: NamedLayer, needs: Iterable[Need]) -> set[str]:
    found = set(layer.distributions)
    for need in needs:
        if layer in need.options.named:
            requires = {each.name: each.requires for each in need.distributions.values()}
            waiting = [name for name in layer.distributions if name in requires]
            seen = set(waiting)
            while waiting:
                more = [name for name in requires[waiting.pop()] if name in requires and name not in seen]
                waiting += more
                seen.update(more)
            found |= seen
    return found


def divide(needs: Mapping[str, Need], sizes: Mapping[str, Piece]) -> Division:
    """Divide what functions of one kind need; ``sizes`` has all that `shared` gives.

    Named layers have all that they are to hold (`with_required`). Raises `UsageError` where one cannot hold what its users
    need, or a function would have too many.
    """
    shares, unused = _named_shares(needs)
    held = {name: {digest for share in shares if name in share.users for digest in share.pieces} for name in needs}
    slots = {name: _slots(name, need, sum(name in share.users for share in shares)) for name, need in needs.items()}
    free = {name: frozenset(sizes) & need.distributions.keys() - held[name] - need.stuck for name, need in needs.items()}
    free = {name: pieces if needs[name].options.mode == "auto" else frozenset() for name, pieces in free.items()}
    free = _untied(free, {name: need.tied for name, need in needs.items()})
    demands = {
        name: Demand(
            pieces=pieces,
            slots=slots[name],
            own=needs[name].own
            + sum(sizes[digest].unzipped for digest in held[name])
            + sum(each.size for digest, each in needs[name].distributions.items() if digest not in pieces | held[name]),
        )
        for name, pieces in free.items()
        if pieces
    }
    plan = plan_layers(demands, sizes)
    automatic = (Share(pieces=layer.pieces, users=layer.users) for layer in plan.layers)
    return Division(shares=(*shares, *automatic), unused=unused)


def _slots(function: str, need: Need, named: int) -> int:
    """Give how many layers a function may still get; raises `LimitError` where it has too many."""
    attached = len(need.options.attached)
    if attached + named > LAYERS_LIMIT:
        raise LimitError(
            f"{function} needs {attached + named} layers ({named} named, {attached} attached), and Lambda takes "
            f"{LAYERS_LIMIT}.",
            remedy="Put some of the named layers together, or attach fewer.",
        )
    return LAYERS_LIMIT - attached - named


def _untied(free: Mapping[str, frozenset[str]], tied: Mapping[str, Sequence[frozenset[str]]]) -> dict[str, frozenset[str]]:
    """Keep in functions what must lie beside something that others do not have beside it.

    What has the same users is never parted by the planner, and may go into a layer together.
    """
    left = dict(free)
    while True:
        users: dict[str, set[str]] = {}
        for name, pieces in left.items():
            for digest in pieces:
                users.setdefault(digest, set()).add(name)
        parted = {
            name: frozenset(digest for group in tied[name] if _is_parted(group, users) for digest in group & pieces)
            for name, pieces in left.items()
        }
        if not any(parted.values()):
            return left
        left = {name: pieces - parted[name] for name, pieces in left.items()}


def _is_parted(group: frozenset[str], users: Mapping[str, set[str]]) -> bool:
    return len({frozenset(users.get(digest, ())) for digest in group}) > 1


def _named_shares(needs: Mapping[str, Need]) -> tuple[tuple[Share, ...], dict[str, str]]:
    layers = {layer.name: layer for need in needs.values() for layer in need.options.named}
    shares: list[Share] = []
    unused: dict[str, str] = {}
    for layer in layers.values():
        users = [name for name in sorted(needs) if layer in needs[name].options.named and _gets(name, needs[name], layer)]
        pieces = tuple(sorted(_held_by(layer, users, needs)))
        if pieces:
            shares.append(Share(pieces=pieces, users=tuple(users), name=layer.name))
        else:
            unused[layer.name] = _why_unused(layer, users, needs)
    for name in needs:
        mine = [share for share in shares if name in share.users]
        _check_once(name, mine, needs[name])
        _check_together(name, mine, needs[name])
    return tuple(shares), unused


def unused_everywhere(groups: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """Say why nobody gets those named layers that no group uses: what these do not have, another target may."""
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


def _gets(function: str, need: Need, layer: NamedLayer) -> bool:
    if layer.functions:
        return any(fnmatchcase(function, pattern) for pattern in layer.functions)
    return {each.name for each in need.distributions.values()}.issuperset(layer.distributions)


def _held_by(layer: NamedLayer, users: Sequence[str], needs: Mapping[str, Need]) -> Iterator[str]:
    """Give the wheels of a named layer; raises `UsageError` where its users need different versions of one."""
    for name in layer.distributions:
        found: dict[str, tuple[str, str]] = {}
        for user in users:
            for digest, each in needs[user].distributions.items():
                if each.name == name:
                    found.setdefault(digest, (user, each.version))
        if len(found) > 1:
            versions = " and ".join(f"{user} needs {name} {version}" for user, version in found.values())
            raise UsageError(
                f"The layer {layer.name} cannot hold {name}: {versions}.",
                remedy='Write resolution = "shared" so that versions agree, or name the layer\'s functions.',
            )
        yield from found


def _check_together(function: str, shares: Sequence[Share], need: Need) -> None:
    """Refuse named layers that part what must lie on one side; raises `UsageError`."""
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


def _check_once(function: str, shares: Sequence[Share], need: Need) -> None:
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
