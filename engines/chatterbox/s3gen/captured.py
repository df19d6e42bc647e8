"""The flow's network on an NVIDIA device, recorded for the shapes that come again.

Launching its thousand operations one by one takes longer than computing them for some seconds of speech. The first
pieces of a voice's streams are of the same length each time, and it is there that a listener waits.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch

from engines.chatterbox.recording import record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from engines.chatterbox.s3gen.estimator import Estimator

RECORDINGS = 16  # that are kept, a few megabytes each
CALLS_BEFORE = 12  # of a shape until it is recorded: more than one solution of the flow has
REMEMBERED = 256  # shapes whose calls are counted


class CapturedEstimator:
    """An `Estimator`, to be called as such. What it gives is the caller's until the next call."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self.times = estimator.times
        self._calls: OrderedDict[torch.Size, int] = OrderedDict()
        self._recordings: OrderedDict[torch.Size, _Recording] = OrderedDict()
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, inputs: Tensor, time: Sequence[Tensor], is_real: Tensor | None) -> Tensor:
        """As `Estimator.__call__`. Padded rows are not recorded: together they are long enough to be computed so."""
        if is_real is not None:
            return self._estimator(inputs, time, is_real)
        shape = inputs.shape
        if shape not in self._recordings:
            if self._count(shape) <= CALLS_BEFORE:
                return self._estimator(inputs, time, None)
            self._recordings[shape] = _Recording(self._estimator, inputs, time, self._pool)
            _forget(self._recordings, RECORDINGS)
        self._recordings.move_to_end(shape)
        return self._recordings[shape](inputs, time)

    def _count(self, shape: torch.Size) -> int:
        calls = self._calls[shape] = self._calls.pop(shape, 0) + 1
        _forget(self._calls, REMEMBERED)
        return calls


class _Recording:
    """The network for inputs of one shape: they are copied in, and what comes of them lies in the same place always."""

    def __init__(self, estimator: Estimator, inputs: Tensor, time: Sequence[Tensor], pool: object) -> None:
        self._inputs, self._time = inputs.clone(), [bias.clone() for bias in time]
        self._direction = estimator(inputs, time, None)

        def estimate() -> None:
            self._direction.copy_(estimator(self._inputs, self._time, None))

        self._graph = record(estimate, inputs.device, pool)

    def __call__(self, inputs: Tensor, time: Sequence[Tensor]) -> Tensor:
        self._inputs.copy_(inputs)
        torch._foreach_copy_(self._time, list(time))
        self._graph.replay()
        return self._direction


def _forget(entries: OrderedDict[torch.Size, Any], most: int) -> None:
    while len(entries) > most:
        entries.popitem(last=False)
