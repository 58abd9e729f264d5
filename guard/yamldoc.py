"""
YAML documents that remember where each value stands, so that every error names file and line.

Only plain data: no tags that make objects, no duplicate keys, no anchors (a small file could unfold
into a huge one), bounded in size and depth.
"""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Literal, NoReturn, TypeVar, get_args, get_origin

import msgspec
import yaml

from guard.errors import ConfigError
from guard.yamlwords import broken_yaml, explain_invalid, plain_words

#: Largest file read. Unit: characters.
MAX_SIZE = 256 * 1024
#: Deepest nesting followed.
MAX_DEPTH = 32

#: libyaml's parser where PyYAML was built with it, which all its wheels are: a tenth of the time.
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

T = TypeVar("T")

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]


class Document:
    """
    A parsed file.

    Args:
        text: Its content.
        path: Its name, for error messages.

    Raises:
        ConfigError: It is not YAML, too large or deep, repeats a key, or uses anchors or tags.
    """

    def __init__(self, text: str, path: str | None) -> None:
        self.path = path
        self._lines: dict[str, int] = {}
        self._sources: dict[str, str] = {}
        #: By list, the places in it that were left out, counted as the file has them.
        self._gone: dict[str, list[int]] = {}
        if len(text) > MAX_SIZE:
            raise ConfigError(f"the file has more than {MAX_SIZE} characters", path=path)
        try:
            self.data: Plain = self._read(text)
        except (yaml.YAMLError, ValueError, RecursionError) as found:
            error = _told_better(text) or found
            problem, line = broken_yaml(error)
            raise ConfigError(f"not valid YAML: {problem}", path=path, line=line) from error

    def _read(self, text: str) -> Plain:
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.AliasEvent):
                message = f"anchors are not followed; write *{event.anchor} out"
                raise ConfigError(message, path=self.path, line=_line(event))
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:  # before nodes are made of it: libyaml's composer recurses in C
                    raise ConfigError(f"nested deeper than {MAX_DEPTH} levels", path=self.path, line=_line(event))
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            return None if node is None else self._plain(loader, node, "")
        finally:
            loader.dispose()

    def line(self, where: str) -> int | None:
        """1-based line of a dotted path, or of the nearest thing around it that has one."""
        while where not in self._lines and where:
            where = _outer(where)
        return self._lines.get(where)

    def fail(self, where: str, message: str) -> NoReturn:
        """Raise a ConfigError about the setting at a dotted path."""
        raise self.error(where, message)

    def error(self, where: str, message: str) -> ConfigError:
        """A ConfigError about the setting at a dotted path."""
        place = where = self._as_written(where)
        while place and place not in self._sources and place not in self._lines:
            place = _outer(place)
        if place in self._sources:
            return ConfigError(message, path=self._sources[place], where=where)
        return ConfigError(message, path=self.path, line=self.line(where), where=where)

    def value(self, where: str) -> Plain:
        """What stands at a dotted path of what is left; None where there is no such place."""
        inner: Plain = self.data
        for step in _steps(where):
            if isinstance(inner, dict) and isinstance(step, str):
                inner = inner.get(step)
            elif isinstance(inner, list) and isinstance(step, int) and step < len(inner):
                inner = inner[step]
            else:
                return None
        return inner

    def leave_out(self, where: str) -> bool:
        """Take a setting out, if there is one; errors go on naming places as the file has them."""
        inner, at = self._holder(where)
        if isinstance(inner, dict) and at in inner:
            del inner[str(at)]
        elif isinstance(inner, list) and isinstance(at, int):
            del inner[at]
            *outer, last = _steps(where)
            self._gone.setdefault(dotted(outer), []).append(int(last))
        else:
            return False
        return True

    def rename(self, where: str, name: str) -> bool:
        """Call a setting otherwise, if there is one and none of that name; its lines go with it."""
        inner, at = self._holder(where)
        if not isinstance(inner, dict) or at not in inner or name in inner:
            return False
        inner[name] = inner.pop(str(at))
        new = dotted([*_steps(where)[:-1], name])
        for place in [p for p in self._lines if p == where or p.startswith((f"{where}.", f"{where}["))]:
            self._lines[new + place.removeprefix(where)] = self._lines.pop(place)
        return True

    def _holder(self, where: str) -> tuple[Plain, str | int]:
        """What a setting stands in, and its name or its present place there; nothing where there is no such place."""
        inner: Plain = self.data
        steps = _steps(where)
        for depth, step in enumerate(steps):
            at = step
            if isinstance(inner, list) and isinstance(at, int):
                gone = self._gone.get(dotted(steps[:depth]), [])
                at -= sum(other < at for other in gone)
                if step in gone or at >= len(inner):
                    break
                following: Plain = inner[at]
            elif isinstance(inner, dict) and at in inner:
                following = inner[str(at)]
            else:
                break
            if depth == len(steps) - 1:
                return inner, at
            inner = following
        return None, ""

    def _as_written(self, where: str) -> str:
        """A path in what is left, as the file has it."""
        if not self._gone:
            return where
        out: list[str | int] = []
        for step in _steps(where):
            place = step
            if isinstance(place, int):
                for gone in sorted(self._gone.get(dotted(out), [])):
                    place += gone <= place
            out.append(place)
        return dotted(out)

    def put(self, steps: Sequence[str | int], value: Plain, source: str) -> None:
        """
        Set one value over what the file says, and remember where it came from.

        Args:
            steps: Names and places in lists, from the outermost. A list may grow by one at its end.
            value: The value.
            source: What gave it, for error messages: an option or a variable.

        Raises:
            ConfigError: What stands on the way is neither mapping nor list, or a place in a list is left out.
        """
        if self.data is None:
            self.data = {}
        inner: Plain = self.data
        for depth, step in enumerate(steps):
            where = dotted(steps[: depth + 1])
            last = depth == len(steps) - 1
            fresh: Plain = value if last else [] if isinstance(steps[depth + 1], int) else {}
            if isinstance(inner, dict) and isinstance(step, str):
                if last or inner.get(step) is None:
                    inner[step] = fresh
                inner = inner[step]
            elif isinstance(inner, list) and isinstance(step, int) and step <= len(inner):
                if step == len(inner):
                    inner.append(fresh)
                elif last or inner[step] is None:
                    inner[step] = fresh
                inner = inner[step]
            elif isinstance(inner, list) and isinstance(step, int):
                raise ConfigError(f"there are {len(inner)} of these; number them from 0 without a gap", path=source)
            else:
                raise ConfigError(
                    "cannot be set: what the file has around it is of another kind", path=source, where=where
                )
        here = dotted(steps)
        for known in (self._sources, self._lines):
            for place in [p for p in known if p == here or p.startswith((f"{here}.", f"{here}["))]:
                del known[place]
        self._sources[here] = source

    def origin(self, where: str) -> str:
        """What gave the value at a dotted path: "file:line", an option, a variable, or "default"."""
        place = where
        while place and place not in self._sources and place not in self._lines:
            place = _outer(place)
        if place in self._sources:
            return self._sources[place]
        line = self._lines.get(where)
        return "default" if line is None or not where else f"{self.path}:{line}"

    def _plain(self, loader: yaml.SafeLoader, node: yaml.Node, where: str) -> Plain:
        self._lines.setdefault(where, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            result: dict[str, Plain] = {}
            for key_node, value_node in node.value:
                key = str(key_node.value)
                inner = f"{where}.{key}" if where else key
                if key in result:
                    self._lines[inner] = key_node.start_mark.line + 1
                    self.fail(inner, f"{key!r} is given twice")
                self._lines[inner] = key_node.start_mark.line + 1
                result[key] = self._plain(loader, value_node, inner)
            return result
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(loader, item, f"{where}[{index}]") for index, item in enumerate(node.value)]
        try:
            value = loader.construct_object(node)
        except ValueError as error:  # a date that there is not, a number without end
            self.fail(where, f"not valid YAML: {error}")
        if value is None or isinstance(value, bool | int | float | str):
            return value
        return str(node.value)


