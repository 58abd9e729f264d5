"""Broken word shapes, above what the text had before."""

from __future__ import annotations

from guard.detect.garble import _JOINT, _PLAIN, GarbleScan, GarbleWindow

PROSE = "A kettle takes about four minutes to boil, depending on how much water it holds and how cold it was. "
SALAD = "rit. MornWhaleght(\"--.isk Overcould,Vard lampWasher}Jtower+ notUSant a.ve'uce enneDef 1 isatCH "
CODE = 'def load(self, name):\n    value = self.cache.get(name)\n    return json.loads(value["body"])\n'


def read(text: str, blocks: int = 10) -> float:
    scan, window = GarbleScan(), GarbleWindow(blocks, 16)
    for start in range(0, len(text) - len(text) % 16, 16):
        scan.feed(text[start : start + 16])
        window.joints.add(scan.joints)
    return window.value()


def test_prose_has_none() -> None:
    assert read(PROSE * 4) < 0.02


def test_salad_stands_out() -> None:
    assert read(PROSE * 4 + SALAD * 2) > 0.15


def test_code_is_measured_against_itself() -> None:
    assert read(CODE * 12) < 0.04


def test_digests_and_base64_are_payload() -> None:
    payload = "c2hlIHdhbGtlZCA5IG1pbGVz/QkZ+81hYzA3Zm9yIGJyZWFkIGFuZCBvaWw7\n"
    assert read(payload * 5) < 0.04


def test_onset_points_at_the_first_bad_block() -> None:
    scan, window = GarbleScan(), GarbleWindow(10, 16)
    text = (PROSE * 4)[:320] + (SALAD * 2)[:96]
    for start in range(0, len(text), 16):
        scan.feed(text[start : start + 16])
        window.joints.add(scan.joints)
    assert 5 <= window.joints.onset() <= 7


def test_the_fast_path_takes_only_text_without_joints() -> None:
    for plain in ("and then, later, ", "The end.\nIt was ", "well-known things"):
        assert _PLAIN.fullmatch(plain)
        assert not _JOINT.findall(plain)
    for broken in ("end.Start of it", "some , thing", "cameL case", "a1 b2", "x=(y)", "HTMLed"):
        assert not _PLAIN.fullmatch(broken)
