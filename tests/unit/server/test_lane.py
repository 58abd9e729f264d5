"""The lane of C: takes what the exchange itself would pass, writes the same bytes, tells the same account."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import itertools
import json
import math
import socket
import sys
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.core.events import AbortAttempt, ClientGone, Finish, SendBody, UpstreamData, UpstreamEnd
from guard.core.exchange import Exchange
from guard.core.passing import MOST_UNJUDGED
from guard.lab.cases import read_cases
from guard.policy.judge import Judge
from guard.policy.schema import Policy
from guard.proto.plain import PlainForm
from guard.server import lane as compiled
from guard.shipped import find_policy
from tests.in_c import in_dev_mode, library
from tests.property.core.test_passing import plain, started
from tests.unit.core.transcript import DONE
from tests.unit.core.transcript import chunk as spaced
from tests.unit.proto.test_plain import FORM, chunk

ROOT = Path(__file__).parents[3]
TRACES = ROOT / "tests/data/traces"
RECORDED = ROOT / "tests/unit/proto/recorded"
Lane = library("guard.server._lane").Lane
JUDGES = [Judge(find_policy("default")), Judge(Policy(name="passes", rules=()))]
#: Its size has a letter in it.
LETTERED = next(raw for raw in map(chunk, ("a" * size for size in range(1, 17))) if not (b"%x" % len(raw)).isdigit())
FREE = (math.inf, 0.0, 1 << 30, 0, MOST_UNJUDGED, 1 << 20)
assert FORM is not None


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def unframed(data: bytes) -> bytes:
    """The data of any number of HTTP chunks."""
    found = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        found, data = found + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return found


class Ends:
    """The client's connection, what runs beside it, and a clock."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closing = self.active = self.writing_paused = False
        self.since = self.now = 0.0
        self.socket = -1

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return len(self.written) if self.writing_paused else 0

    def clock(self) -> float:
        return self.now

    def lane(self) -> Any:
        return Lane(self, self, self, self, self.clock, self.socket)


def armed(ends: Ends, *how: Any, form: PlainForm = FORM) -> Any:
    lane = ends.lane()
    lane.arm(form.prefix, form.middle, *(how or FREE))
    return lane


def test_it_is_used_where_it_is_compiled_and_nowhere_else() -> None:
    built = importlib.util.find_spec("guard.server._lane") is not None
    assert (compiled.MAKE is not None) == built


def test_chunks_are_cut_written_and_told_in_one_account() -> None:
    ends = Ends()
    lane = armed(ends)
    said = [("a\n", 2, 3), ('é "quoted" \\ \t', 0, 1), ("日本😀\x7f", 3, 4)]
    for number, (text, accepted, tokens) in enumerate(said):
        ends.now = 1.0 + number * number
        raw = chunk(text, accepted, tokens)
        read = FORM.read(raw)
        assert read is not None
        assert lane.take(framed(raw)) == 1
        assert ends.written[-1] == framed(FORM.cut(read))
        assert ends.since == lane.since == ends.now
    steps = bytes([2, 3, 3, 0, 3, 1, 3, 3, 4])
    text = "".join(text for text, _, _ in said)
    assert lane.drain() == (raw, read.end, text, steps, 1.0, 5.0, 3.0, False, math.inf, (1 << 30) - len(text))
    assert lane.drain() is None
    assert lane.take(framed(raw)) == 0, "it takes nothing until it is armed again"


def test_without_heartbeats_nobody_is_told_when() -> None:
    ends = Ends()
    lane = Lane(ends, ends, None, ends, ends.clock, -1)
    lane.arm(FORM.prefix, FORM.middle, *FREE)
    ends.now = 3.0
    assert lane.take(framed(chunk("a"))) == 1
    assert (lane.since, ends.since) == (3.0, 0.0)


