"""What figures of recorded streams do not say of live traffic."""

from __future__ import annotations

from collections.abc import Sequence

from guard.lab.cases import Case
from guard.policy.schema import Match, Policy


def unmatched(policy: Policy) -> list[str]:
    """That cases tell nothing of headers and prompts, where a policy is only for some requests."""
    if policy.match == Match():
        return []
    return [f"{policy.name} is for the requests that its match fits; here it judges all cases, whatever was asked"]


def unreadable(cases: Sequence[Case]) -> list[str]:
    """Whether figures of these cases say little about live traffic; one sentence each."""
    redacted = sum(case.redacted for case in cases)
    if not redacted:
        return []
    return [
        f"the text of {redacted} of {len(cases)} cases is redacted, each letter an x: rules that read words, scripts or"
        " repeats judge it otherwise than they did live. Record with recording.text scrambled or full to back-test"
    ]
