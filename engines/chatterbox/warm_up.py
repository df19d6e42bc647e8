"""What a GPU makes on first use, made while a variant is loaded: the first listener would wait seconds for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from engines.chatterbox.chance import chance
from engines.chatterbox.t3.sampling import Performance
from engines.chatterbox.voice import PreparedVoice

if TYPE_CHECKING:
    from engines.chatterbox.s3gen.rendering import Renderer
    from engines.chatterbox.t3.decoding import Decoder
    from engines.chatterbox.variants import Variant

REFERENCE_TOKENS = 250  # 10 s: what is heard of a recording that is long enough, so that this very shape is met again
TEXT = range(1, 60)
TOKENS = 10
PIECES = 2  # first pieces of streams, after which their shape is recorded


def warm_up(variant: Variant, decoder: Decoder, renderer: Renderer | None) -> None:
    """Speak the beginnings of a text that nobody hears, with a voice that nobody has.

    There is no `renderer` if another variant's is shared: it is warm, and another thread's to use.
    """
    device = decoder.device
    performance = Performance(
        exaggeration=0.5,
        cfg_weight=0.5,
        temperature=0.8,
        min_p=variant.min_p,
        top_p=variant.top_p,
        top_k=variant.top_k,
        repetition_penalty=variant.repetition_penalty,
    )
    for seed in range(PIECES):
        sequence = decoder.admit(TEXT, _nobody(variant), performance, chance(seed, device), max_tokens=TOKENS)
        while not sequence.is_finished:
            decoder.step()
        if renderer is not None:
            stream = renderer.stream(_nobody(variant), chance(seed, device), variant.flow_steps)
            stream.feed(range(stream.next_at), lambda: None, is_last=False)


def _nobody(variant: Variant) -> PreparedVoice:
    return PreparedVoice(
        key="nobody",
        speaker=torch.full((1, 256), 1 / 16),
        prompt_tokens=torch.zeros(1, variant.prompt_tokens, dtype=torch.int64),
        reference_tokens=torch.zeros(1, REFERENCE_TOKENS, dtype=torch.int64),
        reference_mel=torch.zeros(1, 2 * REFERENCE_TOKENS, 80),
        reference_speaker=torch.ones(1, 192),
    )
