"""The flow's network on an NVIDIA device, recorded for the shapes that come again.

Launching its thousand operations one by one takes longer than computing them for some seconds of speech. The first
pieces of a voice's streams are of the same length each time, and it is there that a listener waits.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

import torch

from engines.chatterbox.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from engines.chatterbox.s3gen.estimator import Estimator

logger = logging.getLogger(__name__)

SHAPES = 32  # that are remembered; the recording of one takes a few megabytes


class Recordings:
    """Recorded estimators by the shape of their inputs. A shape is recorded the second time that it is asked for."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self._shapes: OrderedDict[torch.Size, RecordedEstimator | None] = OrderedDict()
        self._is_out_of_memory = False
        self._pool = torch.cuda.graph_pool_handle()

    def of(self, inputs: Tensor, time: Sequence[Tensor]) -> RecordedEstimator | None:
        """The estimator for inputs such as these, without padding; None where it must do without a recording."""
        shape = inputs.shape
        recorded = self._shapes.get(shape)
        if recorded is None and shape in self._shapes and not self._is_out_of_memory:
            recorded = self._record(inputs, time)
        self._shapes[shape] = recorded
        self._shapes.move_to_end(shape)
        if len(self._shapes) > SHAPES:
            self._shapes.popitem(last=False)
        return recorded

    def _record(self, inputs: Tensor, time: Sequence[Tensor]) -> RecordedEstimator | None:
        try:
            return RecordedEstimator(self._estimator, inputs, time, self._pool)
        except torch.OutOfMemoryError:
            logger.warning("no memory to record the flow for shape=%s; no others are tried", tuple(inputs.shape))
            self._is_out_of_memory = True
            return None


class RecordedEstimator:
    """The network for inputs of one shape: they are copied in, and what comes of them lies in the same place always."""

    def __init__(self, estimator: Estimator, inputs: Tensor, time: Sequence[Tensor], pool: object) -> None:
        self._inputs, self._time = inputs.clone(), [bias.clone() for bias in time]
        self._direction = estimator(inputs, time, None)

        def estimate() -> None:
            self._direction.copy_(estimator(self._inputs, self._time, None))

        self._recording = Recording(estimate, inputs.device, pool)

    def __call__(self, inputs: Tensor, time: Sequence[Tensor]) -> Tensor:
        """As `Estimator.__call__` without padding. The direction is the caller's until the next call."""
        self._inputs.copy_(inputs)
        torch._foreach_copy_(self._time, list(time))
        self._recording.repeat()
        return self._direction
