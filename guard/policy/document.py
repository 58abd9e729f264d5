"""YAML with a memory of lines: every complaint about a policy can name the line it stands on."""

from __future__ import annotations

from typing import NoReturn

import yaml

from guard.errors import ConfigError

#: Largest policy file read. Unit: characters.
MAX_SIZE = 256 * 1024
#: Deepest nesting followed.
MAX_DEPTH = 32

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
        if len(text) > MAX_SIZE:
            raise ConfigError(f"the file has more than {MAX_SIZE} characters", path=path)
        try:
            self.data: Plain = self._read(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
            line = mark.line + 1 if mark is not None else None
            raise ConfigError(f"not valid YAML: {problem}", path=path, line=line) from error

    def _read(self, text: str) -> Plain:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                message = f"anchors are not followed; write *{event.anchor} out"
                raise ConfigError(message, path=self.path, line=_line(event))
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            return None if node is None else self._plain(loader, node, "", 0)
        finally:
            loader.dispose()

    def line(self, where: str) -> int | None:
        """1-based line of a dotted path, or of the nearest thing around it that has one."""
        while where not in self._lines and where:
            where = where[: max(where.rfind("."), where.rfind("["), 0)]
        return self._lines.get(where)

    def fail(self, where: str, message: str) -> NoReturn:
        """Raise a ConfigError about the setting at a dotted path."""
        raise ConfigError(message, path=self.path, line=self.line(where), where=where)

    def _plain(self, loader: yaml.SafeLoader, node: yaml.Node, where: str, depth: int) -> Plain:
        self._lines.setdefault(where, node.start_mark.line + 1)
        if depth > MAX_DEPTH:
            self.fail(where, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(node, yaml.MappingNode):
            result: dict[str, Plain] = {}
            for key_node, value_node in node.value:
                key = str(key_node.value)
                inner = f"{where}.{key}" if where else key
                if key in result:
                    self._lines[inner] = key_node.start_mark.line + 1
                    self.fail(inner, f"{key!r} is given twice")
                self._lines[inner] = key_node.start_mark.line + 1
                result[key] = self._plain(loader, value_node, inner, depth + 1)
            return result
        if isinstance(node, yaml.SequenceNode):
            return [
                self._plain(loader, item, f"{where}[{index}]", depth + 1)
                for index, item in enumerate(node.value)
            ]
        value = loader.construct_object(node)
        if value is None or isinstance(value, bool | int | float | str):
            return value
        return str(node.value)


def _line(event: yaml.Event) -> int | None:
    return event.start_mark.line + 1 if event.start_mark is not None else None
