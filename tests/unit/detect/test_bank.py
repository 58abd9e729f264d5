"""All detectors of one choice."""

from __future__ import annotations

import math

import pytest

from guard.detect.bank import DetectorBank
from guard.detect.baseline import Baseline
from guard.detect.catalogue import CATALOGUE
from guard.detect.told import bank_for
from guard.types import Channel, Sample, SignalRef, StepAcceptance, Unit, Window

RARE = SignalRef("rare_characters", Window(64, Unit.CHARACTERS))
FALL = SignalRef("acceptance_fall", Window(32, Unit.TOKENS))


def text(content: str, channel: Channel = Channel.CONTENT, tokens: int = 4) -> Sample:
    return Sample(choice=0, texts=((channel, content),), tokens=tokens)


def test_tokens_are_counted() -> None:
    bank = DetectorBank([SignalRef("tokens")])
    bank.observe(text("abc", tokens=3))
    bank.observe(text("def", tokens=5))
    assert bank.tokens == 8
    assert bank.read(SignalRef("tokens")) == 8.0


def test_nothing_seen_is_unknown() -> None:
    bank = DetectorBank([RARE, FALL])
    assert math.isnan(bank.read(RARE))
    assert math.isnan(bank.read(FALL))


def test_all_at_once_reads_what_each_does_alone() -> None:
    loop, fresh = SignalRef("repetition_count"), SignalRef("fresh_words", Window(256, Unit.CHARACTERS))
    of_text = (RARE, loop, fresh)
    bank, other = DetectorBank([*of_text, FALL]), DetectorBank([*of_text, FALL])
    for said in ("", "a few", " words, then " * 9, "more \ufffd of them " * 9):
        for channel in (Channel.CONTENT, Channel.REASONING):
            for one in (bank, other):
                one.observe(text(said, channel))
            for refs in (of_text, (loop, RARE), (RARE, FALL)):
                at_once, alone = bank.read_all(refs), [other.read(ref) for ref in refs]
                assert at_once == pytest.approx(alone, nan_ok=True, abs=0.0)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_reading_is_a_float_even_where_it_counts(name: str) -> None:
    units = CATALOGUE[name].window_units
    windows = [Window(240 if unit is Unit.CHARACTERS else 32, unit) for unit in units] or [None]
    refs = [SignalRef(name, window) for window in windows]
    bank = bank_for(refs, told=CATALOGUE[name].needs_logprobs)
    broken = 'the k(eeper l;it жthe ]lamp an}d wr,ote 1do"wn ,,of~ sh{ips paSsed ^bef/ore\n'
    for number in range(120):
        kept, said = (3, f"he lit lamp {number} and slept. ") if number < 60 else (0, broken)
        step = StepAcceptance(accepted=kept, drafted=3, tokens=kept + 1, exact=True)
        bank.observe(Sample(0, ((Channel.CONTENT, said),), kept + 1, (step,), (-0.5,) * (kept + 1)))
        # The compiled build knows no other number there, and a record says 2 for the one and 2.0 for the other.
        assert {type(bank.read(ref)) for ref in refs} == {float}


def test_the_worst_channel_speaks() -> None:
    bank = DetectorBank([RARE])
    bank.observe(text("a plain answer that goes on for a while " * 3))
    bank.observe(text("\ufffd" * 32 + " plain words" * 3, Channel.REASONING))
    assert bank.read(RARE) == 0.5
    assert "reasoning" in bank.finding(RARE).reason


def test_channels_do_not_mix() -> None:
    loop = SignalRef("repetition_count")
    bank = DetectorBank([loop])
    for _ in range(40):
        bank.observe(text("stop "))
        bank.observe(text("go on ", Channel.TOOL))
    assert bank.read(loop) >= 30


def test_an_equal_ref_reads_the_same() -> None:
    bank = DetectorBank([RARE])
    bank.observe(text("\ufffd" * 64))
    assert bank.read(SignalRef("rare_characters", Window(64, Unit.CHARACTERS))) == bank.read(RARE) == 1.0


def test_the_reason_of_a_fall_names_both_ends_and_the_token() -> None:
    bank = DetectorBank([FALL], Baseline(probability=0.5, weight=1000, k=3))
    for _ in range(40):
        bank.observe(Sample(0, (), 1, (StepAcceptance(0, 3, 1, exact=True),)))
    finding = bank.finding(FALL)
    assert finding.onset_token == 0
    assert "fell from 0.50 to 0.00 at token 0" in finding.reason


def test_an_unknown_signal_is_refused() -> None:
    with pytest.raises(KeyError):
        DetectorBank([SignalRef("nonsense")])


def test_the_version_changes_when_a_reading_may_have() -> None:
    bank = DetectorBank([RARE, FALL])
    before = bank.version
    bank.observe(Sample(0, ((Channel.CONTENT, "ab"),), 0))
    assert bank.version == before, "less than a block is not looked at"
    bank.observe(Sample(0, ((Channel.CONTENT, "cd" * 8),), 0))
    first = bank.version
    bank.observe(Sample(0, ((Channel.CONTENT, "ef"),), 0))
    assert bank.version == first
    bank.observe(Sample(0, ((Channel.CONTENT, "\ufffd" * 64),), 0))
    second = bank.version
    bank.observe(Sample(0, (), 1, (StepAcceptance(0, 3, 1, exact=True),)))
    assert before < first < second < bank.version


