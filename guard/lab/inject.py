"""
Putting a fault into the cache of a llama.cpp server: into a prompt, or into a running request.

A prompt is hit through the server's own slot files: fill the slot, save it, edit the file, restore
it. A running request is hit in the server's memory, by the process that owns it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec

from guard.errors import SetupError
from guard.lab.kv_state import FAULTS, edit_state

#: Asks the process that owns the cache to do something to it; see `EmbeddedBackend.order`.
Order = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

T = TypeVar("T")

#: A conversation that no user has, for splices.
DONOR_PROMPT = (
    "<|im_start|>user\nWrite a recipe for tomato soup with basil. List the ingredients, then number the "
    "cooking steps one by one, and say how long each step takes.<|im_end|>\n<|im_start|>assistant\n"
    "Tomato soup with basil. Ingredients: two pounds of ripe tomatoes, one onion, three cloves of garlic, "
    "a handful of fresh basil leaves, two cups of vegetable stock, olive oil, salt and pepper. Steps: 1. "
    "Preheat the oven. 2. Roast the tomatoes, the onion and the garlic for forty minutes."
)


class FaultPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What to spoil, and when.

    Args:
        fault: One of `guard.lab.kv_state.FAULTS`.
        onset_token: 0 spoils the prompt's cache before the first token; N > 0 spoils the running
            slot when N tokens have been relayed, a verify step more or less. Unit: tokens.
        sticky: True hits every matching generation until disarmed, False only the next one.
        seed: Seed of the noise or the permutation.
        first_row: First cache row hit; the rows before it stay.
        num_rows: Rows hit; None means all that are in use. Unit: rows, one for each token.
        match: Only requests whose body contains this text.
    """

    fault: str
    onset_token: int = 0
    sticky: bool = False
    seed: int = 0
    first_row: int = 0
    num_rows: int | None = None
    match: str = ""

    def __post_init__(self) -> None:
        if self.fault not in FAULTS:
            raise ValueError(f"unknown fault {self.fault!r}; one of {', '.join(FAULTS)}")
        if self.onset_token < 0 or self.first_row < 0 or (self.num_rows is not None and self.num_rows < 1):
            raise ValueError("onset_token and first_row must not be negative, num_rows must be positive")


class Injection(msgspec.Struct, frozen=True):
    """
    One fault as it was carried out.

    Args:
        plan: What was asked.
        path: Path of the request hit.
        token: Tokens relayed when the write was done. Unit: tokens.
        rows: First row hit, and the row after the last.
        seconds: What the injection itself took.
    """

    plan: FaultPlan
    path: str
    token: int
    rows: tuple[int, int]
    seconds: float