class Connected(Ends):
    """Ends with a socket of their own, and another one that reads."""

    def __init__(self) -> None:
        super().__init__()
        self._here, self.there = socket.socketpair()
        self._here.setblocking(False)
        self.there.setblocking(False)
        self.socket = self._here.fileno()
        self.waiting = 0

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def fill(self) -> None:
        """Send zeros until the socket takes no more."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._here.send(bytes(1 << 16))

    def close(self) -> None:
        self._here.close()
        self.there.close()


@pytest.fixture
def connected() -> Iterator[Connected]:
    with contextlib.closing(Connected()) as ends:
        yield ends


def cut(text: str) -> bytes:
    raw = chunk(text)
    read = FORM.read(raw)
    assert read is not None
    return framed(FORM.cut(read))


def test_what_nothing_waits_before_goes_straight_to_the_socket(connected: Connected) -> None:
    lane = armed(connected)
    assert lane.take(framed(chunk("one")) + framed(chunk("two"))) == 1
    assert connected.there.recv(1 << 16) == cut("one") + cut("two")
    assert not connected.written


def test_behind_what_waits_it_waits_too(connected: Connected) -> None:
    lane = armed(connected)
    connected.waiting = 1
    for paused, code in ((False, 1), (True, 2)):
        connected.writing_paused = paused
        assert lane.take(framed(chunk("one"))) == code
        assert connected.written.pop() == cut("one")
    with pytest.raises(BlockingIOError):
        connected.there.recv(1)


def test_what_a_full_socket_does_not_take_is_the_transports(connected: Connected) -> None:
    lane = armed(connected)
    connected.fill()
    assert lane.take(framed(chunk("one"))) == 1
    assert connected.written == [cut("one")]
    with contextlib.suppress(BlockingIOError):
        while True:
            assert not connected.there.recv(1 << 16).strip(b"\0")


def test_of_a_chunk_that_the_socket_takes_in_part_the_rest_is_the_transports() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as here:
        here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 12)
        here.connect(server.getsockname())
        there, _ = server.accept()
        here.setblocking(False)
        ends = Ends()
        ends.socket = here.fileno()
        sent, parts = b"", 0
        for number in range(100_000):
            lane = armed(ends)
            text = f"{number:x}" * 60
            assert lane.take(framed(chunk(text))) == 1
            sent += cut(text)
            parts += bool(ends.written) and ends.written[0] != cut(text)
            if ends.written:
                break
        assert parts == 1, "the socket never took a part"
        here.setblocking(True)
        with there:
            got = b""
            while len(got) < len(sent) - len(ends.written[0]):
                got += there.recv(1 << 16)
    assert got + ends.written[0] == sent


@pytest.mark.parametrize("gone", ["peer", "socket"])
def test_what_is_wrong_with_the_socket_is_the_transports_to_see(connected: Connected, gone: str) -> None:
    lane = armed(connected)
    connected.there.close()
    if gone == "socket":
        connected.socket = 1 << 20
        lane = armed(connected)
    assert lane.take(framed(chunk("one"))) == 1
    assert connected.written == [cut("one")]


@pytest.mark.parametrize("state", ["closing", "active"])
def test_nothing_passes_while_the_client_leaves_or_somebody_looks_on(state: str) -> None:
    ends = Ends()
    lane = armed(ends)
    setattr(ends, state, True)
    assert lane.take(framed(chunk("a"))) == 0
    setattr(ends, state, False)
    assert lane.take(framed(chunk("a"))) == 1


def test_a_look_is_due_when_the_text_is_used_up_or_the_next_chunk_could_be_one_token_too_many() -> None:
    for how, chunks in (((math.inf, 0.0, 4, 0, 20, 999), 2), ((math.inf, 0.0, 99, 0, 20, 999), 6)):
        lane = armed(Ends(), *how)
        codes = []
        while not codes or codes[-1] == 1:
            codes.append(lane.take(framed(chunk("é\n"))))
        assert codes == [1] * (chunks - 1) + [2]
        assert lane.due
        assert lane.take(framed(chunk("é\n"))) == 0
        assert lane.drain()[7]
        assert not lane.due


def test_a_client_that_does_not_read_is_told_of() -> None:
    ends = Ends()
    lane = armed(ends)
    ends.writing_paused = True
    assert lane.take(framed(chunk("a"))) == 2
    assert not lane.due
    ends.written.clear()
    ends.get_write_buffer_size = lambda: 1  # type: ignore[method-assign]
    ends.writing_paused = False
    assert lane.take(framed(chunk("a"))) == 1, "something waits, but not so much"


def test_what_acceptance_may_lose_is_bounded_and_what_is_refused_leaves_no_trace() -> None:
    lane = armed(Ends(), 1.0, 0.5, 99, 15, 20, 999)
    assert lane.take(framed(chunk("a", 0, 1))) == 1
    assert lane.take(framed(chunk("b", 3, 5))) == 0, "more tokens than may pass"
    assert lane.take(framed(chunk("c", 0, 1))) == 2
    lane = armed(Ends(), 0.4, 0.5, 99, 0, 20, 999)
    assert lane.take(framed(chunk("a", 0, 1))) == 0
    assert lane.take(framed(chunk("b", 3, 4))) == 1
    assert lane.drain()[2:4] == ("b", bytes([3, 3, 4]))


@pytest.mark.parametrize(
    "data",
    [
        chunk("a"),
        framed(chunk("a"))[:-1],
        framed(b"no") + framed(chunk("a")),
        b"0" + framed(chunk("a")),
        framed(chunk("a"))[1:],
        framed(chunk("a")).replace(b"\r\n", b"\n"),
        b"%X\r\n%b\r\n" % (len(LETTERED), LETTERED),
        framed(chunk("a" * 385)),
        framed(chunk("a" * 4000)),
        framed(b""),
        b"",
        b"\r\n",
        bytearray(framed(chunk("a"))),
        "text",
        None,
    ],
)
def test_what_does_not_begin_with_a_whole_chunk_of_the_form_is_left_alone(data: Any) -> None:
    ends = Ends()
    lane = armed(ends)
    assert lane.take(data) == 0
    assert not ends.written
    assert lane.drain() is None


@given(st.binary(max_size=40), st.integers(0, 200), st.integers(0, 60))
def test_it_takes_what_the_exchange_would_take_and_nothing_else(noise: bytes, at: int, length: int) -> None:
    raw = chunk("some text here", 1, 2)
    start = raw.index(b'"content"') + at
    raw = raw[:start] + noise + raw[start + length :]
    ends = Ends()
    lane, read = armed(ends), FORM.read(raw)
    wanted = read is not None and read.accepted < 10 and read.drafted < 10 and read.tokens <= MOST_UNJUDGED
    assert bool(lane.take(framed(raw))) == wanted
    if read is not None and wanted:
        assert ends.written == [framed(FORM.cut(read))]
        found = lane.drain()
        assert found[:3] == (raw, read.end, read.text)
        assert tuple(found[3]) == (read.accepted, read.drafted, read.tokens)


@settings(max_examples=50)
@given(st.text(max_size=20), st.booleans())
def test_it_reads_every_text_as_the_exchange_does(text: str, ascii_only: bool) -> None:
    raw = chunk("@@@").replace(b"@@@", json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogatepass"))
    ends = Ends()
    lane, read = armed(ends), FORM.read(raw)
    assert bool(lane.take(framed(raw))) == (read is not None)
    if read is not None:
        assert lane.drain()[2] == read.text


@given(st.binary(max_size=6))
def test_it_reads_all_bytes_as_the_exchange_does(noise: bytes) -> None:
    raw = chunk("@@@").replace(b"@@@", noise)
    lane, read = armed(Ends()), FORM.read(raw)
    assert bool(lane.take(framed(raw))) == (read is not None)


@pytest.mark.parametrize(
    "how",
    [
        (),
        (b"a", b"b"),
        ("a", b"b", *FREE),
        (b"a", b"", *FREE),
        (b"a", b"b", "1", 0.0, 1, 0, 20, 9),
        (b"a", b"b", 1.0, 0.0, 1.5, 0, 20, 9),
        (b"a", b"b", 1.0, 0.0, 1, -1, 20, 9),
        (b"a", b"b", 1.0, 0.0, 1, 0, 21, 9),
        (b"a", b"b", 1.0, 0.0, 1 << 70, 0, 20, 9),
    ],
)
def test_it_is_not_armed_with_anything_else(how: tuple[Any, ...]) -> None:
    lane = Ends().lane()
    with pytest.raises((TypeError, ValueError, OverflowError)):
        lane.arm(*how)
    assert lane.take(framed(chunk("a"))) == 0
    with pytest.raises(TypeError):
        Lane(1, 2, 3)
    with pytest.raises(TypeError):
        Lane(1, 2, 3, 4, 5, socket=6)
    with pytest.raises(TypeError):
        type("More", (Lane,), {})


def test_it_is_not_armed_anew_before_it_has_told_what_passed() -> None:
    lane = armed(Ends())
    assert lane.take(framed(chunk("a"))) == 1
    with pytest.raises(ValueError, match="empty"):
        lane.arm(FORM.prefix, FORM.middle, *FREE)
    assert lane.drain()[2] == "a"


FAILING = ["is_closing", "write", "active", "get_write_buffer_size", "writing_paused"]


@pytest.mark.parametrize("fails", [*FAILING, "clock", "no clock"])
def test_what_fails_beside_it_is_raised(fails: str) -> None:
    class Failing(Ends):
        def __getattribute__(self, name: str) -> Any:
            if name == fails:
                raise RuntimeError(name)
            return super().__getattribute__(name)

    def clock() -> Any:
        if fails == "clock":
            raise RuntimeError(fails)
        return "late" if fails == "no clock" else 1.0

    ends = Failing()
    if fails == "writing_paused":
        ends.get_write_buffer_size = lambda: 1  # type: ignore[method-assign]
    lane = Lane(ends, ends, None, ends, clock, -1)
    lane.arm(FORM.prefix, FORM.middle, *FREE)
    with pytest.raises((RuntimeError, TypeError)):
        lane.take(framed(chunk("a")))


def test_whoever_is_asked_may_do_anything_meanwhile() -> None:
    ends = Ends()
    long = PlainForm.of(chunk("a", model="x" * 3000))
    assert long is not None

    def drains() -> float:
        lane.drain()
        return 1.0

    def changes() -> float:
        lane.drain()
        lane.arm(long.prefix, long.middle, *FREE)
        return 1.0

    for clock in (drains, changes):
        lane = Lane(ends, ends, None, ends, clock, -1)
        lane.arm(FORM.prefix, FORM.middle, *FREE)
        assert lane.take(framed(chunk("a"))) == 0
    assert not ends.written
    nested = [framed(chunk("inner"))]
    lane = Lane(ends, ends, None, ends, lambda: float(lane.take(nested.pop()) if nested else 1), -1)
    lane.arm(FORM.prefix, FORM.middle, *FREE)
    assert lane.take(framed(chunk("outer"))) == 1
    assert lane.drain()[2] == "innerouter"


def test_nothing_of_it_stays() -> None:
    ends, raw = Ends(), framed(chunk("once"))
    before = (sys.getrefcount(ends), sys.getrefcount(raw), sys.getrefcount(FORM.prefix), sys.getrefcount(FORM.middle))
    for _ in range(100):
        lane = armed(ends)
        for _ in range(5):
            lane.take(raw)
        lane.drain()
        lane.take(raw)
        lane.arm(FORM.prefix, FORM.middle, *FREE)
        lane.take(raw)
        ends.written.clear()
    del lane
    after = (sys.getrefcount(ends), sys.getrefcount(raw), sys.getrefcount(FORM.prefix), sys.getrefcount(FORM.middle))
    assert after == before
    held = Ends()
    held.lane_of_it = held.lane()  # type: ignore[attr-defined]
    gone = weakref.ref(held)
    del held
    gc.collect()
    assert gone() is None, "it holds what holds it, and the collector does not see that"


class Reply:
    """Remembers what a lane hands on."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def data_received(self, data: bytes) -> None:
        self.got.append(data)

    def lane_passed(self) -> None:
        self.got.append("passed")

    def lane_broke(self, error: Exception) -> None:
        self.got.append(repr(error))


