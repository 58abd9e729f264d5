"""
Words that do not follow one another: "the of", "a the", "their has".

Whole words drawn at random look like words and recur like words; only their order is wrong. Function
words show it, as English allows few of them side by side. Other languages simply have none of these
pairs, so they read as 0.
"""

from __future__ import annotations

_DETERMINER = "the a an this these those its their our your his my every each"
_PREPOSITION = "of in on at by for with from to into about as between through during under over than"
_JOINING = "and or but if which when where because while"
_VERB = "is are was were be been has have had will would can could may must should do does did"
_PRONOUN = "he she we they i"

#: Part of speech of each function word.
PARTS: dict[str, str] = {
    word: part
    for part, words in (
        ("D", _DETERMINER), ("P", _PREPOSITION), ("C", _JOINING), ("V", _VERB), ("N", _PRONOUN),
    )
    for word in words.split()
}  # fmt: skip
#: Words that sentences are full of, and programs and markup are not.
PROSE = frozenset(
    {
        "the", "an", "of", "to", "was", "were", "it", "we", "they", "he", "she", "you", "that", "these", "your", "his",
        "her", "their", "been",
    }
)  # fmt: skip
#: Parts that clash whatever the words: nothing but a noun or an adjective follows an article.
_NEVER = frozenset({"DD", "DC", "DV", "DN", "DP"})
#: What may stand before a conjunction or a verb after all: "of which", "about when", "to be", "as is".
_BRIDGES = frozenset({"to", "as", "in", "by", "on", "at", "of", "for", "from", "about", "with", "than", "into"})
_BRIDGED = frozenset({"which", "when", "where", "if", "be", "do", "have", "is"})
#: Words of the lists that are also nouns, pronouns or names of letters, and then may follow an article.
_ALSO_NOUNS = frozenset({"this", "these", "those", "his", "its", "a", "i", "may", "must", "can", "will"})
#: Two prepositions in a row that English knows.
_PAIRS = frozenset(
    {
        ("from", "under"), ("from", "in"), ("from", "about"), ("from", "within"), ("from", "between"),
        ("from", "over"), ("for", "over"), ("for", "under"), ("for", "about"), ("for", "between"), ("in", "between"),
        ("of", "about"), ("of", "over"), ("of", "under"), ("of", "between"), ("to", "over"), ("to", "about"),
        ("to", "under"), ("to", "between"), ("over", "to"), ("by", "over"), ("by", "about"), ("at", "about"),
        ("at", "over"), ("in", "under"), ("in", "over"), ("in", "about"), ("on", "to"), ("on", "for"), ("on", "from"),
        ("on", "with"), ("on", "by"), ("in", "by"), ("in", "from"), ("in", "for"), ("about", "to"), ("by", "to"),
        ("with", "over"), ("over", "from"), ("through", "to"), ("through", "from"), ("on", "about"), ("on", "in"),
        ("over", "by"), ("with", "about"),
    }
)  # fmt: skip


def _clashing() -> frozenset[tuple[str, str]]:
    pairs = set()
    for first, left in PARTS.items():
        for second, right in PARTS.items():
            both = left + right
            bad = both in _NEVER and not (left == "D" and second in _ALSO_NOUNS)
            if both == "PP":
                bad = (first, second) not in _PAIRS and not {"as", "than"} & {first, second}
            elif both in ("PC", "PV"):
                bad = not (first in _BRIDGES and second in _BRIDGED)
            # "from A to B", "a and b", "a is even": a letter, and no article.
            bad = bad and not (first == "a" and (right in "CV" or second == "to"))
            if bad and first not in ("this", "these", "those", "his", "each"):
                pairs.add((first, second))
    return frozenset(pairs)


#: Pairs of neighbours that running English does not have.
CLASHES = _clashing()
