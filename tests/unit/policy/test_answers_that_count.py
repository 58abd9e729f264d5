"""
Healthy answers that count, nest, or say a list again by right: no rule on loops stops them.

They were written before the rules on counters in words, on nesting, on names with figures put to them and on lists
said twice were tried on them, and are read as in test_answers_alike: the draft guesses every token.
"""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest

from guard.core.monitor import Monitor
from guard.policy.judge import Judge
from guard.shipped import find_policy
from guard.types import Action
from tests.unit.policy.test_answers_alike import lines, samples

ORDINALS = (  # noqa: SIM905
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth"
).split()
CARDINALS = (  # noqa: SIM905
    "One Two Three Four Five Six Seven Eight Nine Ten Eleven Twelve Thirteen Fourteen Fifteen Sixteen Seventeen "
    "Eighteen Nineteen Twenty"
).split()
NAMES = (  # noqa: SIM905
    "Ada Ben Cleo Dirk Elif Finn Gus Hana Ivo Jude Kaya Leo Mira Ned Olga Paul Quin Rosa Sven Tove Uma Vito Wanda Xenia"
).split()
PRESIDENTS = (  # noqa: SIM905
    "George Washington;John Adams;Thomas Jefferson;James Madison;James Monroe;John Quincy Adams;Andrew Jackson;"
    "Martin Van Buren;William Henry Harrison;John Tyler;James K. Polk;Zachary Taylor;Millard Fillmore;Franklin Pierce;"
    "James Buchanan;Abraham Lincoln;Andrew Johnson;Ulysses S. Grant;Rutherford B. Hayes;James A. Garfield"
).split(";")
CAPITALS = (  # noqa: SIM905
    "Albania Tirana;Andorra Andorra la Vella;Austria Vienna;Belgium Brussels;Bulgaria Sofia;Croatia Zagreb;"
    "Cyprus Nicosia;Denmark Copenhagen;Estonia Tallinn;Finland Helsinki;France Paris;Germany Berlin;Greece Athens;"
    "Hungary Budapest;Iceland Reykjavik;Ireland Dublin;Italy Rome;Latvia Riga;Lithuania Vilnius;Malta Valletta;"
    "Moldova Chisinau;Monaco Monaco;Norway Oslo;Poland Warsaw;Portugal Lisbon;Romania Bucharest;Serbia Belgrade;"
    "Slovakia Bratislava;Slovenia Ljubljana;Spain Madrid;Sweden Stockholm;Switzerland Bern;Ukraine Kyiv"
).split(";")
COLOURS = (  # noqa: SIM905
    "RED ORANGE AMBER YELLOW LIME GREEN TEAL CYAN AZURE BLUE INDIGO VIOLET PURPLE MAGENTA PINK ROSE CRIMSON MAROON "
    "BROWN TAN BEIGE IVORY WHITE SILVER GREY CHARCOAL BLACK NAVY OLIVE GOLD BRONZE COPPER RUST CORAL SALMON PEACH "
    "KHAKI MINT JADE PLUM"
).split()
GIFTS = (  # noqa: SIM905
    "a partridge in a pear tree;two turtle doves;three French hens;four calling birds;five gold rings;"
    "six geese a-laying;seven swans a-swimming;eight maids a-milking;nine ladies dancing;ten lords a-leaping;"
    "eleven pipers piping;twelve drummers drumming"
).split(";")


def schema(names: list[str]) -> Any:
    """A JSON schema of objects in objects."""
    if not names:
        return {"type": "string", "description": "The value."}
    return {
        "type": "object",
        "description": "One level of the document.",
        "additionalProperties": False,
        "properties": {names[0]: schema(names[1:])},
    }


def menu(depth: int, path: str = "Home") -> Any:
    """Pages within pages."""
    return {
        "type": "page",
        "visible": True,
        "title": path,
        "children": [menu(depth - 1, f"{path} {name}") for name in ("North", "South")] if depth else [],
    }


def thread(names: list[str]) -> Any:
    """Replies to replies."""
    found: Any = None
    for name in reversed(names):
        found = {"author": name, "text": "I agree with this.", "reply": found}
    return found


def carol() -> str:
    verses = []
    for day in range(12):
        given = [*reversed(GIFTS[1 : day + 1]), ("and " if day else "") + GIFTS[0]]
        verses.append(f"On the {ORDINALS[day]} day of Christmas my true love gave to me\n" + ",\n".join(given) + ".\n")
    return "\n".join(verses)