def dotted(steps: Sequence[str | int]) -> str:
    """A path as errors write it, such as `upstreams[0].url`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")


def _steps(where: str) -> list[str | int]:
    """The parts of a path as `dotted` writes it."""
    return [int(part[1:-1]) if part[0] == "[" else part for part in re.findall(r"\[\d+\]|[^.\[\]]+", where)]


def _outer(where: str) -> str:
    return where[: max(where.rfind("."), where.rfind("["), 0)]


def _told_better(text: str) -> Exception | None:
    """The error of PyYAML's own parser, which names the line where libyaml names the next one; None if it has none."""
    if max(accumulate((c in "[{") - (c in "]}") for c in text), default=0) > MAX_DEPTH:
        return None  # that parser takes minutes for brackets without end
    try:
        for _ in yaml.parse(text, Loader=yaml.SafeLoader):
            pass
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return error
    return None


def _line(event: yaml.Event) -> int | None:
    return event.start_mark.line + 1 if event.start_mark is not None else None


#: How much alike two names have to be, from 0 to 1: of the same place, and of any.
_CLOSE, _VERY_CLOSE = 0.5, 0.75
_CHOICE = re.compile(r"Invalid enum value '(?P<value>.*)'", re.DOTALL)


def to_struct(document: Document, kind: type[T]) -> T:
    """
    The document as a typed struct.

    Args:
        document: Parsed YAML.
        kind: A msgspec struct type.

    Raises:
        ConfigError: Wrong type, out of range, unknown or missing setting; with its place and, for an
            unknown name, the nearest right one.
    """
    if not isinstance(document.data, dict):
        found = "nothing: the file is empty" if document.data is None else f"a {type(document.data).__name__}"
        document.fail("", f"expected settings as `name: value` lines, found {found}")
    try:
        return msgspec.convert(document.data, kind)
    except msgspec.ValidationError as error:
        where, text, unknown = explain_invalid(error)
        steps = re.findall(r"[^.\[\]]+", where)
        if unknown:
            hint = _hint(kind, where, unknown)
            raise document.error(f"{where}.{unknown}".lstrip("."), f"unknown setting {unknown!r}; {hint}") from None
        value = document.value(where)
        chosen = _CHOICE.fullmatch(text)
        if (chosen or isinstance(value, bool)) and (choices := choices_at(kind, steps)):
            text = not_known(chosen["value"] if chosen else value, choices)
        raise document.error(where, plain_words(text, value, fields_at(kind, steps))) from None


