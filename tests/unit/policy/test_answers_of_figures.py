"""
Healthy answers whose rows are figures, and code whose names repeat themselves: no rule on loops stops them.

They were written before the rules on rows of figures and on names that grow were tried (which stopped none), and are
read as in test_answers_alike: the draft guesses every token.
"""

from __future__ import annotations

import math
from itertools import accumulate, product, repeat

import pytest

from guard.core.monitor import Monitor
from guard.policy.judge import Judge
from guard.shipped import find_policy
from guard.types import Action
from tests.unit.policy.test_answers_alike import lines, samples

#: What is stopped: a counter that climbs behind the same words, and nothing else, for forty rows.
GIVEN_UP = {"external", "handlers"}
ISLANDS = ("bora_bora", "pago_pago", "moto_moto", "fafa_fafa")
#: From one on, each the cosine of the one before.
COSINES = list(accumulate(repeat(0.0, 100), lambda x, _: math.cos(x), initial=1.0))
PIANO = [(key, 27.5 * 2 ** ((key - 21) / 12)) for key in range(21, 109)]

ANSWERS = {
    "loan": (
        "Make a table for five years of loan payments of 10,000 at four percent, month by month.",
        "| Month | Interest | Left |\n|---|---|---|\n"
        + lines("| {} | {:.2f} | {:.2f} |\n", [(n, 33.3 - n / 2, 10000 - 160.2 * n) for n in range(1, 61)]),
    ),
    "monthly": (
        "Make a table of five savings plans and what is on each of them every month for three years.",
        lines("| {} | {} | {} | {} |\n", [(n, 50 * n, 75 * n, 100 * n + 3) for n in range(1, 37)]),
    ),
    "hours of five days": (
        "Make a table of five days with the temperature of every hour.",
        "| Hour | Degrees |\n|---|---|\n"
        + lines("| {} | {}.{} |\n", [(n, 9 + n % 7, n * 7 % 10) for n in range(1, 121)]),
    ),
    "piano": (
        "Make a table of twelve notes with their frequencies in all octaves.",
        "| Key | Hertz |\n|---|---|\n" + lines("| {} | {:.2f} |\n", PIANO),
    ),
    "sensors": (
        "Write a CSV file with 10 rows per sensor for 4 sensors.",
        "id,sensor,value\n" + lines("{},{},{}\n", [(n, 1 + n // 10, 20.5 + n * 3 % 7) for n in range(40)]),
    ),
    "rooms of three floors": (
        "Make a table of eight rooms on each floor with their size in square metres.",
        lines("| {} | {} | {} |\n", [(n, 100 * (1 + n // 8) + n % 8, 9 + n * 5 % 11) for n in range(1, 41)]),
    ),
    "squares": (
        "Make a table of twenty squares.",
        "| n | square |\n|---|---|\n" + lines("| {} | {} |\n", [(n, n * n) for n in range(1, 21)]),
    ),
    "a few rows more": (
        "Make a table of ten square roots.",
        "| n | root |\n|---|---|\n" + lines("| {} | {:.3f} |\n", [(n, n**0.5) for n in range(1, 17)]),
    ),
    "weeks": (
        "Make a calendar of six weeks as a table of six rows.",
        lines("| {} | {} | {} | {} | {} | {} | {} |\n", [range(n, n + 7) for n in range(1, 43, 7)]),
    ),
    "sequences": (
        "Give me a list of five sequences, with ten numbers in each.",
        "".join(f"Sequence {k}:\n" + lines("{}. {}\n", [(n, n * k + k) for n in range(1, 11)]) for k in range(1, 6)),
    ),
    "bingo": (
        "Make six bingo cards, each a table of five rows.",
        "".join(
            "| B | I | N | G | O |\n|---|---|---|---|---|\n"
            + lines("| {} | {} | {} | {} | {} |\n", [[15 * c + (3 * r + k) % 15 for c in range(5)] for r in range(5)])
            + "\n"
            for k in range(6)
        ),
    ),
    "triangle": (
        "Write the first ten rows of Pascal's triangle, then a table of twelve rows.",
        "1\n1 1\n1 2 1\n1 3 3 1\n1 4 6 4 1\n1 5 10 10 5 1\n1 6 15 20 15 6 1\n1 7 21 35 35 21 7 1\n"
        "1 8 28 56 70 56 28 8 1\n1 9 36 84 126 126 84 36 9 1\n1 10 45 120 210 252 210 120 45 10 1\n",
    ),
    "scores": (
        "Make a table of thirty scores of students with their number.",
        lines("| {} | {} |\n", [(n, 51 + n * 17 % 49) for n in range(1, 31)]),
    ),
    "no number asked": (
        "Which numbers are perfect squares, and what are their roots?",
        lines("{}. {}\n", [(n, n * n) for n in range(1, 41)]),
    ),
    "constant": (
        "Check that the sum of the squares of sine and cosine is one.",
        lines("{}. {}\n", [(n, "1.0000000000") for n in range(1, 13)]),
    ),
    "newton": (
        "Show me a list of iterations of Newton's method for the root of two.",
        "1. 1.5000000000\n2. 1.4166666667\n3. 1.4142156863\n"
        + lines("{}. 1.4142135624\n", [(n,) for n in range(4, 16)]),
    ),
    "permissions": (
        "Which permissions does each user have in Django?",
        "SELECT u.username, p.codename FROM auth_user u JOIN auth_user_user_permissions uup ON uup.user_id = u.id "
        "JOIN auth_permission p ON p.id = uup.permission_id UNION SELECT u.username, p.codename FROM auth_user u "
        "JOIN auth_user_groups ug ON ug.user_id = u.id JOIN auth_group_permissions gp ON gp.group_id = ug.group_id "
        "JOIN auth_permission p ON p.id = gp.permission_id WHERE auth_user_user_permissions.user_id IS NOT NULL;\n",
    ),
    "photographs": (
        "How should I name my photographs?",
        lines("{}_{:03}.jpg\n", product(ISLANDS, range(1, 9))),
    ),
    "dances": (
        "Which files are on the old dance tape?",
        lines("cha_cha_cha_{:02}.mp3\n", [(n,) for n in range(1, 19)]) + "na_na_na_na_na_na_hey_hey_goodbye.mp3\n",
    ),
    "products": (
        "What is in the interface of the matrix library?",
        "".join(f"void {a}_{b}_{op}(const {a}_t *x, const {b}_t *y, {a}_t *out);\n"
                for a, b, op in product(("mat", "vec"), ("mat", "vec"), ("add", "sub", "mul", "max"))),
    ),
    "derivatives": (
        "How do I take higher derivatives with a function that differentiates?",
        "d_f = d(f)\nd_d_f = d(d_f)\nd_d_d_f = d(d_d_f)\nprint(d_f(1.0), d_d_f(1.0), d_d_d_f(1.0))\n"
        "assert d_d_f(0.0) == 2.0\nassert d_d_d_f(0.0) == 0.0\n",
    ),
    "masks": (
        "How do I check hardware addresses in file names?",
        "MASK = 'xx_xx_xx_xx_xx_xx'\nif len(name) != len(MASK):\n    raise ValueError('want xx_xx_xx_xx_xx_xx')\n"
        "print(MASK)  # xx_xx_xx_xx_xx_xx\nSHORT = 'xx_xx_xx_xx'\nLONG = 'xx_xx_xx_xx_xx_xx_xx_xx'\n"
        "assert mask(name) in (SHORT, MASK, LONG), 'not xx_xx_xx_xx_xx_xx'\n" * 2,
    ),
    "thousands": (
        "How are the large numbers called?",
        'NAMES = {\n    1_000: "thousand",\n    1_000_000: "million",\n    1_000_000_000: "billion",\n'
        '    1_000_000_000_000: "trillion",\n    1_000_000_000_000_000: "quadrillion",\n'
        '    1_000_000_000_000_000_000: "quintillion",\n    1_000_000_000_000_000_000_000: "sextillion",\n}\n',
    ),
    "blanks": (
        "What goes on the slip for the parcel?",
        "Name: ____ ____ ____\nStreet: ____ ____ ____ __\nTown: ____ ____\nPhone: ___ ___ ___ ___\n"
        "From: ____ ____ ____\nStreet: ____ ____ ____ __\nTown: ____ ____\nSigned: ____ ____ ____ ____\n",
    ),
    "vectors": (
        "What does the table of interrupts look like in assembly?",
        "_vectors:\n    .word _stack_top\n" + lines("    .word _irq{}\n", [(n,) for n in range(64)]),
    ),
    "external": (
        "How do I name the buffers for the linker?",
        lines("extern char _buf{};\n", [(n,) for n in range(1, 41)]),
    ),
    "states": (
        "How do all states of the machine come to the same place?",
        "switch (state) {\n" + lines("case _S{}:\n", [(n,) for n in range(1, 41)]) + "    return idle();\n}\n",
    ),
    "handlers": (
        "Which handlers are weak by default?",
        lines("#pragma weak _Handler{}\n", [(n,) for n in range(1, 41)]),
    ),
    # Rows of figures that are the same to the letter: written before the rule on those was tried.
    "a seventh": (
        "Work out one divided by seven as exactly as you can.",
        "0." + "142857" * 60 + "\n",
    ),
    "a ninety-seventh": (
        "Divide 1 by 97 by hand and go on as long as you can.",
        "0." + f"{10**96 // 97:096d}" * 6 + "\n",
    ),
    "midi": (
        "Write the bass line as MIDI events: time, length, note and velocity.",
        "0 120 36 100, 120 120 38 96, 240 120 41 90, 360 120 43 87\n" * 12,
    ),
    "hex dump": (
        "Show me a hex dump of the test pattern in the card's memory.",
        "01 23 45 67 89 01 23 45 67 89 10 32 54 76 98 10\n" * 16,
    ),
    "equal rows": (
        "Write a matrix of ten rows that are all the same.",
        "1.0 2.5 3.7 4.2 5.9 6.1 7.8 8.3 9.4\n" * 10,
    ),
    "settled": (
        "Show how Newton's method finds the root of two, with the bounds before and after each iteration.",
        "1.000000000000000 2.000000000000000\n1.500000000000000 1.416666666666667\n"
        + "1.414213562373095 1.414213562373095\n" * 12,
    ),
    "drill": (
        "How should the brass band march in the second half?",
        "1 2 3 4 5 6 7 8, 1 2 3 4 5 6 7 8, 2 2 3 4 5 6 7 8\n" * 3,
    ),
    "sudoku": (
        "Give me a finished sudoku.",
        "".join(" ".join(str((3 * (row % 3) + row // 3 + n) % 9 + 1) for n in range(9)) + "\n" for row in range(9)),
    ),
    "bell": (
        "In which order do the bells of a church with six bells ring?",
        lines("{}\n", [("1 2 3 4 5 6",)] * 3) + "2 1 4 3 6 5\n2 4 1 6 3 5\n4 2 6 1 5 3\n4 6 2 5 1 3\n6 4 5 2 3 1\n"
        "6 5 4 3 2 1\n5 6 3 4 1 2\n5 3 6 1 4 2\n3 5 1 6 2 4\n3 1 5 2 6 4\n1 3 2 5 4 6\n1 2 3 4 5 6\n",
    ),
    # Numbers that come again under climbing ones: written before the rule on those was tried.
    "square root": (
        "How does Heron find the square root of two?",
        "1. 1.00000000000000\n2. 1.50000000000000\n3. 1.41666666666667\n4. 1.41421568627451\n5. 1.41421356237469\n"
        + lines("{}. 1.41421356237310\n", [(n,) for n in range(6, 21)]),
    ),
    "fixed point": (
        "What happens if I press the cosine key again and again?",
        lines("| {} | {} |\n", [(n, f"{x:.13f}") for n, x in enumerate(COSINES)]),
    ),
    "a seventh again": (
        "Work out 1/7, 2/14, 3/21, 4/28 and so on, to fifteen places.",
        lines("{}. 0.142857142857143\n", [(n,) for n in range(1, 17)]),
    ),
    "charge": (
        "What is the charge of the electron in each edition of the handbook?",
        "1. 1.602176462e-19\n2. 1.60217653e-19\n3. 1.602176487e-19\n4. 1.602176565e-19\n5. 1.6021766208e-19\n"
        + lines("{}. 1.602176634e-19\n", [(n,) for n in range(6, 16)]),
    ),
    "started at once": (
        "When did the jobs of last night start?",
        lines("{}. 2025-11-07 03:14:26\n", [(n,) for n in range(1, 15)]),
    ),
    "parcels": (
        "Under which number are our parcels tracked?",
        lines("{}. 340434161094042557\n", [(n,) for n in range(1, 13)]),
    ),
    "balances": (
        "How much is left in the wallets?",
        lines("{}) 0.000000000000000000\n", [(n,) for n in range(1, 13)]),
    ),
    "standing order": (
        "What do I pay into the fund?",
        lines("{}. 1,250.75\n", [(n,) for n in range(1, 25)]),
    ),
    "hotline": (
        "Whom do I call in Rome, Milan, Turin and all the other towns?",
        lines("{}. 800 123 456\n", [(n,) for n in range(1, 13)]),
    ),
    "diary": (
        "Write the diary of a keeper of a lighthouse.",
        lines("{}. June: {} ships, wind {}.{}, barometer {}.{}\n",
              [(n, n * 5 % 7, n * 3 % 9, n % 10, 29, 70 + n * 7 % 30) for n in range(1, 31)]),
    ),
    "logarithms": (
        "What are the common logarithms up to twenty?",
        lines("{}. {:.15f}\n", [(n, math.log10(n)) for n in range(1, 21)]),
    ),
}  # fmt: skip


def acted(prompt: str, text: str) -> list[str]:
    monitor = Monitor(Judge(find_policy("default")), None, prompt)
    seen = [monitor.observe((sample,)) for sample in samples(text)]
    return [verdict.rule for verdict in seen if verdict.action not in {Action.PASS, Action.HOLD}]


@pytest.mark.parametrize("name", sorted(ANSWERS.keys() - GIVEN_UP))
def test_figures_and_names_that_repeat_by_right_are_no_loops(name: str) -> None:
    assert not acted(*ANSWERS[name])


def test_those_given_up_are_still_the_only_ones() -> None:
    assert {name for name in GIVEN_UP if acted(*ANSWERS[name])} == GIVEN_UP


def test_a_table_that_goes_on_is_too_long_once_it_is_half_as_long_again_as_it_should_be() -> None:
    text = "| Weight | Price |\n" + lines("| {}   | {}.{}   |\n", [(10 + n, 2 + n // 3, n * 7 % 10) for n in range(40)])
    assert "same-item" in acted("Make a table of fifteen garden tools with weight and price.", text)
    assert not acted("Make a table of forty garden tools with weight and price.", text)
    assert not acted("Make a table of garden tools with weight and price.", text)
