"""From logits to tokens, for many sequences at once, each with its own settings and its own source of chance.

The operations and their order are upstream's (T3.inference, T3.inference_turbo and the processors of transformers that
they use), so that equal logits and an equal generator give an equal token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Performance:
    """How a sequence is spoken and sampled: upstream's names and meanings, every number given.

    `top_k` 0 and `top_p` 1 leave all tokens in. A GPT-2 model heeds neither `exaggeration`, `cfg_weight` nor `min_p`,
    a Llama model no `top_k`. Raises ValueError for numbers that no distribution comes of.
    """

    exaggeration: float
    cfg_weight: float
    temperature: float
    min_p: float
    top_p: float
    top_k: int
    repetition_penalty: float

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and self.repetition_penalty > 0):
            raise ValueError(f"temperature and repetition_penalty must be above 0: {self}")
        if not (0 <= self.min_p <= 1 and 0 <= self.top_p <= 1 and self.top_k >= 0):
            raise ValueError(f"min_p and top_p must be 0 to 1, and top_k no less than 0: {self}")


def guided(conditioned: Tensor, unconditioned: Tensor, weights: Sequence[float]) -> Tensor:
    """Classifier-free guidance: logits (n, vocabulary) pushed away from those without the text, by (n,) weights."""
    weight = _column(weights, conditioned)
    return conditioned + weight * (conditioned - unconditioned)


def llama_probabilities(logits: Tensor, said: Tensor, performances: Sequence[Performance]) -> Tensor:
    """As T3.inference chooses: penalty, temperature, min_p, top_p.

    Logits (n, vocabulary) float32; `said` (n, vocabulary) bool marks the tokens that the penalty is for.
    """
    logits = _penalized(logits, said, performances)
    logits = logits / _column([one.temperature for one in performances], logits)
    logits = _keep_min_p(logits, [one.min_p for one in performances])
    return _keep_top_p(logits, [one.top_p for one in performances]).softmax(-1)


def gpt2_probabilities(logits: Tensor, said: Tensor, performances: Sequence[Performance]) -> Tensor:
    """As T3.inference_turbo chooses: temperature, top_k, top_p, and the penalty last. Shapes as above."""
    logits = logits / _column([one.temperature for one in performances], logits)
    logits = _keep_top_k(logits, [one.top_k for one in performances])
    logits = _keep_top_p(logits, [one.top_p for one in performances])
    return _penalized(logits, said, performances).softmax(-1)


def draw(probabilities: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """A token for each row (n, vocabulary), by that row's generator: (n,).

    What torch.multinomial(row, 1, generator=g) does for a single draw, without its checks and batched: the token
    whose probability is greatest in relation to an exponential variate. The generator ends where it would end there.
    """
    width = probabilities.shape[-1]
    noise = [torch.empty(width, device=own.device).exponential_(generator=own) for own in generators]
    return (probabilities / torch.stack(noise).to(probabilities.device)).argmax(-1)


def _column(numbers: Sequence[float], like: Tensor) -> Tensor:
    """(n, 1), to be broadcast over a row's logits."""
    return torch.tensor(numbers, dtype=like.dtype, device=like.device)[:, None]


def _penalized(logits: Tensor, said: Tensor, performances: Sequence[Performance]) -> Tensor:
    penalty = _column([one.repetition_penalty for one in performances], logits)
    return torch.where(said, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def _keep_min_p(logits: Tensor, min_p: Sequence[float]) -> Tensor:
    """Without the tokens that are less probable than `min_p` times the most probable one."""
    probabilities = logits.softmax(-1)
    least = _column(min_p, logits) * probabilities.amax(-1, keepdim=True)
    return logits.masked_fill(probabilities < least, NEVER)


def _keep_top_k(logits: Tensor, top_k: Sequence[int]) -> Tensor:
    """Without the tokens below the k-th most probable; k = 0 leaves all."""
    if not any(top_k):
        return logits
    width = logits.shape[-1]
    ranked = logits.topk(min(max(top_k), width)).values
    places = [min(k or width, ranked.shape[-1]) - 1 for k in top_k]
    least = ranked.gather(-1, torch.tensor(places, device=logits.device)[:, None])
    everything = torch.tensor([k == 0 for k in top_k], device=logits.device)[:, None]
    return logits.masked_fill((logits < least) & ~everything, NEVER)


def _keep_top_p(logits: Tensor, top_p: Sequence[float]) -> Tensor:
    """Without the improbable tokens that together make up no more than 1 - top_p.

    Only rows with top_p below 1 are sorted: the others would lose nothing but tokens of probability 0.
    """
    rows = [row for row, share in enumerate(top_p) if share < 1]
    if not rows:
        return logits
    some = logits if len(rows) == len(logits) else logits[rows]
    ascending, order = some.sort(dim=-1)
    unlikely = ascending.softmax(-1).cumsum(-1) <= _column([1 - top_p[row] for row in rows], logits)
    unlikely[:, -1] = False
    some = some.masked_fill(unlikely.scatter(-1, order, unlikely), NEVER)
    if len(rows) == len(logits):
        return some
    kept = logits.clone()
    kept[rows] = some
    return kept
