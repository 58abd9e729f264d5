"""
The race-free cache on two real vLLM processes; run it in the environment of deploy/vllm_env.sh.

    python -m tests.bench.race_free              the faults: a table
    python -m tests.bench.race_free --rounds 40  more rounds of each with the rules
    python -m tests.bench.race_free mixed        500 requests of all kinds, 20 % of them aborted
    python -m tests.bench.race_free layers       layers that come late, in a forward pass that waits or does not

Without a rule, 20 rounds each: how often the next request's answer is another one. With all rules, how often.
"""

from __future__ import annotations

import argparse
import time

from tests.vllm.backend.vllm.push.bed import bed
from tests.vllm.backend.vllm.push.cases import SAFE, UNSAFE, Cases, Found


def line(rules: str, name: str, found: Found, seconds: float) -> str:
    """One line of the table."""
    cells = [rules, name, found.rounds, found.corrupted, found.reused, found.wrote_late, found.quarantined]
    cells += [found.stale, found.rounds - found.not_returned, "yes" if found.alive else "NO", f"{seconds:.0f} s"]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def faults(rounds: int, unsafe: int) -> int:
    """The table of faults; how many rounds with the rules went wrong."""
    wrong = total = 0
    with bed() as both:
        cases = Cases(both)
        print(f"pushed content gives the local answer: {cases.remote_equals_local(10)} of 10", flush=True)
        print(HEAD, flush=True)
        for name, case in UNSAFE.items():
            started = time.monotonic()
            found = cases.run(case, unsafe)
            print(line("one off", name, found, time.monotonic() - started), flush=True)
        for name, case in SAFE.items():
            started = time.monotonic()
            found = cases.run(case, rounds)
            print(line("all", name, found, time.monotonic() - started), flush=True)
            wrong, total = wrong + found.corrupted + found.not_returned, total + found.rounds
        started = time.monotonic()
        found = cases.dead_writer()
        print(line("all", "dead writer", found, time.monotonic() - started), found.notes, flush=True)
        wrong, total = wrong + found.corrupted + found.not_returned, total + found.rounds
    print(f"with all rules: {wrong} of {total} wrong")
    return wrong


def mixed(count: int) -> int:
    """Requests of all kinds; how many answers were wrong, and whether blocks are missing."""
    with bed() as both:
        started = time.monotonic()
        found = Cases(both, 2).mixed(count, seed=5)
        print(f"{count} requests: {found.notes}, wrong answers {found.corrupted}, leaks {found.not_returned}, ", end="")
        print(f"stale notices {found.stale}, alive {found.alive}, {time.monotonic() - started:.0f} s")
        return found.corrupted + found.not_returned


def layers(rounds: int, unsafe: int) -> int:
    """Late layers; how many answers were wrong although the pass waits."""
    with bed(policy="fail", layer_waits=True) as both:
        cases = Cases(both)
        print(f"without the wait: {cases.layers(unsafe, blind=True)} of {unsafe} differ", flush=True)
        wrong = cases.layers(rounds, blind=False)
        print(f"with it: {wrong} of {rounds} differ")
        return wrong


HEAD = (
    "| rules | fault | rounds | next request corrupted | blocks reused | wrote late | quarantined "
    "| stale | all blocks back | alive | time |\n" + "|---" * 11 + "|"
)


def main() -> int:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="faults", choices=["faults", "mixed", "layers"])
    parser.add_argument("--rounds", type=int, default=None, help="with the rules")
    parser.add_argument("--unsafe", type=int, default=20, help="of each case without one")
    chosen = parser.parse_args()
    if chosen.what == "mixed":
        return int(mixed(chosen.rounds or 500) > 0)
    if chosen.what == "layers":
        return int(layers(chosen.rounds or 200, chosen.unsafe) > 0)
    return int(faults(chosen.rounds or 40, chosen.unsafe) > 0)


if __name__ == "__main__":
    raise SystemExit(main())
