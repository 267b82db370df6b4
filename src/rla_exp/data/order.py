"""The order of training: a fresh permutation every epoch, computable for any epoch without the ones before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# first word of every seed sequence after the run's seed: what the random numbers are for
GENERATE, ORDER = 0, 1


class EpochOrder:
    """Permutations of `range(size)`, one an epoch, each a pure function of (seed, stream, epoch).

    `stream` tells apart several orders of one run. The latest permutation is kept, since steps ask for one epoch
    thousands of times in a row.
    """

    def __init__(self, size: int, seed: int, stream: int = 0) -> None:
        self.size, self.seed, self.stream = size, seed, stream
        self._latest: tuple[int, NDArray[np.int64]] | None = None

    def __call__(self, epoch: int) -> NDArray[np.int64]:
        """int64 [size], the permutation of `epoch`."""
        if self._latest is None or self._latest[0] != epoch:
            rng = np.random.default_rng((self.seed, ORDER, self.stream, epoch))
            self._latest = (epoch, rng.permutation(self.size))
        return self._latest[1]
