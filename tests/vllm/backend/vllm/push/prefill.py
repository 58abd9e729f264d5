"""
The prefill process: `python -m tests.vllm.backend.vllm.push.prefill CONTROL LISTEN`.

Commands, as maps over the control socket: `prefill` (room, tokens, plan), `go` (room: open its gate), `abort` (room:
this side's own client has gone), `without` (clauses), `free` (answer with the free blocks), `quit`.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from multiprocessing.connection import Connection, Listener
from typing import Any

from guard.backend.kv.rules import without
from guard.backend.testbed.engine import InprocessEngine, inprocess_engine
from tests.vllm.backend.vllm.push import faulty
from tests.vllm.backend.vllm.push.bed import options, transfer


def main(control: str, listen: str) -> None:
    """Serve until told to quit."""
    from guard.backend.vllm.push import send  # noqa: PLC0415 - imports vLLM

    send.Channel = faulty.NoisyChannel  # type: ignore[misc]
    offer = send.Sending.offer

    def offered(sending: send.Sending, content: send.Content) -> None:
        offer(sending, content)
        faulty.tell("offered", content.room)

    send.Sending.offer = offered  # type: ignore[method-assign]
    settings = options()
    os.environ.update(settings.env)
    config = transfer("P", listen=listen, keep_seconds=20.0)
    with inprocess_engine(
        settings,
        kv_transfer_config=config,
        num_gpu_blocks_override=256,
        enable_prefix_caching=False,
        disable_log_stats=True,
    ) as engine:
        commands: queue.Queue[tuple[dict[str, Any], Connection]] = queue.Queue()
        listener = Listener(control, "AF_UNIX")
        threading.Thread(target=accept, args=(listener, commands), daemon=True).start()
        while step(engine, commands):
            pass
    os._exit(0)


def accept(listener: Listener, commands: queue.Queue[tuple[dict[str, Any], Connection]]) -> None:
    """Take commands of every connection; every one hears what happens."""
    lock = threading.Lock()
    while True:
        connection = listener.accept()

        def observe(event: str, room: str, to: Connection = connection) -> None:
            try:
                with lock:
                    to.send((event, room))
            except OSError:
                pass

        faulty.OBSERVERS.append(observe)
        threading.Thread(target=listen_to, args=(connection, commands), daemon=True).start()


def listen_to(connection: Connection, commands: queue.Queue[tuple[dict[str, Any], Connection]]) -> None:
    """Take commands; gates open at once, whatever the engine does."""
    try:
        while True:
            command = connection.recv()
            if command["op"] == "go":
                faulty.GATES.setdefault(command["room"], threading.Event()).set()
            else:
                commands.put((command, connection))
    except (EOFError, OSError):
        return


def step(engine: InprocessEngine, commands: queue.Queue[tuple[dict[str, Any], Connection]]) -> bool:
    """One command, or one step of the engine."""
    from vllm import SamplingParams  # noqa: PLC0415 - after the environment

    busy = engine.scheduler.has_requests()
    try:
        command, connection = commands.get(timeout=0.001 if busy else 0.02)
    except queue.Empty:
        if busy:
            engine.engine.step()
        return True
    room = command.get("room", "")
    match command["op"]:
        case "prefill":
            faulty.PLANS[room] = command["plan"]
            parameters = SamplingParams(
                temperature=0,
                max_tokens=1,
                extra_args={"kv_transfer_params": {"push": "send", "room": room}},
            )
            if not command["plan"].get("never"):
                engine.engine.add_request(room, {"prompt_token_ids": command["tokens"]}, parameters)
            if command["plan"].get("abort"):
                engine.engine.abort_request([room])
        case "without":
            use(engine, command["clauses"])
        case "free":
            connection.send(("free", str(engine.free_blocks())))
        case "quit":
            return False
    return True


def use(engine: InprocessEngine, clauses: tuple[str, ...]) -> None:
    """Switch off clauses of the sender."""
    from vllm.distributed.kv_transfer import get_kv_transfer_group  # noqa: PLC0415 - after the environment

    sending = get_kv_transfer_group()._sending
    with sending._lock:
        sending._rules = without(*clauses)
        for peer in sending._peers.values():
            peer.sender._rules = sending._rules


if __name__ == "__main__":
    main(*sys.argv[1:])