def test_the_prompt_reaches_the_detectors() -> None:
    assert DetectorBank([RARE], None, "What is \ufffd?").read(RARE) != 0.5
    bank = DetectorBank([RARE], prompt="What is \ufffd?")
    bank.observe(text("\ufffd" * 64))
    assert bank.read(RARE) == 0.0


def test_text_has_changed_when_a_page_is_full_or_a_loop_goes_on() -> None:
    bank = DetectorBank([RARE, SignalRef("repetition_count"), SignalRef("blank_lines")])
    bank.observe(text("The keeper went "))
    opened = bank.text
    bank.observe(text("up the stair to "))
    assert bank.text == opened, "a block in which nothing repeats changes no reading"
    bank.observe(text("light the lamp, as he did every night. "))
    assert bank.text[1] == opened[1] + 1
    seen, readings = {bank.text}, {bank.read(SignalRef("repetition_count"))}
    for _ in range(12):
        bank.observe(text("Round and round it goes, "))
        if bank.read(SignalRef("repetition_count")) not in readings:
            assert bank.text not in seen
        seen.add(bank.text)
        readings.add(bank.read(SignalRef("repetition_count")))
    assert max(readings) > 8
    before = bank.text
    bank.observe(text("\n" * 16))
    assert bank.text != before


def test_a_break_of_the_subject_needs_a_fall_and_is_told_with_its_shares() -> None:
    topic = SignalRef("topic_break")
    known = " ".join(f"the {word} of the harbour" for word in ("boat", "keel", "mast", "rope") * 20) + " "
    other = " ".join(f"some {end}{word}" for word in ("lease", "court", "rent") for end in "abcdefghijklmnop") + " "

    bank, followed = DetectorBank([topic]), DetectorBank([topic])
    for each in (bank, followed):
        each.observe(text("Let me see. ", Channel.REASONING))
        speak(each, known, 2)
    assert math.isnan(bank.read(topic))
    speak(bank, other, 0)
    speak(followed, other, 2)
    assert bank.read(topic) > 0.7
    assert not followed.read(topic) > 0.0
    finding = bank.finding(topic)
    assert abs(finding.onset_token - len(known) // 4) < 8
    assert "of the words since then were known from before" in finding.reason
    assert math.isnan(DetectorBank([topic]).read(topic))


def speak(bank: DetectorBank, content: str, accepted: int) -> None:
    """Verify steps of eight characters each."""
    for start in range(0, len(content), 8):
        texts = ((Channel.CONTENT, content[start : start + 8]),)
        bank.observe(Sample(0, texts, 2, (StepAcceptance(accepted, 3, 2, exact=True),)))


def test_new_words_are_those_since_the_fall_or_since_the_beginning_where_there_is_nothing_to_fall_from() -> None:
    novelty = SignalRef("new_words")
    known = "the boat lies in the harbour and the harbour is full of boats that lie there for the winter, " * 4
    other = " ".join(f"{end}{word}" for word in ("lease", "court", "rent") for end in "abcdefghijklmnop") + " "
    fallen, weak, followed = (DetectorBank([novelty]) for _ in range(3))
    speak(fallen, known, 2)
    assert math.isnan(fallen.read(novelty)), "nothing fell"
    speak(fallen, other, 0)
    assert fallen.read(novelty) > 0.9
    assert "never stood before" in fallen.finding(novelty).reason
    assert abs(fallen.finding(novelty).onset_token - len(known) // 4) < 8
    speak(weak, other, 0)
    assert weak.read(novelty) > 0.9, "it was low from the first token on"
    speak(followed, known + other, 2)
    assert math.isnan(followed.read(novelty))


def test_the_room_of_a_channel_that_has_not_begun_is_a_page_less_what_came_early() -> None:
    bank = DetectorBank([RARE])
    assert bank.room(Channel.CONTENT) == 64
    bank.observe(text("early"))
    assert (bank.room(Channel.CONTENT), bank.room(Channel.REASONING)) == (59, 64)
    bank.observe(text(" words of a text."))
    assert bank.room(Channel.CONTENT) == 64 - 22
    assert DetectorBank([FALL]).room(Channel.CONTENT) > 1_000_000


def test_a_step_among_several_ends_where_its_tokens_do() -> None:
    steps = [StepAcceptance(3, 3, 4, True)] * 16 + [StepAcceptance(0, 3, 1, True)] * 8
    together, alone = DetectorBank([FALL], Baseline(0.8, 1000, 3)), DetectorBank([FALL], Baseline(0.8, 1000, 3))
    together.observe(Sample(0, (), 64 + 8, tuple(steps)))
    for step in steps:
        alone.observe(Sample(0, (), step.tokens, (step,)))
    assert together.finding(FALL) == alone.finding(FALL)
    assert together.finding(FALL).onset_token == 64


def test_the_slack_of_what_is_not_known_is_none() -> None:
    assert DetectorBank([RARE]).slack(FALL, 0.3, 16, rising=True)[0] < 0
    bank = DetectorBank([FALL, SignalRef("acceptance_length", FALL.window)], Baseline(0.8, 1000, 3))
    assert bank.slack(SignalRef("acceptance_length", FALL.window), 1.2, 16, rising=False)[0] < 0
    for _ in range(20):
        bank.observe(Sample(0, (), 4, (StepAcceptance(3, 3, 4, True),)))
    slack, share = bank.slack(FALL, 0.3, 16, rising=True)
    assert slack > 5
    assert share == pytest.approx(0.7 * 0.8)


@pytest.mark.parametrize(("kept", "reaches"), [(0, False), (1, False), (3, True)])
def test_a_bound_that_acceptance_cannot_rise_to_asks_nothing_of_the_text(kept: int, reaches: bool) -> None:
    often = SignalRef("acceptance_probability", Window(64, Unit.TOKENS))
    bank = DetectorBank([often])
    for _ in range(64):
        bank.observe(Sample(0, (), kept + 1, (StepAcceptance(kept, 3, kept + 1, True),)))
    assert bank.slack(often, 0.85, 20, rising=True) == (-1.0 if reaches else math.inf, 0.0)
    assert bank.slack(often, 0.85, 80, rising=True)[0] < 0, "what comes may be all there is in the window"


def steps_then_a_fall(refs: list[SignalRef]) -> list[float]:
    """Evidence after each step of a stream whose acceptance ends, when these signals are read besides."""
    evidence = SignalRef("acceptance_evidence")
    bank = DetectorBank([*refs, evidence])
    found: list[float] = []
    for number in range(200):
        kept = (3, 1, 0, 2)[number % 4] if number < 120 else 0
        step = StepAcceptance(accepted=kept, drafted=3, tokens=kept + 1, exact=True)
        bank.observe(Sample(0, (), kept + 1, (step,)))
        found.append(bank.read(evidence))
    return found


def test_of_several_windows_the_first_that_is_named_tells_what_is_usual() -> None:
    """Whatever the process: windows in a set would stand in another order in each."""
    falls = [SignalRef("acceptance_fall", Window(size, Unit.TOKENS)) for size in range(24, 224, 8)]
    for first in (0, 7, 24):
        alone = steps_then_a_fall([falls[first]])
        others = [*falls[:first], *falls[first + 1 :]]
        # Of the whole stream nothing is ever left behind that could be learnt from.
        several = steps_then_a_fall([SignalRef("acceptance_drop"), falls[first], *others])
        assert str(several) == str(alone)
        assert alone[-1] > 5.0
    assert str(steps_then_a_fall(falls)) != str(steps_then_a_fall(falls[::-1]))


def test_text_may_wait_while_the_draft_does_well_but_not_as_well_as_in_a_loop() -> None:
    often = SignalRef("acceptance_probability", Window(32, Unit.TOKENS))

    def ordinary(kept: tuple[int, ...], said: str = "") -> bool:
        bank = DetectorBank([often, SignalRef("repetition_count"), SignalRef("fresh_words")])
        for number in kept:
            bank.take_ahead(bytes([number, 3, number + 1]))
        bank.observe(text(said))
        return bank.is_ordinary(Channel.CONTENT)

    assert ordinary((2, 1, 2, 1, 2, 1))
    assert not ordinary((2, 1, 2)), "too few tokens say so"
    assert not ordinary((0, 1, 0, 1) * 4)
    assert not ordinary((3,) * 8), "it may be a loop"
    assert not ordinary((2, 1, 2, 1, 2, 1), "over and over. " * 9), "it is one"
    words = ["here", "they", "are", "There", "we", "were."]
    stale = " ".join(words[(number * number + number // 7) % 6] for number in range(120))
    assert not ordinary((2, 1, 2, 1, 2, 1), stale), "it says nothing new"
    news = " ".join(first + second + "o" for first in "bcdfghkl" for second in "aeiuymn")
    assert ordinary((2, 1, 2, 1, 2, 1), news)
    assert not DetectorBank([RARE]).is_ordinary(Channel.CONTENT), "nothing is known of the draft"


def test_text_that_comes_after_its_steps_stands_where_its_tokens_do() -> None:
    """Onsets are the same whether steps and text come together or steps first."""
    together, apart = DetectorBank([FALL, RARE]), DetectorBank([FALL, RARE])
    for number in range(40):
        said = f"word {number} of " if number < 30 else "\ufffd" * 9
        steps = (StepAcceptance(2, 3, 3, True),) * 2
        together.observe(Sample(0, ((Channel.CONTENT, 2 * said),), 6, steps))
        apart.take_ahead(bytes([2, 3, 3]))
        apart.take_ahead(bytes([2, 3, 3]))
        apart.observe(Sample(0, ((Channel.CONTENT, 2 * said),), 0))
        assert (apart.tokens, apart.finding(FALL)) == (together.tokens, together.finding(FALL))
        assert apart.finding(RARE) == together.finding(RARE)
    assert 150 < apart.finding(RARE).onset_token < 240