def test_the_reply_it_serves_gets_what_does_not_pass() -> None:
    ends, reply, raw = Ends(), Reply(), framed(chunk("a"))
    lane = armed(ends, math.inf, 0.0, 2, 0, 20, 999)
    before = sys.getrefcount(reply)
    lane.feed(raw)
    lane.serve(reply)
    assert not lane.open
    lane.feed(raw)
    assert reply.got == [raw], "it is armed, but not open"
    lane.open = True
    lane.feed(raw)
    assert (len(ends.written), len(reply.got)) == (1, 1)
    lane.feed(raw)
    lane.feed(raw)
    assert len(ends.written) == 2
    assert reply.got == [raw, "passed", raw]
    lane.serve(None)
    lane.feed(raw)
    assert (len(reply.got), lane.open) == (3, False)
    lane.serve(reply)
    lane.serve(reply)
    del lane
    assert sys.getrefcount(reply) == before


PLAIN = [framed(chunk(text, 1, 2)) for text in ("one ", "two ", "three ")]


def served(*how: Any) -> tuple[Ends, Reply, Any]:
    """A lane that takes what comes next, and hands on what it does not take."""
    ends, reply = Ends(), Reply()
    lane = armed(ends, *how)
    lane.serve(reply)
    lane.open = True
    return ends, reply, lane


