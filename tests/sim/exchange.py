"""
Deterministic simulation of the exchange: thousands of random worlds, each from one seed, each held to the promises.

Run: `python -m tests.sim.exchange --seeds 5000 [--first N] [--jobs N]`. A failing seed is told, and replayed by
`python -m tests.sim.exchange --seed N --verbose`, which prints everything that happened in it.

Promises, whatever the world does:

- every exchange ends, with exactly one Finish and nothing after it;
- an attempt is aborted at most once, never after it ended, and none is left open;
- what the client has is the words of one answer in order: none twice, none lost, none after a gap;
- an attempt that continues is given exactly the text that the client has;
- after a failure nothing looks whole: no [DONE], no clean end without a finish reason or an error;
- after its own error event a backend is not aborted, and what it still says passes, bad text excepted;
- tokens shown and burned together are the tokens generated;
- never more attempts than the policy allows.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from guard.core.record import Outcome
from guard.policy.schema import HoldMode
from guard.types import Action, WhenExhausted
from tests.sim.exchange_world import BAD, DONE, DOUBT, DRAFTED, OWN_ERROR, Simulation, need

#: How many seeds a process takes at a time.
BATCH = 500


def hold_to_promises(run: Simulation) -> None:
    """
    Everything that must be true of a world that came to its end.

    Raises:
        Violation: It is not.
    """
    seen, record = run.seen, run.exchange.record
    generated = sum(attempt.tokens for attempt in record.attempts)
    counted = record.tokens_shown + record.tokens_burned
    if not seen.gone:
        need(counted == generated, f"{counted} tokens shown and burned are the {generated} generated")
    if seen.gone:
        _words_in_order(run)
        return
    need(seen.status is not None, "a client that stayed has an answer")
    if seen.relayed and record.outcome is Outcome.RELAYED:
        return
    _words_in_order(run)
    if not seen.headers.get("content-type", "").startswith("text/event-stream"):
        _whole_body(run)
        return
    _whole_stream(run)
    exact = run.plan.engine != "text"
    shown = sum(_tokens(word) if exact else 1 for word in seen.text().split())
    need(record.tokens_shown == shown, f"the record says {record.tokens_shown} tokens shown, the client has {shown}")


def _tokens(word: str) -> int:
    return 1 if word == BAD.strip() else DRAFTED if word == DOUBT.strip() else DRAFTED + 1


def _words_in_order(run: Simulation) -> None:
    """Good words stand as the answer has them; bad ones only where the policy lets them pass."""
    if not run.seen.headers.get("content-type", "").startswith("text/event-stream"):
        return
    words = run.seen.text().split()
    good = [word for word in words if word[0] == "w"]
    need(good == [f"w{number}" for number in range(len(good))], f"the words come once each, in order: {words}")
    policy = run.plan.policy
    may_pass = policy.rules[0].action is Action.NOTE or policy.when_exhausted is WhenExhausted.PASS
    unheld = policy.hold_back.mode is HoldMode.OFF
    need(may_pass or unheld or BAD.strip() not in words or run.plan.engine == "text", "what is judged bad is not shown")


def _whole_stream(run: Simulation) -> None:
    seen, last = run.seen, run.replicas[-1]
    whole_text = sum(word[0] == "w" for word in seen.text().split()) == run.plan.words
    need(seen.done <= 1, "[DONE] at most once")
    if last.fault == "error_event" and OWN_ERROR in seen.sent:
        _own_words(run)
    elif seen.done:
        need(last.whole and seen.finish_reason and whole_text, "[DONE] only after the whole answer")
        need(not seen.error, "no [DONE] beside an error")
    if seen.finish_reason and not seen.error:
        need(whole_text, "a finish reason only after the whole answer")
    if seen.finished == [True]:
        need(seen.finish_reason or seen.error, "a stream that ends cleanly has its finish reason, or an error")
    if run.exchange.record.outcome in (Outcome.HEALTHY, Outcome.RESCUED):
        need(whole_text and seen.finish_reason, "a good outcome is a whole answer")


def _own_words(run: Simulation) -> None:
    """The last attempt failed in words of its own, and the client has them."""
    last, rest = run.replicas[-1], run.replicas[-1].rest
    _, _, after = run.seen.sent.partition(OWN_ERROR)
    need(run.exchange.record.outcome is Outcome.UPSTREAM_ERROR, "what the backend called a failure is one")
    need(run.seen.finished == [True], "a backend's own error event ends cleanly")
    if rest not in ("bad", "malformed"):
        need(last.number not in run.aborted, "an attempt that failed in its own words ends by itself")
        need(after.endswith(DONE) == (rest in ("done", "words")), "[DONE] as the backend said it")
        need(bool(after.removesuffix(DONE)) == (rest == "words"), "nothing but what the backend said")
    elif rest == "malformed":
        need(after == b"", "nothing after what is no event")


def _whole_body(run: Simulation) -> None:
    seen = run.seen
    if seen.status == 200:
        words = [word for word in seen.text().split() if word[0] == "w"]
        need(words == [f"w{number}" for number in range(run.plan.words)], "a body with status 200 is whole")
    else:
        need(seen.error, "any other body is an error")


def simulate(seed: int, log: list[str] | None = None) -> str:
    """
    One world.

    Returns:
        How its exchange ended.

    Raises:
        Violation: A promise was broken.
    """
    run = Simulation(seed, log)
    run.run()
    hold_to_promises(run)
    return run.exchange.record.outcome.value


def simulate_all(first: int, count: int) -> tuple[Counter[str], dict[int, str]]:
    """
    Worlds one after another.

    Returns:
        How many exchanges ended how, and what went wrong by seed.
    """
    outcomes: Counter[str] = Counter()
    broken: dict[int, str] = {}
    for seed in range(first, first + count):
        try:
            outcomes[simulate(seed)] += 1
        except Exception as error:
            broken[seed] = f"{type(error).__name__}: {error}"
    return outcomes, broken


def _batch(part: tuple[int, int]) -> tuple[Counter[str], dict[int, str]]:
    return simulate_all(*part)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Random worlds around one exchange, each from a seed.")
    parser.add_argument("--seeds", type=int, default=5000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--verbose", action="store_true", help="with --seed: print everything that happens")
    args = parser.parse_args(argv)
    if args.seed is not None:
        return replay(args.seed, verbose=args.verbose)
    begun = time.monotonic()
    last = args.first + args.seeds
    parts = [(at, min(BATCH, last - at)) for at in range(args.first, last, BATCH)]
    outcomes: Counter[str] = Counter()
    broken: dict[int, str] = {}
    with ProcessPoolExecutor(args.jobs) as pool:
        for ended, failed in pool.map(_batch, parts):
            outcomes += ended
            broken |= failed
    for seed, what in list(broken.items())[:10]:
        print(f"seed {seed}: {what}\n  python -m tests.sim.exchange --seed {seed} --verbose")
    spent = time.monotonic() - begun
    print(f"{args.seeds} seeds, {len(broken)} broken promises, {spent:.1f} s; ended: {dict(sorted(outcomes.items()))}")
    return 1 if broken else 0


def replay(seed: int, *, verbose: bool) -> int:
    """One seed again, the same to the last event."""
    log: list[str] = []
    try:
        end = simulate(seed, log)
    except Exception as error:
        end = f"{type(error).__name__}: {error}"
        failed = True
    else:
        failed = False
    if verbose:
        print("\n".join(log))
    print(f"seed {seed}: {end}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
