"""From YAML text to a checked policy. Every complaint names file, line, setting and remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import msgspec
from msgspec import UnsetType

from guard.errors import ConfigError
from guard.policy.conditions import ConditionBuilder
from guard.policy.convert import convert
from guard.policy.reach import dead_end, implies
from guard.policy.schema import Match, Policy, Rule
from guard.policy.sections import (
    build_confirm,
    build_hold_back,
    build_kinds,
    build_match,
    build_retry,
    check_action,
    read,
)
from guard.policy.source import (
    VERSION,
    ConfirmSource,
    HoldBackSource,
    KindSource,
    PolicySource,
    RetrySource,
    RuleSource,
)
from guard.policy.units import parse_tokens
from guard.types import Action, Kind, SignalSpec, WhenExhausted
from guard.yamldoc import Document, nearest
from guard.yamlfaults import Faults

#: Most policies that may extend one another.
MAX_LAYERS = 8

#: Gives text and path of the policy that `extends` names: (name, path of the file that says so) -> (text, path).
Resolve = Callable[[str, str | None], tuple[str, str]]


class _Written(NamedTuple):
    """A rule and where it is written."""

    document: Document
    where: str
    source: RuleSource


class _Merged:
    """What a policy and all it extends come to, each setting with the file it is from."""

    def __init__(self, document: Document) -> None:
        self.rules: list[_Written] = []
        self.hold_back = (document, HoldBackSource())
        self.retry = (document, RetrySource())
        self.when_exhausted = WhenExhausted.CUT
        self.confirm: tuple[Document, ConfirmSource] | None = None
        self.kinds: tuple[Document, dict[Kind, KindSource]] = (document, {})

    def lay(self, document: Document, source: PolicySource) -> None:
        """Put one policy on top of those it extends."""
        self._lay_rules(document, source)
        if not isinstance(source.hold_back, UnsetType):
            self.hold_back = (document, source.hold_back)
        if not isinstance(source.retry, UnsetType):
            self.retry = (document, source.retry)
        if not isinstance(source.when_exhausted, UnsetType):
            self.when_exhausted = source.when_exhausted
        if not isinstance(source.confirm, UnsetType):
            self.confirm = (document, source.confirm)
        if not isinstance(source.kinds, UnsetType):
            self.kinds = (document, source.kinds)
        self.rules = [_with_action(rule, source) for rule in self.rules]

    def _lay_rules(self, document: Document, source: PolicySource) -> None:
        inherited = {rule.source.name: index for index, rule in enumerate(self.rules)}
        own = [_Written(document, f"rules[{index}]", rule) for index, rule in enumerate(source.rules)]
        names = [rule.source.name for rule in own]
        for index, name in enumerate(source.disable):
            where = f"disable[{index}]"
            if name not in inherited:
                hint = nearest(name, inherited) if inherited else "this policy extends none"
                document.fail(where, f"no inherited rule is called {name!r}; {hint}")
            if name in names:
                document.fail(where, f"{name!r} is given anew below, which replaces it; leave it out here")
            if name in source.disable[:index]:
                document.fail(where, f"{name!r} is listed twice")
        for index, rule in enumerate(own):
            if not rule.source.name.strip():
                document.fail(f"{rule.where}.name", "a rule needs a name")
            if rule.source.name in names[:index]:
                message = f"the name {rule.source.name!r} is already used by a rule above"
                document.fail(f"{rule.where}.name", message)
            if rule.source.name in inherited:
                self.rules[inherited[rule.source.name]] = rule
            else:
                self.rules.append(rule)
        self.rules = [rule for rule in self.rules if rule.source.name not in source.disable]


def load_policy(
    text: str, catalogue: Mapping[str, SignalSpec], path: str | None = None, resolve: Resolve | None = None
) -> Policy:
    """
    Read and check a policy.

    Args:
        text: YAML.
        catalogue: Signals that exist, by name.
        path: File it came from, for error messages.
        resolve: Finds the policy that `extends` names; None where a policy must stand alone.

    Returns:
        The policy, ready for a Judge.

    Raises:
        ConfigError: Anything at all is wrong with it.
    """
    layers = _layers(text, path, resolve, {})
    policy = _built(layers, catalogue)
    for error in _idle(_merged(layers).rules, policy, catalogue):
        raise error
    return policy


def find_faults(
    text: str, catalogue: Mapping[str, SignalSpec], path: str | None = None, resolve: Resolve | None = None
) -> list[ConfigError]:
    """
    As `load_policy`, for all that is wrong with a policy and those that it extends, as far as one look can tell.

    Args:
        text: See `load_policy`.
        catalogue: See `load_policy`.
        path: See `load_policy`.
        resolve: See `load_policy`.
    """
    faults = Faults({"version": VERSION, "name": "?"})
    read: dict[str | None, Document] = {}

    def layers() -> list[tuple[Document, PolicySource]]:
        return _layers(text, path, resolve, read)

    def document_of(error: ConfigError) -> Document | None:
        # Without what it extends nearly all of a policy would be wrong.
        return None if error.where == "extends" else read.get(error.path)

    if faults.look(layers, document_of) is None:
        return faults.in_order
    of_types = len(faults.found)
    policy = faults.look(lambda: _built(layers(), catalogue), document_of, alone=False)
    if policy is not None and not faults.left_out():
        faults.found += _idle(_merged(layers()).rules, policy, catalogue)
    if faults.left_out("rules"):  # one of them may have been of a kind of which there seems to be none
        later = faults.found[of_types:]
        faults.found[of_types:] = [one for one in later if one.where.split(".")[:-1] != ["kinds"]]
    return faults.in_order


def _merged(layers: list[tuple[Document, PolicySource]]) -> _Merged:
    merged = _Merged(layers[0][0])
    for document, source in layers:
        merged.lay(document, source)
    return merged


def _built(layers: list[tuple[Document, PolicySource]], catalogue: Mapping[str, SignalSpec]) -> Policy:
    """A policy whose parts are right, each for itself."""
    merged = _merged(layers)
    document, source = layers[-1]
    if not merged.rules:
        document.fail("rules", "a policy needs at least one rule")
    hold_back = build_hold_back(*merged.hold_back)
    rules = tuple(_rule(written, catalogue) for written in merged.rules)
    attempts, changes = build_kinds(*merged.kinds, [rule.kind for rule in rules])
    return Policy(
        name=source.name,
        description=source.description,
        version=source.version,
        match=Match() if isinstance(source.match, UnsetType) else build_match(document, source.match),
        hold_back=hold_back,
        retry=build_retry(*merged.retry, [rule.action for rule in rules]),
        kind_attempts=attempts,
        kind_changes=changes,
        when_exhausted=merged.when_exhausted,
        confirm=None if merged.confirm is None else build_confirm(*merged.confirm),
        rules=rules,
    )


def _layers(
    text: str, path: str | None, resolve: Resolve | None, read: dict[str | None, Document]
) -> list[tuple[Document, PolicySource]]:
    """A policy and all it extends, the eldest first; documents that are in `read` are taken from there as they are."""
    layers: list[tuple[Document, PolicySource]] = []
    seen: list[str | None] = []
    while True:
        document = read[path] = read.get(path) or Document(text, path)
        source = _read_source(document)
        layers.insert(0, (document, source))
        seen.append(path)
        if isinstance(source.extends, UnsetType):
            return layers
        if resolve is None:
            document.fail("extends", "not possible here: this policy must stand alone")
        try:
            text, path = resolve(source.extends, document.path)
        except ConfigError as error:  # of the file that is not there, while this one is what has to be changed
            document.fail("extends", error.message if error.path in (None, document.path) else str(error))
        if path in seen:
            document.fail("extends", f"goes in a circle: {' -> '.join(str(step) for step in [*seen, path])}")
        if len(layers) >= MAX_LAYERS:
            document.fail("extends", f"at most {MAX_LAYERS} policies may extend one another")


def _read_source(document: Document) -> PolicySource:
    source = convert(document)
    if source.version != VERSION:
        document.fail("version", f"version {source.version} is not known; this guard reads version {VERSION}")
    if not source.name.strip():
        document.fail("name", "a policy needs a name")
    if not isinstance(source.action_override, UnsetType):
        check_action(document, "action_override", source.action_override)
    for index, rule in enumerate(source.rules):
        check_action(document, f"rules[{index}].action", rule.action)
    return source


def _with_action(rule: _Written, source: PolicySource) -> _Written:
    """
    The rule with the action that a policy's `kinds` or `action_override` gives it.

    Rules that note stay under `kinds`. Those that hold always do: a doubt says of no answer that it is bad.
    """
    action = rule.source.action
    if action is Action.HOLD:
        return rule
    if not isinstance(source.action_override, UnsetType):
        action = source.action_override
    if not isinstance(source.kinds, UnsetType) and rule.source.action is not Action.NOTE:
        of_kind = source.kinds.get(rule.source.kind, KindSource()).action
        action = action if isinstance(of_kind, UnsetType) else of_kind
    return rule._replace(source=msgspec.structs.replace(rule.source, action=action))


def _rule(written: _Written, catalogue: Mapping[str, SignalSpec]) -> Rule:
    document, where, source = written
    persist = 0
    if source.persist is not None:
        persist = read(document, f"{where}.for", parse_tokens, source.persist)
    when = ConditionBuilder(document, catalogue).build(source.when, f"{where}.when")
    return Rule(name=source.name, kind=source.kind, action=source.action, when=when, persist=persist)


def _idle(written: list[_Written], policy: Policy, catalogue: Mapping[str, SignalSpec]) -> Iterator[ConfigError]:
    """What is wrong with rules that can never act, and with those before which another always acts."""
    rules = policy.rules
    for index, rule in enumerate(rules):
        document, where, _ = written[index]
        reason = dead_end(rule.when, policy.hold_back.act_at, catalogue)
        if reason:
            yield document.error(f"{where}.when", f"can never act: {reason}")
            continue
        for number, other in enumerate(rules):
            if number != index and _always_before(other, rule, above=number < index):
                same = "the same condition" if other.when == rule.when else "a wider condition"
                order = "above" if number < index else "below"
                text = f"never decides: rule {other.name!r} {order} has {same} and acts no later"
                yield document.error(f"{where}.when", text)
                break


def _always_before(other: Rule, rule: Rule, *, above: bool) -> bool:
    """True when `other` decides whenever `rule` could: severer, or as severe and above it, which wins a draw."""
    if other.action is Action.NOTE and rule.action is Action.HOLD:
        return False  # a note holds nothing: text waits beside it
    ranks = list(Action)
    severity = ranks.index(other.action) - ranks.index(rule.action)
    if severity < 0 or (severity == 0 and not above) or other.persist > rule.persist:
        return False
    return implies(rule.when, other.when)
