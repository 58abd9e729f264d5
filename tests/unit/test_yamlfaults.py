"""All faults of a document at once: each named where the file has it, and none that only follows from another."""

from __future__ import annotations

import msgspec
import pytest

from guard.errors import ConfigError
from guard.yamldoc import Document, to_struct
from guard.yamlfaults import MOST_FAULTS, Faults


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str
    depth: int = 1


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    low: int = 1
    high: int = 2


class Whole(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    items: list[Item] = []
    section: Section = Section()


def faults_of(text: str, **stand_ins: str) -> tuple[Whole | None, list[str]]:
    document = Document(text, "f.yaml")
    faults = Faults(stand_ins)
    read = faults.look(lambda: to_struct(document, Whole), lambda _: document)
    return read, [str(error) for error in faults.in_order]


def test_places_in_lists_stay_those_of_the_file() -> None:
    read, said = faults_of(
        """name: n
items:
  - {depth: x, url: 1}
  - {depth: 2}
  - {url: a, depth: y}
  - {url: b, dpth: 3}
  - {url: c, depth: z}
section: {low: l, high: h}
"""
    )
    assert said == [
        "f.yaml:3: items[0].depth: expected a whole number, got text",
        "f.yaml:3: items[0].url: expected text, got a whole number; put it in quotes",
        "f.yaml:4: items[1]: this must be given: 'url'",
        "f.yaml:5: items[2].depth: expected a whole number, got text",
        "f.yaml:6: items[3].dpth: unknown setting 'dpth'; did you mean 'depth'?",
        "f.yaml:7: items[4].depth: expected a whole number, got text",
        "f.yaml:8: section.low: expected a whole number, got text",
        "f.yaml:8: section.high: expected a whole number, got text",
    ]
    # What had no URL is gone, and nothing was said of the first having none once it was left out.
    assert read == Whole("n", [Item("a"), Item("b", 3), Item("c")])


def test_a_section_whose_name_is_nearly_right_is_looked_into() -> None:
    read, said = faults_of("name: n\nsecton:\n  hihg: 3\n  low: x\n")
    assert said == [
        "f.yaml:2: secton: unknown setting 'secton'; did you mean 'section'?",
        "f.yaml:3: section.hihg: unknown setting 'hihg'; did you mean 'high'?",
        "f.yaml:4: section.low: expected a whole number, got text",
    ]
    assert read == Whole("n", section=Section(high=3))


def test_what_is_needed_and_missing_is_named_once_and_stood_in_for() -> None:
    assert faults_of("section: {low: x}\n", name="?") == (
        Whole("?"),
        ["f.yaml:1: section.low: expected a whole number, got text", "f.yaml:1: this must be given: 'name'"],
    )
    assert faults_of("nam: n\nitems: 3\nname: 4\n")[1] == [
        "f.yaml:1: nam: unknown setting 'nam'; did you mean 'name'?",
        "f.yaml:2: items: expected a list, got a whole number; settings of each item are url, depth",
        "f.yaml:3: name: expected text, got a whole number; put it in quotes",
    ]
    read, said = faults_of("section: {low: x}\n")
    assert read is None
    assert "f.yaml:1: this must be given: 'name'" in said


def test_what_goes_together_is_not_told_of_where_a_part_was_left_out() -> None:
    document, faults = Document("section: {low: 5, high: 3}\nother: 1\n", None), Faults()

    def read() -> None:
        section = document.data["section"] if isinstance(document.data, dict) else None
        assert isinstance(section, dict)
        if "low" in section:
            document.fail("section.low", "is odd")
        if "high" in section:
            document.fail("section.high", "is not above low")
        document.fail("other", "is unknown") if isinstance(document.data, dict) and "other" in document.data else None

    faults.look(read, lambda _: document, alone=False)
    assert [error.where for error in faults.found] == ["section.low", "other"]
    assert faults.left_out("section")
    assert not faults.left_out("sec")


def test_it_comes_to_an_end() -> None:
    document, faults = Document("".join(f"n{i}: x\n" for i in range(100)), None), Faults()
    assert faults.look(lambda: to_struct(document, Section), lambda _: document) is None
    assert len(faults.found) == MOST_FAULTS

    def always() -> None:
        raise ConfigError("wrong", where="nowhere.at.all[3]")

    for one in (None, document):
        faults = Faults()
        faults.look(always, lambda _, one=one: one)  # type: ignore[misc]
        assert len(faults.found) == 1


@pytest.mark.parametrize("where", ["a[0]", "a[9]", "a.b", "c", "", "a[1].x", "a[1][0]"])
def test_what_is_not_there_is_not_left_out(where: str) -> None:
    document = Document("a: [1, 2]\n", None)
    assert document.leave_out("a[0]")
    assert not document.leave_out(where)
    assert not document.rename(where, "z")
    assert document.data == {"a": [2]}
    assert document.error("a[0]", "wrong").where == "a[1]"
