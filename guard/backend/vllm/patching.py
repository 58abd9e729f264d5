"""
Replaces methods of vLLM's classes: all of them or none, each as soon as its module is imported.

The plugin is loaded in processes that need only some of the modules. Importing the others would
cost seconds and memory there, so they are patched when vLLM itself imports them. A process that is
forked later inherits what is patched and what waits.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final, NamedTuple

from guard.backend.vllm.releases import Hook

#: Makes the replacement: gets the module and the method as it is.
Maker = Callable[[ModuleType, Callable[..., Any]], Any]
#: Attribute of a replacement: the name of its hook.
MARK: Final = "__guard_hook__"


class _Change(NamedTuple):
    """
    Something to be done to a module.

    Args:
        make: Does it.
        keep: Also when all else is undone.
    """

    make: Callable[[ModuleType], None]
    keep: bool = False


class HookMismatch(Exception):
    """A hook is not what the release's table says: nothing is patched."""


class Patches:
    """
    A set of replacements.

    Args:
        refused: Told why, once, when one of them cannot be made and all were undone.
    """

    def __init__(self, refused: Callable[[str], None]) -> None:
        self._refused = refused
        self._waiting: dict[str, list[_Change]] = {}
        self._undo: list[Callable[[], None]] = []
        self._over = False

    def replace(self, name: str, hook: Hook, make: Maker) -> None:
        """
        Plan one replacement.

        Args:
            name: Of the hook.
            hook: What to replace.
            make: Makes the replacement.
        """
        change = _Change(lambda module: self._replace(module, name, hook, make))
        self._waiting.setdefault(hook.module, []).append(change)

    def define(self, hook: Hook, name: str, value: Any, *, keep: bool = False) -> None:
        """
        Plan a new attribute.

        Args:
            hook: Any hook on the class that gets it.
            name: Of the attribute.
            value: What it is.
            keep: It is there even if all else is undone: other processes may be patched and rely on it.
        """
        change = _Change(lambda module: self._define(module, hook, name, value, keep=keep), keep)
        self._waiting.setdefault(hook.module, []).append(change)

    def install(self) -> None:
        """Make the replacements in modules already imported, and wait for the others."""
        for name in list(self._waiting):
            module = sys.modules.get(name)
            if module is not None:
                self.imported(module)
        if self._waiting:
            sys.meta_path.insert(0, _Finder(self))

    def waits_for(self, module: str) -> bool:
        """Whether something is to be done when this module is imported."""
        return module in self._waiting

    def imported(self, module: ModuleType) -> None:
        """Patch a module; if one of its hooks is not as expected, undo everything."""
        for change in self._waiting.pop(module.__name__, ()):
            if self._over and not change.keep:
                continue
            try:
                change.make(module)
            except HookMismatch as mismatch:
                if not self._over:
                    self.undo()
                    self._refused(str(mismatch))

    def undo(self) -> None:
        """Put vLLM back as it was; nothing more is patched, save what is to be kept."""
        self._over = True
        kept = {module: [change for change in changes if change.keep] for module, changes in self._waiting.items()}
        self._waiting = {module: changes for module, changes in kept.items() if changes}
        while self._undo:
            self._undo.pop()()

    def _replace(self, module: ModuleType, name: str, hook: Hook, make: Maker) -> None:
        owner = getattr(module, hook.owner, None)
        original = None if owner is None else owner.__dict__.get(hook.name)
        if original is None:
            raise HookMismatch(f"{name}: there is no {hook}")
        if hasattr(original, MARK):
            return
        have = _parameters(original)
        if hook.parameters and have != hook.parameters:
            raise HookMismatch(f"{name}: {hook} takes ({', '.join(have)}), expected ({', '.join(hook.parameters)})")
        replacement = make(module, original)
        setattr(replacement, MARK, name)
        setattr(owner, hook.name, replacement)
        self._undo.append(lambda: setattr(owner, hook.name, original))

    def _define(self, module: ModuleType, hook: Hook, name: str, value: Any, *, keep: bool) -> None:
        owner = getattr(module, hook.owner, None)
        if owner is None:
            raise HookMismatch(f"{name}: there is no {hook.module}:{hook.owner}")
        if name not in owner.__dict__:
            setattr(owner, name, value)
            if not keep:
                self._undo.append(lambda: delattr(owner, name))


def _parameters(function: Any) -> tuple[str, ...]:
    function = getattr(function, "__func__", function)  # of a class method
    prefix: dict[object, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return tuple(prefix.get(each.kind, "") + each.name for each in inspect.signature(function).parameters.values())


class _Finder(importlib.abc.MetaPathFinder):
    """Stands before the other finders, for the modules that are waited for only."""

    def __init__(self, patches: Patches) -> None:
        self._patches = patches
        self._looking = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if self._looking or not self._patches.waits_for(fullname):
            return None
        self._looking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._looking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._patches)
        return spec


class _Loader(importlib.abc.Loader):
    """Another loader's module, patched once it is complete."""

    def __init__(self, loader: Any, patches: Patches) -> None:
        self._loader = loader
        self._patches = patches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._patches.imported(module)
