"""
A fleet under a virtual clock: several guards, several replicas, thousands of exchanges.

The guards are the real thing (core.Exchange under a shipped policy, the pool with its choice, ejection and
evidence, the planner, the budget's rule); simulated are the clock, the network and the replicas, which play
recorded streams. A garbling replica plays the recorded healthy answer up to some point and then the garbage
that a corrupted cache really produced. The same seed gives the same run, to the last choice.

    python -m tests.sim.fleet [--exchanges N] [--seed S] [--only TITLE]
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from guard.clock import VirtualClock
from guard.config import TimeoutSettings, UpstreamSettings
from guard.core.events import (
    AbortAttempt,
    Command,
    Event,
    Finish,
    OpenAttempt,
    RetryRefused,
    SendBody,
    SendHead,
    UpstreamData,
    UpstreamEnd,
    UpstreamHead,
)
from guard.core.exchange import Exchange
from guard.core.settings import ExchangeSettings
from guard.fleet.affinity import prefix_key
from guard.fleet.replica import Standing
from guard.fleet.settings import PoolSettings, SuspectSettings
from guard.lab.cases import Case, CaseChunk, read_cases, run_case
from guard.policy.judge import Judge
from guard.policy.schema import Leaf, Policy, Rule
from guard.proto.openai import Route, parse_request
from guard.proto.prompt import prompt_beginning
from guard.retry.budget import Budget
from guard.server.baselines import Baselines
from guard.server.shared import LocalShared
from guard.server.upstream import Upstream, UpstreamPool
from guard.shipped import find_policy
from guard.types import Action, Kind, RequestId, SignalRef

TRACES = Path(__file__).parents[1] / "data" / "traces"
#: Sets that replicas play from, and those that are asked for garbage that is missed.
SETS, OTHER_SETS = ("tuning", "unseen"), ("fresh", "later", "fifth")
SSE = (("content-type", "text/event-stream"),)
DONE = b"data: [DONE]\n\n"
#: From one verify step to the next, and steps that the network brings at a time.
STEP_SECONDS, STEPS_AT_ONCE = 0.04, 8
#: Until a replica's head comes. Unit: seconds.
HEAD_SECONDS = 0.2

T = TypeVar("T")


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("it waits for something")


# -- what replicas say ----------------------------------------------------------------------------------


@cache
def recorded() -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Healthy and garbled streams of the recorded traces; those on which the policy errs by itself stay in."""
    cases = [case for name in SETS for case in read_cases(TRACES / f"{name}.jsonl.gz")]
    healthy = tuple(c for c in cases if c.kind == "healthy" and c.subkind != "draft_only" and not c.hard_negative)
    return healthy, tuple(c for c in cases if c.kind == "garbled")


@cache
def missed(policy: str) -> tuple[Case, ...]:
    """Garbled streams of the other sets, which the policy does not find."""
    judge = Judge(find_policy(policy))
    cases = [case for name in OTHER_SETS for case in read_cases(TRACES / f"{name}.jsonl.gz") if case.kind == "garbled"]
    return tuple(case for case in cases if not run_case(judge, case).acted)


@cache
def found(policy: str) -> tuple[int, ...]:
    """The garbled streams that a policy finds as they were recorded, by number."""
    judge = Judge(find_policy(policy))
    return tuple(number for number, case in enumerate(recorded()[1]) if run_case(judge, case).acted)


@cache
def garbage(number: int) -> tuple[CaseChunk, ...]:
    """What one corrupted stream said after its fault began."""
    known = recorded()[1]
    case = known[number] if number < len(known) else missed("demo")[number - len(known)]
    tokens, out = 0, []
    for one in case.chunks:
        if tokens >= (case.first_bad_token or 0):
            out.append(one)
        tokens += one.tokens
    return tuple(out)


