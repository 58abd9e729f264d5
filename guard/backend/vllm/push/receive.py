"""
Decode side, one rank: connections to prefill ranks, notices for the scheduler, and the wait for single layers.

A closed connection proves nothing. The link then watches the process at its other end, and says `gone` when that has
ended: its mapping of our memory has ended with it.

A prefill engine's first rank tells how many it has; there is a link to each, and each tells what it gives.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping

from guard.backend.kv.effects import Send
from guard.backend.kv.ids import Owner, Party
from guard.backend.kv.messages import Done, Drained, Hello, LayerDone, ToDecode
from guard.backend.vllm.push.wire import Channel, Gives, Register, Shortages, connect, started_at

_log = logging.getLogger("vllm.plugins.guard")
_POLL_SECONDS = 0.05
_RECONNECT_SECONDS = 0.25


class LayerGate:
    """Which layers of which transfers are complete, for a forward pass that waits in each layer."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._layers: dict[Owner, set[int]] = {}
        #: Ranks that have not completed their share.
        self._writers: dict[Owner, set[Party]] = {}
        self._lost: set[Owner] = set()
        #: Waits that did wait, and for how long in all. Unit: seconds.
        self.waits = 0
        self.waited_seconds = 0.0

    def watch(self, owner: Owner, writer: Party) -> None:
        """Notices of this transfer, of which that rank performs a share, count from now on."""
        with self._changed:
            self._layers.setdefault(owner, set())
            self._writers.setdefault(owner, set()).add(writer)

    def forget(self, owner: Owner) -> None:
        """The pass is over."""
        with self._changed:
            self._layers.pop(owner, None)
            self._writers.pop(owner, None)
            self._lost.discard(owner)

    def heard(self, message: ToDecode) -> None:
        """A notice of the peer."""
        if isinstance(message, Hello):
            return
        with self._changed:
            if message.party not in self._writers.get(message.owner, ()):
                return
            if isinstance(message, LayerDone):
                self._layers[message.owner].add(message.layer)
            elif isinstance(message, Done):
                self._writers[message.owner].discard(message.party)
            else:
                self._lost.add(message.owner)
            self._changed.notify_all()

    def lose(self, writer: Party) -> None:
        """This process is gone: what it has not completed it never will."""
        with self._changed:
            self._lost.update(owner for owner, writers in self._writers.items() if writer in writers)
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

        def complete() -> bool:
            # Each layer has one writer: its notice is enough. That of all is, too, if notices were overtaken.
            return layer in self._layers.get(owner, ()) or (owner in self._writers and not self._writers[owner])

        def ready() -> bool:
            return complete() or owner in self._lost

        with self._changed:
            if not ready():
                started = time.monotonic()
                self._changed.wait_for(ready, seconds)
                self.waits += 1
                self.waited_seconds += time.monotonic() - started
            return complete()


class Link:
    """
    One prefill rank, as seen from a decode rank.

    Args:
        path: Where its engine listens; the rank's number is added to it.
        rank: Which rank.
        register: What to say of our memory.
        receiving: Who hears what it says.
    """

    def __init__(self, path: str, rank: int, register: Register, receiving: Receiving) -> None:
        self._path = f"{path}.{rank}"
        self._engine = path
        self._why = ""
        self._register = register
        self._receiving = receiving
        self._channel: Channel | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"guard-link-{self._path}", daemon=True)
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
            channel = connect(self._path, self._receiving.short)
            if channel is None or not channel.send(self._register):
                self._closed.wait(_RECONNECT_SECONDS)
                continue
            try:
                pid, started = channel.peer_process()
            except OSError:  # who it is must be known before it may write: its end could not be proved
                self._receiving.short.add()
                channel.close()
                self._closed.wait(_RECONNECT_SECONDS)
                continue
            self._channel = channel
            party = self._listen(channel)
            self._channel = None
            channel.close()
            if party is not None:
                self._watch(party, pid, started)
            else:  # turned away; it would be again at once
                self._closed.wait(_RECONNECT_SECONDS)

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
            if isinstance(frame, Gives):
                self._told(frame)
            if isinstance(frame, LayerDone | Done | Drained | Hello):
                self._receiving.heard(frame)

    def _told(self, gives: Gives) -> None:
        self._receiving.given(gives, self._engine)
        if gives.why != self._why:
            self._why = gives.why
            if gives.why:
                _log.error("guard: %s at %s gives this engine nothing: %s", gives.name, self._path, gives.why)

    def _watch(self, party: Party, pid: int, started: int) -> None:
        """Say when the process is gone; it may also be there again before it is."""
        while not self._closed.wait(_POLL_SECONDS):
            try:
                gone = started_at(pid) != started
            except OSError:  # not to be known now, so not proved
                continue
            if gone:
                self._receiving.proved_gone(party)
                return
            again = connect(self._path, self._receiving.short)
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
        #: Connections that could not be made.
        self.short = Shortages()
        self._lock = threading.Lock()
        self._messages: list[ToDecode] = []
        self._gone: list[Party] = []
        self._gives: list[Gives] = []
        self._by_party: dict[tuple[str, int], Link] = {}
        self._register = register
        self._closed = False
        self._links: dict[str, list[Link]] = {}
        for path in peers.values():
            self._link(path, 1)

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

    def taken_gives(self) -> list[Gives]:
        """What peers said they give, since the last call; taken after the messages, it has all that they rest on."""
        with self._lock:
            gives, self._gives = self._gives, []
        return gives

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

    def given(self, gives: Gives, path: str) -> None:
        """A rank of the engine at this path says what it gives; its other ranks are to be asked, too."""
        with self._lock:
            self._gives.append(gives)
        self._link(path, gives.ranks)

    def proved_gone(self, party: Party) -> None:
        """This process has ended."""
        self.gate.lose(party)
        with self._lock:
            self._gone.append(party)

    def close(self) -> None:
        """End all links."""
        with self._lock:
            self._closed = True
            links = [link for each in self._links.values() for link in each]
        for link in links:
            link.close()

    def _link(self, path: str, ranks: int) -> None:
        with self._lock:
            links = self._links.setdefault(path, [])
            while len(links) < ranks and not self._closed:
                links.append(Link(path, len(links), self._register, self))