def _hint(kind: object, where: str, unknown: str) -> str:
    """Where an unknown setting belongs, or which one is meant: of this place if one is near, else of any other."""
    places, here = _fields(kind), fields_at(kind, re.findall(r"[^.\[\]]+", where))
    if unknown not in places and not difflib.get_close_matches(unknown, here, n=1, cutoff=_CLOSE):
        close = difflib.get_close_matches(unknown, places, n=1, cutoff=_VERY_CLOSE)
        unknown = close[0] if close else unknown
    if unknown in places:
        return f"did you mean {' or '.join(map(repr, places[unknown]))}?"
    return nearest(unknown, here or places)


def choices_at(kind: object, steps: Sequence[str]) -> list[str]:
    """The names that a setting below a type may have; empty where they are not told by the type."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        return choices_at(fields.get(steps[0]), steps[1:]) if steps else []
    if get_origin(kind) is Literal and not steps:
        return [str(value) for value in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, enum.Enum) and not steps:
        return [str(one.value) for one in kind]
    below = steps[1:] if get_origin(kind) in (list, tuple, dict) else steps
    return [choice for part in get_args(kind) if not isinstance(part, str) for choice in choices_at(part, below)]


def fields_at(kind: object, steps: Sequence[str]) -> list[str]:
    """The settings that may stand at a place below a type."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        return fields_at(fields.get(steps[0]), steps[1:]) if steps else list(fields)
    below = steps[1:] if get_origin(kind) in (list, tuple, dict) else steps
    return [name for part in get_args(kind) if not isinstance(part, str) for name in fields_at(part, below)]


def not_known(value: object, choices: Iterable[str]) -> str:
    """What is said of a value that is none of several; YAML reads a bare `off`, `on`, `yes`, `no` as a truth value."""
    name = str(value).lower() if isinstance(value, bool) else repr(value)
    return f"{name} is not known here; {nearest(str(value), choices)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the most similar known name, or the list of all when nothing is close."""
    names = sorted(known)
    if not names:
        return "there is none"
    close = difflib.get_close_matches(name, names, n=1, cutoff=_CLOSE)
    return f"did you mean {close[0]!r}?" if close else f"one of {', '.join(names)}"


def _fields(kind: object, at: str = "", seen: frozenset[object] = frozenset()) -> dict[str, list[str]]:
    """All fields anywhere below a struct type: dotted paths by name. Good enough to suggest from."""
    found: dict[str, list[str]] = {}
    if kind in seen:
        return found
    seen = seen | {kind}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            path = f"{at}.{field.encode_name}".lstrip(".")
            found.setdefault(field.encode_name, []).append(path)
            _join(found, _fields(field.type, path, seen))
    for part in get_args(kind):
        _join(found, _fields(part, at, seen))
    return found


def _join(found: dict[str, list[str]], more: dict[str, list[str]]) -> None:
    for name, paths in more.items():
        known = found.setdefault(name, [])
        known += [path for path in paths if path not in known]