@pytest.mark.parametrize(
    "rest", [b"", PLAIN[0][:9], PLAIN[0][:-1], framed(b": still here\n\n") + PLAIN[0], b"0\r\n\r\n"]
)
def test_several_chunks_that_came_at_once_pass_as_one_by_one(rest: bytes) -> None:
    ends, reply, lane = served()
    others = Ends()
    other = armed(others)
    lane.feed(b"".join(PLAIN) + rest)
    for raw in PLAIN:
        assert other.take(raw) == 1
    assert ends.written == [b"".join(others.written)]
    assert reply.got == [rest] * bool(rest)
    assert lane.drain() == other.drain()


def test_of_several_chunks_those_pass_that_may() -> None:
    _, reply, lane = served(math.inf, 0.0, 5, 0, 20, 999)
    lane.feed(b"".join(PLAIN))
    assert reply.got == [PLAIN[2]], "whoever reads on looks first"
    assert lane.due
    assert lane.drain()[2] == "one two "
    assert armed(Ends(), math.inf, 0.0, 5, 0, 20, 999).take(b"".join(PLAIN)) == 3


def test_a_look_is_due_after_several_as_after_one() -> None:
    _, reply, lane = served(math.inf, 0.0, 9, 0, 20, 999)
    lane.feed(b"".join(PLAIN))
    assert reply.got == ["passed"]


