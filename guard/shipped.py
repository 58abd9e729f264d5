"""Policies and profiles by file or by the name under which they ship."""

from __future__ import annotations

from pathlib import Path

from msgspec import UnsetType

from guard.data import data_dir, read_text
from guard.detect.catalogue import CATALOGUE
from guard.errors import ConfigError
from guard.policy.convert import convert
from guard.policy.load import Resolve, find_faults, load_policy
from guard.policy.schema import Policy
from guard.yamldoc import Document, nearest


def shipped_policies() -> list[str]:
    """Names of the policies that ship."""
    return sorted(path.stem for path in data_dir("policies").glob("*.yaml") if not path.stem.endswith("_test"))


def find_policy(name: str) -> Policy:
    """
    Load a policy and all it extends.

    Args:
        name: A path, or the bare name of a shipped policy.

    Raises:
        ConfigError: There is none such, or it is wrong.
    """
    return read_policy(name, [])


def read_policy(name: str, files: list[Path]) -> Policy:
    """
    Load a policy and all it extends.

    Args:
        name: A path, or the bare name of a shipped policy.
        files: Every file that is looked at is added, also when it turns out to be wrong.

    Raises:
        ConfigError: There is none such, or it is wrong.
    """
    resolve = _reader(files)
    return _load(*resolve(name, None), resolve)


def _load(text: str, path: str, resolve: Resolve) -> Policy:
    return load_policy(text, CATALOGUE, path, resolve)


def policy_faults(name: str) -> list[ConfigError]:
    """
    All that is wrong with a policy and those it extends, as far as one look can tell.

    Args:
        name: A path, or the bare name of a shipped policy.
    """
    resolve = _reader([])
    try:
        text, path = resolve(name, None)
        return find_faults(text, CATALOGUE, path, resolve)
    except ConfigError as error:
        return [error]


def inherited_rules(name: str) -> tuple[list[str], list[str]] | None:
    """
    Names of the rules that a policy inherits, and of those that it writes itself; None for one that extends none.

    Args:
        name: A path, or the bare name of a shipped policy; one that is right.
    """
    resolve = _reader([])
    text, path = resolve(name, None)
    source = convert(Document(text, path))
    if isinstance(source.extends, UnsetType):
        return None
    base = _load(*resolve(source.extends, path), resolve)
    return [rule.name for rule in base.rules], [rule.name for rule in source.rules]


def _reader(files: list[Path]) -> Resolve:
    """Reads policies by name, and adds the file of each to a list."""

    def resolve(wanted: str, beside: str | None) -> tuple[str, str]:
        path = _policy_path(wanted, Path(beside).parent if beside else Path())
        files.append(path)
        return read_text(path), str(path)

    return resolve


def _policy_path(name: str, folder: Path) -> Path:
    if "/" in name or Path(name).suffix:
        return folder / name
    path = data_dir("policies") / f"{name}.yaml"
    # Not asked for by name: what is too long for one is none that ships.
    if name not in shipped_policies():
        hint = nearest(name, shipped_policies())
        raise ConfigError(f"no shipped policy is called {name!r}, and a file is named with its ending (.yaml); {hint}")
    return path
