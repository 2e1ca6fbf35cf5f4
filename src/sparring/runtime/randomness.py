"""Seeds that belong to what they are for, so that no two random choices of a run share noise.

noise_seed(recipe.seed, "rounds/001/own", "example-7", 3)
"""

from __future__ import annotations

import hashlib


def noise_seed(*parts: object) -> int:
    """A 63-bit seed from what identifies a response, so that no two rows share noise."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