def test_more_steps_at_once_than_are_kept_wait_for_a_look() -> None:
    _, reply, lane = served()
    one = framed(chunk("a", 0, 1))
    lane.feed(one * 50)
    passed = len(lane.drain()[3]) // 3
    assert 0 < passed <= MOST_UNJUDGED
    assert reply.got == [one * (50 - passed)]


def test_the_reply_it_serves_is_told_of_what_fails() -> None:
    reply, raised = Reply(), [RuntimeError("late"), KeyboardInterrupt()]

    def clock() -> float:
        raise raised.pop(0)

    ends = Ends()
    lane = Lane(ends, ends, None, ends, clock, -1)
    lane.arm(FORM.prefix, FORM.middle, *FREE)
    lane.serve(reply)
    lane.open = True
    lane.feed(framed(chunk("a")))
    assert reply.got == ["RuntimeError('late')"]
    with pytest.raises(KeyboardInterrupt):
        lane.feed(framed(chunk("a")))
    raised.append(RuntimeError("nobody to tell"))
    lane.serve(None)
    lane.open = True
    with pytest.raises(RuntimeError, match="nobody"):
        lane.feed(framed(chunk("a")))


class Played:
    """An exchange and its client, with a lane in between or without."""

    def __init__(self, judge: Judge, prompt: str = "hi", k: int = 3, *, lane: bool) -> None:
        self.exchange: Exchange = started(Exchange, judge, prompt, k)
        self.ends = Ends()
        self.lane = self.ends.lane() if lane else None
        self.sent = b""
        self.told: list[tuple[str, int]] = []
        self.taken = 0
        self.exchange.use(self.lane)

    def say(self, data: bytes, now: float) -> None:
        self.ends.now = now
        if self.lane is not None and (code := self.lane.take(framed(data))):
            self.taken += 1
            (written,) = self.ends.written
            self.ends.written.clear()
            self.sent += written.partition(b"\r\n")[2][:-2]
            if code == 2:
                self.perform(self.exchange.look(now))
            return
        self.perform(self.exchange.handle(UpstreamData(1, data), now))
        if self.exchange.due:
            self.perform(self.exchange.look(now))

    def say_at_once(self, pieces: list[bytes], now: float) -> None:
        """All of them in one read."""
        self.ends.now = now
        if self.lane is None:
            self.say(b"".join(pieces), now)
            return
        self.lane.serve(self)
        self.lane.open = True
        self.lane.feed(b"".join(map(framed, pieces)))
        self.taken += self.flush()

    def flush(self) -> int:
        """The client has what the lane wrote; how often it did."""
        writes = len(self.ends.written)
        self.sent += unframed(b"".join(self.ends.written))
        self.ends.written.clear()
        return writes

    def data_received(self, data: bytes) -> None:
        self.taken += self.flush()
        self.perform(self.exchange.handle(UpstreamData(1, unframed(data)), self.ends.now))
        if self.exchange.due:
            self.perform(self.exchange.look(self.ends.now))

    def lane_passed(self) -> None:
        self.taken += self.flush()
        self.perform(self.exchange.look(self.ends.now))

    def lane_broke(self, error: Exception) -> None:
        raise error

    @property
    def going(self) -> bool:
        """Whether the only attempt goes on."""
        return not any(said in (AbortAttempt.__name__, Finish.__name__) for said, _ in self.told)

    def perform(self, commands: Iterable[object]) -> None:
        for command in commands:
            if isinstance(command, SendBody):
                self.sent += command.data
            else:
                self.told.append((type(command).__name__, len(self.sent)))

    def end(self) -> None:
        self.perform(self.exchange.handle(UpstreamData(1, spaced("", finish="stop") + DONE), 1e6))
        self.perform(self.exchange.handle(UpstreamEnd(1), 1e6))

    def account(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self.exchange.record)
        return found


