"""Which policy a request gets, reloading under way, and the shadow beside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from guard.errors import ConfigError
from guard.policy.judge import Judge
from guard.policy.schema import Policy
from guard.proto.openai import ClientRequest, Route, parse_request
from guard.server.policies import KEPT, PolicySet, prompt_size, request_facts
from guard.shipped import read_policy
from guard.types import Action, Finding, Kind, SignalRef, Verdict

RULE = "rules:\n  - {name: blank, kind: repetition, action: retry, when: {signal: blank_lines, above: 20}}\n"


def write(folder: Path, name: str, extra: str = "", rules: str = RULE) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(f"version: 1\nname: {name}\n{extra}{rules}")
    return str(path)


def request(**fields: object) -> ClientRequest:
    return parse_request(Route.CHAT, json.dumps({"messages": [], **fields}).encode())


def name_for(policies: PolicySet, asked: ClientRequest, headers: dict[str, str] | None = None) -> str:
    return policies.choose(asked, headers or {}).judge.policy.name


@contextlib.asynccontextmanager
async def watching(policies: PolicySet) -> AsyncIterator[None]:
    task = asyncio.create_task(policies.watch(interval=0.01))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


# -- choosing -------------------------------------------------------------------------------------


def test_the_first_policy_that_matches_is_taken(tmp_path: Path) -> None:
    policies = PolicySet(
        [
            write(tmp_path, "long", "match: {prompt_characters: {above: 100}}\n"),
            write(tmp_path, "team", "match: {header: {X-Team: s*}}\n"),
            write(tmp_path, "coder", "match: {model: ['*coder*'], route: /v1/chat/*}\n"),
            write(tmp_path, "rest"),
        ]
    )
    assert name_for(policies, request(model="qwen-coder")) == "coder"
    assert name_for(policies, request(model="qwen-coder"), {"x-TEAM": "search"}) == "team"
    assert name_for(policies, request(messages=[{"role": "user", "content": "x" * 101}])) == "long"
    assert name_for(policies, request(model="qwen")) == "rest"
    assert policies.fallback.judge.policy.name == "rest"


def test_a_shipped_policy_goes_by_its_name() -> None:
    policies = PolicySet(["default"])
    assert name_for(policies, request()) == "default"
    assert [policy.name for policy in policies.policies] == ["default"]


def test_a_policy_made_in_code_is_for_every_request(tmp_path: Path) -> None:
    policy = read_policy(write(tmp_path, "p", "match: {model: x}\n"), [])
    with pytest.raises(ConfigError, match="match no policy"):
        PolicySet.of(policy)
    whole = read_policy(write(tmp_path, "p"), [])
    assert PolicySet.of(whole).fallback.judge.policy is whole


@pytest.mark.parametrize(
    ("extras", "says"),
    [
        (["", ""], r"p0\.yaml: it matches every request"),
        (
            ["match: {model: x}\n"],
            r"p0\.yaml: some requests match no policy; .* as in policy: \[\S*p0\.yaml, default\]",
        ),
        ([], "at least one policy"),
    ],
)
def test_sets_refused(tmp_path: Path, extras: list[str], says: str) -> None:
    names = [write(tmp_path, f"p{index}", extra) for index, extra in enumerate(extras)]
    with pytest.raises(ConfigError, match=says):
        PolicySet(names)


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    names = [write(tmp_path, "p", "match: {model: x}\n"), write(tmp_path / "other", "p")]
    with pytest.raises(ConfigError, match="another policy is called 'p' too"):
        PolicySet(names)


@pytest.mark.parametrize(
    ("body", "size"),
    [
        (
            {"messages": [{"content": "four"}, {"content": [{"type": "text", "text": "ab"}, {"type": "image"}]}]},
            (6, None),
        ),
        ({"messages": [{"content": None}, "odd", {"content": [7]}]}, (0, None)),
        ({"messages": "odd"}, (0, None)),
        ({"prompt": "four"}, (4, None)),
        ({"prompt": ["four", "two"]}, (7, None)),
        ({"prompt": [1, 2, 3]}, (0, 3)),
        ({"prompt": []}, (0, None)),
        ({}, (0, None)),
    ],
)
def test_size_of_a_prompt(body: dict[str, object], size: tuple[int, int | None]) -> None:
    assert prompt_size(body) == size


def test_facts_of_a_request() -> None:
    facts = request_facts(request(model="m", messages=[{"content": "four"}]), {"X-A": "1"})
    assert (facts.model, facts.route, dict(facts.headers)) == ("m", "/v1/chat/completions", {"x-a": "1"})
    assert (facts.prompt_characters, facts.prompt_tokens) == (4, None)


def test_what_a_policy_extends_is_looked_at_too(tmp_path: Path) -> None:
    base = write(tmp_path, "base")
    child = write(tmp_path, "child", "extends: base.yaml\n", rules="")
    files: list[Path] = []
    assert read_policy(child, files).rules == read_policy(base, []).rules
    assert [path.name for path in files] == ["child.yaml", "base.yaml"]
    assert read_policy(write(tmp_path, "mine", "extends: default\n", rules=""), []).rules


# -- reloading ------------------------------------------------------------------------------------


async def test_a_changed_file_is_taken_up_and_streams_in_flight_keep_theirs(tmp_path: Path) -> None:
    path = write(tmp_path, "p")
    policies = PolicySet([path])
    before = policies.choose(request(), {})
    async with watching(policies):
        write(tmp_path, "p", "description: new\n")
        await until(lambda: policies.generation >= 2)
    after = policies.choose(request(), {})
    assert (before.judge.policy.description, after.judge.policy.description) == ("", "new")
    assert (policies.last_reload_ok, policies.reloads_ok, policies.reloads_failed) == (True, 1, 0)


async def test_a_wrong_file_changes_nothing_until_it_is_right_again(tmp_path: Path) -> None:
    path = write(tmp_path, "p")
    policies = PolicySet([path])
    good = policies.fallback
    async with watching(policies):
        write(tmp_path, "p", rules="rules: [\n")
        await until(lambda: policies.reloads_failed >= 1)
        assert (policies.last_reload_ok, policies.generation) == (False, 1)
        assert policies.fallback is good
        await asyncio.sleep(0.1)
        assert policies.reloads_failed == 1  # the same mistake is not reported again and again
        write(tmp_path, "p", "description: fixed\n")
        await until(lambda: policies.last_reload_ok)
    assert policies.fallback.judge.policy.description == "fixed"


async def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    name = write(tmp_path, "p")
    policies = PolicySet([name])
    Path(name).unlink()
    os.mkfifo(name)
    assert not await policies.reload()
    Path(name).unlink()
    write(tmp_path, "p", "description: again\n")
    assert await policies.reload()


async def test_a_file_replaced_by_renaming_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, "p")
    stat = os.stat(path)
    policies = PolicySet([path])
    async with watching(policies):
        new = tmp_path / "p.tmp"
        new.write_text(Path(path).read_text().replace("above: 20", "above: 30"))
        os.utime(new, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        new.rename(path)
        await until(lambda: policies.generation >= 2)


async def test_a_file_that_goes_and_comes_back_is_taken_up(tmp_path: Path) -> None:
    path = Path(write(tmp_path, "p"))
    policies = PolicySet([str(path)])
    async with watching(policies):
        path.unlink()
        await until(lambda: policies.reloads_failed >= 1)
        write(tmp_path, "p", "description: back\n")
        await until(lambda: policies.generation >= 2)


async def test_the_policies_that_others_extend_are_watched_as_well(tmp_path: Path) -> None:
    write(tmp_path, "base")
    policies = PolicySet([write(tmp_path, "child", "extends: base.yaml\n", rules="")])
    async with watching(policies):
        write(tmp_path, "base", rules=RULE.replace("retry", "cut"))
        await until(lambda: policies.generation >= 2)
    assert policies.fallback.judge.policy.rules[0].action is Action.CUT


async def test_a_new_parent_with_a_mistake_is_watched_until_it_is_right(tmp_path: Path) -> None:
    policies = PolicySet([write(tmp_path, "p")])
    async with watching(policies):
        write(tmp_path, "parent", rules="rules: 7\n")
        write(tmp_path, "p", "extends: parent.yaml\n", rules="")
        await until(lambda: policies.reloads_failed >= 1)
        write(tmp_path, "parent")
        await until(lambda: policies.generation >= 2)


async def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    """Also a file that the policy did not look at before."""
    parent = Path(write(tmp_path, "parent", rules="rules: 7\n"))
    name = write(tmp_path, "p")

    def read(wanted: str, files: list[Path]) -> Policy:
        try:
            return read_policy(wanted, files)
        finally:
            if parent in files and not mended:
                mended.append(write(tmp_path, "parent"))  # right after the faulty one was read

    mended: list[str] = []
    policies = PolicySet([name], read=read)
    async with watching(policies):
        write(tmp_path, "p", "extends: parent.yaml\n", rules="")
        await until(lambda: policies.generation >= 2)
    assert policies.reloads_failed == 1


async def test_a_reload_can_be_asked_for(tmp_path: Path) -> None:
    policies = PolicySet([write(tmp_path, "p")])
    async with watching(policies):
        policies.reload_soon()
        await until(lambda: policies.generation >= 2)
        await asyncio.sleep(0.05)
    assert policies.reloads_ok == 1


# -- the shadow -----------------------------------------------------------------------------------


def verdict(action: Action) -> Verdict:
    finding = Finding(SignalRef("blank_lines"), 30.0, 5, "30 line ends follow each other")
    return Verdict(action, 1.0, Kind.REPETITION, "blank", 0, 40, 5, (finding,))


def test_the_shadow_reads_what_the_live_policy_reads(tmp_path: Path) -> None:
    policies = PolicySet([write(tmp_path, "p")], shadow=write(tmp_path, "s", rules=RULE.replace("20", "10")))
    chosen = policies.choose(request(), {})
    assert isinstance(chosen.shadow, Judge)
    assert chosen.shadow.refs[0] is chosen.judge.refs[0]
    assert [policy.name for policy in policies.policies] == ["p", "s"]
    assert PolicySet([write(tmp_path, "p")]).choose(request(), {}).shadow is None


def test_disagreements_are_counted_and_the_latest_kept(tmp_path: Path) -> None:
    policies = PolicySet([write(tmp_path, "p")], shadow="default")
    policies.compare("a", "pass", None)
    policies.compare("b", "retry", verdict(Action.RETRY))
    policies.compare("c", "pass", verdict(Action.RETRY))
    policies.compare("d", "cut", None)
    assert policies.shadow_compared == 4
    assert policies.shadow_disagreed == {("pass", "retry"): 1, ("cut", "pass"): 1}
    first = policies.disagreements[0]
    assert (first.request_id, first.live, first.shadow, first.rule, first.token) == ("c", "pass", "retry", "blank", 40)
    assert "line ends" in first.reason
    report = policies.shadow_report()
    assert (policies.shadowed, report["shadow"], report["compared"]) == (True, "default", 4)
    assert report["disagreed"] == [
        {"live": "cut", "shadow": "pass", "attempts": 1},
        {"live": "pass", "shadow": "retry", "attempts": 1},
    ]
    for number in range(KEPT + 5):
        policies.compare(str(number), "note", None)
    assert len(policies.disagreements) == KEPT
