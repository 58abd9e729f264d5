"""
A decode engine in this process and a prefill engine in another one, with gates in place of sleeps: every order of
events is made to happen, not hoped for.

The unsafe modes exist here only: clauses of the rules switched off, one at a time, on the same two engines.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

import pytest

from guard.backend.kv.rules import ALL, Rules
from guard.backend.testbed.engine import InprocessEngine, inprocess_engine
from guard.backend.testbed.server import ENVIRONMENT, ServerOptions
from guard.backend.testbed.tiny import TinyShape, ensure_tiny
from guard.backend.vllm.plugin import register
from guard.backend.vllm.race_free.connector import VllmBlocks
from guard.backend.vllm.race_free.ledger import Ledger

# Threads and vLLM's switches are read when torch and vLLM are imported, which the making of models does.
for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

ROOT = Path(__file__).parents[5]
BLOCKS = 64
BLOCK_SIZE = 32
#: Attention decides the next token: whoever reads another's cache says something else.
SHAPE = TinyShape(attention_gain=3.0, mlp_gain=0.5, seed=11)
_MODULE = "tests.vllm.backend.vllm.push.faulty"
_SECONDS = 30.0


def options() -> ServerOptions:
    """The engines' model and switches."""
    return ServerOptions(
        model=ensure_tiny(SHAPE).target,
        max_model_len=512,
        block_size=BLOCK_SIZE,
        env={"GUARD_VLLM_RACE_FREE": "1", "GUARD_VLLM_ACCEPTANCE": "0"},
    )


def transfer(name: str, *, policy: str = "recompute", **extra: Any) -> Any:
    """A KVTransferConfig for the connector of the tests."""
    from vllm.config import KVTransferConfig  # noqa: PLC0415 - after the environment

    return KVTransferConfig(
        kv_connector="FaultyPushConnector",
        kv_connector_module_path=_MODULE,
        kv_role="kv_producer" if "listen" in extra else "kv_consumer",
        kv_load_failure_policy=policy,
        kv_connector_extra_config={"name": name, **extra},
    )


def prompts(count: int, length: int, seed: int) -> list[list[int]]:
    """Random prompts of letters."""
    dice = random.Random(seed)
    return [[dice.randrange(260, 900) for _ in range(length)] for _ in range(count)]