def agree(plays: tuple[Played, Played]) -> int:
    """Both said and did the same; how many chunks the lane took."""
    without, with_lane = plays
    assert with_lane.sent == without.sent
    assert with_lane.told == without.told
    assert with_lane.account() == without.account()
    return with_lane.taken


@pytest.mark.parametrize("name", ["tuning", "unseen"])
def test_recorded_streams_are_the_same_with_it_byte_for_byte(name: str) -> None:
    taken = chunks = stopped = 0
    for case in itertools.islice(read_cases(TRACES / f"{name}.jsonl.gz"), 0, None, 3):
        plays = tuple(
            Played(JUDGES[0], case.prompt or "hi", case.num_speculative_tokens or 3, lane=on) for on in (0, 1)
        )
        for play in plays:
            for number, piece in enumerate(case.chunks):
                kept, drafted = max(piece.accepted or 0, 0), max(piece.drafted, 0)
                play.say(plain(piece.text, piece.tokens, kept, drafted), 1.0 + 0.01 * (number + number % 3))
                if any(said == AbortAttempt.__name__ for said, _ in play.told):
                    break
            else:
                play.end()
        taken += agree((plays[0], plays[1]))
        chunks += len(case.chunks)
        stopped += any(said == AbortAttempt.__name__ for said, _ in plays[0].told)
    assert taken > 0.3 * chunks
    assert stopped > 3


@pytest.mark.parametrize("path", sorted(RECORDED.glob("vllm_*.sse")), ids=lambda path: path.stem)
def test_bytes_of_vllm_itself_are_the_same_with_it(path: Path) -> None:
    plays = (Played(JUDGES[1], lane=False), Played(JUDGES[1], lane=True))
    for play in plays:
        for event in path.read_bytes().split(b"\n\n")[:-1]:
            play.say(event + b"\n\n", 1.0)
            if play.exchange.done:
                break
    agree(plays)


