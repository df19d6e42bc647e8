"""Chatterbox at full size with random weights, made in memory: as fast as the real one, and speaks noise.

Random weights stop by chance: of Llama's the stop token is one of 8,194 that are equally likely, of GPT-2's it is made
impossible. The number of tokens is given.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from chatterbox.models.s3gen import S3Gen
from chatterbox.models.t3 import T3
from chatterbox.models.t3.llama_configs import LLAMA_CONFIGS
from chatterbox.models.t3.modules.t3_config import T3Config
from chatterbox.models.voice_encoder import VoiceEncoder

from engines.chatterbox.variants import VARIANTS, Variant

NEVER = -1e4
# Random residual streams grow from block to block; this keeps the mel spectrograms in the range of trained ones.
TAME = 0.35

NANO = {"n_embd": 768, "hidden_size": 768, "n_layer": 12, "n_head": 12}


@dataclass(slots=True)
class FullSize:
    """Upstream's modules of one variant, as its own loaders make them."""

    variant: Variant
    t3: Any
    s3gen: Any
    voice_encoder: Any


def make(name: str, seed: int = 1) -> FullSize:
    """The variant of that name; takes half a minute and 3 GB."""
    variant = VARIANTS[name]
    torch.manual_seed(seed)
    t3 = T3(_settings(variant)).eval()
    s3gen = S3Gen(meanflow=variant.family == "gpt2").eval()
    with torch.no_grad():
        if t3.speech_head.bias is not None:
            t3.speech_head.bias[t3.hp.stop_speech_token] = NEVER
        for module in s3gen.flow.decoder.estimator.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.mul_(TAME)
    return FullSize(variant, t3, s3gen, VoiceEncoder().eval())


def _settings(variant: Variant) -> T3Config:
    settings = T3Config(text_tokens_dict_size=variant.text_vocabulary)
    if variant.family == "gpt2":
        LLAMA_CONFIGS.setdefault("GPT2_small", {**LLAMA_CONFIGS["GPT2_medium"], **NANO})
        settings.llama_config_name = "GPT2_small" if variant.name == "nano" else "GPT2_medium"
        settings.speech_tokens_dict_size = 6563
        settings.input_pos_emb = None
        settings.speech_cond_prompt_len = variant.prompt_tokens
        settings.use_perceiver_resampler = False
        settings.emotion_adv = False
    return settings


def recording(duration_s: float) -> Path:
    """A file to clone a voice from."""
    import soundfile

    from tests.recordings import vowels

    path = Path(tempfile.mkdtemp()) / "voice.wav"
    spoken = vowels(120, duration_s)
    soundfile.write(path, spoken.samples, spoken.sample_rate)
    return path
