"""
Settings from environment variables: every one that a configuration struct has, by a name derived from its place.

`listen.port` is GUARD_LISTEN_PORT, `upstreams[0].url` is GUARD_UPSTREAMS_0_URL. There is no second list: what can
be set, its type, its default and its help come from the structs.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from guard.errors import ConfigError
from guard.yamldoc import Document, Plain, nearest

PREFIX = "GUARD_"
#: Variables with this prefix that are no settings: of the tests, the plugin, and the place of the file.
OTHERS = re.compile(r"GUARD_(?:CONFIG|PYTHON|VLLM_\w+)")
#: Marks a setting that is never shown.
SECRET = {"secret": True}
#: Stands for a place in a list.
PLACE = "<N>"


class Variable(msgspec.Struct, frozen=True):
    """
    One setting and its variable.

    Args:
        name: Name of the variable; `<N>` stands for a place in a list, counted from 0.
        path: The setting in the file.
        kind: Its type, as Python has it.
        type: For people.
        default: For people; empty where it must be given.
        help: From the struct's docstring.
        secret: Whether it is never shown.
    """

    name: str
    path: str
    kind: object
    type: str
    default: str
    help: str
    secret: bool


def variables(kind: type[msgspec.Struct]) -> list[Variable]:
    """All settings below a struct, in its order."""
    return list(_walk(kind, ()))


def apply(
    document: Document, kind: type[msgspec.Struct], environ: Mapping[str, str], wrong: list[ConfigError] | None = None
) -> None:
    """
    Put what the environment says over what the file says. An empty variable counts as not set.

    Args:
        document: The file, or an empty one.
        kind: The struct that it becomes.
        environ: Variables.
        wrong: Takes what is wrong with single ones, which then count as not set; raised if None.

    Raises:
        ConfigError: A value is not of the form that its setting has.
    """
    named = [name for name, text in environ.items() if text and name.startswith(PREFIX)]
    known = [(_pattern(variable), variable) for variable in variables(kind)] if named else []
    found: list[tuple[list[str | int], str, Variable]] = []
    for name in named:
        for pattern, variable in known:
            match = pattern.fullmatch(name)
            if match is not None:
                found.append((_steps(variable.path, match.groups()), name, variable))
    # A whole list before its items, and items in their order.
    for steps, name, variable in sorted(found, key=lambda one: [(isinstance(s, str), s) for s in one[0]]):
        try:
            document.put(steps, _read(environ[name], variable.kind, name), name)
        except ConfigError as error:
            if wrong is None:
                raise
            wrong.append(error)


def strangers(kind: type[msgspec.Struct], environ: Mapping[str, str]) -> list[str]:
    """What is wrong with variables that look like settings and are none; one sentence each."""
    named = sorted(name for name in environ if name.startswith(PREFIX) and not OTHERS.fullmatch(name))
    known = variables(kind) if named else []
    patterns = [_pattern(variable) for variable in known]
    out = []
    for name in named:
        if any(p.fullmatch(name) for p in patterns):
            continue
        names = {variable.name.replace(PLACE, "0") for variable in known}
        hint = nearest(name, names)
        out.append(f"{name} sets nothing{'; ' + hint if hint.startswith('did') else ''}")
    return out


def is_secret(kind: object) -> bool:
    """Whether a type is marked as never to be shown."""
    if get_origin(kind) is Annotated:
        return any(isinstance(m, msgspec.Meta) and (m.extra or {}).get("secret") for m in get_args(kind)[1:])
    return any(is_secret(part) for part in get_args(kind))


def field_help(kind: type[msgspec.Struct]) -> dict[str, str]:
    """What a struct's docstring says of each field, under `Args:`."""
    out: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc(kind.__doc__ or "").partition("Args:\n")[2].splitlines():
        match = re.match(r" {4}(\w+): (.*)", line)
        if match:
            name = match[1]
            out[name] = match[2]
        elif name and line.startswith("        "):
            out[name] += " " + line.strip()
    return out


def struct_of(kind: object) -> type[msgspec.Struct] | None:
    """The struct that a type is, or may be."""
    return next((part for part in _parts(kind) if isinstance(part, type) and issubclass(part, msgspec.Struct)), None)


