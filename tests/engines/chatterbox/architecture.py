"""Chatterbox's hard-coded shapes made small, so that the package's own code runs in tests on a few megabytes.

Loaded by path in child processes too (`child/sitecustomize.py`), so it imports nothing of ours, and nothing heavy
before `architecture()` is entered. It must hold while checkpoints are built and while modules are made from them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

WIDTH = 64  # of T3 and of S3Gen's encoder
LAYERS = 2
NANO_LAYERS = 1  # Nano differs from Turbo, as the published one does
HEADS = 4
QUERIES = 8  # what the perceiver makes of a prompt, however long
POSITIONS = 2048
ALIGNED_HEADS = [(0, 0), (LAYERS - 1, 1), (0, 2)]


@contextmanager
def architecture(keep_analyzer: bool = False) -> Iterator[None]:
    """Upstream's constructors make small modules until the context is left.

    One piece of behaviour goes, unless `keep_analyzer`: the multilingual model's alignment analyzer, which given
    random attention may hold the stop token back for all 1000 steps (40 s).
    """
    with ExitStack() as patches:
        for change in (*_t3(), *_s3gen(), *_listeners()):
            patches.enter_context(change)
        if not keep_analyzer:
            patches.enter_context(_idle_analyzer())
        yield


def _t3() -> Iterator[AbstractContextManager[Any]]:
    from chatterbox.models.t3 import llama_configs
    from chatterbox.models.t3.inference import alignment_stream_analyzer
    from chatterbox.models.t3.modules import cond_enc

    yield patch.dict(
        llama_configs.LLAMA_CONFIGS["Llama_520M"],
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=WIDTH // HEADS,
    )
    yield patch.dict(
        llama_configs.LLAMA_CONFIGS["GPT2_medium"],
        hidden_size=WIDTH,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        n_positions=POSITIONS,
        n_ctx=POSITIONS,
        vocab_size=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    yield patch.object(alignment_stream_analyzer, "LLAMA_ALIGNED_HEADS", ALIGNED_HEADS)
    yield _given(
        cond_enc,
        "Perceiver",
        pre_attention_query_token=QUERIES,
        pre_attention_query_size=WIDTH,
        embedding_dim=WIDTH,
    )


def _s3gen() -> Iterator[AbstractContextManager[Any]]:
    from chatterbox.models.s3gen import s3gen
    from chatterbox.models.s3gen.transformer import upsample_encoder

    yield _given(upsample_encoder, "Upsample1D", channels=WIDTH, out_channels=WIDTH)
    yield _given(upsample_encoder, "PreLookaheadLayer", channels=WIDTH)
    yield _given(
        s3gen,
        "UpsampleConformerEncoder",
        input_size=WIDTH,
        output_size=WIDTH,
        attention_heads=2,
        linear_units=WIDTH,
        num_blocks=1,
    )
    yield _given(s3gen, "CausalMaskedDiffWithXvec", input_size=WIDTH)
    yield _given(
        s3gen, "ConditionalDecoder", channels=[32], n_blocks=1, num_mid_blocks=1, num_heads=2, attention_head_dim=16
    )
    yield _given(s3gen, "CAMPPlus", growth_rate=4, bn_size=2, init_channels=16)
    yield _given(s3gen, "ConvRNNF0Predictor", cond_channels=32)
    yield _given(s3gen, "HiFTGenerator", base_channels=32)


def _listeners() -> Iterator[AbstractContextManager[Any]]:
    from chatterbox.models.s3tokenizer.s3tokenizer import S3TokenizerV2
    from chatterbox.models.voice_encoder.config import VoiceEncConfig

    yield patch.object(VoiceEncConfig, "ve_hidden_size", 32)
    shared_default = S3TokenizerV2.__init__.__defaults__[0]  # S3Tokenizer hands no config of its own to its parent
    yield patch.multiple(
        shared_default, n_audio_state=64, n_audio_head=1, n_audio_layer=1
    )  # its rotary needs 64 a head


def _idle_analyzer() -> AbstractContextManager[Any]:
    from chatterbox.models.t3.inference.alignment_stream_analyzer import AlignmentStreamAnalyzer

    def as_they_are(self: object, logits: Any, next_token: object = None) -> Any:
        return logits

    return patch.object(AlignmentStreamAnalyzer, "step", as_they_are)


def _given(module: object, name: str, **shape: Any) -> AbstractContextManager[Any]:
    """The class that `module` calls `name` is made with this shape, whatever its caller asks for."""
    made: Callable[..., Any] = getattr(module, name)

    @functools.wraps(made, updated=())
    def make(*arguments: Any, **named: Any) -> Any:
        return made(*arguments, **{**named, **shape})

    return patch.object(module, name, make)