def nested(opening: list[str], inside: str) -> str:
    """Tags in tags."""
    down = "".join(f"{'  ' * depth}<{tag}>\n" for depth, tag in enumerate(opening))
    up = "".join(f"{'  ' * depth}</{opening[depth].split()[0]}>\n" for depth in reversed(range(len(opening))))
    return f"{down}{'  ' * len(opening)}{inside}\n{up}"


PSALM = (
    "Give thanks to the Lord, for he is good; his love endures forever.\n"
    "Give thanks to the God of gods; his love endures forever.\n"
    "Give thanks to the Lord of lords; his love endures forever.\n"
    "To him alone who does great wonders; his love endures forever.\n"
    "Who by his wisdom made the heavens; his love endures forever.\n"
    "Who spread out the earth upon the waters; his love endures forever.\n"
    "Who made the great lights; his love endures forever.\n"
    "The sun to govern the day; his love endures forever.\n"
    "The moon and the stars to govern the night; his love endures forever.\n"
    "To him who struck down the firstborn of Egypt; his love endures forever.\n"
    "And brought Israel out from among them; his love endures forever.\n"
    "With a mighty hand and outstretched arm; his love endures forever.\n"
    "To him who divided the sea asunder; his love endures forever.\n"
    "And brought Israel through the midst of it; his love endures forever.\n"
)
GAME = (
    "1. e4 e5 2. Nf3 Nc6 3. Bb5 a6 4. Ba4 Nf6 5. O-O Be7 6. Re1 b5 7. Bb3 d6 8. c3 O-O 9. h3 Nb8 10. d4 Nbd7 11. Nbd2 "
    "Bb7 12. Bc2 Re8 13. Nf1 Bf8 14. Ng3 g6 15. a4 c5 16. d5 c4 17. Bg5 h6 18. Be3 Nc5 19. Qd2 h5 20. Bg5 Be7 "
    "21. Ra3 Bc8 22. Rea1 Bd7 23. axb5 axb5 24. Rxa8 Qxa8 25. Rxa8 Rxa8 26. Qe3 Rb8 27. Nd2 Kg7 28. Kh2 Rb6 29. Nf3 "
    "Rb8 30. Kg1 Rb6 31. Kh2 Rb8 32. Kg1 Rb6 33. Kh2 Rb8 34. Kg1 draw\n"
)

