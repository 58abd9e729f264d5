"""The push connector with a card that waits at gates and a decode side that can be made dumb: for tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from guard.backend.kv.effects import Send
from guard.backend.kv.messages import Abort, Done, Drained
from guard.backend.vllm.push.connector import PushConnector, PushMetadata
from guard.backend.vllm.push.memory import write
from guard.backend.vllm.push.send import Card, Job
from guard.backend.vllm.push.wire import Channel, Frame

#: In the prefill process: what to do with each room, and the gates of those that are held.
PLANS: dict[str, dict[str, Any]] = {}
GATES: dict[str, threading.Event] = {}
#: In the prefill process: who is told what happens.
OBSERVERS: list[Callable[[str, str], None]] = []


def tell(event: str, room: str) -> None:
    """Something has happened in a room."""
    for observer in OBSERVERS:
        observer(event, room)


class GatedCard(Card):
    """
    Holds a room's writes where its plan says.

    `hold`: `before` the first is posted; `posted`: it is, and has not landed; `mid`: half of the layers have.
    `layer_delay`: before each layer lands. Unit: seconds.
    """

    def put(self, job: Job) -> None:
        threading.Thread(target=self.perform, args=(job,), daemon=True).start()

    def perform(self, job: Job) -> None:
        room = job.content.room
        plan = PLANS.get(room, {})
        self._hold(room, plan, "before")
        for layer, target, source in job.pieces:
            if not self._may(job, layer):
                tell("cancelled", room)
                break
            if layer == 0:
                self._hold(room, plan, "posted")
            if layer == len(job.pieces) // 2:
                self._hold(room, plan, "mid")
            time.sleep(plan.get("layer_delay", 0))
            write(target, job.blocks, source, job.source)
            tell("written", room)
            self._landed(job, layer)
        self._over(job)
        tell("over", room)

    def _hold(self, room: str, plan: dict[str, Any], where: str) -> None:
        if plan.get("hold") == where:
            tell("held", room)
            GATES.setdefault(room, threading.Event()).wait()


class NoisyChannel(Channel):
    """Says every last word three times, with one of another generation and one of no known room between."""

    def send(self, frame: Frame) -> bool:
        stood = super().send(frame)
        if isinstance(frame, Done | Drained) and PLANS.get(frame.request, {}).get("noise"):
            me = (frame.name, frame.rank, frame.epoch)
            for ghost in (
                Done(frame.request, frame.generation - 1, *me),
                Drained(frame.request, frame.generation + 1, *me),
                Done("nobody", frame.generation, *me),
                frame,
                frame,
            ):
                super().send(ghost)
        return stood


class FaultyPushConnector(PushConnector):
    """The connector under test."""

    guard_card = GatedCard

    def __init__(self, vllm_config: Any, role: Any, kv_cache_config: Any = None) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        #: Aborts are not sent: the prefill side is not told.
        self.mute = False
        #: The forward pass does not wait for its layers.
        self.blind = False

    def guard_attach(self, meta: PushMetadata, sends: Any, failed: frozenset[str]) -> None:
        kept: list[Send] = [send for send in sends if not (self.mute and isinstance(send.message, Abort))]
        super().guard_attach(meta, kept, failed)

    def wait_for_layer_load(self, layer_name: str) -> None:
        if not self.blind:
            super().wait_for_layer_load(layer_name)
