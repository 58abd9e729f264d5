"""
Broken word shape: what a text looks like when tokens are drawn nearly at random.

Random tokens meet without regard for case, spaces and punctuation ("Errorraday", "rit. Must",
`ky("--.ri`), so joints appear that running text does not have. Code, markup and identifiers have
them by right; therefore the density in the window is measured against the text before it.
"""

from __future__ import annotations

import re

from guard.detect.window import BlockSum

_JOINT = re.compile(
    r"""
      [a-z](?=[A-Z])                                  # cameL
    | [A-Za-z][.,;:!?)\]}"](?=[A-Za-z])               # end.start
    | [A-Za-z][#~*^|<>=+\u201c({\[`@$%&\\]+(?=[A-Za-z])
    | [a-z]\d | \d[a-z]
    | \s[,.;:!?)\]](?=[\sA-Za-z])                     # space before a closing mark
    | \ufffd
    | [A-Za-z](?=[^\x00-\u02ff\u2000-\u2bff\ufffd])   # Latin meets another script
    | [^\x00-\u02ff\u2000-\u2bff\ufffd](?=[a-zA-Z])
    | [A-Z]{2}[a-z]{2}
    | [^\w\s=*\#./-]{3,}
    """,
    re.VERBOSE,
)
#: Running text without any joint, recognised several times faster than joints are counted.
_PLAIN = re.compile(r"(?:[A-Z]?[a-z]+[.,;:!?]?[ \n-]|[ \n])*[A-Z]?[a-z]*[.,;:!?]?")
#: What keys, digests and base64 are written in; lines of them follow one another without a space.
_RUN_END = re.compile(r"[A-Za-z0-9+/=_\n-]*\Z")
#: An unbroken run of this many such characters, digits among them, is a payload and not words.
_PAYLOAD = 24
_DIGIT = re.compile(r"\d")
#: Characters of overlap between blocks, so that a joint on the border is seen.
_OVERLAP = 2
#: Characters per word, to turn joints per character into joints per word.
_WORD = 5.0
#: Multiple of its own earlier density that a text may reach before anything counts.
_TOLERANCE = 1.5
#: Characters of earlier text before it serves as a measure.
_ENOUGH = 160


class GarbleScan:
    """
    Counts joints in each block.

    Joints inside an unbroken run wait until the run ends or is long enough to tell what it is: random
    letters and digits are what a digest should look like.
    """

    def __init__(self) -> None:
        self.joints = 0
        self._tail = ""
        self._run = 0
        self._run_digits = False
        self._run_joints = 0

    def feed(self, block: str) -> None:
        """Scan one block."""
        text = self._tail + block
        self._tail = block[-_OVERLAP:]
        if not self._run_joints and _PLAIN.fullmatch(text):
            space = block.rfind(" ")
            if space >= 0:
                self._run, self._run_digits = len(block) - 1 - space, False
            else:
                self._run += len(block)
            self.joints = 0
            return
        joints = len(_JOINT.findall(text))
        end = _RUN_END.search(block)
        cut = end.start() if end is not None else len(block)
        if cut == 0:
            self._run += len(block)
            self._run_digits = self._run_digits or _DIGIT.search(block) is not None
            self._run_joints += joints
            self.joints = self._settle() if self._run >= _PAYLOAD else 0
            return
        inside = len(_JOINT.findall(block[cut:])) if joints else 0
        self.joints = joints - inside + self._settle()
        self._begin(block, inside)

    def _begin(self, block: str, joints: int) -> None:
        end = _RUN_END.search(block)
        run = end.group() if end is not None else ""
        self._run, self._run_joints = len(run), joints
        self._run_digits = _DIGIT.search(run) is not None

    def _settle(self) -> int:
        """Joints of the run so far, none if it is a payload; they are not counted again."""
        joints = 0 if self._run >= _PAYLOAD and self._run_digits else self._run_joints
        self._run_joints = 0
        return joints


class GarbleWindow:
    """
    Joints per word over the latest blocks, above what the stream had before.

    Args:
        blocks: Blocks in the window; None for the whole text.
        size: Characters in a block.
    """

    def __init__(self, blocks: int | None, size: int) -> None:
        self._size = size
        self._bounded = blocks is not None
        self.joints = BlockSum(blocks)

    def value(self) -> float:
        """Reading in [0, 1]."""
        joints = self.joints
        density = _WORD * joints.total / (joints.blocks * self._size)
        if self._bounded and joints.old_blocks * self._size >= _ENOUGH:
            density -= _TOLERANCE * _WORD * joints.old / (joints.old_blocks * self._size)
        return min(1.0, max(0.0, density))
