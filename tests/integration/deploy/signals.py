"""Prints what each signal reads when it is the only one that is asked for, after a stream that falls and loops."""

from __future__ import annotations

import json
import math

from guard.detect.catalogue import CATALOGUE
from guard.detect.told import bank_for
from guard.types import Channel, Sample, SignalRef, StepAcceptance, Unit, Window

WORDS = [
    "the",
    "keeper",
    "lit",
    "the",
    "lamp",
    "and",
    "wrote",
    "down",
    "12",
    "ships",
    "that",
    "passed",
    "before",
    "the",
    "rain",
    "came",
    "жс\n",
]


def readings() -> dict[str, list[float | None]]:
    """By signal and window: its reading after every 40th chunk; None while unknown."""
    found: dict[str, list[float | None]] = {}
    for name, spec in CATALOGUE.items():
        for window in (None, *(Window(240 if unit is Unit.CHARACTERS else 32, unit) for unit in spec.window_units)):
            ref = SignalRef(name, window)
            bank = bank_for([ref], told=spec.needs_logprobs)
            said: list[float | None] = []
            for number in range(400):
                word = WORDS[number * 7 % len(WORDS)] if number < 240 else WORDS[number % 4]
                kept = number % 4 if number < 200 else 0
                step = StepAcceptance(accepted=kept, drafted=3, tokens=kept + 1, exact=True)
                told = tuple(-0.1 * (number % 9) for _ in range(kept + 1))
                bank.observe(Sample(0, ((Channel.CONTENT, word + " "),), kept + 1, (step,), told))
                if number % 40 == 39:
                    reading = bank.read(ref)
                    said.append(None if math.isnan(reading) else round(reading, 9))
            found[str(ref)] = said
    return found


if __name__ == "__main__":
    print(json.dumps(readings()))
