"""`guard policy check`: are these policies right, and what do they make of those that they extend?"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from guard.errors import ConfigError
from guard.shipped import find_policy, inherited_rules, policy_faults, shipped_policies


def policy_check_command(names: Sequence[str]) -> int:
    """
    Check policies, and say of each that it is good or what is wrong with it.

    Args:
        names: Policy files, folders of them, names of shipped ones. Files of tests are told of and left alone.

    Returns:
        0 when all are right; 1 otherwise.

    Raises:
        ConfigError: A folder has no policy.
    """
    wrong = False
    for name in _files(names):
        if Path(name).stem.endswith("_test"):
            print(f"{name}: tests, which `guard policy test` runs")
            continue
        faults = policy_faults(name)
        for fault in faults:
            print(fault, file=sys.stderr)
        wrong = wrong or bool(faults)
        if not faults:
            policy = find_policy(name)
            own = _own(name, {rule.name for rule in policy.rules})
            print(f"{name}: good ({policy.name}, {len(policy.rules)} rule{'s' * (len(policy.rules) != 1)}{own})")
    return 1 if wrong else 0


def _files(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if not name or name in shipped_policies() or not Path(name).is_dir():
            yield name
            continue
        inside = sorted(path for path in Path(name).glob("*.y*ml") if not path.stem.endswith("_test"))
        if not inside:
            raise ConfigError("the folder has no policy", path=name)
        yield from map(str, inside)


def _own(name: str, rules: set[str]) -> str:
    """
    What a policy does to the rules that it inherits.

    A rule that was to replace one and is misspelt stands beside it: nothing is wrong then but what was meant.
    """
    found = inherited_rules(name)
    if found is None:
        return ""
    inherited, own = found
    parts = {
        "new": [rule for rule in own if rule not in inherited],
        "replaced": [rule for rule in own if rule in inherited],
        "left out": [rule for rule in inherited if rule not in rules],
    }
    return "".join(f"; {word}: {', '.join(some)}" for word, some in parts.items() if some)
