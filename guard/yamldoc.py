"""
YAML documents that remember where each value stands, so that every error names file and line.

Only safe YAML: plain data, no tags that make objects, no duplicate keys, aliases within a bound.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import TypeVar, get_args

import msgspec
import yaml

from guard.errors import ConfigError

Path = tuple[str | int, ...]
T = TypeVar("T")

#: Documents larger than this are refused. Unit: characters.
MAX_CHARACTERS = 1_000_000
#: Nodes counted with every use of an alias, so that a small file cannot unfold into a huge one.
MAX_NODES = 100_000


class Document:
    """
    A parsed document.

    Args:
        data: Plain dicts, lists and scalars.
        path: File name for errors, if any.
        lines: 1-based line of each value, by its path.
    """

    def __init__(self, data: object, path: str | None, lines: dict[Path, int]) -> None:
        self.data = data
        self.path = path
        self._lines = lines

    def line(self, where: Sequence[str | int]) -> int | None:
        """Line of the value at `where`, or of the nearest thing around it."""
        place = tuple(where)
        while place not in self._lines and place:
            place = place[:-1]
        return self._lines.get(place)

    def error(self, message: str, where: Sequence[str | int] = ()) -> ConfigError:
        """An error about the value at `where`."""
        return ConfigError(message, path=self.path, line=self.line(where), where=dotted(where))


def dotted(where: Sequence[str | int]) -> str:
    """`("rules", 0, "when")` as people write it: `rules[0].when`."""
    out = ""
    for part in where:
        out += f"[{part}]" if isinstance(part, int) else (f".{part}" if out else part)
    return out


def parse_document(text: str, path: str | None = None) -> Document:
    """
    Parse one YAML document.

    Args:
        text: The document.
        path: File name for errors.

    Raises:
        ConfigError: Not YAML, more than one document, a duplicate key, an unsafe tag, too large.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"larger than {MAX_CHARACTERS} characters", path=path)
    try:
        data, lines = _parse(text, path)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        message = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"not valid YAML: {message}", path=path, line=mark.line + 1 if mark else None) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"not valid YAML: {error}", path=path) from error
    return Document(data, path, lines)


def _parse(text: str, path: str | None) -> tuple[object, dict[Path, int]]:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = {place: mark + 1 for place, mark in _walk(node, (), [0], path)}
        return loader.construct_document(node), lines
    finally:
        loader.dispose()


def _walk(
    node: yaml.Node, place: Path, count: list[int], path: str | None
) -> Iterator[tuple[Path, int]]:
    count[0] += 1
    if count[0] > MAX_NODES:
        raise ConfigError(f"unfolds into more than {MAX_NODES} values", path=path)
    yield place, node.start_mark.line
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError("a key must be a plain word", path=path, line=line)
            if name in seen:
                raise ConfigError(f"{name!r} is given twice", path=path, line=line, where=dotted(place))
            seen.add(name)
            yield from _walk(value, (*place, name), count, path)
            yield (*place, name), key.start_mark.line
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*place, index), count, path)


_AT = re.compile(r" - at `(?:key in )?\$([^`]*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `([^`]*)`")
_PART = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


def to_struct(document: Document, kind: type[T]) -> T:
    """
    The document as a typed struct.

    Args:
        document: From `parse_document`.
        kind: A msgspec struct type.

    Raises:
        ConfigError: Wrong type, out of range, unknown or missing setting; with place and, for an
            unknown name, the nearest right one.
    """
    if not isinstance(document.data, dict):
        found = "nothing" if document.data is None else f"a {type(document.data).__name__}"
        raise document.error(f"expected settings as `name: value` lines, found {found}")
    try:
        return msgspec.convert(document.data, kind)
    except msgspec.ValidationError as error:
        raise _explained(document, kind, str(error)) from error


def _explained(document: Document, kind: type, message: str) -> ConfigError:
    at = _AT.search(message)
    where = _place(at[1]) if at else ()
    text = message[: at.start()] if at else message
    unknown = _UNKNOWN.match(text)
    if not unknown:
        return document.error(_plain(text), where)
    name = unknown[1]
    near = nearest(name, sorted(_field_names(kind)))
    hint = f"; did you mean {near!r}?" if near else ""
    return document.error(f"unknown setting {name!r}{hint}", (*where, name))


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name most like `name`, if any is alike."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return found[0] if found else None


def _plain(text: str) -> str:
    for old, new in (("`null`", "nothing"), ("`object`", "a mapping"), ("`array`", "a list"), ("`str`", "text")):
        text = text.replace(old, new)
    return text[:1].lower() + text[1:]


def _place(dollar: str) -> Path:
    parts: list[str | int] = []
    for name, index in _PART.findall(dollar):
        if index == "...":
            break
        parts.append(int(index) if index else name)
    return tuple(parts)


def _field_names(kind: object, seen: frozenset[object] = frozenset()) -> set[str]:
    """All field names anywhere below a struct type: good enough to suggest from."""
    names: set[str] = set()
    if kind in seen:
        return names
    seen = seen | {kind}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            names.add(field.encode_name)
            names |= _field_names(field.type, seen)
    for part in get_args(kind):
        names |= _field_names(part, seen)
    return names
