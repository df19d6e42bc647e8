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


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """What several performances ask of the sampler, on its device: columns (n, 1), a row for each."""

    cfg_weight: Tensor
    temperature: Tensor
    min_p: Tensor
    least_share: Tensor  # 1 - top_p: of what may be left out
    repetition_penalty: Tensor
    top_k: Tensor  # int64, 0 for all
    most_k: int
    has_top_p: bool

    @classmethod
    def of(cls, performances: Sequence[Performance], device: torch.device) -> Settings:
        def column(numbers: Sequence[float]) -> Tensor:
            return torch.tensor(numbers, dtype=torch.float32, device=device)[:, None]

        return cls(
            cfg_weight=column([one.cfg_weight for one in performances]),
            temperature=column([one.temperature for one in performances]),
            min_p=column([one.min_p for one in performances]),
            least_share=column([1 - one.top_p for one in performances]),
            repetition_penalty=column([one.repetition_penalty for one in performances]),
            top_k=torch.tensor([[one.top_k] for one in performances], device=device),
            most_k=max(one.top_k for one in performances),
            has_top_p=any(one.top_p < 1 for one in performances),
        )


def guided(conditioned: Tensor, unconditioned: Tensor, settings: Settings) -> Tensor:
    """Classifier-free guidance: logits (n, vocabulary) pushed away from those without the text."""
    return conditioned + settings.cfg_weight * (conditioned - unconditioned)


def llama_probabilities(logits: Tensor, said: Tensor, settings: Settings) -> Tensor:
    """As T3.inference chooses: penalty, temperature, min_p, top_p.

    Logits (n, vocabulary) float32; `said` (n, vocabulary) bool marks the tokens that the penalty is for.
    """
    logits = _penalized(logits, said, settings)
    logits = _keep_min_p(logits / settings.temperature, settings)
    return _keep_top_p(logits, settings).softmax(-1)


def gpt2_probabilities(logits: Tensor, said: Tensor, settings: Settings) -> Tensor:
    """As T3.inference_turbo chooses: temperature, top_k, top_p, and the penalty last. Shapes as above."""
    logits = _keep_top_k(logits / settings.temperature, settings)
    return _penalized(_keep_top_p(logits, settings), said, settings).softmax(-1)


def draw(probabilities: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """A token for each row (n, vocabulary), by that row's generator: (n,).

    What torch.multinomial(row, 1, generator=g) does for a single draw, without its checks and batched: the token
    whose probability is greatest in relation to an exponential variate. The generator ends where it would end there.
    """
    width = probabilities.shape[-1]
    noise = [torch.empty(width, device=own.device).exponential_(generator=own) for own in generators]
    return (probabilities / torch.stack(noise).to(probabilities.device)).argmax(-1)


def _penalized(logits: Tensor, said: Tensor, settings: Settings) -> Tensor:
    penalty = settings.repetition_penalty
    return torch.where(said, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def _keep_min_p(logits: Tensor, settings: Settings) -> Tensor:
    """Without the tokens that are less probable than `min_p` times the most probable one."""
    probabilities = logits.softmax(-1)
    least = settings.min_p * probabilities.amax(-1, keepdim=True)
    return logits.masked_fill(probabilities < least, NEVER)


def _keep_top_k(logits: Tensor, settings: Settings) -> Tensor:
    """Without the tokens below the k-th most probable; k = 0 leaves all."""
    if not settings.most_k:
        return logits
    ranked = logits.topk(min(settings.most_k, logits.shape[-1])).values
    places = settings.top_k.clamp(1, ranked.shape[-1]) - 1
    return logits.masked_fill((logits < ranked.gather(-1, places)) & (settings.top_k > 0), NEVER)


def _keep_top_p(logits: Tensor, settings: Settings) -> Tensor:
    """Without the improbable tokens that together make up no more than 1 - top_p.

    A row with top_p 1 loses nothing by it but tokens of probability 0; where all are such nothing is sorted.
    """
    if not settings.has_top_p:
        return logits
    ascending, order = logits.sort(dim=-1)
    unlikely = ascending.softmax(-1).cumsum(-1) <= settings.least_share
    unlikely[:, -1] = False
    return logits.masked_fill(unlikely.scatter(-1, order, unlikely), NEVER)