class Prefill:
    """
    The other process, by its control socket.

    Args:
        folder: For its sockets and log.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.listen = str(folder / "kv")
        self.log = folder / "prefill.log"
        self._events: set[tuple[str, str]] = set()
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.vllm.backend.vllm.push.prefill", str(folder / "control"), self.listen],
                stdout=out,
                stderr=out,
                cwd=ROOT,
            )
        self._control: Connection | None = None

    def connect(self) -> None:
        """Wait until it is up."""
        path = str(self._folder / "control")
        while self._control is None:
            if self.process.poll() is not None:
                raise RuntimeError(f"the prefill process ended:\n{self.log.read_text()[-3000:]}")
            with contextlib.suppress(OSError):
                self._control = Client(path, "AF_UNIX")
            time.sleep(0.1)

    def tell(self, **command: Any) -> None:
        """Send a command."""
        assert self._control is not None
        self._control.send(command)

    def hear(self) -> None:
        """Take what has come: the other process waits while nobody does."""
        assert self._control is not None
        with contextlib.suppress(EOFError, OSError):
            while self._control.poll(0):
                self._events.add(self._control.recv())

    def happened(self, room: str, *names: str) -> bool:
        """Whether one of these events of the room has come."""
        self.hear()
        return any((name, room) in self._events for name in names)

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError, AssertionError):
            self.tell(op="quit")
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for name in ("control", "kv.0"):
            (self._folder / name).unlink(missing_ok=True)


class Bed:
    """
    Both engines.

    Args:
        engine: The decode engine.
        prefill: The prefill process.
    """

    def __init__(self, engine: InprocessEngine, prefill: Prefill) -> None:
        self.engine = engine
        self.prefill = prefill
        self.outputs: dict[str, tuple[list[int], str | None]] = {}
        self._count = 0
        self._epoch = int(time.time())

    @property
    def connector(self) -> Any:
        """The scheduler's side of the connector."""
        return self.engine.scheduler.connector

    @property
    def ledger(self) -> Ledger:
        """The books."""
        ledger: Ledger = self.connector.guard_scheduling.ledger
        return ledger

    def use(self, rules: Rules = ALL, *, mute: bool = False, sender: tuple[str, ...] = ()) -> None:
        """
        Begin new books, with these rules.

        Args:
            rules: Of the decode side.
            mute: Abort notices are not sent.
            sender: Clauses that the prefill side is to be without.
        """
        assert not self.ledger.unsettled()
        self._epoch += 1
        pool = self.engine.scheduler.kv_cache_manager.block_pool
        books = Ledger(VllmBlocks(pool), BLOCKS, epoch=self._epoch, timeout=60.0, resend=0.2, rules=rules)
        books.peers = dict(self.ledger.peers)
        self.connector.guard_scheduling.ledger = books
        self.connector.mute = mute
        self.prefill.tell(op="without", clauses=sender)

    def add(
        self,
        tokens: list[int],
        room: str | None = None,
        *,
        max_tokens: int = 48,
        plan: dict[str, Any] | None = None,
        prefill: bool = True,
    ) -> str:
        """A request; if it has a room, with its prefill in the other process, unless that has begun already."""
        from vllm import SamplingParams  # noqa: PLC0415 - after the environment

        self._count += 1
        name = f"r{self._count}"
        extra = None
        if room is not None:
            if prefill:
                self.prefill.tell(op="prefill", room=room, tokens=tokens, plan=plan or {})
            extra = {"kv_transfer_params": {"push": "receive", "room": room, "from": "P"}}
        parameters = SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True, extra_args=extra)
        self.engine.engine.add_request(name, {"prompt_token_ids": tokens}, parameters)
        return name

    def step(self, count: int = 1) -> None:
        """Steps of the decode engine."""
        self.prefill.hear()
        for _ in range(count):
            for output in self.engine.engine.step():
                if output.finished:
                    self.outputs[output.request_id] = (
                        list(output.outputs[0].token_ids),
                        output.outputs[0].finish_reason,
                    )

    def until(self, reached: Callable[[], bool], seconds: float = _SECONDS) -> bool:
        """Step until something holds; whether it came to that."""
        deadline = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > deadline:
                return False
            self.step()
            if not self.engine.engine.has_unfinished_requests():
                time.sleep(0.001)
        return True

    def run(self, tokens: list[int], room: str | None = None, **arguments: Any) -> list[int]:
        """A request from its beginning to its end."""
        name = self.add(tokens, room, **arguments)
        assert self.until(lambda: name in self.outputs), f"{name} does not end"
        return self.outputs[name][0]

    def abort(self, name: str) -> None:
        """The client has gone."""
        self.engine.engine.abort_request([name])

    def blocks(self, name: str) -> list[int]:
        """Blocks that a request has."""
        scheduler = self.engine.scheduler
        found = next((each for each in scheduler.requests if each.startswith(f"{name}-") or each == name), None)
        return [] if found is None else list(scheduler.kv_cache_manager.get_block_ids(found)[0])

    def all_back(self, seconds: float = _SECONDS) -> bool:
        """Step until every block is free and nothing is unsettled."""
        back = self.until(lambda: self.engine.free_blocks() == BLOCKS - 1 and not self.ledger.unsettled(), seconds)
        self.ledger.cache.check_integrity()
        return back

    def expire(self) -> None:
        """The deadline of every transfer passes now, and the decode side sees it."""
        for opened in self.ledger._open.values():
            opened.deadline = 0.0
        self.step()

    def wait(self, room: str, *events: str) -> bool:
        """Step until the other process says so."""
        return self.until(lambda: self.prefill.happened(room, *events))


@contextlib.contextmanager
def switched(settings: ServerOptions) -> Iterator[None]:
    """The switches of an engine in this process, for the time being; vLLM itself loads its plugins only once."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.env.items():
            patch.setenv(name, value)
        register()
        yield


@contextlib.contextmanager
def bed(*, policy: str = "recompute", caching: bool = False, **extra: Any) -> Iterator[Bed]:
    """
    Both engines, started at the same time.

    Args:
        policy: What vLLM does after a loss.
        caching: Prefix caching at the decode side.
        extra: Further settings of the decode side's connector.
    """
    with tempfile.TemporaryDirectory(prefix="guard-push-") as folder:
        prefill = Prefill(Path(folder))
        try:
            settings = options()
            config = transfer("D", policy=policy, peers={"P": prefill.listen}, **extra)
            made_of: dict[str, Any] = {
                "kv_transfer_config": config,
                "num_gpu_blocks_override": BLOCKS,
                "enable_prefix_caching": caching,
                "disable_log_stats": True,
            }
            with switched(settings), inprocess_engine(settings, **made_of) as engine:
                prefill.connect()
                made = Bed(engine, prefill)
                yield made
        finally:
            prefill.close()
