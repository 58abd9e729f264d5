"""The bank of a choice whose tokens come with log-probabilities."""

from __future__ import annotations

import math

import pytest

from guard.detect.bank import DetectorBank
from guard.detect.told import ToldBank, bank_for
from guard.types import Channel, Sample, SignalRef, Unit, Window

MEAN = SignalRef("logprob_mean", Window(32, Unit.TOKENS))
RARE = SignalRef("rare_characters", Window(64, Unit.CHARACTERS))


def test_it_reads_log_probabilities_beside_all_else() -> None:
    bank = bank_for([MEAN, RARE, SignalRef("tokens")], told=True)
    for _ in range(16):
        bank.observe(Sample(0, ((Channel.CONTENT, "a word or "),), 2, (), (-1.5, -2.5)))
    assert (bank.read(MEAN), bank.read(RARE), bank.read(SignalRef("tokens"))) == (-2.0, 0.0, 32.0)
    bank.observe(Sample(0, (), 8))
    found = bank.finding(MEAN)
    assert (found.value, found.onset_token) == (-2.0, 8)
    assert found.reason == "mean log-probability of the latest 32 tokens is -2.00"
    assert bank.finding(RARE).signal is RARE


def test_log_probabilities_alone_change_the_version() -> None:
    bank = bank_for([MEAN], told=True)
    before = bank.version
    bank.observe(Sample(0, (), 0, (), (-1.0,)))
    assert bank.version != before


def test_without_any_the_reading_is_unknown() -> None:
    bank = bank_for([MEAN], told=True)
    bank.observe(Sample(0, ((Channel.CONTENT, "words " * 40),), 60))
    assert math.isnan(bank.read(MEAN))


def test_a_policy_that_reads_none_has_the_usual_bank() -> None:
    assert type(bank_for([RARE], told=False)) is DetectorBank
    assert type(bank_for([RARE, MEAN], told=True)) is ToldBank
    with pytest.raises(KeyError):
        DetectorBank([MEAN])
