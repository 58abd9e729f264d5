"""
What the prompt allows the answer to do.

A user may ask for a sentence to be written fifty times, quote garbage to have it explained, or write in
a script of their own. None of that is a fault of the answer. Everything here is worked out only when a
detector asks, which on a healthy stream it hardly ever does, and from a bounded part of the prompt.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from functools import cached_property

from guard.detect.scripts import classify

#: Characters of a prompt looked at: this many from each end. Unit: characters.
_REACH = 32_768
#: Numbers above this are years, sizes or identifiers, not how often something is to be said.
_MOST_TIMES = 5000
_NUMBER = re.compile(r"[0-9]+")
_SPACE = re.compile(r"\s+")
_PROMPT_WORD = re.compile(r"[^\W\d_]{4,}")
#: Quoted words are what the prompt is about, not what it asks for.
_QUOTED = re.compile(r"`[^`\n]{1,80}`|\"[^\"\n]{1,80}\"|\u201c[^\u201d\n]{1,80}\u201d|\u300c[^\u300d\n]{1,80}\u300d")
#: Where a passage that is said over and over may begin.
_STARTS = re.compile(r"[.!?\n\"]\s*")
_WORDS = {
    "twice": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "twelve": 12, "dozen": 12, "fifteen": 15, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "hundred": 100, "thousand": 1000,
}  # fmt: skip
#: The same for how often a thing is to be said, where "two" cannot mean anything else.
_NUMBERS = {"two": 2} | _WORDS
#: What asks for text that repeats its frame: lists, records, code, verse.
_FRAMED = re.compile(
    r"\b(?:lists?|tables?|csv|tsv|json|ya?ml|xml|html|css|sql|rows?|lines?|entr(?:y|ies)|items?|records?|samples?|"
    r"tests?|cases?|assertions?|statements?|constants?|enums?|manifests?|config\w*|propert(?:y|ies)|class(?:es)?|"
    r"getters?|setters?|functions?|methods?|script|program|logs?|matri(?:x|ces)|array|bullets?|checklist|steps?|"
    r"write(?!\s+(?:(?:the|a|an|your|me|one|short|brief)\s+)*(?:summary|essay|letter|story|article|report|review|"
    r"speech|e-?mail|paragraphs?|introduction|explanation|description|answer)\b)|create|code|status|pages?|files?|"
    r"data|fake|dummy|invent(?:ed)?|made[- ]up|generate|each|every|all)\b",
    re.IGNORECASE,
)
#: What asks for text that repeats its frame and may bring nothing new: records, code, what stands for something else.
_RECORDS = re.compile(
    r"\b(?:tables?|csv|tsv|json|ya?ml|xml|html|css|sql|rows?|lines?|entr(?:y|ies)|records?|samples?|tests?|cases?|"
    r"assertions?|statements?|constants?|enums?|manifests?|config\w*|propert(?:y|ies)|class(?:es)?|getters?|setters?|"
    r"functions?|methods?|script|program|logs?|matri(?:x|ces)|array|code|status|pages?|files?|data|fake|dummy|mock|"
    r"invent(?:ed)?|made[- ]up|placeholders?|templates?|schedules?|timetables?|calendars?|fixtures?|forms?|labels?|"
    r"invoices?|receipts?)\b",
    re.IGNORECASE,
)
#: What asks for sentences that come again: verse, and saying a thing more than once.
_VERSE = re.compile(
    r"\b(?:songs?|sing|carols?|hymns?|psalms?|lullab(?:y|ies)|words to|lyrics?|refrain|chorus|verses?|poems?|ballads?|"
    r"chants?|(?:nursery )?rhymes?|pray(?:er)?|rosary|mantra|meditat\w*|litany|chords?)\b",
    re.IGNORECASE,
)
#: Times that are an age or a paper, are asked for, or belong to a table are none of how often a thing is said.
_AGAIN = re.compile(
    r"(?<!how many )(?<!york )(?<!modern )(?<!ancient )(?<!medieval )(?<!roman )(?<!hard )(?<!hardest )(?<!difficult )"
    r"(?<!old )(?<!our )(?<!these )(?<!the )\btimes\b(?!\s+tables?\b)"
    r"|(?<!marketing )(?<!advertising )(?<!sales )(?<!ad )\bcop(?:y|ies)\b"
    r"(?!\s+(?:edit|writ|machine|a\s+file|files?\b))"
    r"|\b(?:twice|thrice|once more|repeat(?:ed|edly|ing)?|duplicate|again and again|over and over|verbatim)\b"
    r"|\bon every line\b"
    r"|\b(?:keep|go) (?:on )?(?:saying|writing|typing|printing|singing)\b"
    r"|\b(?:say|write|type|print|output|send|post)(?: out| only| me)? the same "
    r"(?:word|sentence|line|phrase|letter|message)"
    r"|\b(?:say|write|type|print|output)\b[^.!?\n]{0,60}\b(?:forever|endlessly|without (?:end|stopping))\b"
    r"|\b[0-9]{1,4} ?x(?=\s*(?:[.!?]|$))",
    re.IGNORECASE,
)
#: What asks for figures, signs or forms that are the same all over.
_PATTERN = re.compile(
    r"(?<!weather )\bpatterns?\b|(?<!power )\bgrids?\b|(?<!heart )\bbeats?\b|\bboards?\b(?!\s+of\b)"
    r"|\bbinary\b(?!\s+stars?\b)|\bdraw(?:s|n|ings?)?\b(?!\s+(?:(?:a|any|the)\s+)?conclusions?\b)"
    r"|\bcount(?:s|ed|ing|down)?\b"
    r"|\b(?:ascii|mazes?|zero(?:s|es|ed)?|blank|empty|placeholders?|skeletons?|"
    r"templates?|dummy|null|hex\w*|decimals?|digits?|dots?|dashes|asterisks?|hyphens?|spaces|emojis?|"
    r"alphabet|numbers? from|melod(?:y|ies)|tunes?|drums?|rhythms?|tabs)\b",
    re.IGNORECASE,
)
#: What asks for figures, whose rows may all be the same.
_FIGURED = re.compile(
    r"\b(?:tables?|csv|tsv|json|ya?ml|xml|matri(?:x|ces)|arrays?|vectors?|tensors?|data\w*|midi|bars?|notes?|numbers?|"
    r"numeric\w*|figures|bytes?|bits?|rows?|columns?|sequences?|series|coordinates|fractions?|expansions?|samples?|"
    r"values?|readings?|measurements?|sensors?|codes?|scripts?|programs?|functions?|class(?:es)?|iterat\w*|converge\w*|"
    r"fixed[- ]point|dumps?|calendars?|timetables?|schedules?|records?|placeholders?|fake|invent(?:ed)?)\b",
    re.IGNORECASE,
)
#: What asks for a number that may come out the same each time: one to be worked out, or that names something.
_RESULT = re.compile(
    r"\b(?:calculat\w*|comput\w*|work(?:s|ed|ing)? (?:\w+ )?out|formula[es]?|equations?|roots?|sums?|products?|"
    r"averages?|means?|constants?|solv\w+|solutions?|evaluat\w+|integra\w+|limits?|derivatives?|probabilit\w+|logarithms?|"
    r"(?:co)?sines?|pi|precis\w+|accura\w+|exact\w*|approximat\w+|track\w*|ids?|identif\w+|(?:tele)?phones?|"
    r"accounts?|balances?|prices?|amounts?|timestamps?)\b",
    re.IGNORECASE,
)
#: What asks for something to be worked through or done round by round, whose frame comes back.
_WORKED = re.compile(
    r"\b(?:hanoi|recurs\w+|factorials?|knit\w*|crochet\w*|moves|prints?|outputs?|simulat\w+|truth|mazes?|primes?|"
    r"(?:bubble|insertion|selection|merge|quick|heap) ?sort|binary search)\b",
    re.IGNORECASE,
)
#: How often.
_ROUNDS = re.compile(
    r"\b(?:([0-9]{1,4}|[a-z]+)\s+(?:(?:more|full|identical)\s+)?(?:times|copies)|twice)\b", re.IGNORECASE
)
#: So many rows, or a list of so many things; the table of 7 has as many rows as one likes.
_NUMBERED_ROWS = re.compile(
    r"\b(?:lists?|tables?|csv|tsv|json|xml|html|ya?ml|files?|arrays?|menus?|glossary|catalog(?:ue)?|inventory)\b"
    r"(?:\s+[a-z]+){0,2}\s+(?:of|with|for|containing)\s+(?:the\s+)?([0-9]{1,4}|[a-z]+)\s+"
    r"(?!(?:as|for|up|to|in|on|from|by|and|or|with|at)\b)"
    r"(?!(?:[a-z-]+\s+){0,2}(?:columns?|fields?|keys?|parts?|sections?|levels?|groups?|categories|tables?|lists?|words?)\b)"
    r"[a-z]"
    r"|\b([0-9]{1,4}|[a-z]+)\s+(?:rows|items|entries|records|bullets|bullet points)\b",
    re.IGNORECASE,
)
#: Fewer may as well be columns, or things of which each has many rows.
_FEWEST_ROWS = 5
#: What makes more rows of a number of things than there are of them.
_MULTIPLIED = re.compile(
    r"\b(?:each|every|all|per|by|times|hour(?:s|ly)?|da(?:ys?|ily)|week(?:s|ly)?|month(?:s|ly)?|quarter(?:s|ly)?|"
    r"years?|yearly|annual(?:ly)?)\b",
    re.IGNORECASE,
)
#: What asks for text without sense.
_RANDOM = re.compile(
    r"\b(?:passwords?|passphrases?|api[- ]keys?|random(?:ly)?|base64|uuids?|guids?|digests?|sha-?\d*|hashes|"
    r"gibberish|nonsense|scrambled?|shuffled?|anagrams?|ciphers?|encrypt(?:ed)?|garbled?|lorem|regex(?:es|ps?)?)\b",
    re.IGNORECASE,
)
#: What asks for words that form no sentences.
_WORDY = re.compile(
    r"\b(?:lists?|words?|names?|keywords?|tags?|vocabulary|synonyms?|antonyms?|tokens?|transcri\w+|unpunctuated|"
    r"without punctuation|no punctuation)\b",
    re.IGNORECASE,
)
#: What the answer may need words of other languages for.
_LANGUAGES = re.compile(
    r"\b(?:languages?|translat\w*|scripts?|alphabets?|unicode|utf-?8|etymolog\w*|words?|greet\w*|hello|linguist\w*|"
    r"multilingual|i18n|locali[sz]\w*|transliterat\w*|glossary|vocabulary|dictionary|pronounc\w*)\b",
    re.IGNORECASE,
)
#: What an answer about special tokens is asked with.
_SPECIAL = re.compile(
    r"<\||\|>|<0x|\[(?:unused|PAD|MASK|CLS|SEP)|\b(?:tokeni[sz]\w*|special tokens?|templates?|vocab)\b", re.IGNORECASE
)
#: How long the answer should be, which is no number of things to be listed or counted.
_EXTENT = re.compile(
    r"\b(?:\w+|[0-9]+(?:-[0-9]+)?)\s+(?:or (?:more|so|less|fewer)\s+)?(?:more\s+)?(?:full\s+|short\s+|long\s+)?"
    r"(?:pages?|paragraphs?|chapters?)\b|\bcommand[ -]lines?\b",
    re.IGNORECASE,
)
#: Words that show the patterns above can be trusted: the prompt is in English.
_ENGLISH = re.compile(r"\b(?:the|a|an|of|to|in|is|are|and|with|for|how|what|please|me)\b", re.IGNORECASE)
#: What asks for rows that only stand for those to come.
_STAND_INS = re.compile(
    r"\b(?:placeholders?|templates?|skeletons?|dummy|mock\w*|fake|generic|samples?|examples?|test data|invent(?:ed)?|"
    r"made[- ]up|blank|empty|forms?|labels?|stubs?|lorem|fixtures?)\b",
    re.IGNORECASE,
)
#: What asks for things in things of the same kind.
_NESTED = re.compile(
    r"\b(?:nest(?:s|ed|ing)?|recurs\w+|depths?|deep(?:ly|er)?|levels?|trees?|fractals?)\b", re.IGNORECASE
)
_COUNTING = re.compile(
    r"\b(?:count|number|numeral|ordinal|list|table|enumerate|sequence|range|integer|digit|index|to)", re.IGNORECASE
)


class Prompt:
    """
    The prompt of one request, as context.

    Args:
        text: What the user (and the system) wrote; empty when it is not known.
    """

    def __init__(self, text: str = "") -> None:
        self._text = text if len(text) <= 2 * _REACH else text[:_REACH] + "\n" + text[-_REACH:]

    @property
    def known(self) -> bool:
        """True when there is a prompt to go by."""
        return bool(self._text)

    @cached_property
    def _plain(self) -> str:
        return _SPACE.sub(" ", self._text).casefold()

    @cached_property
    def _request(self) -> str:
        return _EXTENT.sub(" ", _QUOTED.sub(" ", self._text))

    @cached_property
    def times(self) -> int:
        """Highest number the prompt names that can be a count of repeats; 0 when there is none."""
        asked = _EXTENT.sub(" ", self._text)
        found = [int(run) for run in _NUMBER.findall(asked) if len(run) <= 4]
        found += [_WORDS[word] for word in asked.casefold().split() if word in _WORDS]
        return max((number for number in found if number <= _MOST_TIMES), default=0)

    @cached_property
    def counting(self) -> bool:
        """True when a run of numbers may have been asked for; also when the prompt is not known."""
        return not self._text or self.times > 0 or _COUNTING.search(self._request) is not None

    @cached_property
    def framed(self) -> bool:
        """True when text that repeats its frame may have been asked for; also when that cannot be told."""
        return _ENGLISH.search(self._request) is None or _FRAMED.search(self._request) is not None or self.refrain

    @cached_property
    def records(self) -> bool:
        """True when frames alone may have been asked for, with nothing new in them; also when that cannot be told."""
        return _ENGLISH.search(self._request) is None or _RECORDS.search(self._request) is not None or self.refrain

    @cached_property
    def worked(self) -> bool:
        """True when the prompt asks for something that is done round by round in nearly the same words."""
        return _WORKED.search(self._request) is not None

    @cached_property
    def refrain(self) -> bool:
        """True when the prompt asks for sentences that come again."""
        return _VERSE.search(self._request) is not None or _AGAIN.search(self._request) is not None

    @cached_property
    def rounds(self) -> float:
        """How often at most a passage may have been asked for; 0 when the prompt speaks of nothing of the kind."""
        if not self.refrain:
            return 0.0
        if _VERSE.search(self._request) is not None:
            return math.inf
        found = [match[1].casefold() if match[1] else "two" for match in _ROUNDS.finditer(self._request)]
        most = max((int(said) if said.isdecimal() else _NUMBERS.get(said, 0) for said in found), default=0)
        return float(most) or math.inf

    @cached_property
    def rows(self) -> int:
        """How many rows or items the prompt wants; 0 where it does not say, wants few, or names a greater number."""
        found = [(match[1] or match[2]).casefold() for match in _NUMBERED_ROWS.finditer(self._request)]
        most = max((int(said) if said.isdecimal() else _NUMBERS.get(said, 0) for said in found), default=0)
        return most if most >= max(self.times, _FEWEST_ROWS) else 0

    @cached_property
    def multiplied(self) -> bool:
        """True when there may be several rows for each of what the prompt counts."""
        return _MULTIPLIED.search(self._request) is not None

    @cached_property
    def uniform(self) -> bool:
        """True when text that is the same all over may have been asked for; also when that cannot be told."""
        return self.records or self.worked or _PATTERN.search(self._request) is not None

    @cached_property
    def stand_ins(self) -> bool:
        """True when rows that stand for others may have been asked for; also when the prompt is not known."""
        return not self._text or _STAND_INS.search(self._request) is not None

    @cached_property
    def nested(self) -> bool:
        """True when things nested in each other may have been asked for."""
        return _NESTED.search(self._request) is not None

    @cached_property
    def figures(self) -> bool:
        """True when figures that come again may have been asked for; also when that cannot be told."""
        request = self._request
        if _ENGLISH.search(request) is None or self.refrain or self.worked:
            return True
        return _FIGURED.search(request) is not None or _PATTERN.search(request) is not None

    @cached_property
    def numeric(self) -> bool:
        """True when the prompt has figures of its own, or may ask for some, or for a result."""
        return self.figures or _NUMBER.search(self._text) is not None or _RESULT.search(self._request) is not None

    def has_words(self, words: Collection[str]) -> bool:
        """
        Whether the prompt has all of the words that have four letters and more, of which there is one.

        Args:
            words: In lower case.
        """
        wanted = {word for word in words if _PROMPT_WORD.fullmatch(word)}
        return bool(wanted) and wanted <= set(_PROMPT_WORD.findall(self._plain))

    @cached_property
    def random(self) -> bool:
        """True when the prompt asks for text without sense."""
        return _RANDOM.search(self._request) is not None

    @cached_property
    def wordy(self) -> bool:
        """True when words without sentences may have been asked for."""
        return self.random or _WORDY.search(self._request) is not None

    @cached_property
    def special(self) -> bool:
        """True when special tokens may be what the answer is about."""
        return _SPECIAL.search(self._text) is not None

    @cached_property
    def languages(self) -> bool:
        """True when words of other languages may have been asked for; also when the prompt is not known."""
        return not self._text or _LANGUAGES.search(self._text) is not None

    @cached_property
    def scripts(self) -> frozenset[str]:
        """Scripts the prompt is written in."""
        return frozenset(found.script for found in map(classify, self._unusual) if found.script)

    @cached_property
    def rare(self) -> frozenset[str]:
        """Rare and odd characters that the prompt itself holds."""
        return frozenset(character for character in self._unusual if any(classify(character)[1:]))

    @cached_property
    def _unusual(self) -> frozenset[str]:
        return frozenset(self._text) if not (self._text.isascii() and self._text.isprintable()) else frozenset()

    def stems_among(self, stems: Collection[str]) -> set[str]:
        """
        Those of the stems with which a word of the prompt begins.

        Args:
            stems: First letters of words, in lower case.
        """
        wanted = set(stems)
        sizes = {len(stem) for stem in wanted if stem}
        return {word[:size] for word in _PROMPT_WORD.findall(self._plain) for size in sizes} & wanted

    def says(self, words: list[str]) -> bool:
        """
        Whether the prompt holds words in this order.

        Args:
            words: A row of them, in lower case.

        Returns:
            True when it has at least half of the rows of three of them.
        """
        rows = [" ".join(words[place : place + 3]) for place in range(len(words) - 2)]
        return bool(rows) and 2 * sum(row in self._plain for row in rows) >= len(rows)

    def asked_for(self, passage: str, count: float) -> bool:
        """
        Whether the prompt asks for this passage to be repeated.

        Args:
            passage: One period of a repetition, beginning anywhere in it.
            count: How often it has been said.

        Returns:
            True when the prompt holds the passage and a number no smaller than the count.
        """
        if not self._text or count > self.times:
            return False
        plain = _SPACE.sub(" ", passage).casefold()
        wanted = {plain.strip()}
        for start in list(_STARTS.finditer(plain))[:4]:
            wanted.add((plain[start.end() :] + plain[: start.end()]).strip())
        return any(len(said.rstrip(".!? \n")) > 1 and said.rstrip(".!? \n") in self._plain for said in wanted)