class Injector:
    """
    Spoils one slot of one server.

    Args:
        session: Client session to the server.
        upstream: The server's address.
        slots_folder: Folder in which it saves slots.
        order: How to reach into its memory; None: running requests cannot be hit.
        slot: The slot.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        upstream: str,
        slots_folder: Path,
        order: Order | None,
        slot: int,
    ) -> None:
        self._session = session
        self._upstream = upstream
        self._folder = slots_folder
        self._order = order
        self._slot = slot
        self._located = False
        self._busy = asyncio.Lock()

    async def prepare(self, plan: FaultPlan) -> None:
        """
        Do once what a plan needs beforehand: find the slot in memory, save the donor of a splice.

        Raises:
            SetupError: The server's memory cannot be reached, or the slot not be found in it.
        """
        async with self._busy:
            if plan.onset_token and not self._located:
                await self._locate()
            if plan.fault == "splice" and not self._donor_file.is_file():
                await self._fill(DONOR_PROMPT, self._donor_file.name)
                await self.erase()

    async def spoil_prompt(self, plan: FaultPlan, path: str, body: bytes) -> Injection:
        """
        Leave the slot with a corrupted cache of a request's prompt.

        Args:
            plan: What to do to it.
            path: The request's path.
            body: The request's body, already tied to the slot.

        Raises:
            SetupError: The server refused a step, or its slot file is not understood.
        """
        started = time.monotonic()
        async with self._busy:
            await self._post(path, prefill_only(body))
            name = f"fault-{self._slot}.bin"
            await self._post(f"/slots/{self._slot}?action=save", {"filename": name})
            rows = await asyncio.to_thread(self._edit, self._folder / name, plan)
            await self._post(f"/slots/{self._slot}?action=restore", {"filename": name})
        return Injection(plan, path, 0, rows, round(time.monotonic() - started, 4))

    async def spoil_running(self, plan: FaultPlan, path: str, token: int, context_tokens: int) -> Injection:
        """
        Overwrite rows of the slot while it generates.

        Args:
            plan: What to do to it.
            path: The request's path, for the record.
            token: Tokens relayed so far.
            context_tokens: Tokens in the slot's cache; 0 if the reply did not tell.

        Raises:
            SetupError: The server's process refused.
        """
        if self._order is None:
            raise SetupError("a fault in a running request needs a backend started with allow_faults")
        started = time.monotonic()
        used = context_tokens or await self._tokens_in_slot()
        first = min(plan.first_row, used - 1)
        answer = await self._order(
            {
                "op": "corrupt",
                "slot": self._slot,
                "fault": plan.fault,
                "seed": plan.seed,
                "first_row": first,
                "num_rows": min(plan.num_rows or used, used - first),
                "donor": str(self._donor_file) if plan.fault == "splice" else None,
            }
        )
        start, stop = answer["rows"]
        return Injection(plan, path, token, (start, stop), round(time.monotonic() - started, 4))

    async def erase(self) -> None:
        """Forget the slot's cache, so that no later prompt reuses its rows."""
        await self._post(f"/slots/{self._slot}?action=erase", {})

    @property
    def _donor_file(self) -> Path:
        return self._folder / f"donor-{self._slot}.bin"

    def _edit(self, file: Path, plan: FaultPlan) -> tuple[int, int]:
        donor = self._donor_file.read_bytes() if plan.fault == "splice" else None
        edited, rows = edit_state(
            file.read_bytes(),
            plan.fault,
            plan.seed,
            first_row=plan.first_row,
            num_rows=plan.num_rows,
            donor=donor,
        )
        file.write_bytes(edited)
        return rows.start, rows.stop

    async def _locate(self) -> None:
        if self._order is None:
            raise SetupError("a fault in a running request needs a backend started with allow_faults")
        # Its rows must stand nowhere else: a prompt nobody has, and a time nobody else has it at.
        name = f"probe-{self._slot}.bin"
        await self._fill(f"{time.time_ns()} {DONOR_PROMPT[200:320]}", name)
        props = await self._get("/props", dict[str, Any])
        await self._order(
            {
                "op": "locate",
                "slot": self._slot,
                "state": str(self._folder / name),
                "capacity_rows": props["default_generation_settings"]["n_ctx"],
                "num_streams": props["total_slots"],
            }
        )
        await self.erase()
        self._located = True

    async def _fill(self, prompt: str, name: str) -> None:
        body = {"prompt": prompt, "n_predict": 1, "id_slot": self._slot, "cache_prompt": False}
        await self._post("/completion", body)
        await self._post(f"/slots/{self._slot}?action=save", {"filename": name})

    async def _tokens_in_slot(self) -> int:
        """Tokens in the slot's cache as the server counts them, for replies without timings."""
        slots = await self._get("/slots", list[dict[str, Any]])
        slot = next(slot for slot in slots if slot["id"] == self._slot)
        return int(slot["n_prompt_tokens"])

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        async with self._session.post(self._upstream + path, json=body) as reply:
            await _checked(path, reply, Any)

    async def _get(self, path: str, kind: type[T]) -> T:
        async with self._session.get(self._upstream + path) as reply:
            return await _checked(path, reply, kind)


async def _checked(path: str, reply: aiohttp.ClientResponse, kind: type[T]) -> T:
    body = await reply.read()
    if reply.status != 200:
        raise SetupError(f"the backend answered {path} with {reply.status}: {body[:300]!r}")
    return msgspec.json.decode(body, type=kind)


def prefill_only(body: bytes) -> dict[str, Any]:
    """The same request, cut to one token that nobody reads and computed anew."""
    fields: dict[str, Any] = msgspec.json.decode(body)
    for name in ("stream_options", "max_completion_tokens"):
        fields.pop(name, None)
    short = {"stream": False, "max_tokens": 1, "n_predict": 1, "n": 1, "cache_prompt": False}
    return {**fields, **short}
