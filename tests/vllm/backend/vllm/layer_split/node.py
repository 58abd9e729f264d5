"""
A prefill node as a process of its own: LayerSplit on two ranks, and what it is told over a connection.

    python -m tests.vllm.backend.vllm.layer_split.node CONTROL '{"listen": PATH, "engine": {...}}'

Commands are maps: `prefill` (room, prompt), `abort` (room), `count` (answered with what was met), `quit`.
"""

from __future__ import annotations

import json
import os
import sys
from multiprocessing.connection import Listener
from typing import Any

import tests.vllm.backend.vllm.conftest  # noqa: F401 - sets the environment before vLLM is imported
from guard.backend.testbed.engine import InprocessEngine
from tests.vllm.backend.vllm.layer_split import faults
from tests.vllm.backend.vllm.layer_split.engines import Answers, blocks, counting, engine, transfer


class Node:
    """
    The engine, and what it met.

    Args:
        made: The engine.
    """

    def __init__(self, made: InprocessEngine) -> None:
        self._made = made
        self._met = Answers()
        made.scheduler._preempt_request = counting(made.scheduler._preempt_request, self._met)

    def perform(self, command: dict[str, Any]) -> dict[str, Any] | None:
        """One command; its answer, if it has one."""
        from vllm import SamplingParams  # noqa: PLC0415 - after the environment

        room, engine = command.get("room", ""), self._made.engine
        if command["op"] == "prefill":
            extra = {"kv_transfer_params": {"push": "send", "room": room}}
            wanted = SamplingParams(temperature=0, max_tokens=1, extra_args=extra)
            prompt = command["prompt"]
            self._met.chunked += len(prompt) > self._made.scheduler.max_num_scheduled_tokens
            engine.add_request(room, {"prompt_token_ids": prompt}, wanted)
        elif command["op"] == "abort":
            engine.abort_request([room])
        else:
            ledger = self._made.scheduler.connector.guard_scheduling.ledger
            return {
                "steps": self._met.steps,
                "prefix_hits": self._met.cached,
                "chunked": self._met.chunked,
                "preemptions": self._met.preempted,
                "blocks": blocks(self._made),
                "not_back": blocks(self._made) - 1 - self._made.free_blocks(),
                "unsettled": ledger.unsettled(),
            }
        return None

    def step(self) -> bool:
        """A step, if there is anything to do; whether there was."""
        if not self._made.scheduler.has_requests():
            return False
        self._met.steps += 1
        for output in self._made.engine.step():
            self._met.cached += output.finished and (output.num_cached_tokens or 0) > 0
        return True


def main(control: str, given: str) -> None:
    """Serve until told to quit."""
    asked = json.loads(given)
    faults.install()
    config = transfer("P", "kv_producer", listen=asked["listen"], keep_seconds=5.0)
    with engine(kv_transfer_config=config, race_free=True, **asked["engine"]) as made:
        node, busy = Node(made), False
        with Listener(control, "AF_UNIX").accept() as connection:
            while True:
                while connection.poll(0 if busy else 0.002):
                    command = connection.recv()
                    if command["op"] == "quit":
                        return
                    answer = node.perform(command)
                    if answer is not None:
                        connection.send(answer)
                busy = node.step()


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    # Threads of the connector's are still there.
    os._exit(0)
