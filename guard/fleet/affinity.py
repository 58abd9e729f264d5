"""
Which replica's cache a prompt belongs to: weighted rendezvous hashing.

Every guard of a fleet computes the same order without talking to the others, and a replica that comes or
goes moves only the prompts that are its own.

Source:
    D. Thaler, C. Ravishankar, "Using name-based mappings to increase hit rates", 1998; bounded loads:
    V. Mirrokni, M. Thorup, M. Zadimoghaddam, "Consistent hashing with bounded loads", 2018.
"""

from __future__ import annotations

import hashlib
import math

_MASK = (1 << 64) - 1
#: A zero of the hash would have no logarithm.
_HALF = 0.5


def stable_hash(text: str) -> int:
    """64 bits of a text, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def prefix_key(model: str, prompt: str, characters: int) -> int | None:
    """
    The key by which prompts with the same beginning meet.

    Args:
        model: Name of the model asked for.
        prompt: The prompt, from its beginning.
        characters: How much of it decides. Unit: characters.

    Returns:
        64 bits; None where affinity is off or there is no prompt to go by.
    """
    if not characters or not prompt:
        return None
    return stable_hash(f"{model}\0{prompt[:characters]}")


def distance(key: int, place: int, weight: float) -> float:
    """
    How far a replica stands from a key; the nearest is the key's own.

    Args:
        key: Of the prompt.
        place: `stable_hash` of the replica's name.
        weight: Its share of the keys, against others of weight 1.
    """
    return -math.log((_mix(key ^ place) + _HALF) / (_MASK + 1)) / weight


def _mix(value: int) -> int:
    """A bijection on 64 bits in which every bit of the result depends on every bit given (splitmix64)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
