"""A step of the decoder on an NVIDIA device: recorded once as a CUDA graph, replayed for every token.

Launching a step's operations one by one takes several times as long as computing them. The recording always has the
same number of rows, idle ones included: a product of few rows costs the reading of its weights, however many they are.
So the same kernels compute a row whoever else is there, and its tokens do not depend on that either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from engines.chatterbox.recording import Recording

if TYPE_CHECKING:
    from torch import Tensor

    from engines.chatterbox.t3.backbone import Attend
    from engines.chatterbox.t3.kernel import AttendKernel
    from engines.chatterbox.t3.kv_cache import KVCache

IDLE = -1  # the position of a row that nobody has


class CapturedStep:
    """Takes one token for each row of the cache, and writes to `logits` (rows, vocabulary) what follows it.

    `forward(tokens, steps, positions, attend)` is the computation, of tensors (rows,) alone: its result is copied to
    `logits`, whose rows are as many as are recorded.
    """

    def __init__(
        self,
        forward: Callable[[Tensor, Tensor, Tensor, Attend], Tensor],
        kernel: AttendKernel,
        cache: KVCache,
        logits: Tensor,
    ) -> None:
        self._kernel, self._cache, self._logits = kernel, cache, logits
        self._plan = torch.zeros(3, len(logits), dtype=torch.int64, device=logits.device)
        tokens, steps, positions = self._plan
        positions.fill_(IDLE)
        store = self._store = torch.zeros(len(kernel.describe(cache)), dtype=torch.int64, device=logits.device)
        self._described: list[int] = []  # what `store` says

        def attend(layer: int, qkv: Tensor) -> Tensor:
            return kernel(layer, qkv, positions, store)

        self._step = Recording(lambda: logits.copy_(forward(tokens, steps, positions, attend)), logits.device)

    def __call__(self, tokens: Sequence[int], steps: Sequence[int]) -> None:
        cache, idle = self._cache, len(self._logits) - len(tokens)
        cache.reserve(max(cache.lengths) + 1)
        described = self._kernel.describe(cache)
        if described != self._described:
            self._store.copy_(torch.tensor(described))
            self._described = described
        plan = ((tokens, 0), (steps, 0), (cache.lengths, IDLE))
        self._plan.copy_(torch.tensor([[*numbers, *[rest] * idle] for numbers, rest in plan]))
        self._step.repeat()
        cache.advance()
