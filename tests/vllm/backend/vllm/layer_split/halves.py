"""A decode engine in this process, the prefill node with LayerSplit in another one, and the router's part here."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

import msgspec

from guard.backend.kv.ids import Owner
from guard.backend.kv.messages import Destination
from guard.backend.kv.rules import ALL, Rules
from guard.backend.testbed.engine import InprocessEngine
from guard.backend.vllm.race_free.connector import VllmBlocks
from guard.backend.vllm.race_free.ledger import Ledger
from tests.vllm.backend.vllm.layer_split.engines import Answers, Ask, blocks, engine, transfer
from tests.vllm.backend.vllm.layer_split.faults import FAULT, LANDED

ROOT = Path(__file__).parents[5]
_START_SECONDS = 600.0


class Halves:
    """
    Both engines.

    Args:
        made: The decode engine.
        node: The prefill node's process.
        control: The connection to it.
        fault: The file that tells the last prefill rank its fault.
    """

    def __init__(self, made: InprocessEngine, node: subprocess.Popen[bytes], control: Connection, fault: Path) -> None:
        self.made = made
        self._fault = fault
        self._node = node
        self._control = control
        self._epoch = int(time.time())
        self._rounds = 0
        #: Requests that were to have pushed tokens, those tokens, such requests with a prefix here already, what each
        #: rank was asked, transfers that were aborted, and losses.
        self.asked = self.tokens = self.hits = 0
        self.asked_of: dict[int, int] = {}
        self.aborts: set[Owner] = set()
        self.lost: set[str] = set()
        #: Blocks of the last request that was to have some.
        self.blocks: list[int] = []
        connector = made.scheduler.connector
        connector.update_state_after_alloc = self._allocated(connector.update_state_after_alloc)
        connector.guard_attach = self._attached(connector.guard_attach)

    @property
    def ledger(self) -> Ledger:
        """The decode side's books."""
        ledger: Ledger = self.made.scheduler.connector.guard_scheduling.ledger
        return ledger

    def fault(self, name: str = "") -> None:
        """The last prefill rank has this fault from now on; see `faults`."""
        # A reader must not find it empty meanwhile.
        new = self._fault.with_suffix(".new")
        new.write_text(name, encoding="utf-8")
        new.replace(self._fault)

    def quarantined(self) -> int:
        """Blocks in quarantine."""
        return int(self.ledger.stats()["blocks_quarantined"])

    def let_land(self, fault: str = "") -> None:
        """Let the write that is held land, and wait for it; the rank has another fault from then on, or none."""
        landed = self._fault.with_suffix(LANDED)
        landed.unlink(missing_ok=True)
        self.fault(fault)
        deadline = time.monotonic() + 60.0
        while not landed.exists() and time.monotonic() < deadline:
            time.sleep(0.002)

    def half_done(self) -> bool:
        """Whether a transfer waits for the last one of its ranks."""
        receiver = self.ledger.cache.receiver
        transfers = [receiver.transfer(owner) for owner in self.ledger._open]
        return any(each is not None and len(each.waiting) == 1 for each in transfers)

    def run(
        self, name: str, ask: Ask, *, after: int = 0, then: Callable[[], None] | None = None
    ) -> tuple[tuple[int, ...], list[int]]:
        """
        A request, by the decode engine alone.

        Args:
            name: Of the request.
            ask: The request.
            after: Tokens after which something is done.
            then: What.

        Returns:
            The answer, and the request's blocks then.
        """
        self.add(name, ask, pushed=False)
        found: list[int] = []
        while True:
            for output in self.step():
                tokens = tuple(output.outputs[0].token_ids)
                if output.finished:
                    return tokens, found
                if then is not None and len(tokens) >= after and not found:
                    found = self._blocks_of(name)
                    then()

    def use(self, rules: Rules = ALL, timeout: float = 60.0) -> None:
        """Begin new books, with these rules."""
        assert not self.ledger.unsettled()
        self._epoch += 1
        scheduling = self.made.scheduler.connector.guard_scheduling
        pool = VllmBlocks(self.made.scheduler.kv_cache_manager.block_pool)
        books = Ledger(pool, blocks(self.made), epoch=self._epoch, timeout=timeout, resend=0.2, rules=rules)
        books.peers = dict(self.ledger.peers)
        scheduling.ledger = books

    def tell(self, **command: Any) -> None:
        """A command to the prefill node."""
        if self._node.poll() is not None:
            raise RuntimeError(f"the prefill node ended with {self._node.returncode}")
        self._control.send(command)

    def count(self) -> dict[str, int]:
        """What the prefill node met."""
        self.tell(op="count")
        found: dict[str, int] = self._control.recv()
        return found

    def add(self, name: str, ask: Ask, *, pushed: bool = True) -> None:
        """A request, to both halves, or to the decode engine alone."""
        from vllm import SamplingParams  # noqa: PLC0415 - after the environment

        extra: dict[str, Any] = {}
        if pushed:
            self.tell(op="prefill", room=name, prompt=list(ask.prompt))
            extra = {"kv_transfer_params": {"push": "receive", "room": name, "from": "P"}}
        wanted = SamplingParams(temperature=0, max_tokens=ask.tokens, ignore_eos=True, extra_args=extra)
        self.made.engine.add_request(name, {"prompt_token_ids": list(ask.prompt)}, wanted)

    def leave(self, name: str, *, pushed: bool = True) -> None:
        """The client goes away."""
        self.made.engine.abort_request([name])
        if pushed:
            self.tell(op="abort", room=name)

    def step(self) -> list[Any]:
        """A step of the decode engine; a pause, where there is nothing to compute, for who has."""
        outputs: list[Any] = self.made.engine.step()
        if not outputs:
            time.sleep(0.002)
        return outputs

    def until(self, reached: Callable[[], bool], seconds: float = 60.0) -> bool:
        """Step until something holds; whether it came to that."""
        deadline = time.monotonic() + seconds
        while not reached() and time.monotonic() < deadline:
            self.step()
        return reached()

    def serve(self, asks: list[Ask], at_once: int = 12, *, pushed: bool = True) -> Answers:
        """
        Answer all requests, some at a time.

        Of clients that go away, half do so after some steps (where content is pushed, that is before it has come), and
        half after as many outputs.
        """
        found = Answers()
        # A room is used once.
        self._rounds += 1
        room = f"round {self._rounds}, "
        waiting, ages = list(enumerate(asks)), dict[int, int]()
        while waiting or ages:
            while waiting and len(ages) < at_once:
                number, ask = waiting.pop(0)
                self.add(f"{room}{number}", ask, pushed=pushed)
                ages[number] = 0
            found.steps += 1
            heard = set()
            for output in self.step():
                number = int(output.request_id.removeprefix(room))
                heard.add(number)
                found.tokens[number] = tuple(output.outputs[0].token_ids)
                if output.finished:
                    ages.pop(number, None)
                    found.cached += (output.num_cached_tokens or 0) > 0
            for number in list(ages):
                ages[number] += number // 12 % 2 == 0 or number in heard
                if asks[number].leaves and ages[number] >= asks[number].leaves:
                    self.leave(f"{room}{number}", pushed=pushed)
                    found.gone.add(number)
                    del ages[number]
        return found

    def spoil(self) -> None:
        """Fill the decode engine's cache with noise: what was computed there before must not help."""
        assert self.made.engine.reset_prefix_cache()
        self.made.llm.collective_rpc(_spoil)

    def not_back(self, seconds: float = 60.0) -> int:
        """Blocks of the decode engine that are still not free, after a while, and transfers that have not settled."""

        def back() -> bool:
            return self.made.free_blocks() == blocks(self.made) - 1 and not self.ledger.unsettled()

        self.until(back, seconds)
        self.ledger.cache.check_integrity()
        return blocks(self.made) - 1 - self.made.free_blocks() + self.ledger.unsettled()

    def prefill_not_back(self, seconds: float = 30.0) -> int:
        """The same of the prefill node, where content that nobody asked for waits for some seconds."""
        deadline = time.monotonic() + seconds
        while (left := sum(self.count()[name] for name in ("not_back", "unsettled"))) and time.monotonic() < deadline:
            time.sleep(0.2)
        return left

    def _blocks_of(self, name: str) -> list[int]:
        scheduler = self.made.scheduler
        request = next(each for each in scheduler.requests if each == name or each.startswith(f"{name}-"))
        return list(scheduler.kv_cache_manager.get_block_ids(request)[0])

    def _allocated(self, original: Callable[..., None]) -> Callable[..., None]:
        def allocated(request: Any, given: Any, num_external_tokens: int) -> None:
            if num_external_tokens:
                self.asked += 1
                self.hits += (request.num_prompt_tokens - 1) // 32 * 32 > num_external_tokens
                self.blocks = [each.block_id for each in given.blocks[0]]
            self.tokens += num_external_tokens
            original(request, given, num_external_tokens)

        return allocated

    def _attached(self, original: Callable[..., None]) -> Callable[..., None]:
        def attach(meta: Any, sends: Any, failed: frozenset[str]) -> None:
            for each in sends:
                if isinstance(each.message, Destination):
                    self.asked_of[each.to.rank] = self.asked_of.get(each.to.rank, 0) + 1
                else:
                    self.aborts.add(each.message.owner)
            self.lost |= failed
            original(meta, sends, failed)

        return attach


