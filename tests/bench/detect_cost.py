"""
What the detectors cost: CPU per token and memory per stream, on usual text and on text made to be dear.

Run: `python -m tests.bench.detect_cost [POLICY]`. Figures are the least of several repeats, in CPU time
of this process, so that other work on the machine disturbs them little. The text path is what one stream
pays for its text: every text detector that the policy reads, fed token by token. The second column adds
acceptance and the policy's decision after each chunk. For a quadratic case, the cost per token of a long
stream is held against that of a short one.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator

from guard.core.monitor import Monitor
from guard.detect import familiar, pages
from guard.detect.bank import DetectorBank
from guard.detect.baseline import Baseline
from guard.detect.catalogue import CATALOGUE
from guard.policy.judge import Judge
from guard.shipped import find_policy
from guard.types import AT_FALL, Channel, Sample, StepAcceptance

#: Characters of each token.
TOKEN = 4
SHORT, LONG = 4_000, 40_000
MEMORY_TOKENS = 100_000
REPEATS = 5
FRAMES = (
    "The {} of the {} had {} before the {} was over, and nobody {} it.",
    "When {} came to {}, she found that every {} in the {} was {}.",
    "It is not {} to say that {} and {} are the same; a {} {} will do.",
    "He {} the {} on the {}, took his {} and went down to the {} without a {}.",
    "Why a {} should {} in {} has puzzled {} for as long as there were {}.",
    "From {} to {} the {} runs along the {}, past {} and the old {}.",
)
CODE = 'def post_{0}(self, account: str, amount: Decimal) -> Entry:\n    if amount != {1}:\n        raise {0}("no")\n'


def words(dice: random.Random) -> Iterator[str]:
    """Made-up words, so that no text is a loop."""
    while True:
        yield "".join(dice.choice(("ka", "lo", "mi", "ru", "ten", "sor", "vel")) for _ in range(dice.randint(1, 4)))


def prose(size: int) -> str:
    """Sentences in ever new words around the small words of English."""
    dice = random.Random(1)
    made = words(dice)
    stock = [next(made) for _ in range(3000)]

    def sentence() -> str:
        frame = dice.choice(FRAMES)
        return frame.format(*(dice.choice(stock) for _ in range(frame.count("{}")))) + " "

    return fill(size, sentence)


def code(size: int) -> str:
    """Python with ever new names."""
    made, dice = words(random.Random(2)), random.Random(2)
    return fill(size, lambda: CODE.format(next(made) + "_" + next(made), dice.randrange(1000)))


def chinese(size: int) -> str:
    """Ideographs of a usual stock."""
    dice = random.Random(3)
    return fill(size, lambda: "".join(chr(0x4E00 + int(dice.betavariate(1, 4) * 2000)) for _ in range(12)) + "，")


def emoji(size: int) -> str:
    """Nothing but emoji: four bytes a character."""
    dice = random.Random(4)
    return fill(size, lambda: "".join(chr(0x1F300 + dice.randrange(500)) for _ in range(16)))


def noise(size: int) -> str:
    """Pieces of everything, as a corrupted cache gives."""
    dice = random.Random(5)
    pieces = ["да", "漢", "ของ", " the", "ing ", "<|x|>", "\ufffd", "});", "Er", "ror", "\n", " 5", "ness", "\u2766"]
    return fill(size, lambda: "".join(dice.choice(pieces) for _ in range(20)))


def loop(size: int) -> str:
    """One sentence over and over."""
    return fill(size, lambda: "The reference corpus is a collection of texts that are used for research. ")


def near_loop(size: int) -> str:
    """A loop of 2000 characters whose period breaks just before it is found, again and again."""
    made = words(random.Random(6))
    row = "".join(next(made) + " " for _ in range(220))[:1990]
    return fill(size, lambda: row + next(made)[:9].ljust(10))


def anchors(size: int) -> str:
    """The same 30 characters everywhere, so that the search for a period has most to look through."""
    made = words(random.Random(7))
    return fill(size, lambda: "a" * 30 + next(made)[:2])


def periods(size: int) -> str:
    """Fibonacci word: every suffix has recurred, with ever new periods."""
    older, newer = "a", "ab"
    while len(newer) < size:
        older, newer = newer, newer + older
    return newer[:size]


def one_character(size: int) -> str:
    """A flood."""
    return "!" * size


def fill(size: int, piece: Callable[[], str]) -> str:
    """Pieces until there are enough characters."""
    parts: list[str] = []
    length = 0
    while length < size:
        parts.append(piece())
        length += len(parts[-1])
    return "".join(parts)[:size]


USUAL = (prose, code, chinese)
DEAR = (emoji, noise, loop, near_loop, anchors, periods, one_character)


def samples(text: str, tokens: int) -> list[Sample]:
    """The text in chunks of one verify step of one to four tokens."""
    dice, found, token = random.Random(11), [], 0
    while token < tokens:
        count = min(dice.choice((1, 2, 3, 4)), tokens - token)
        piece = text[token * TOKEN : (token + count) * TOKEN]
        found.append(Sample(0, ((Channel.CONTENT, piece),), count, (StepAcceptance(count - 1, 3, count, True),)))
        token += count
    return found


def least(run: Callable[[], object], tokens: int) -> float:
    """Microseconds of CPU per token, the least of the repeats."""
    best = float("inf")
    for _ in range(REPEATS):
        gc.collect()
        begun = time.process_time()
        run()
        best = min(best, time.process_time() - begun)
    return best / tokens * 1e6


def without_steps(chunks: list[Sample]) -> list[Sample]:
    """The same text without its verify steps."""
    return [Sample(chunk.choice, chunk.texts, chunk.tokens, ()) for chunk in chunks]


def text_path(judge: Judge, chunks: list[Sample]) -> None:
    """Feed the text detectors alone."""
    refs = [ref for ref in judge.refs if ref.name in AT_FALL or not CATALOGUE[ref.name].needs_acceptance]
    bank = DetectorBank(refs, None, "Tell me of the ferry.")
    for chunk in chunks:
        bank.observe(chunk)


def whole(judge: Judge, chunks: list[Sample]) -> None:
    """Everything a chunk goes through, decision included, until the end whatever the verdict."""
    monitor = Monitor(judge, Baseline(0.5, 10_000.0, 3), "Tell me of the ferry.")
    for chunk in chunks:
        monitor.observe((chunk,))


def forget_shared() -> None:
    """Let go of the words that are kept for all streams."""
    familiar._PLACES.clear()
    if pages._pages is not None:
        pages._pages.forget()


def memory(judge: Judge, text: Callable[[int], str]) -> float:
    """KiB that one stream holds after MEMORY_TOKENS tokens, without what all streams share."""
    chunks = samples(text(MEMORY_TOKENS * TOKEN), MEMORY_TOKENS)
    warm = Monitor(judge, None, "")
    for chunk in chunks:
        warm.observe((chunk,))
    del warm
    forget_shared()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    monitor = Monitor(judge, None, "Tell me of the ferry.")
    for chunk in chunks:
        monitor.observe((chunk,))
    forget_shared()
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return held / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("policy", nargs="?", default="default")
    judge = Judge(find_policy(parser.parse_args().policy))
    print(f"policy {judge.policy.name}; microseconds of CPU per token; KiB per stream at {MEMORY_TOKENS} tokens")
    print(f"{'text':<14} {'text path':>9} {'whole':>7} {'long/short':>10} {'KiB':>6}")
    for text in (*USUAL, *DEAR):
        stream = text(LONG * TOKEN)
        long, short = samples(stream, LONG), samples(stream, SHORT)
        bare, few = without_steps(long), without_steps(short)
        cost = least(lambda bare=bare: text_path(judge, bare), LONG)
        ratio = cost / least(lambda few=few: text_path(judge, few), SHORT)
        total = least(lambda long=long: whole(judge, long), LONG)
        print(f"{text.__name__:<14} {cost:>9.2f} {total:>7.2f} {ratio:>10.2f} {memory(judge, text):>6.0f}", flush=True)


if __name__ == "__main__":
    main()
