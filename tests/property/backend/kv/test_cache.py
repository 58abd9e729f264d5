"""
Any sequence of calls, right or wrong: the books stay whole, and a block is given to one request at a time.

Wider than the model checker's scopes (more blocks, requests, ranks, steps), and not exhaustive.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from guard.backend.kv.cache import KvCache
from guard.backend.kv.effects import Effect, Freed, Lost, Received, Send
from guard.backend.kv.ids import BlockId, Key, Owner, Party, StepId
from guard.backend.kv.messages import Abort, Destination, Done, Drained, Hello
from guard.backend.kv.sender import Sender
from guard.backend.kv.states import State

BLOCKS, RANKS = 8, 3
RANK = st.integers(0, RANKS - 1)


class Engine(RuleBasedStateMachine):
    """A decode engine with one producer of three ranks behind a channel that loses, doubles and reorders."""

    owners = Bundle("owners")
    letters = Bundle("letters")

    def __init__(self) -> None:
        super().__init__()
        self.cache = KvCache(BLOCKS, rows=4, block_size=2)
        self.senders = [Sender(Party("P", rank), Party("D")) for rank in range(RANKS)]
        #: Writes that nothing can call back, and whom each block was given to since it was last free.
        self.card: set[tuple[int, Owner, BlockId]] = set()
        self.given: dict[BlockId, Owner] = {}
        self.live: set[Owner] = set()
        self.told: set[Owner] = set()

    def perform(self, effects: list[Effect]) -> list[tuple[Party, object]]:
        sent: list[tuple[Party, object]] = []
        for effect in effects:
            if isinstance(effect, Send):
                sent.append((effect.to, effect.message))
            elif isinstance(effect, Freed):
                for block in effect.blocks:
                    assert not any(block == target for _, _, target in self.card), "freed under a write"
                    self.given.pop(block, None)
            elif isinstance(effect, Received | Lost):
                assert effect.owner not in self.told or isinstance(effect, Lost)
                self.told.add(effect.owner)
        return sent

    @rule(target=owners, count=st.integers(1, 4), prefix=st.sampled_from("xyz"))
    def admit(self, count: int, prefix: str) -> Owner:
        owner = self.cache.begin("R")
        keys = [Key(prefix * (n + 1)) for n in range(count)]
        hits = self.cache.lookup(owner, keys)
        blocks = self.cache.allocate(owner, count - len(hits))
        if blocks is None:
            self.perform(self.cache.release(owner))
            return owner
        for block in blocks:
            assert not any(block == target for _, _, target in self.card), "given away under a write"
            self.given[block] = owner
        self.live.add(owner)
        return owner

    @rule(target=letters, owner=owners)
    def receive(self, owner: Owner) -> object:
        mine = [b for b in self.cache.pool.owned(owner) if self.given.get(b) == owner]
        fresh = self.cache.receiver.transfer(owner) is None and owner not in self.told
        keyless = [b for b in mine if self.cache.pool.books(b).key is None]
        if owner not in self.live or not fresh or not keyless:
            return multiple()
        return multiple(*self.perform(self.cache.receive(owner, keyless, [s._me for s in self.senders])))

    @rule(target=letters, letter=consumes(letters), again=st.booleans())
    def deliver(self, letter: tuple[Party, object], again: bool) -> object:
        to, message = letter
        if isinstance(message, Destination | Abort):
            sent = self.perform(self.senders[to.rank].handle(message))
        else:
            assert isinstance(message, Done | Drained | Hello)
            sent = self.perform(self.cache.handle(message))
        return multiple(*sent, *([letter] if again else []))

    @rule(letter=consumes(letters))
    def lose(self, letter: tuple[Party, object]) -> None:
        """It never arrives."""

    @rule(target=letters, owner=owners, rank=RANK)
    def post(self, owner: Owner, rank: int) -> object:
        sender = self.senders[rank]
        room = sender.room(owner)
        if room is None or not sender.post(owner, 0):
            return multiple()
        self.card |= {(rank, owner, block) for block in room.blocks}
        return multiple(*self.perform(sender.finish(owner)))

    @rule(target=letters, owner=owners, rank=RANK)
    def land(self, owner: Owner, rank: int) -> object:
        return multiple(*self._land(owner, rank))

    def _land(self, owner: Owner, rank: int) -> list[tuple[Party, object]]:
        mine = {write for write in self.card if write[:2] == (rank, owner)}
        for _, _, block in mine:
            assert self.given.get(block) == owner, "a write outside its lease"
        self.card -= mine
        return self.perform(self.senders[rank].landed(owner, 0)) if mine else []

    @rule(target=letters, owner=owners, rank=RANK)
    def give_up(self, owner: Owner, rank: int) -> object:
        return multiple(*self.perform(self.senders[rank].give_up(owner)))

    @rule(target=letters, owner=owners)
    def release(self, owner: Owner) -> object:
        self.live.discard(owner)
        return multiple(*self.perform(self.cache.release(owner)))

    @rule(target=letters, owner=owners)
    def deadline(self, owner: Owner) -> object:
        return multiple(*self.perform(self.cache.timeout(owner)))

    @rule(target=letters, owner=owners)
    def resend(self, owner: Owner) -> object:
        return multiple(*self.perform(self.cache.resend(owner)))

    @rule(tokens=st.integers(1, 8), data=st.data())
    def launch(self, tokens: int, data: st.DataObject) -> None:
        batch = data.draw(st.sets(st.sampled_from(sorted(self.live)))) if self.live else set()
        self.cache.launch(dict.fromkeys(sorted(batch), tokens))

    @rule(data=st.data())
    def process(self, data: st.DataObject) -> None:
        fence = self.cache.fence
        if fence.processed < fence.launched:
            settled = {owner: fence.count(owner).scheduled for owner in self.live}
            chosen = data.draw(st.sets(st.sampled_from(sorted(self.live)))) if self.live else set()
            step = StepId(fence.processed + 1)
            self.perform(self.cache.processed(step, {owner: settled[owner] for owner in chosen}))

    @rule(owner=owners, window=st.integers(0, 4))
    def slide(self, owner: Owner, window: int) -> None:
        if owner in self.live and self.cache.receiver.transfer(owner) is None:
            self.perform(self.cache.slide(owner, window))

    @rule(block=st.integers(0, BLOCKS - 1))
    def outside_free(self, block: int) -> None:
        self.perform(self.cache.forget(BlockId(block)))

    @rule(prefix=st.sampled_from("xyz"))
    def withdraw(self, prefix: str) -> None:
        self.perform(self.cache.withdraw([Key(prefix)]))
        assert not any(key.startswith(prefix) for key in self.cache.pool.index)

    @invariant()
    def the_books_are_whole(self) -> None:
        self.cache.check_integrity()
        assert sum(self.cache.counts().values()) == BLOCKS

    @invariant()
    def nothing_that_a_peer_writes_is_served(self) -> None:
        index = self.cache.pool.index
        for key in index:
            block = index.get(key)
            assert block is not None
            assert self.cache.pool.state(block) is not State.FREE

    def teardown(self) -> None:
        """Everybody leaves, every write lands, every letter is answered: all blocks come back."""
        letters = [letter for owner in sorted(self.live) for letter in self.perform(self.cache.release(owner))]
        for rank, owner in sorted({write[:2] for write in self.card}):
            letters += self._land(owner, rank)
        for transfer in tuple(self.cache.receiver._transfers.values()):
            letters += self.perform(self.cache.resend(transfer.owner))
        while letters:
            to, message = letters.pop()
            if isinstance(message, Destination | Abort):
                letters += self.perform(self.senders[to.rank].handle(message))
            else:
                letters += self.perform(self.cache.handle(message))  # type: ignore[arg-type]
        while self.cache.fence.processed < self.cache.fence.launched:
            self.perform(self.cache.processed(StepId(self.cache.fence.processed + 1), {}))
        counts = self.cache.counts()
        assert counts[State.FREE] + counts[State.CACHED] == BLOCKS


Engine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestEngine = Engine.TestCase
