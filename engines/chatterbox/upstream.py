"""The package chatterbox, imported without its noise. Import this before anything else that imports it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# What its dependencies warn of, which is not ours to change: (message, category).
NOISE = (
    ("pkg_resources is deprecated", UserWarning),  # perth, at import
    ("`LoRACompatibleLinear` is deprecated", FutureWarning),  # diffusers, where S3Gen's decoder is made
    ("Deprecated in 0.9.0: BPE.__init__", DeprecationWarning),  # transformers, GPT-2's tokenizer
)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the known noise of importing and making Chatterbox's modules; other warnings come through."""
    with warnings.catch_warnings():
        for message, category in NOISE:
            warnings.filterwarnings("ignore", message, category)
        yield


with quiet():
    from chatterbox import mtl_tts, tts, tts_turbo
    from chatterbox.models import s3gen, t3, voice_encoder
    from chatterbox.models.s3gen import s3gen as s3gen_module
    from chatterbox.models.t3 import llama_configs
    from chatterbox.models.t3.modules import t3_config
    from chatterbox.models.tokenizers import tokenizer as tokenizers

__all__ = [
    "llama_configs",
    "mtl_tts",
    "quiet",
    "s3gen",
    "s3gen_module",
    "t3",
    "t3_config",
    "tokenizers",
    "tts",
    "tts_turbo",
    "voice_encoder",
]
