"""
Checks hooks against vLLM's source files, without importing them.

Every process reads the same files and so comes to the same result; none is patched in one process
and not in another. `python -m guard.backend.vllm.selfcheck WHEEL_OR_FOLDER` prints what it found as
JSON: tests keep that of releases that cannot run where they run.
"""

from __future__ import annotations

import ast
import json
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from guard.backend.vllm.releases import RELEASES, Hook, line_of

#: Gives the text of a file by its path below the folder that holds the package; None if there is none.
Reader = Callable[[str], str | None]


def installed() -> Reader:
    """
    Read the vLLM that this process would import.

    Returns:
        A reader; it finds no file where vLLM is not installed as plain files.
    """
    spec = find_spec("vllm")
    return unpacked([Path(each).parent for each in (spec.submodule_search_locations or ())] if spec is not None else [])


def unpacked(folders: Sequence[Path]) -> Reader:
    """
    Read plain files.

    Args:
        folders: Each may hold the package; the first that has a file counts.
    """

    def read(path: str) -> str | None:
        file = next((folder / path for folder in folders if (folder / path).is_file()), None)
        return None if file is None else file.read_text(encoding="utf-8")

    return read


def packed(wheel: Path) -> Reader:
    """
    Read a wheel.

    Args:
        wheel: The file.
    """

    def read(path: str) -> str | None:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(path).decode() if path in archive.namelist() else None

    return read


def findings(hooks: Mapping[str, Hook], read: Reader) -> dict[str, dict[str, Any] | None]:
    """
    Look up each hook.

    Args:
        hooks: By name.
        read: Gives source files.

    Returns:
        For each name what stands there: `parameters`, and under `source` whether each fragment is
        found; None where there is no such class or function.
    """
    trees: dict[str, ast.Module | None] = {}
    found: dict[str, dict[str, Any] | None] = {}
    for name, hook in hooks.items():
        if hook.path not in trees:
            text = read(hook.path)
            trees[hook.path] = None if text is None else ast.parse(text)
        node = _locate(trees[hook.path], hook)
        if node is None:
            found[name] = None
        else:
            spelled = ast.unparse(node) if hook.source else ""
            found[name] = {
                "parameters": _parameters(node),
                "source": {fragment: fragment in spelled for fragment in hook.source},
            }
    return found


def problems(hooks: Mapping[str, Hook], found: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """
    Compare.

    Args:
        hooks: What is expected, by name.
        found: What `findings` told.

    Returns:
        One sentence for each hook that is not as expected; empty when all are.
    """
    return [problem for name, hook in hooks.items() for problem in _problems(name, hook, found.get(name))]


def _problems(name: str, hook: Hook, there: Mapping[str, Any] | None) -> Iterable[str]:
    if there is None:
        yield f"{name}: there is no {hook}"
        return
    have = tuple(there["parameters"])
    if hook.name and hook.parameters and have != hook.parameters:
        yield f"{name}: {hook} takes ({', '.join(have)}), expected ({', '.join(hook.parameters)})"
    elif not set(hook.parameters) <= set(have):
        missing = [each for each in hook.parameters if each not in have]
        yield f"{name}: {hook} has no {', '.join(missing)}"
    for fragment in hook.source:
        if not there["source"].get(fragment):
            yield f"{name}: {hook} does not hold `{fragment}`"


def _locate(tree: ast.Module | None, hook: Hook) -> ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | None:
    for node in tree.body if tree is not None else ():
        if isinstance(node, ast.ClassDef) and node.name == hook.owner:
            if not hook.name:
                return node
            for member in node.body:
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and member.name == hook.name:
                    return member
    return None


def _parameters(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    if isinstance(node, ast.ClassDef):
        fields = (each.target for each in node.body if isinstance(each, ast.AnnAssign))
        return [each.id for each in fields if isinstance(each, ast.Name)]
    arguments = node.args
    names = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    names += [each.arg for each in arguments.kwonlyargs]
    return names + ([f"**{arguments.kwarg.arg}"] if arguments.kwarg else [])


def main(arguments: list[str]) -> int:
    """
    Print the findings in a wheel, or in a folder that holds the package, as JSON.

    Args:
        arguments: The wheel or folder, and the version if a folder does not tell it.

    Returns:
        0 when all hooks are as expected, 1 otherwise, 2 where there is nothing to look at.
    """
    place = Path(arguments[0] if arguments else "")
    version = arguments[1] if len(arguments) > 1 else "".join(place.name.split("-")[1:2])
    hooks = RELEASES.get(line_of(version))
    missing = ""
    if not arguments or not place.exists():
        missing = "usage: python -m guard.backend.vllm.selfcheck vllm-VERSION-....whl | FOLDER VERSION"
    elif hooks is None:
        line = f"release line {line_of(version)!r} is not known; known are {', '.join(RELEASES)}"
        missing = f"{line}. To add one: guard/backend/README.md. A folder's version is given after it."
    if missing or hooks is None:
        print(missing, file=sys.stderr)
        return 2
    found = findings(hooks, unpacked([place]) if place.is_dir() else packed(place))
    wrong = problems(hooks, found)
    print(json.dumps({"version": version, "hooks": found, "problems": wrong}, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
