"""
Decode side, one rank: connections to prefill ranks, notices for the scheduler, and the wait for single layers.

A closed connection proves nothing. The link then watches the process at its other end, and says `gone` when that has
ended: its mapping of our memory has ended with it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping

from guard.backend.kv.effects import Send
from guard.backend.kv.ids import Owner, Party
from guard.backend.kv.messages import Done, Drained, Hello, LayerDone, ToDecode
from guard.backend.vllm.push.wire import Channel, Register, connect, started_at

_POLL_SECONDS = 0.05
_RECONNECT_SECONDS = 0.25


class LayerGate:
    """Which layers of which transfers are complete, for a forward pass that waits in each layer."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._layers: dict[Owner, set[int]] = {}
        self._writers: dict[Owner, Party] = {}
        self._complete: set[Owner] = set()
        self._lost: set[Owner] = set()
        #: Waits that did wait, and for how long in all. Unit: seconds.
        self.waits = 0
        self.waited_seconds = 0.0

    def watch(self, owner: Owner, writer: Party) -> None:
        """Notices of this transfer, which that rank performs, count from now on."""
        with self._changed:
            self._layers[owner] = set()
            self._writers[owner] = writer

    def forget(self, owner: Owner) -> None:
        """The pass is over."""
        with self._changed:
            self._layers.pop(owner, None)
            self._writers.pop(owner, None)
            self._complete.discard(owner)
            self._lost.discard(owner)

    def heard(self, message: ToDecode) -> None:
        """A notice of the peer."""
        if isinstance(message, Hello):
            return
        with self._changed:
            if message.owner not in self._layers:
                return
            if isinstance(message, LayerDone):
                self._layers[message.owner].add(message.layer)
            elif isinstance(message, Done):
                self._complete.add(message.owner)
            else:
                self._lost.add(message.owner)
            self._changed.notify_all()

    def lose(self, writer: Party) -> None:
        """This process is gone: what it has not completed it never will."""
        with self._changed:
            self._lost.update(owner for owner, party in self._writers.items() if party == writer)
            self._changed.notify_all()

    def wait(self, owner: Owner, layer: int, seconds: float) -> bool:
        """
        Wait until the layer may be read.

        Args:
            owner: The transfer.
            layer: Which layer.
            seconds: Longest wait.

        Returns:
            Whether it is complete; if not, its content must not be used.
        """

        def ready() -> bool:
            return owner in self._complete or layer in self._layers.get(owner, ()) or owner in self._lost

        with self._changed:
            if not ready():
                started = time.monotonic()
                self._changed.wait_for(ready, seconds)
                self.waits += 1
                self.waited_seconds += time.monotonic() - started
            return owner in self._complete or layer in self._layers.get(owner, ())


class Link:
    """
    One prefill rank, as seen from a decode rank.

    Args:
        path: Where it listens.
        register: What to say of our memory.
        receiving: Who hears what it says.
    """

    def __init__(self, path: str, register: Register, receiving: Receiving) -> None:
        self._path = path
        self._register = register
        self._receiving = receiving
        self._channel: Channel | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"guard-link-{path}", daemon=True)
        self._thread.start()

    def send(self, send: Send) -> bool:
        """Send a message, if the connection stands; if not, the resend timer brings it again."""
        channel = self._channel
        return channel is not None and channel.send(send.message)

    def close(self) -> None:
        """End it."""
        self._closed.set()
        channel = self._channel
        if channel is not None:
            channel.close()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            channel = connect(self._path)
            if channel is None or not channel.send(self._register):
                self._closed.wait(_RECONNECT_SECONDS)
                continue
            pid, started = channel.peer_process()
            self._channel = channel
            party = self._listen(channel)
            self._channel = None
            channel.close()
            if party is not None:
                self._watch(party, pid, started)

    def _listen(self, channel: Channel) -> Party | None:
        """All that comes, until the connection ends; who it was."""
        party: Party | None = None
        while True:
            frame = channel.receive()
            if frame is None:
                return party
            if isinstance(frame, Hello):
                party = frame.party
                self._receiving.linked(party, self)
            if isinstance(frame, LayerDone | Done | Drained | Hello):
                self._receiving.heard(frame)

    def _watch(self, party: Party, pid: int, started: int) -> None:
        """Say when the process is gone; it may also be there again before it is."""
        while not self._closed.wait(_POLL_SECONDS):
            if started_at(pid) != started:
                self._receiving.proved_gone(party)
                return
            again = connect(self._path)
            if again is not None:
                again.close()
                return


class Receiving:
    """
    All of a decode rank's links.

    Args:
        register: Our memory.
        peers: Each prefill engine's path, by its name; the rank's number is added to it.
    """

    def __init__(self, register: Register, peers: Mapping[str, str]) -> None:
        self.gate = LayerGate()
        self._lock = threading.Lock()
        self._messages: list[ToDecode] = []
        self._gone: list[Party] = []
        self._by_party: dict[tuple[str, int], Link] = {}
        self._links = [Link(f"{path}.{register.rank}", register, self) for path in peers.values()]

    def send(self, sends: Iterable[Send]) -> None:
        """Send each to its peer; what cannot be sent now is lost, as on any network."""
        for send in sends:
            with self._lock:
                link = self._by_party.get(send.to[:2])
            if link is not None:
                link.send(send)

    def taken(self) -> tuple[list[ToDecode], list[Party]]:
        """Messages and proofs since the last call, for the scheduler."""
        with self._lock:
            messages, self._messages = self._messages, []
            gone, self._gone = self._gone, []
        return messages, gone

    def heard(self, message: ToDecode) -> None:
        """A peer said this. Single layers are the gate's business alone."""
        self.gate.heard(message)
        if not isinstance(message, LayerDone):
            with self._lock:
                self._messages.append(message)

    def linked(self, party: Party, link: Link) -> None:
        """This process speaks over this link."""
        with self._lock:
            self._by_party[party[:2]] = link

    def proved_gone(self, party: Party) -> None:
        """This process has ended."""
        self.gate.lose(party)
        with self._lock:
            self._gone.append(party)

    def close(self) -> None:
        """End all links."""
        for link in self._links:
            link.close()