@cache
def wire(one: CaseChunk, depth: int) -> bytes:
    """One recorded chunk as vLLM with the guard's plugin would send it."""
    drafted = one.drafted if one.accepted is not None else depth
    accepted = one.accepted if one.accepted is not None else max(one.tokens - 1, 0)
    choice = {"index": 0, "delta": {"content": one.text}, "token_ids": [0] * one.tokens, "finish_reason": None}
    steps = {"per_step_accepted": [accepted], "per_step_drafted": [drafted]}
    body: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "created": 1, "choices": [choice]}
    if drafted > 0:
        body["metrics"] = {"speculative_decoding": steps}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


LAST = b'data: {"id":"c","created":1,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n' + DONE


@dataclass
class Question:
    """One client request, and the answer that a healthy replica gives to it."""

    number: int
    answer: Case
    body: bytes

    @property
    def text(self) -> str:
        return "".join(one.text for one in self.answer.chunks)


@dataclass
class SimReplica:
    """
    A replica.

    Args:
        name: Its name.
        garbles: Share of its answers that turn into garbage.
        dice: Its own.
        kinds: Which garbage it says, by number.
        drafts: Whether its draft works; without, the target model rejects all of it, and the text stays good.
    """

    name: str
    garbles: float
    dice: random.Random
    kinds: tuple[int, ...]
    drafts: bool = True
    running: int = 0
    tokens: int = 0
    asked: int = 0

    def say(self, question: Question, shown: str) -> list[bytes]:
        """The chunks of its answer to a question, of which the client has some text already."""
        self.asked += 1
        chunks = continued(question.answer.chunks, shown)
        if self.dice.random() < self.garbles:
            bad = garbage(self.dice.choice(self.kinds))
            chunks = chunks[: self.dice.randrange(max(len(chunks) * 2 // 3, 1))] + list(bad)
        depth = question.answer.num_speculative_tokens
        if not self.drafts:
            chunks = [one for whole in chunks for one in undrafted(whole, depth)]
        return [*(wire(one, depth) for one in chunks), LAST]


def undrafted(one: CaseChunk, depth: int) -> list[CaseChunk]:
    """One recorded chunk as it comes when nothing of the draft is kept: token by token."""
    if one.tokens <= 1 or not depth:
        return [one._replace(accepted=0, drafted=depth)]
    size, count = len(one.text), one.tokens
    texts = [one.text[size * i // count : size * (i + 1) // count] for i in range(count)]
    return [CaseChunk(text, 1, 0, depth) for text in texts]


def continued(chunks: tuple[CaseChunk, ...], shown: str) -> list[CaseChunk]:
    """What is left of an answer after the text shown of it; garbage at the end of that is passed over."""
    out, place, same = [], 0, True
    for one in chunks:
        text = one.text
        if same:
            common = 0
            while common < len(text) and place + common < len(shown) and text[common] == shown[place + common]:
                common += 1
            place += common
            if common == len(text):
                continue
            same = False
            out.append(one._replace(text=text[common:]))
            continue
        out.append(one)
    return out


# -- guards ---------------------------------------------------------------------------------------------


class FleetState(LocalShared):
    """The store that the guards share, with the real budget rule; it also keeps watch over the rule."""

    def __init__(self, world: World, budget: Budget, window: float) -> None:
        super().__init__(window, world.clock.now)
        self._world, self._budget = world, budget
        self.refused = 0

    async def admit_retry(self, active: int) -> bool:
        """See Shared."""
        world = self._world
        if self.retries >= self._budget.allowance(world.active):
            self.refused += 1
            return False
        if self.retries >= self._budget.floor:
            retries = self.retries + 1
            world.most_retries = max(world.most_retries, retries / (world.active - retries))
        return await super().admit_retry(active)


@dataclass
class Seen:
    """What one client got."""

    question: Question
    started: float
    outcome: str = ""
    sent: list[bytes] = field(default_factory=list)
    whole: bool = False

    def text(self) -> str:
        """All content."""
        out = []
        for line in b"".join(self.sent).split(b"\n"):
            if line.startswith(b"data: {"):
                for choice in msgspec.json.decode(line[6:]).get("choices", ()):
                    out.append(choice["delta"].get("content") or "")
        return "".join(out)

    @property
    def honest(self) -> bool:
        """Whether a client could take it for complete only if it is."""
        body = b"".join(self.sent)
        return b'"error"' in body or b"content_filter" in body


class Running:
    """One exchange on one guard."""

    def __init__(self, world: World, guard: SimGuard, question: Question) -> None:
        self.world, self.guard = world, guard
        self.seen = Seen(question, world.clock.now())
        request = parse_request(Route.CHAT, question.body)
        settings = ExchangeSettings(RequestId(str(question.number)), guard.judge, f"n{question.number}")
        characters = guard.pool.settings.affinity.characters
        self.key = prefix_key(request.model, prompt_beginning(request, characters), characters)
        self.exchange = Exchange(request, settings, world.clock.now())
        self.number = 0
        self.tried: set[Any] = set()
        self.upstream: Upstream | None = None
        self.admitted = False
        self.perform(self.exchange.start())

    def perform(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case OpenAttempt(attempt=number):
                    self.open(number)
                case AbortAttempt():
                    self.leave()
                case SendHead() | Finish(whole=False):
                    pass
                case SendBody(data=data):
                    self.seen.sent.append(data)
                case Finish():
                    self.seen.whole = True
        if self.exchange.done and not self.seen.outcome:
            self.leave()
            record = self.exchange.record
            self.seen.outcome = record.outcome.value
            self.guard.pool.learn(record)
            self.guard.baselines.learn(record)
            self.world.over(self)

    def give(self, event: Event) -> None:
        self.perform(self.exchange.handle(event, self.world.clock.now()))

    def open(self, number: int) -> None:
        self.leave()
        self.number = number
        pool = self.guard.pool
        if number > 1:
            self.admitted = run_now(self.world.shared.admit_retry(self.world.active))
            if not self.admitted:
                self.give(RetryRefused(number, "the retries that the fleet allows are used up"))
                return
        upstream = pool.choose(self.tried, "vllm" if self.tried else None, self.key)
        self.tried.add(upstream.name)
        upstream.in_flight += 1
        self.upstream = upstream
        target = run_now(upstream.target(None))  # type: ignore[arg-type]
        body = json.loads(self.exchange.begin(target))
        last = body["messages"][-1]
        shown = last["content"] if last["role"] == "assistant" else ""
        self.world.attempts += 1
        replica = self.world.replicas[upstream.name]
        pieces = replica.say(self.seen.question, shown)
        replica.running += 1
        self.world.after(HEAD_SECONDS, lambda: self.arrive(number, replica, pieces, -1))

    def arrive(self, number: int, replica: SimReplica, pieces: list[bytes], place: int) -> None:
        """The head (place -1) or the next pieces of an attempt come in, unless it was given up."""
        if self.number != number or self.upstream is None:
            return
        if place < 0:
            self.give(UpstreamHead(number, 200, SSE))
        else:
            self.give(UpstreamData(number, b"".join(pieces[place : place + STEPS_AT_ONCE])))
        place = place + STEPS_AT_ONCE if place >= 0 else 0
        if place < len(pieces):
            self.world.after(STEP_SECONDS * STEPS_AT_ONCE, lambda: self.arrive(number, replica, pieces, place))
        elif self.number == number and self.upstream is not None:
            self.guard.pool.went_well(self.upstream)
            self.give(UpstreamEnd(number))

    def leave(self) -> None:
        if self.upstream is not None:
            self.upstream.in_flight -= 1
            self.world.replicas[self.upstream.name].running -= 1
            self.upstream = None
        if self.admitted:
            self.admitted = False
            run_now(self.world.shared.retry_done())


class SimGuard:
    """One guard: the real pool and baselines of its own."""

    def __init__(self, world: World, judge: Judge, settings: PoolSettings) -> None:
        self.judge = judge
        self.baselines = Baselines({})
        upstreams = [UpstreamSettings(url=f"http://{name}", name=name, engine="vllm") for name in world.replicas]
        clock = world.clock
        self.pool = UpstreamPool(upstreams, self.baselines, TimeoutSettings(), clock, settings, world.shared, clock.now)


#: Lets everything pass, as without a guard, and computes nothing for it.
UNWATCHED = Policy(
    name="unwatched",
    rules=(
        Rule(
            name="never",
            kind=Kind.GARBLED,
            action=Action.NOTE,
            when=Leaf(signal=SignalRef("tokens"), zero=1e12, one=1e12, step=True),
        ),
    ),
)


@dataclass(frozen=True)
class Plan:
    """
    What is simulated.

    Args:
        guards: How many.
        garbles: Share of garbled answers of each replica.
        exchanges: Requests in all.
        per_second: Their rate.
        policy: Name of the policy; empty for one that never finds anything.
        budget: Of retries; None for a world without a guard's retries.
        ejects: Whether replicas are left out for bad answers.
        suspects: Whether less evidence is enough on replicas that were bad before.
        undrafted: Replicas whose draft is of no use, by place.
        all_garbage: Also the recorded garbage that the policy is known to miss: what the detectors miss, no fleet
            can mend.
        seed: Of everything.
    """

    guards: int = 3
    garbles: tuple[float, ...] = (0.3, *[0.0] * 7)
    exchanges: int = 10_000
    per_second: float = 20.0
    policy: str = "default"
    budget: Budget = field(default_factory=Budget)
    ejects: bool = True
    suspects: bool = True
    undrafted: tuple[int, ...] = ()
    all_garbage: bool = False
    seed: int = 1


class World:
    """The clock, the events to come, and all that is counted."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.clock = VirtualClock()
        self.dice = random.Random(plan.seed)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        kinds = tuple(range(len(recorded()[1] + missed("demo")))) if plan.all_garbage else found("demo")
        self.replicas = {
            f"replica-{i}": SimReplica(
                f"replica-{i}", share, random.Random(f"{plan.seed}/{i}"), kinds, i not in plan.undrafted
            )
            for i, share in enumerate(plan.garbles)
        }
        settings = PoolSettings()
        if not plan.suspects:
            settings = msgspec.structs.replace(settings, suspect=SuspectSettings(evidence=1.0))
        if not plan.ejects:
            settings = msgspec.structs.replace(settings, quality=msgspec.structs.replace(settings.quality, kinds=()))
        self.shared = FleetState(self, plan.budget, settings.quality.window)
        judge = Judge(find_policy(plan.policy) if plan.policy else UNWATCHED)
        self.active = self.attempts = self.left = self.doubted = 0
        self.most_retries = 0.0
        self.seen: list[Seen] = []
        self.tokens: Counter[str] = Counter()
        self.ejections: list[tuple[float, str]] = []
        self.guards = [SimGuard(self, judge, settings) for _ in range(plan.guards)]

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (self.clock.now() + seconds, self._order, what))

    def over(self, running: Running) -> None:
        self.active -= 1
        self.left -= 1
        record = running.exchange.record
        self.doubted += sum(attempt.doubted for attempt in record.attempts)
        self.tokens["shown"] += record.tokens_shown
        self.tokens["burned"] += record.tokens_burned
        self.tokens["wanted"] += sum(one.tokens for one in running.seen.question.answer.chunks)
        self.seen.append(running.seen)

    def run(self) -> Figures:
        self.left = self.plan.exchanges
        self._arrive(0)
        self.after(1.0, self._second)
        while self._queue and self.left:
            when, _, what = heapq.heappop(self._queue)
            self.clock.advance(when - self.clock.now())
            what()
        return figures(self)

    def _arrive(self, number: int) -> None:
        dice = self.dice
        answer = dice.choice(recorded()[0])
        prompt = f"Conversation {dice.randrange(400)}. {answer.prompt}"
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": prompt}]}
        question = Question(number, answer, json.dumps(body).encode())
        self.active += 1
        Running(self, dice.choice(self.guards), question)
        if number + 1 < self.plan.exchanges:
            self.after(dice.expovariate(self.plan.per_second), lambda: self._arrive(number + 1))

    def _second(self) -> None:
        for number, guard in enumerate(self.guards):
            before = guard.pool.ejections.total()
            run_now(guard.pool.exchange_counts())
            if guard.pool.ejections.total() > before and number == 0:
                out = [r.name for r in guard.pool.fleet if r.standing(self.clock.now()) is Standing.EJECTED]
                self.ejections.extend((self.clock.now(), name) for name in out)
        self.after(1.0, self._second)


@dataclass(frozen=True)
class Figures:
    """
    What came of a run.

    Args:
        bad: Answers that look complete and are not, to the character, what a healthy replica would have said.
        garbage_characters: Characters that clients got and no healthy replica would have said.
        honest_errors: Answers that ended with an error, or marked as cut short.
        dishonest: Exchanges that ended otherwise than whole or with an error.
        doubted: Attempts given up on less evidence than the policy asks for.
        load: Tokens generated, against those that the answers have.
        refused: Retries that the budget did not allow.
        asked: Attempts on each replica.
        ejections: When, and which, as the first guard saw it.
        seconds: Virtual time.
    """

    exchanges: int
    bad: int
    garbage_characters: int
    honest_errors: int
    dishonest: int
    attempts_per_exchange: float
    doubted: int
    load: float
    refused: int
    outcomes: dict[str, int]
    asked: tuple[int, ...]
    ejections: tuple[tuple[float, str], ...]
    seconds: float


def figures(world: World) -> Figures:
    """Judge what the clients got."""
    bad = honest = dishonest = characters = 0
    for seen in world.seen:
        text, truth = seen.text(), seen.question.text
        pairs = zip(text, truth, strict=False)
        same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(text), len(truth)))
        resumed = text.endswith(truth[same:])
        characters += len(text) - len(truth) if resumed and text != truth else len(text) - same
        honest += seen.honest
        bad += not seen.honest and text != truth
        # An end without an error, or one that nobody could take for whole.
        dishonest += not seen.whole
    done = len(world.seen)
    return Figures(
        exchanges=done,
        bad=bad,
        garbage_characters=characters,
        honest_errors=honest,
        dishonest=dishonest,
        attempts_per_exchange=world.attempts / done,
        doubted=world.doubted,
        load=(world.tokens["shown"] + world.tokens["burned"]) / world.tokens["wanted"],
        refused=world.shared.refused,
        outcomes=dict(Counter(seen.outcome for seen in world.seen)),
        asked=tuple(replica.asked for replica in world.replicas.values()),
        ejections=tuple(world.ejections),
        seconds=world.clock.now(),
    )


UNGUARDED = {"policy": "", "ejects": False}


def main() -> None:
    """Print the figures of the runs that the documentation quotes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--exchanges", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="runs whose title has this in it")
    args = parser.parse_args()
    sick = (0.3, *[0.0] * 7)
    runs: dict[str, dict[str, Any]] = {
        "one replica garbles 30 %, no guard": {"garbles": sick, **UNGUARDED},
        "one replica garbles 30 %, demo policy": {"garbles": sick, "policy": "demo"},
        "one replica garbles 30 %, demo policy, no suspects": {"garbles": sick, "policy": "demo", "suspects": False},
        "one replica garbles 30 %, demo policy, garbage that it misses as well": {
            "garbles": sick,
            "policy": "demo",
            "all_garbage": True,
        },
        "one replica garbles 30 %, default policy": {"garbles": sick},
        "all garble 30 %, demo policy": {"garbles": (0.3,) * 8, "policy": "demo"},
        "all garble always, demo policy": {"garbles": (1.0,) * 8, "policy": "demo"},
        "no replica garbles, demo policy": {"garbles": (0.0,) * 8, "policy": "demo"},
        "one replica's draft is of no use, demo policy": {"garbles": (0.0,) * 8, "policy": "demo", "undrafted": (0,)},
    }
    for title, fields in runs.items():
        if args.only and args.only not in title:
            continue
        result = World(Plan(exchanges=args.exchanges, seed=args.seed, **fields)).run()
        print(f"\n{title}")
        for name in result.__dataclass_fields__:
            print(f"  {name.replace('_', ' ')}: {getattr(result, name)}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
