"""
The orders of events, one function each: they are given both engines and say what became of the next request.

Each round: a request A has its content pushed into the decode engine; something goes wrong at a chosen moment; a
request B is computed, on the blocks that A had if they are free; then the writes of A's transfer go on.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Any

from guard.backend.kv.rules import ALL, Rules, without
from tests.vllm.backend.vllm.push.bed import BLOCKS, Bed, prompts

HOLDS = ("before", "posted", "mid")


@dataclass
class Found:
    """
    What a case came to.

    Args:
        rounds: How many.
        corrupted: Requests B whose answer was another than on a healthy engine.
        reused: Blocks that B had of A while A's writes were held.
        not_returned: Rounds after which not every block came back.
        wrote_late: Rounds in which A's writes landed after the fault.
        alive: The engine answers as before.
        stale: Notices that were ignored.
        quarantined: Most blocks in quarantine.
    """

    rounds: int = 0
    corrupted: int = 0
    reused: int = 0
    not_returned: int = 0
    wrote_late: int = 0
    alive: bool = True
    stale: int = 0
    quarantined: int = 0
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """
    One fault, with or without the rules.

    Args:
        fault: What happens once A's writes are held: `abort` by the client, `timeout` of the decode side, `refuse` by
            the prefill side's own abort, `both` sides abort.
        rules: Of the decode side.
        sender: Clauses that the prefill side is without.
        mute: The prefill side is not told of aborts.
        noise: Last words come three times, with ghosts between.
        holds: Moments of the fault, in turn.
    """

    fault: str = "abort"
    rules: Rules = ALL
    sender: tuple[str, ...] = ()
    mute: bool = False
    noise: bool = False
    holds: tuple[str, ...] = HOLDS


#: Without a rule; each ends in the next request's cache.
UNSAFE = {
    "abort": Case(rules=without("leases"), mute=True),
    "notify": Case(rules=without("leases"), holds=("posted", "mid")),
    "timeout": Case(fault="timeout", rules=without("timeout_never_frees"), holds=("posted", "mid")),
    "early answer": Case(sender=("drained_means_complete",), holds=("posted", "mid")),
}
#: The same, and the others, with all rules.
SAFE = {
    "abort": Case(),
    "timeout": Case(fault="timeout"),
    "duplicate and late notices": Case(noise=True),
    "producer abort": Case(fault="refuse"),
    "both sides abort": Case(fault="both"),
}


class Cases:
    """
    Runs cases on one bed.

    Args:
        bed: Both engines.
        count: Different prompts.
    """

    def __init__(self, bed: Bed, count: int = 20) -> None:
        self.bed = bed
        self.first = prompts(count, 300, 11)
        self.second = prompts(count, 280, 22)
        self.healthy = [bed.run(tokens) for tokens in self.second]
        self._room = 0

    def room(self) -> str:
        """A name that no room had."""
        self._room += 1
        return f"room-{self._room}"

    def run(self, case: Case, rounds: int) -> Found:
        """The case, that many times."""
        bed, found = self.bed, Found(rounds)
        assert bed.all_back()
        bed.use(case.rules, mute=case.mute, sender=case.sender)
        for number in range(rounds):
            hold = case.holds[number % len(case.holds)]
            self._round(case, number % len(self.second), hold, found)
            if not bed.all_back(5.0):
                found.not_returned += 1
        found.stale = int(bed.ledger.stats()["stale_notices"])
        found.alive = bed.run(self.second[0]) == self.healthy[0]
        assert bed.all_back()
        return found

    def _round(self, case: Case, number: int, hold: str, found: Found) -> None:
        bed, room = self.bed, self.room()
        gone = case.fault in {"refuse", "both"}
        plan = {"hold": None if gone else hold, "noise": case.noise, "abort": gone}
        name = bed.add(self.first[number], room, plan=plan)
        if gone:
            # The prefill side gives up by itself, at a moment of its own; in `both`, the client leaves meanwhile.
            bed.until(lambda: bool(bed.blocks(name)))
        else:
            assert bed.wait(room, "held")
        had = set(bed.blocks(name))
        if case.fault == "timeout":
            bed.expire()
        if case.fault in {"abort", "both", "timeout"}:
            bed.abort(name)
        bed.step(3)
        time.sleep(0.02)
        bed.step(2)
        found.quarantined = max(found.quarantined, int(bed.ledger.stats()["blocks_quarantined"]))
        after = bed.add(self.second[number])
        bed.step(3)
        found.reused += len(had & set(bed.blocks(after)))
        bed.prefill.tell(op="go", room=room)
        if not gone:
            assert bed.wait(room, "over")
            found.wrote_late += bed.prefill.happened(room, "written")
        assert bed.until(lambda: after in bed.outputs)
        found.corrupted += bed.outputs[after][0] != self.healthy[number]
        if case.fault == "refuse":
            assert bed.until(lambda: name in bed.outputs)

    def dead_writer(self) -> Found:
        """The prefill process is killed in the middle of a write: quarantine, then release on the proof. Last case."""
        bed, found, room = self.bed, Found(1), self.room()
        bed.use()
        name = bed.add(self.first[0], room, plan={"hold": "mid"})
        assert bed.wait(room, "held")
        bed.abort(name)
        bed.step(2)
        bed.expire()
        bed.step(5)
        found.quarantined = int(bed.ledger.stats()["blocks_quarantined"])
        found.notes["kept while silent"] = BLOCKS - 1 - bed.engine.free_blocks()
        found.corrupted += bed.run(self.second[0]) != self.healthy[0]
        bed.prefill.process.kill()
        found.not_returned += not bed.all_back(20.0)
        found.alive = bed.run(self.second[1]) == self.healthy[1]
        return found

    def mixed(self, count: int, *, seed: int, share: float = 0.2, at_once: int = 6) -> Found:
        """
        Requests of several kinds, several at once; some are aborted at random moments, at one side or at both.

        Args:
            count: How many.
            seed: Of all choices.
            share: Of requests that are aborted.
            at_once: Most of them in the engine.
        """
        bed, dice, found = self.bed, random.Random(seed), Found(count)
        lengths = [dice.choice((20, 40, 100, 200, 300)) for _ in range(count)]
        tokens = [prompts(1, length, seed * 1000 + number)[0] for number, length in enumerate(lengths)]
        limits = [dice.choice((1, 8, 24)) for _ in range(count)]
        assert bed.all_back()
        bed.use()
        healthy = [bed.run(each, max_tokens=limit) for each, limit in zip(tokens, limits, strict=True)]
        todo = list(range(count))
        running: dict[str, int] = {}
        doomed: dict[str, int] = {}
        kinds = {"pushed": 0, "aborted": 0, "finished": 0, "blocks held, on average": 0.0}
        steps = 0
        while todo or running:
            while todo and len(running) < at_once:
                number = todo.pop(0)
                pushed = dice.random() < 0.8
                delay = {"layer_delay": dice.choice((0, 0, 0.002, 0.01)), "abort": dice.random() < share / 4}
                name = bed.add(tokens[number], self.room() if pushed else None, max_tokens=limits[number], plan=delay)
                kinds["pushed"] += pushed
                running[name] = number
                if dice.random() < share:
                    doomed[name] = dice.randrange(12)
            bed.step()
            steps += 1
            books = bed.ledger.stats()
            kinds["blocks held, on average"] += books["blocks_draining"] + books["blocks_quarantined"]
            for name in [name for name, left in doomed.items() if left <= 0 and name in running]:
                bed.abort(name)
                kinds["aborted"] += 1
                del running[name], doomed[name]
            doomed = {name: left - 1 for name, left in doomed.items()}
            for name in [name for name in running if name in bed.outputs]:
                number = running.pop(name)
                doomed.pop(name, None)
                kinds["finished"] += 1
                found.corrupted += bed.outputs[name][0] != healthy[number]
        found.not_returned = int(not bed.all_back())
        found.stale = int(bed.ledger.stats()["stale_notices"])
        found.alive = bed.run(self.second[0]) == self.healthy[0]
        kinds["blocks held, on average"] = round(kinds["blocks held, on average"] / steps, 2)
        found.notes = dict(kinds)
        return found

    def layers(self, rounds: int, *, blind: bool) -> int:
        """
        The forward pass begins with the load, whose layers come at random moments.

        Args:
            rounds: How many requests.
            blind: It does not wait for them.

        Returns:
            Answers that differ from those of one engine.
        """
        from vllm.distributed.kv_transfer import get_kv_transfer_group  # noqa: PLC0415 - after the environment

        bed, dice, differ = self.bed, random.Random(rounds), 0
        healthy = [bed.run(tokens) for tokens in self.first]
        get_kv_transfer_group().blind = blind
        for number in range(rounds):
            room = self.room()
            plan = {"layer_delay": dice.choice((0.01, 0.02, 0.04)), "hold": None}
            # The content must exist when it is asked for: the engine waits inside its step.
            tokens = self.first[number % len(self.first)]
            bed.prefill.tell(op="prefill", room=room, tokens=tokens, plan=plan)
            bed.until(lambda room=room: bed.prefill.happened(room, "offered"))
            name = bed.add(tokens, room, plan=plan, prefill=False)
            assert bed.until(lambda name=name: name in bed.outputs)
            differ += bed.outputs[name][0] != healthy[number % len(self.first)]
            assert bed.all_back()
        get_kv_transfer_group().blind = False
        return differ

    def remote_equals_local(self, count: int) -> int:
        """Requests whose pushed content gives the answer of a local one; of the first `count` prompts."""
        bed = self.bed
        bed.use()
        same = 0
        for tokens in self.first[:count]:
            before = len(bed.outputs)
            same += bed.run(tokens, self.room()) == bed.run(tokens)
            assert len(bed.outputs) == before + 2
        return same