def item_of(kind: object) -> object:
    """The type of the items of a list type; None where it is no list."""
    return next((get_args(part)[0] for part in _parts(kind) if get_origin(part) in (list, tuple)), None)


def _walk(kind: type[msgspec.Struct], path: tuple[str, ...]) -> Iterator[Variable]:
    helps = {name: text for base in reversed(kind.__mro__) if issubclass(base, msgspec.Struct)
             for name, text in field_help(base).items()}  # fmt: skip
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        here = (*path, field.encode_name)
        hint = hints[field.name]
        inner, item = struct_of(hint), item_of(hint)
        if inner is None or item is not None:
            yield Variable(
                name=PREFIX + "_".join(part.upper() for part in here),
                path=_path(here),
                kind=hint,
                type=_type(hint),
                default=_default(field),
                help=helps.get(field.name, ""),
                secret=is_secret(hint),
            )
        if inner is not None:
            yield from _walk(inner, here)
        elif item is not None and struct_of(item) is not None:
            yield from _walk(struct_of(item), (*here, PLACE))  # type: ignore[arg-type]


def _path(parts: tuple[str, ...]) -> str:
    return "".join(f"[{part}]" if part == PLACE else f".{part}" for part in parts).lstrip(".")


def _pattern(variable: Variable) -> re.Pattern[str]:
    return re.compile(re.escape(variable.name).replace(re.escape(PLACE), r"(\d{1,4})"))


def _steps(path: str, places: tuple[str, ...]) -> list[str | int]:
    left = list(places)
    parts = path.replace(f"[{PLACE}]", f".{PLACE}").split(".")
    return [int(left.pop(0)) if part == PLACE else part for part in parts]


def _parts(kind: object) -> Iterator[Any]:
    """The members of a union, annotations taken off; the type itself where it is none."""
    origin = get_origin(kind)
    if origin is Annotated:
        yield from _parts(get_args(kind)[0])
    elif origin in (Union, types.UnionType):
        for part in get_args(kind):
            yield from _parts(part)
    else:
        yield kind


def _read(text: str, kind: object, name: str) -> Plain:
    """A variable's text as the value that its type wants."""
    parts = list(_parts(kind))
    lists = item_of(kind) is not None
    plain = str in parts or any(get_origin(part) is Literal for part in parts)
    if lists and not text.startswith("["):
        if str in _parts(item_of(kind)) and not plain:
            return [one.strip() for one in text.split(",")]
        if not plain:
            text = f"[{text}]"
    elif lists:
        plain = False
    if plain:
        return text
    try:
        read = Document(f"value: {text}", None).data
    except ConfigError as error:
        raise ConfigError(f"not a value in YAML's form: {error.message}", path=name) from None
    assert isinstance(read, dict)
    value = read["value"]
    if bool in parts and not lists and value in (0, 1):
        return bool(value)  # as variables mostly say it
    return value


def _type(kind: object) -> str:
    item = item_of(kind)
    if item is not None:
        inner = struct_of(item)
        one = "text, or " if str in _parts(kind) else ""
        return f"{one}list, in YAML's form" if one or inner is not None else "list, with commas"
    words = {str: "text", int: "whole number", float: "number", bool: "true or false", dict: "mapping, in YAML's form"}
    names = []
    for part in _parts(kind):
        if get_origin(part) is Literal:
            names.append(" or ".join(str(value) for value in get_args(part)))
        elif part is not types.NoneType:
            names.append(words.get(get_origin(part) or part, str(part)))
    return " or ".join(names)


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        return "none"
    if field.default is msgspec.NODEFAULT:
        return ""
    if field.default is None or field.default == "":
        return "none"
    if isinstance(field.default, tuple):
        return ",".join(map(str, field.default)) or "none"
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)


def table(kind: type[msgspec.Struct]) -> str:
    """All variables as a Markdown table, for the documentation."""
    rows = ["| variable | setting | is | default | meaning |", "|---|---|---|---|---|"]
    for one in variables(kind):
        default = f"`{one.default}`" if one.default else "needed" if "." not in one.path else "needed in its section"
        rows.append(f"| `{one.name}` | `{one.path}` | {one.type} | {default} | {one.help} |")
    return "\n".join(rows) + "\n"
