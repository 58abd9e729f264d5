"""What one deployment's acceptance looks like while it is healthy."""

from __future__ import annotations

import msgspec

#: Verify positions a baseline must rest on before anything is judged against it.
MIN_WEIGHT = 100.0


class Baseline(msgspec.Struct, frozen=True, gc=False):
    """
    The healthy acceptance of one engine, model, draft and depth.

    Args:
        probability: Chance that one drafted token is kept, given that those before it were. In [0, 1].
        weight: Drafted positions it was measured on; below MIN_WEIGHT it is not used.
        k: Draft depth it was measured at. Unit: tokens. 0 when unknown.
    """

    probability: float
    weight: float
    k: int = 0

    @property
    def usable(self) -> bool:
        """True when it rests on enough evidence to judge against."""
        return self.weight >= MIN_WEIGHT and 0.0 < self.probability <= 1.0