def _spoil(worker: Any) -> None:
    for cache in worker.model_runner.kv_caches:
        cache.normal_(0.0, 3.0)


@contextlib.contextmanager
def halves(
    common: dict[str, Any],
    *,
    prefill: dict[str, Any] | None = None,
    decode: dict[str, Any] | None = None,
    **extra: Any,
) -> Iterator[Halves]:
    """
    Both engines.

    Args:
        common: Options of both.
        prefill: Further options of the prefill node, which has LayerSplit on two ranks.
        decode: Further options of the decode engine, of one rank unless they say more.
        extra: Further settings of the decode side's connector.
    """
    with tempfile.TemporaryDirectory(prefix="guard-halves-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        given = {"listen": str(folder / "kv"), "engine": {"split": True, **common, **(prefill or {})}}
        fault = folder / "fault"
        fault.write_text("", encoding="utf-8")
        module = "tests.vllm.backend.vllm.layer_split.node"
        # Its log is not ours: ours has a line of results.
        node = subprocess.Popen(
            [sys.executable, "-m", module, str(folder / "control"), json.dumps(given, default=msgspec.to_builtins)],
            cwd=ROOT,
            env={**os.environ, FAULT: str(fault)},
            stdout=sys.stderr,
        )
        stack.callback(_end, node)
        config = transfer("D", "kv_consumer", peers={"P": given["listen"]}, **{"connect_seconds": 60.0, **extra})
        options = {"split": False, "ranks": 1, "race_free": True, **common, **(decode or {})}
        made = stack.enter_context(engine(kv_transfer_config=config, **options))
        control = stack.enter_context(_connect(node, str(folder / "control")))
        both = Halves(made, node, control, fault)
        yield both
        # On a busy machine its end takes as long as its start; what is wanted of it has been seen.
        with contextlib.suppress(OSError, RuntimeError, subprocess.TimeoutExpired):
            both.tell(op="quit")
            node.wait(20)


def _connect(node: subprocess.Popen[bytes], path: str) -> Connection:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and node.poll() is None:
        with contextlib.suppress(OSError):
            return Client(path, "AF_UNIX")
        time.sleep(0.1)
    raise RuntimeError(f"the prefill node did not start (exit code {node.poll()})")


def _end(node: subprocess.Popen[bytes]) -> None:
    if node.poll() is None:
        node.kill()
    node.wait()
