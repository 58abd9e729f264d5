"""
What is recorded as traces: tasks of many kinds, and the same kinds of task with the KV cache really corrupted.

Every corruption is recorded twice, over a task of either half (see `guard.lab.trace_labels.half_of`), so that the
halves differ in their prompts and not in what was done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from guard.lab.inject import FaultPlan
from guard.lab.trace_labels import HALVES, Half, half_of

#: Tokens of a trace whose fault comes early, or that has none. Unit: tokens.
NUM_TOKENS = 220
#: Tokens of a trace whose fault comes late. Unit: tokens.
LATE_NUM_TOKENS = 300
#: From this onset on a fault is late. Unit: tokens.
LATE = 150
#: Rows at the beginning that stay: attention rests on them, and without them no text is left to judge. Unit: rows.
FIRST_ROW = 4
#: Draft depths. Unit: tokens.
DEPTHS = (3, 2, 5)
TEMPERATURES = (0.0, 0.7, 1.0)


class Task(NamedTuple):
    """
    One thing to ask.

    Args:
        prompt: What is asked.
        sort: What kind of text the answer is; becomes the subkind.
        hard_negative: Why a good answer is easily taken for a bad one, as in a case; None for ordinary ones.
    """

    prompt: str
    sort: str
    hard_negative: str | None = None


_PARAGRAPH = (
    "The harbour office opens at seven. Boats longer than ten metres must register before noon, pay the mooring fee "
    "at the second window and keep the receipt on board. Water and power are at every berth; rubbish goes to the "
    "yard behind the crane, never over the side. Dogs stay on a lead along the quay."
)
_LIST = "apples, bread, candles, dates, eggs, flour, grapes, honey, ink, jam, kettle, lemons, matches, nuts, oil"

#: Tasks by name, each recorded without a fault.
TASKS = {
    "explain": Task("Explain at length how a lock and key works, in at least five paragraphs.", "prose"),
    "story": Task("Tell a long story about a baker who finds a map in a sack of flour.", "prose"),
    "history": Task("What were the main effects of the invention of the printing press? Answer in detail.", "prose"),
    "compare": Task("Compare trains and buses for travelling between two cities. Write a full page.", "prose"),
    "letter": Task("Write a long letter to a friend about moving to a village by a lake.", "prose"),
    "review": Task("Write a detailed review of a small restaurant that serves only soup.", "prose"),
    "speech": Task("Write the speech of a mayor who opens a new bridge, about 300 words.", "prose"),
    "essay": Task("Write an essay on why people keep gardens, with an introduction and a conclusion.", "prose"),
    "bees": Task("Explain in detail how a beehive is organised over the year.", "prose"),
    "museum": Task("Write a long guide for visitors of a museum of old radios.", "prose"),
    "market": Task("Describe a busy market in the early morning, with sights, sounds and smells, in five paragraphs.",
                   "prose"),
    "diary": Task("Write a week of diary entries by a person who repairs clocks.", "prose"),
    "repot": Task("Describe step by step and in detail how to repot a plant that has become too large.", "steps"),
    "recipe": Task("Write a recipe for a vegetable pie, with ingredients and detailed steps.", "steps"),
    "weather": Task("Explain where rain comes from to a child, with many examples.", "prose"),
    "shy": Task("How can somebody who is shy learn to speak in front of a group? Give long advice.", "prose"),
    "news": Task("Write a newspaper article about a town that gets its first cinema.", "prose"),
    "shell": Task("Write a long shell script that makes a backup of a folder, with comments on each line.", "code"),
    "python": Task("Write a Python class for a bank account with five methods, and show how it is used.", "code"),
    "html": Task("Write an HTML page with a heading, a table of four rows and a form with five fields.", "code"),
    "sql": Task("Write SQL that creates tables for a school library, inserts ten rows and asks three questions.",
                "code", "text"),
    "javascript": Task("Write JavaScript functions to add, subtract, multiply and divide, each with a test.", "code"),
    "planets": Task("Make a Markdown table of the eight planets with size, distance and number of moons.",
                    "table", "text"),
    "timetable": Task("Make a timetable for a school week as a Markdown table, one row for each hour.",
                      "table", "text"),
    "csv": Task("Write a CSV file of twenty employees with id, name, city and salary.", "table", "text"),
    "packing": Task("List twenty things to pack for a week in the mountains, with a reason for each.", "list"),
    "ideas": Task("Give thirty short ideas for a birthday party, numbered.", "list"),
    "glossary": Task("Write a glossary of twenty sailing words, one line each.", "list"),
    "books-json": Task("Give a JSON array of eight books, each with title, author, year and tags.", "json", "text"),
    "config-json": Task("Write a long JSON configuration for a web server with four virtual hosts.", "json", "text"),
    "to-french": Task("Translate into French: The children walk to the market, buy three red apples, and give one "
                      "to the old man who sits by the fountain every morning.", "translation"),
    "to-spanish": Task("Translate each line into Spanish: Good morning. Where is the station? I would like a coffee. "
                       "The train is late. How much is the ticket? Thank you very much.", "translation"),
    "french": Task("Écris en français une longue description d'une ville au bord de la mer.", "language", "text"),
    "spanish": Task("Escribe en español un cuento largo sobre un gato que vive en un faro.", "language", "text"),
    "german": Task("Schreibe auf Deutsch einen langen Text über einen Wald im Winter.", "language", "text"),
    "russian": Task("Напиши по-русски короткий рассказ о собаке и реке.", "language", "text"),
    "greek-letters": Task("List all letters of the Greek alphabet: name, capital and small symbol.", "symbols", "text"),
    "dialogue": Task("Write a long dialogue between a teacher and a pupil about why the sea is salty.", "dialogue"),
    "interview": Task("Write an interview with a lighthouse keeper, ten questions and ten answers.", "dialogue"),
    "poem": Task("Write a poem of eight stanzas about the first snow.", "poem"),
    "ballad": Task("Write a ballad about a ship and its captain, with a refrain after every verse.", "poem", "text"),
    "equation": Task("Solve 3x + 7 = 25 and explain every step in detail.", "maths"),
    "word-problem": Task("A train goes 60 km in 45 minutes. How far does it go in 3 hours? Show all work.", "maths"),
    "squares": Task("Write the squares of the numbers from 1 to 30, one on each line.", "maths", "text"),
    "copy-paragraph": Task(f"Copy this text exactly, word for word: {_PARAGRAPH}", "copy", "high_accept"),
    "copy-twice": Task(f"Copy the following text two times. {_PARAGRAPH}", "copy", "high_accept"),
    "copy-list": Task(f"Write this list, one thing on each line: {_LIST}.", "copy", "high_accept"),
    "lines": Task("Write the sentence 'I will water the plants on Monday.' twenty times, one on each line.",
                  "repeat", "text"),
    "word": Task("Write the word hello one hundred times.", "repeat", "text"),
    "count": Task("Count from 1 to 100, one number on each line.", "repeat", "text"),
}  # fmt: skip

#: Prompts over which this model tends to say the same thing again and again when it is greedy.
LOOPS = {
    "counting": "Count the stars one by one and say what you feel at each.",
    "refrain": "Write the refrain of a song that never ends.",
    "chant": "Chant the word river, slowly, for a long time.",
    "clock": "Describe every tick of a clock for one hour.",
    "rooms": "Describe a house with a thousand rooms, room by room.",
    "waves": "Describe the waves that come to the beach, one after the other, without an end.",
    "steps": "Tell how a man climbs a stair of five hundred steps, step by step.",
    "names": "List the names of two hundred villages.",
    "sheep": "Tell me about each sheep that jumps over the fence until I sleep.",
    "letters": "Write very many words that begin with the letter q.",
    "thanks": "Thank every person in a town of three thousand, one after the other.",
    "why": "Answer the question why, and then ask why of your answer, and go on for ever.",
}

#: Tasks over which the cache is corrupted. Long prose, so that what goes wrong is the corruption's doing.
FAULTED = ("explain", "story", "history", "compare", "letter", "review", "speech", "essay", "interview", "bees",
           "museum", "repot", "recipe", "python")  # fmt: skip

#: What is done to the cache: fault, onset token, rows hit from FIRST_ROW on (None: all).
CORRUPTIONS = (
    ("noise", 0, None), ("noise", 0, 12), ("noise", 15, None), ("noise", 15, 24), ("noise", 15, 8),
    ("noise", 70, None), ("noise", 70, 16), ("noise", 160, None),
    ("noise", 160, 40), ("noise", 160, 16),
    ("zero_half", 0, None), ("zero_half", 15, None), ("zero_half", 15, 24), ("zero_half", 70, None),
    ("zero_half", 70, 32), ("zero_half", 160, None), ("zero_half", 160, 80),
    ("shuffle", 0, None), ("shuffle", 15, None), ("shuffle", 15, 24), ("shuffle", 70, None),
    ("shuffle", 70, 32), ("shuffle", 160, None), ("shuffle", 160, 80),
    ("splice", 0, None), ("splice", 15, None), ("splice", 15, 24), ("splice", 70, None),
    ("splice", 70, 32), ("splice", 160, None), ("splice", 160, 80),
)  # fmt: skip

#: What is done to the draft's own cache, all rows with noise: onset tokens.
DRAFT_ONSETS = (1, 20, 60, 100, 160, 180)


class Plan(msgspec.Struct, frozen=True):
    """
    One trace to be recorded.

    Args:
        id: Its name.
        prompt: What is asked.
        subkind: The sort of text, the fault, "loop", or "draft_only".
        temperature: Sampling temperature.
        depth: Draft depth. Unit: tokens.
        num_tokens: Length at most. Unit: tokens.
        fault: What is done to the target's cache, if anything.
        draft_onset: Token at which the draft's own cache is overwritten, if it is.
        hard_negative: Why the trace is easily taken for a bad one, should it be healthy.
        half: Where it belongs; None: by its prompt.
    """

    id: str
    prompt: str
    subkind: str
    temperature: float = 0.0
    depth: int = 3
    num_tokens: int = NUM_TOKENS
    fault: FaultPlan | None = None
    draft_onset: int | None = None
    hard_negative: str | None = None
    half: Half | None = None


def in_fair_order(plans: Iterable[Plan]) -> list[Plan]:
    """The same in an order that makes what was recorded until an interruption a fair sample."""
    return sorted(plans, key=lambda plan: hashlib.sha256(plan.id.encode()).digest())


def asked_plan(half: Half, name: str, task: Task, temperature: float, num_tokens: int = NUM_TOKENS) -> Plan:
    """A trace of one of the later sets without a fault; its id begins with the name of the set."""
    return Plan(
        f"{half.value}-{name}-t{temperature:g}-k3",
        task.prompt,
        task.sort,
        temperature,
        3,
        num_tokens,
        hard_negative=task.hard_negative,
        half=half,
    )


def corrupted_plans(
    half: Half,
    corruptions: Iterable[tuple[str, int, int | None, str]],
    prompts: Mapping[str, str],
    temperatures: Sequence[float],
    seed: int,
) -> Iterator[Plan]:
    """
    The traces of one of the later sets whose cache is corrupted.

    Args:
        half: The set.
        corruptions: Fault, token of its onset, rows (None: all), name of the prompt.
        prompts: By name.
        temperatures: In turn.
        seed: Of the first fault's noise; the next has the next one.
    """
    for index, (fault, onset, rows, task) in enumerate(corruptions):
        yield Plan(
            f"{half.value}-{fault}-{rows or 'all'}-at{onset}-{task}",
            prompts[task],
            fault,
            temperatures[index % len(temperatures)],
            3,
            NUM_TOKENS,
            fault=FaultPlan(fault, onset_token=onset, seed=seed + index, first_row=FIRST_ROW, num_rows=rows),
            half=half,
        )


def plans() -> list[Plan]:
    """All traces, in an order that makes what was recorded until an interruption a fair sample."""
    made = [*_corrupted(), *_draft_only(), *_loops(), *_healthy()]
    return in_fair_order(made)


def _healthy() -> Iterator[Plan]:
    for index, (name, task) in enumerate(TASKS.items()):
        for turn in range(2):
            depth = DEPTHS[(index + turn) % 3]
            temperature = TEMPERATURES[(index // 3 + turn) % 3]
            yield Plan(
                f"healthy-{name}-t{temperature:g}-k{depth}",
                task.prompt,
                task.sort,
                temperature,
                depth,
                hard_negative=task.hard_negative,
            )


def _loops() -> Iterator[Plan]:
    for index, (name, prompt) in enumerate(LOOPS.items()):
        depth = DEPTHS[index % 3]
        yield Plan(f"loop-{name}-k{depth}", prompt, "loop", depth=depth)


def _corrupted() -> Iterator[Plan]:
    tasks = {half: [name for name in FAULTED if half_of(TASKS[name].prompt) is half] for half in HALVES}
    for index, (fault, onset, rows) in enumerate(CORRUPTIONS):
        for turn, half in enumerate(HALVES):
            task = tasks[half][index % len(tasks[half])]
            depth = DEPTHS[(index + turn) % 3]
            temperature = TEMPERATURES[(index // 2 + turn) % 3]
            yield Plan(
                f"{fault}-{rows or 'all'}-at{onset}-{task}-t{temperature:g}-k{depth}",
                TASKS[task].prompt,
                fault,
                temperature,
                depth,
                LATE_NUM_TOKENS if onset >= LATE else NUM_TOKENS,
                fault=FaultPlan(fault, onset_token=onset, seed=index, first_row=FIRST_ROW, num_rows=rows),
            )


def _draft_only() -> Iterator[Plan]:
    tasks = {half: [name for name in FAULTED if half_of(TASKS[name].prompt) is half] for half in HALVES}
    for index, onset in enumerate(DRAFT_ONSETS):
        for turn, half in enumerate(HALVES):
            task = tasks[half][(2 * index + turn) % len(tasks[half])]
            depth = DEPTHS[(index + turn) % 3]
            temperature = TEMPERATURES[(index + 2 * turn) % 3]
            yield Plan(
                f"draft-noise-at{onset}-{task}-t{temperature:g}-k{depth}",
                TASKS[task].prompt,
                "draft_only",
                temperature,
                depth,
                LATE_NUM_TOKENS if onset >= LATE else NUM_TOKENS,
                draft_onset=onset,
                hard_negative="low_accept",
            )
