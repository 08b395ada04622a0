"""Changes single values in a YAML or JSON text and leaves every other byte alone.

A round trip through ruamel.yaml would be the obvious way, but it loses the comments in tagged lists (``!If``, ``!Join``) and
restyles the rest. Its parser tells where each value stands, which is all that is needed here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

from packer.core.errors import UsageError

# Text that YAML 1.1 and 1.2 both take for a string without quotes, wherever it stands.
_PLAIN = re.compile(r"((\.\.?/)+[A-Za-z_]|[A-Za-z_][A-Za-z0-9_@+-]*[./])[A-Za-z0-9_./@+-]*")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})

Value: TypeAlias = "str | Mapping[str, Value] | Sequence[Value]"
"""What can be written: text, and mappings and lists of it."""


class Node(Struct, frozen=True, kw_only=True, eq=False):
    """A value in a text, from ``start`` to ``end``. Scalars have ``text`` unless tagged or null; an alias has its ``target``.

    ``tag`` is empty where none is written; a list with one is no list (``is_list``). ``first`` is where a first key or item
    stands, or would stand; ``flow`` is the style with brackets.
    """

    start: int
    end: int
    line: int
    anchor: str = ""
    tag: str = ""
    text: str | None = None
    target: Node | None = None
    is_mapping: bool = False
    is_list: bool = False
    pairs: tuple[tuple[Node, Node], ...] = ()
    items: tuple[Node, ...] = ()
    flow: bool = False
    first: int = 0

    @property
    def real(self) -> Node:
        """The value itself, where this is an alias of it."""
        return self.target or self

    @property
    def is_null(self) -> bool:
        return self.text is None and not (self.tag or self.target or self.is_mapping or self.is_list)

    def own(self, key: str) -> Node | None:
        """Return the value of a key that is written in this very mapping; the last one counts."""
        return next((value for name, value in reversed(self.pairs) if name.text == key), None)

    def get(self, key: str) -> Node | None:
        """Return the value of a key, through aliases and merge keys (``<<``) too."""
        found = self.real.own(key)
        merged = self.real.own("<<")
        if found is not None or merged is None:
            return found
        sources = merged.real.items or (merged,)
        return next((value for source in sources if (value := source.get(key)) is not None), None)

    def names(self) -> Iterator[str]:
        return (name.text for name, _ in self.real.pairs if name.text is not None)


class Edit(Struct, frozen=True, kw_only=True):
    """Text to put in the place of ``start`` to ``end``; ``key`` tells apart what is inserted at one place.

    ``around`` opens and closes a mapping, which all pairs that are wanted in this place share.
    """

    start: int
    end: int
    key: str
    text: str
    line: int
    around: tuple[str, str] = ("", "")


class EditConflict(UsageError):
    """Two different values are wanted in one place, which an alias shows twice; ``line`` counts from 1.

    Who knows the file and its meaning says more.
    """

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line}: a YAML alias shows in two places what is to differ there")
        self.line = line


class EditableText(Struct, frozen=True, kw_only=True):
    """A YAML or JSON text that can be changed; ``root`` is its one document."""

    text: str
    root: Node
    newline: str = field(default="\n")
    json: bool = False

    @classmethod
    def of(cls, text: str) -> EditableText:
        """Find where everything stands in a text that was already read without a mistake."""
        is_json = text.lstrip().startswith("{") and _is_json(text)
        return cls(text=text, root=_Outliner(text).root(), newline="\r\n" if "\r\n" in text else "\n", json=is_json)

    def put(self, mapping: Node, key: str, value: Value) -> Edit:
        """Set a key of a mapping (an alias of one gets a value of its own); a new key becomes the first one."""
        written = self._write(value)
        if mapping.target is not None or not mapping.is_mapping:  # an alias, or null: the mapping is still to come
            return self._wrap(mapping, key, self._pair(key, written))
        old = mapping.own(key)
        if old is not None:
            return self._replace(old, key, written)
        return self._insert(mapping, key, self._pair(key, written))

    def put_pairs(self, mapping: Node, key: str, pairs: str) -> Edit:
        """Put the text of other pairs in the place of a key of a mapping and its value."""
        name, value = next(pair for pair in reversed(mapping.real.pairs) if pair[0].text == key)
        return Edit(start=name.start, end=value.end, key=f"-{key}", text=pairs, line=name.line)

    def extend(self, sequence: Node, key: str, values: Sequence[Value]) -> Edit:
        """Add items at the end of a list; raises `EditConflict` for what is no list without a tag, or an alias.

        ``key`` is as in `Edit`. The comment of the last item stays beside it.
        """
        if not sequence.is_list:
            raise EditConflict(sequence.line)
        if not sequence.items:
            return self._replace(sequence, key, self._write(values))
        last = sequence.items[-1]
        place = last.end
        if sequence.flow:
            addition = "".join(f", {self._write(value)}" for value in values)
        elif last.is_null:  # the parser does not tell where it stands
            raise EditConflict(sequence.line)
        else:
            place = self._line_end(last.end)
            start = sequence.start if self.text[sequence.start] == "-" else self.text.rindex("-", 0, sequence.items[0].start)
            indentation = self.column(start)
            addition = "".join(f"{self.newline}{' ' * indentation}- {self._write(value)}" for value in values)
        return Edit(start=place, end=place, key=key, text=addition, line=sequence.line)

    def recast(self, mapping: Node, new: Mapping[str, Value], gone: Collection[str]) -> Iterator[Edit]:
        """Set keys of a mapping, as `put` does, and leave other keys of it out, with the comments on their lines.

        At least one key must stay or be new. Raises `EditConflict` where a key that is to go comes from elsewhere, by an alias.
        """
        pairs = {name.text: (name, value) for name, value in mapping.pairs if name.text in gone}
        if any(key not in pairs and mapping.get(key) is not None for key in gone):
            raise EditConflict(mapping.line)
        added = {key: value for key, value in new.items() if mapping.own(key) is None}
        first = next(iter(mapping.pairs), None)
        taken = added and first is not None and first[0].text in pairs
        for key, wanted in new.items():
            if not (taken and key in added):
                yield self.put(mapping, key, wanted)
        if taken:  # what is new stands in the place of the first: nothing could be inserted before that
            name, value = mapping.pairs[0]
            between = ", " if mapping.flow else self.newline + " " * self.column(name.start)
            text = between.join(self._pair(key, self._write(each)) for key, each in added.items())
            yield Edit(start=name.start, end=value.end, key=f"-{name.text}", text=text, line=name.line)
        left = [number for number, (name, _) in enumerate(mapping.pairs) if name.text in pairs and not (taken and number == 0)]
        runs = groupby(enumerate(left), lambda each: each[1] - each[0])  # pairs that stand side by side go together
        for _, run in runs:
            numbers = [number for _, number in run]
            yield self._without(mapping, numbers[0], numbers[-1])

    def _without(self, mapping: Node, first: int, last: int) -> Edit:
        """Leave pairs out: their lines, or, between brackets, what stands up to their neighbor."""
        name, start, end = mapping.pairs[first][0], mapping.pairs[first][0].start, mapping.pairs[last][1].end
        if not mapping.flow:
            start -= self.column(start)
            end = min(self._line_end(end) + len(self.newline), len(self.text))
            if self.text[start : name.start].strip():  # the first key of a list's item stands behind a dash
                raise EditConflict(name.line)
        elif last + 1 < len(mapping.pairs):
            end = mapping.pairs[last + 1][0].start
        elif first:
            start = mapping.pairs[first - 1][1].end
        return Edit(start=start, end=end, key=f"-{name.text}", text="", line=name.line)

    def column(self, place: int) -> int:
        """Return the column, from 0, of a place in the text."""
        return place - self.text.rfind("\n", 0, place) - 1

    def apply(self, edits: Iterable[Edit]) -> str:
        """Return the text with all edits made; raises `EditConflict`. What lies within a replaced value is left out."""
        chosen: dict[tuple[int, int, str], Edit] = {}
        for edit in edits:
            known = chosen.setdefault((edit.start, edit.end, edit.key), edit)
            if known.text != edit.text:
                raise EditConflict(edit.line)
        parts, position = [], 0
        ordered = sorted(chosen.values(), key=lambda edit: (edit.start, -edit.end, edit.key))
        for (start, end), same in groupby(ordered, key=lambda edit: (edit.start, edit.end)):
            if start >= position:
                parts += [self.text[position:start], _together(tuple(same))]
                position = end
        return "".join((*parts, self.text[position:]))

    def _line_end(self, position: int) -> int:
        end = self.text.find("\n", position)
        end = len(self.text) if end < 0 else end
        return end - 1 if self.text[position:end].endswith("\r") else end

    def _wrap(self, mapping: Node, key: str, pair: str) -> Edit:
        """Write a pair into a mapping that takes the place of an alias (and all that this shows), or of nothing."""
        if mapping.target is not None:
            around = (f"{{<<: *{mapping.anchor}, ", "}")
            return Edit(start=mapping.start, end=mapping.end, key=key, text=pair, line=mapping.line, around=around)
        empty = self._replace(mapping, key, "{")
        return replace(empty, text=pair, around=(empty.text, "}"))

    def _replace(self, old: Node, key: str, written: str) -> Edit:
        anchor = f"&{old.anchor} " if old.anchor and old.target is None else ""
        space = " " if old.start == old.end else ""
        return Edit(start=old.start, end=old.end, key=key, text=f"{space}{anchor}{written}", line=old.line)

    def _insert(self, mapping: Node, key: str, written: str) -> Edit:
        if mapping.flow:
            addition = f"{written}, " if mapping.pairs else written
        else:
            addition = f"{written}{self.newline}{' ' * self.column(mapping.first)}"
        return Edit(start=mapping.first, end=mapping.first, key=key, text=addition, line=mapping.line)

    def _write(self, value: Value) -> str:
        if isinstance(value, Mapping):
            return f"{{{', '.join(self._pair(key, self._write(item)) for key, item in value.items())}}}"
        if not isinstance(value, str):
            return f"[{', '.join(map(self._write, value))}]"
        if not self.json and _PLAIN.fullmatch(value):
            return value
        return json.dumps(value, ensure_ascii=self.text.isascii())

    def _pair(self, key: str, written: str) -> str:
        return f"{key if key.isidentifier() and not self.json else json.dumps(key)}: {written}"


def _together(edits: Sequence[Edit]) -> str:
    """Return the text of all edits of one place, which may be pairs of one mapping, or insertions."""
    first = edits[0]
    clash = len({edit.around for edit in edits}) > 1 or (first.start < first.end and not any(first.around))
    if len(edits) > 1 and clash:
        raise EditConflict(first.line)
    opening, closing = first.around
    return f"{opening}{(', ' if opening else '').join(edit.text for edit in edits)}{closing}"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


class _Outliner:
    """Builds nodes from the events of ruamel.yaml's parser, which come in the order of the text."""

    def __init__(self, text: str) -> None:
        from ruamel.yaml import YAML

        self._text = text
        self._events = iter(YAML(typ="safe", pure=True).parse(text))
        self._anchors: dict[str, Node] = {}

    def root(self) -> Node:
        from ruamel.yaml.events import DocumentStartEvent

        while not isinstance(next(self._events), DocumentStartEvent):
            pass
        return self._node(next(self._events))

    def _node(self, event: Any) -> Node:
        from ruamel.yaml.events import AliasEvent, MappingStartEvent, SequenceStartEvent

        if isinstance(event, AliasEvent):
            return self._make_node(event, self._end(event), target=self._anchors[event.anchor])
        if isinstance(event, MappingStartEvent):
            node = self._mapping(event)
        elif isinstance(event, SequenceStartEvent):
            items, end = self._children(event)
            node = self._make_node(event, end, items=items, is_list=not event.tag, flow=bool(event.flow_style))
        else:
            node = self._make_node(event, self._end(event), text=_scalar_text(event))
        if node.anchor:
            self._anchors[node.anchor] = node
        return node

    def _mapping(self, event: Any) -> Node:
        children, end = self._children(event)
        pairs = tuple((key, self._place_pair(key, value)) for key, value in zip(children[::2], children[1::2], strict=True))
        first = children[0].start if children else event.end_mark.index
        if pairs and not event.flow_style:
            end = pairs[-1][1].end
        return self._make_node(event, end, is_mapping=True, pairs=pairs, flow=bool(event.flow_style), first=first)

    def _place_pair(self, key: Node, value: Node) -> Node:
        """Place a value that is not written (null) right after its key's colon: the parser puts it at the next token."""
        if value.start != value.end:
            return value
        place = self._text.index(":", key.end) + 1
        return replace(value, start=place, end=place, line=key.line)

    def _children(self, start: Any) -> tuple[tuple[Node, ...], int]:
        """Build a collection's children, and find where the last one ends: its own end is the start of whatever follows."""
        from ruamel.yaml.events import CollectionEndEvent

        children: list[Node] = []
        while not isinstance(event := next(self._events), CollectionEndEvent):
            children.append(self._node(event))
        return tuple(children), self._end(event) if start.flow_style or not children else children[-1].end

    def _end(self, event: Any) -> int:
        """Find where a value ends, without the line ends that belong to a block scalar."""
        start = int(event.start_mark.index)
        return start + len(self._text[start : event.end_mark.index].rstrip())

    def _make_node(self, event: Any, end: int, **what: Any) -> Node:
        mark = event.start_mark
        tag = str(getattr(event, "tag", None) or "")
        return Node(start=mark.index, end=end, line=mark.line + 1, anchor=event.anchor or "", tag=tag, **what)


def _scalar_text(event: Any) -> str | None:
    """Return the text of a scalar that is a string, as far as CloudFormation is concerned."""
    if event.tag or (not event.style and event.value in _NULLS):
        return None
    return str(event.value)