@pytest.mark.parametrize("lane", [False, True])
def test_silence_after_what_passed_counts(lane: bool) -> None:
    play = Played(JUDGES[0], lane=lane)
    for now in range(1, 5):
        play.say(plain("word ", 2, 1, 3), float(now))
    assert play.taken == (2 if lane else 0)
    play.perform(play.exchange.handle(ClientGone(), 90.0))
    record = play.exchange.record
    assert (record.duration, record.longest_gap, record.tokens_shown) == (90.0, 1.0, 8)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
PIECE = st.one_of(
    st.builds(plain, TEXTS, st.integers(1, 4), st.integers(0, 3), st.just(3)),
    st.builds(plain, TEXTS, st.integers(1, 12), st.integers(0, 12), st.integers(0, 12)),
    st.builds(spaced, TEXTS),
    st.just(b": still here\n\n"),
    st.none(),
)


@given(st.lists(PIECE, min_size=1, max_size=50), st.sampled_from(JUDGES), st.sampled_from(["end", "leave", "cut"]))
def test_any_stream_is_the_same_with_it(pieces: list[bytes | None], judge: Judge, how: str) -> None:
    """None: somebody begins to look on, or does no more."""
    plays, said = (Played(judge, lane=False), Played(judge, lane=True)), 0
    for play in plays:
        for number, data in enumerate(pieces):
            if data is None:
                play.ends.active = play.exchange.live = not play.ends.active
            elif play.going:
                play.say(data, 1.0 + number * number)
                said += 1
        if how == "leave":
            play.perform(play.exchange.handle(ClientGone(), 1e6))
        elif how == "end":
            play.end()
        else:
            play.perform(play.exchange.handle(UpstreamEnd(1), 1e6))
    agree(plays)
    assert said or not any(pieces)


LUMP = st.lists(PIECE.filter(bool), min_size=1, max_size=9)


@given(st.lists(LUMP, min_size=1, max_size=6), st.sampled_from(JUDGES))
def test_any_stream_is_the_same_with_it_where_it_comes_in_lumps(lumps: list[list[bytes]], judge: Judge) -> None:
    plays = (Played(judge, lane=False), Played(judge, lane=True))
    for play in plays:
        play.say(plain("It ", 1, 0, 3), 0.5)
        for number, lump in enumerate(lumps):
            if play.going:
                play.say_at_once(lump, 1.0 + number)
        play.end()
    agree(plays)


@given(LUMP, st.booleans())
def test_a_lump_is_what_its_pieces_are(lump: list[bytes], lane: bool) -> None:
    at_once, one_by_one = Played(JUDGES[1], lane=lane), Played(JUDGES[1], lane=lane)
    for play in (at_once, one_by_one):
        play.say(plain("It ", 1, 0, 3), 0.5)
        for part in [lump] if play is at_once else [[piece] for piece in lump]:
            play.say_at_once(part, 1.0)
        play.end()
    assert at_once.sent == one_by_one.sent
    assert at_once.told == one_by_one.told
    # What comes in one read is held together where it goes the long way.
    assert {**at_once.account(), "held_tokens_max": 0} == {**one_by_one.account(), "held_tokens_max": 0}


@pytest.mark.parametrize("size", [2, 7, 40])
def test_recorded_streams_are_the_same_where_they_come_in_lumps(size: int) -> None:
    lumps = stopped = taken = 0
    for case in itertools.islice(read_cases(TRACES / "unseen.jsonl.gz"), 0, None, 4):
        plays = [Played(JUDGES[0], case.prompt or "hi", case.num_speculative_tokens or 3, lane=on) for on in (0, 1)]
        said = [plain(one.text, one.tokens, max(one.accepted or 0, 0), max(one.drafted, 0)) for one in case.chunks]
        for play in plays:
            for start in range(0, len(said), size):
                if play.going:
                    play.say_at_once(said[start : start + size], 1.0 + 0.01 * start)
            if play.going:
                play.end()
        taken += agree((plays[0], plays[1]))
        lumps += len(said) // size
        stopped += not plays[0].going
    assert taken > 0.2 * lumps
    assert stopped > 1


def test_all_of_this_holds_where_python_checks_its_memory() -> None:
    in_dev_mode(
        __file__, "cut or fails or meanwhile or stays or any_stream or takes_what or armed or serves or several"
    )