ANSWERS = {
    "sevens": (
        "Write the multiplication table of 7.",
        lines("| 7 x {} | {} |\n", [(n, 7 * n) for n in range(1, 13)]),
    ),
    "all tables": (
        "Write out all times tables up to twelve.",
        "".join(
            f"### Table of {k}\n" + lines("{} x {} = {}\n", [(n, k, n * k) for n in range(1, 13)]) + "\n"
            for k in range(1, 13)
        ),
    ),
    "inserts": (
        "Write SQL that fills the table of users with 60 rows.",
        lines(
            "INSERT INTO users (id, name, email, active) VALUES ({}, 'user{}', 'user{}@example.com', TRUE);\n",
            [(n, n, n) for n in range(1, 61)],
        ),
    ),
    "colours": (
        "Write a C enum of all the colours you know.",
        "enum colour {\n" + lines("    COLOUR_{} = {},\n", [(c, n) for n, c in enumerate(COLOURS)]) + "};\n",
    ),
    "defines": (
        "Write a C header with a constant for each colour.",
        lines("#define COLOUR_{} {}\n", [(c, n) for n, c in enumerate(COLOURS)]),
    ),
    "shades": (
        "Write a C header with constants for the colours of a palette in light and dark.",
        "".join(f"#define PALETTE_{c}\n" + lines(f"#define PALETTE_{c}_{{}}\n", [(1,), (2,), (3,)]) for c in COLOURS),
    ),
    "levels of light": (
        "Write a C header for the steps of a dimmer.",
        "#define DIMMER_LEVEL\n" + lines("#define DIMMER_LEVEL_{}\n", [(n,) for n in range(1, 11)]),
    ),
    "months": (
        "Make a table for the budget of a year.",
        "| Month | Budget | Spent |\n|---|---|---|\n"
        + lines("| Month {} | Budget {} | Spent {} |\n", [(n, n, n) for n in range(1, 13)]),
    ),
    "rows to fill in": (
        "Make a table template for the guests of a wedding.",
        "| Guest | Table | Menu |\n|---|---|---|\n"
        + lines("| Guest {} | Table {} | Menu {} |\n", [(n, 1 + n // 8, 1 + n % 3) for n in range(1, 31)]),
    ),
    "twenty rows": (
        "Make a table of 20 rows for the players and their shirts.",
        "| Player | Shirt |\n|---|---|\n" + lines("| Player {} | Shirt {} |\n", [(n, n) for n in range(1, 21)]),
    ),
    "fixtures": (
        "Write JSON fixtures for the users of a shop.",
        json.dumps(
            [{"id": n, "role": "customer", "active": True, "address": {"country": "NL", "zip": None}, "orders": []}
             for n in range(1, 25)],
            indent=4,
        ),
    ),
    "schema": (
        "Write the JSON schema of an address book.",
        json.dumps(schema(["book", "person", "address", "street", "building", "floor", "room", "shelf"]), indent=2),
    ),
    "menu": ("Write the menu of our site as JSON.", json.dumps(menu(3), indent=2)),
    "thread": ("Show me how a discussion looks in JSON.", json.dumps(thread(NAMES[:12]), indent=2)),
    "divs": (
        "Write the HTML of a page with a card in the middle.",
        nested(["div class=\"page\"", "div class=\"outer\"", "div class=\"container\"", "div class=\"row\"",
                "div class=\"col\"", "div class=\"row\"", "div class=\"col\"", "div class=\"card\"",
                "div class=\"card-body\""], "<p>Hello there.</p>"),
    ),
    "mail": (
        "Write the HTML of a newsletter that old mail programs can show.",
        nested(["table width=\"100%\"", "tr", "td align=\"center\"", "table width=\"100%\"", "tr",
                "td align=\"center\"", "table width=\"100%\"", "tr", "td align=\"center\""], "Dear reader,"),
    ),
    "pyramid": (
        "How do callbacks look without promises?",
        "".join(
            f"{'  ' * n}read({'abcdefgh'[n]!r}, function (error, data) {{\n"
            f"{'  ' * (n + 1)}if (error) return done(error);\n"
            for n in range(8)
        ) + " " * 16 + "done(null, data);\n",
    ),
    "list in a list": (
        "Write a linked list as JSON.",
        "".join(f'{"  " * n}{{\n{"  " * (n + 1)}"value": {n * 7 % 5},\n{"  " * (n + 1)}"next":\n' for n in range(10)),
    ),
    "boxes": (
        "Draw a box in a box in a box.",
        "".join(f"{' ' * n}+{'-' * (40 - 2 * n)}+\n{' ' * n}|{' ' * (40 - 2 * n)}|\n" for n in range(12)),
    ),
    "psalm": ("Write down Psalm 136.", PSALM),
    "psalm unasked": ("What did they say in the temple?", PSALM),
    "carol": ("Write down the carol of the true love and the gifts.", carol()),
    "parameters": (
        "Test a function that adds two numbers.",
        "@pytest.mark.parametrize(('left', 'right', 'total'), [\n"
        + lines("    ({}, {}, {}),\n", [(a, b, a + b) for a, b in product(range(-2, 4), repeat=2)])
        + "])\ndef test_add(left, right, total):\n    assert add(left, right) == total\n",
    ),
    "unit tests": (
        "Write unit tests for a function that says whether a year is a leap year.",
        "".join(f"def test_year_{y}():\n    assert leap({y}) is {y % 4 == 0}\n\n" for y in range(1996, 2024)),
    ),
    "chess": ("Write down a long game of chess.", GAME),
    "changelog": (
        "Write a changelog for our small library.",
        "".join(f"## 1.{30 - n}.0\n\n- {('Fixed', 'Added', 'Removed')[n % 3]} support for {NAMES[n % 24]}.\n"
                "- Updated dependencies.\n- Small fixes.\n\n" for n in range(30)),
    ),
    "figures": (
        "Write a CSV of the weight of a cat, day by day.",
        "day,grams\n" + lines("{},{}\n", [(n, 4100 + n * 37 % 90) for n in range(1, 61)]),
    ),
    "capitals": ("List the capitals of all European countries.", lines("{}. {}: {}\n", [
        (n, *c.split(" ", 1)) for n, c in enumerate(CAPITALS, 1)])),
    "presidents": (
        "Who were the presidents of the United States?",
        lines("The {} president was {}.\n", zip(ORDINALS, PRESIDENTS, strict=True)),
    ),
    "guests": (
        "Tell a story of an inn that filled up.",
        lines("The {} guest was called {} and wanted a bed.\n", zip(ORDINALS, NAMES, strict=False)),
    ),
    "floors": (
        "What is in the tower?",
        lines("The {} floor is empty.\n", [(o,) for o in ORDINALS[:12]]) + "The thirteenth floor was never built.\n",
    ),
    "ordinals": (
        "Teach me the ordinals in English with a sentence for each.",
        lines("This is the {} lesson of the book.\n", [(o,) for o in ORDINALS]),
    ),
    "days in words": (
        "Count the days of a voyage for me.",
        lines("On the {} day nothing happened.\n", [(o,) for o in ORDINALS]),
    ),
    "countdown": (
        "Write the last lines of a story about a rocket.",
        "The engineers held their breath. " + lines("{}! ", [(c,) for c in reversed(CARDINALS)]) + "Ignition!\n",
    ),
    "sheep": (
        "How do I fall asleep?",
        "Close your eyes and watch them go over the fence. "
        + lines("{} sheep jumped over the fence. ", [(c,) for c in CARDINALS[:14]]) + "Are you asleep already?\n",
    ),
    "bottles": (
        "Write down the song with the green bottles on the wall.",
        "".join(
            f"{CARDINALS[n]} green bottles hanging on the wall,\n{CARDINALS[n]} green bottles hanging on the wall,\n"
            "And if one green bottle should accidentally fall,\n"
            f"There'll be {CARDINALS[n - 1].lower()} green bottles hanging on the wall.\n\n"
            for n in range(9, 0, -1)
        ),
    ),
    "commandments": (
        "Which laws did Moses bring down?",
        lines("The {} commandment: {}.\n", zip(ORDINALS, GIFTS[:10], strict=False)),
    ),
    "roulette": (
        "How do I fake a wheel of roulette in Python?",
        f"WHEEL = {list(range(37))}\nspin = random.choice(WHEEL)\n",
    ),
    "month": (
        "Show me March on one page.",
        "Mo Tu We Th Fr Sa Su\n" + "".join(f"{n:2}" + ("\n" if n % 7 == 0 else " ") for n in range(1, 32)) + "\n",
    ),
    "square": (
        "How do I reshape with numpy?",
        "array([" + ",\n       ".join(str(list(range(n, n + 6))) for n in range(1, 37, 6)) + "])\n",
    ),
    "seats": ("Which seats are free?", "Free: " + ", ".join(str(n) for n in range(1, 37)) + ".\n"),
    "two weeks": (
        "What should I cook over the next three weeks?",
        "".join(
            f"Week {week}\n\nMonday: lentil soup.\nTuesday: fried rice.\nWednesday: potatoes and herring.\n"
            "Thursday: pasta.\nFriday: fish and peas.\nSaturday: pancakes.\nSunday: roast chicken.\n\n"
            for week in (1, 2, 3)
        ),
    ),
    "three circuits": (
        "Give me three rounds of a circuit to do without stopping.",
        "Twenty squats.\nTen push-ups.\nThirty seconds of plank.\nTwelve lunges on each leg.\nTen burpees.\n"
        "Fifteen sit-ups.\nOne minute of rest.\n\n" * 3,
    ),
    "cards": (
        "Write the HTML of a page with three posts.",
        '<div class="media text-muted pt-3">\n  <img src="photo.png" width="32" height="32" alt="">\n'
        '  <p class="media-body pb-3 mb-0 small lh-125 border-bottom border-gray">\n'
        '    <strong class="d-block text-gray-dark">@username</strong>\n'
        "    Some representative placeholder content, with some information about this user. Imagine this being some "
        "sort of status update, perhaps?\n  </p>\n</div>\n" * 3,
    ),
    "times table as a table": (
        "Write the multiplication table of 7 as a table.",
        lines("| 7 x {} | {} |\n", [(n, 7 * n) for n in range(1, 31)]),
    ),
    "table of 12": (
        "Write out the table of 12 for my son.",
        lines("12 x {} = {}\n", [(n, 12 * n) for n in range(1, 31)]),
    ),
    "alphabet": (
        "What stands on the chart at the optician?",
        "\n".join(" ".join(chr(65 + (n * 7 + row) % 26) for n in range(8)) for row in range(12)) + "\n",
    ),
}  # fmt: skip


def acted(prompt: str, text: str) -> list[str]:
    monitor = Monitor(Judge(find_policy("default")), None, prompt)
    seen = [monitor.observe((sample,)) for sample in samples(text)]
    return [verdict.rule for verdict in seen if verdict.action not in {Action.PASS, Action.HOLD}]


@pytest.mark.parametrize("name", ANSWERS)
def test_what_counts_and_nests_by_right_is_no_loop(name: str) -> None:
    assert not acted(*ANSWERS[name])
