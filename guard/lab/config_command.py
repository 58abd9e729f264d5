"""`guard config`: is it right, what is in force, and where each setting came from."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, get_type_hints
from urllib.parse import urlsplit, urlunsplit

import msgspec

from guard.config import Config, Loaded, put_together
from guard.config_faults import find_faults
from guard.config_rules import doubts
from guard.environment import is_secret, strangers
from guard.errors import ConfigError, GuardError
from guard.lab.serve import baselines_of, loaded, sources
from guard.policy.schema import Policy
from guard.server.doors import Doors
from guard.server.drained import read_drained
from guard.server.gate import Gate
from guard.server.outgoing import Outgoing
from guard.server.policies import PolicySet
from guard.shipped import policy_faults
from guard.state.settings import check_files
from guard.yamldoc import Document, dotted

MASK = "***"


class Setting(NamedTuple):
    """One setting in force: its place, its value with secrets masked, and what gave it."""

    steps: list[str | int]
    value: object
    origin: str


def check_command(args: argparse.Namespace) -> int:
    """
    `guard config check`: everything that `guard serve` reads before it opens its ports.

    Returns:
        0 when it would start and every variable means something; 1 otherwise.
    """
    try:
        config, found = find_faults(*sources(args), own_upstream=args.backend == "embedded")
    except ConfigError as error:
        config, found = None, [error]
    wrong: list[GuardError] = [*found]
    names = ""
    mostly_wrong: list[str] = []
    if config is not None:
        document = put_together(*sources(args), [])  # what is wrong with it was found above
        names = ", ".join(policy.name for policy in _policies(config, document, wrong))
        names += f"; shadow: {config.shadow_policy}" if config.shadow_policy is not None else ""
        _try_files(config, wrong)
        mostly_wrong = [*doubts(config), *_unrecorded(config)]
    odd = strangers(Config, os.environ)
    for sentence in dict.fromkeys([*map(str, wrong), *odd, *mostly_wrong]):
        print(sentence, file=sys.stderr)
    if config is None or wrong:
        return 1
    count = len(config.upstreams)
    print(f"{'not ' if odd else ''}good: {count} upstream{'s' * (count != 1)}, policies: {names}")
    return 1 if odd else 0


def _policies(config: Config, document: Document, wrong: list[GuardError]) -> list[Policy]:
    """The policies that are named but for the shadow; what is wrong with any of them is added."""
    named = [config.policy] if isinstance(config.policy, str) else config.policy
    places = [("policy" if isinstance(config.policy, str) else f"policy[{index}]", n) for index, n in enumerate(named)]
    if config.shadow_policy is not None:
        places.append(("shadow_policy", config.shadow_policy))
    faults = [_named(error, where, document) for where, name in places for error in policy_faults(name)]
    wrong += faults
    if faults:
        return []
    try:
        return PolicySet(named, config.shadow_policy).policies[: len(named)]
    except ConfigError as error:
        at = next((where for where, name in places if name == error.path), "policy")
        wrong.append(_named(error, at, document))
        return []


def _named(error: ConfigError, where: str, document: Document) -> ConfigError:
    """What is wrong with a file as a whole, or with its name, is told with the setting that names it."""
    if error.line is not None or error.where:
        return error
    return ConfigError(error.message, path=error.path or document.origin(where), where=where)


def _unrecorded(config: Config) -> Iterator[str]:
    """Whether the folder for recordings can be made and written to; the guard would start all the same."""
    if config.recording is None:
        return
    folder = Path(config.recording.folder).absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = "cannot be written to" if there.is_dir() else "is no folder"
        yield f"recording.folder: {there} {reason}: nothing would be recorded"


def _try_files(config: Config, wrong: list[GuardError]) -> None:
    """Read the other files that are named, each whatever is wrong with the others."""

    def doors() -> None:
        Doors(config, Gate(config.access, config.limits), Outgoing(config.access, config.upstream_tls))

    def drained() -> None:
        if config.pool.drained_file is not None:
            read_drained(Path(config.pool.drained_file))

    def store() -> None:
        if config.store is not None:
            check_files(config.store)

    for read in (lambda: baselines_of(config), doors, drained, store):
        try:
            read()
        except GuardError as error:
            wrong.append(error)


def show_command(args: argparse.Namespace) -> int:
    """`guard config show`: YAML that names each setting's origin, or JSON."""
    found = list(settings(loaded(args)))
    if args.json:
        shown = {dotted(one.steps): {"value": one.value, "origin": one.origin} for one in found}
        print(json.dumps(shown, indent=2))
    else:
        print("\n".join(_lines(found)))
    return 0


def settings(loaded: Loaded) -> Iterator[Setting]:
    """All settings in force, in the order of the structs."""
    yield from _of(loaded.config, [], loaded)


def _of(struct: msgspec.Struct, steps: list[str | int], loaded: Loaded) -> Iterator[Setting]:
    hints = get_type_hints(type(struct), include_extras=True)
    for field in msgspec.structs.fields(struct):
        here = [*steps, field.encode_name]
        value = getattr(struct, field.name)
        if isinstance(value, msgspec.Struct):
            yield from _of(value, here, loaded)
        elif isinstance(value, list) and value and isinstance(value[0], msgspec.Struct):
            for index, one in enumerate(value):
                yield from _of(one, [*here, index], loaded)
        else:
            masked = MASK if value is not None and is_secret(hints[field.name]) else without_password(value)
            yield Setting(here, masked, loaded.document.origin(dotted(here)))


def without_password(value: object) -> object:
    """A URL with its password masked; anything else as it is."""
    if not isinstance(value, str) or "://" not in value or "@" not in value:
        return value
    parts = urlsplit(value)
    if parts.password is None:
        return value
    user, host = parts.username or "", parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{MASK}@{host}"))


def _lines(found: list[Setting]) -> Iterator[str]:
    open_at: list[str | int] = []
    for steps, value, origin in found:
        outer = steps[:-1]
        shared = 0
        while shared < min(len(outer), len(open_at)) and outer[shared] == open_at[shared]:
            shared += 1
        lead = ""
        for depth in range(shared, len(outer)):
            if isinstance(outer[depth], int):
                lead = "  " * (depth - 1) + "  - "
            else:
                yield "  " * depth + f"{outer[depth]}:"
        open_at = outer
        text = f"{lead or '  ' * len(outer)}{steps[-1]}: {json.dumps(value, ensure_ascii=False)}"
        yield f"{text:<60}  # {origin}"
