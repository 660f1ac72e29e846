"""Seeds that depend on nothing but their numbers, so that a run cut anywhere draws the same."""

from __future__ import annotations

import numpy as np


def derive(*numbers: int) -> int:
    """A 63-bit seed from non-negative numbers such as (seed, epoch, batch), by NumPy's SeedSequence."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
