"""T3's loop, ours: sequences of different requests, voices and settings advance together, a token at each step.

The tokens are those of upstream's T3.inference and inference_turbo, whatever else is being decoded. Nothing is left on
upstream's modules: no hooks, no settings, no caches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from engines.chatterbox.alignment import Alignment, aligned_heads
from engines.chatterbox.attention import AttentionWatch, Segment, SegmentAttention, StepAttention
from engines.chatterbox.backbone import take_backbone
from engines.chatterbox.inputs import Inputs
from engines.chatterbox.kv_cache import KeyValues, KVCache, Prefix, PrefixCache
from engines.chatterbox.linear import Precision, packer, stream_dtype, usable_precision
from engines.chatterbox.sampling import Performance, draw, gpt2_probabilities, guided, llama_probabilities
from engines.chatterbox.sequence import SpeechSequence
from engines.chatterbox.variants import Variant
from engines.chatterbox.voice import PreparedVoice

PREFIX_BYTES = 512 * 1024 * 1024  # in float32 some fifteen voices of the English model, seven of Turbo


@dataclass(slots=True, eq=False)
class _Stream:
    """A sequence and what the decoder keeps for it while it is active."""

    sequence: SpeechSequence
    performance: Performance
    generator: torch.Generator
    said: Tensor  # (vocabulary,) bool: the tokens that the repetition penalty is for
    alignment: Alignment | None
    text_starts: int  # the position of its text in its rows
    rows: list[int] = field(default_factory=list)  # of the cache: with its text and, if guided, without
    logits: Tensor | None = None  # (vocabulary,): what its next token is drawn from


class Decoder:
    """The T3 of one model and the sequences that it is speaking. To be used from one thread.

    The transformer's weights move from `t3` (upstream's T3, float32, in eval mode, on `device`) into the decoder, in
    the given precision: `t3` cannot run by itself afterwards. At most `max_sequences` are spoken at a time.
    Raises ValueError for a precision that the device has no kernels for.
    """

    def __init__(
        self,
        t3: Any,
        variant: Variant,
        precision: Precision,
        device: torch.device,
        max_sequences: int,
        prefix_bytes: int = PREFIX_BYTES,
    ) -> None:
        self.precision = usable_precision(precision, device)
        self.max_sequences = max_sequences
        self._family = variant.family
        self._config = t3.hp
        self._device = device
        dtype = stream_dtype(self.precision, device)
        self._probabilities = llama_probabilities if self._family == "llama" else gpt2_probabilities
        with torch.inference_mode():
            pack = packer(self.precision, device)
            head = t3.speech_head
            self._head = pack(head.weight.detach(), None if head.bias is None else head.bias.detach())
            self._backbone = take_backbone(t3, pack, dtype)
            t3.speech_head.to("meta")
            t3.text_head.to("meta")  # for training only
            self._inputs = Inputs(t3, dtype, device)
            self._nothing = KeyValues.none(self._backbone.shape, dtype, device)
            self._cache = KVCache(self._backbone.shape, dtype, device)
        self._prefixes = PrefixCache(prefix_bytes)
        self._watch = AttentionWatch(aligned_heads() if self._config.is_multilingual else ())
        self._streams: list[_Stream] = []
        self._owners: list[_Stream] = []  # of the cache's rows

    @property
    def active(self) -> Sequence[SpeechSequence]:
        """The sequences that the next step goes on with, the longest-standing first."""
        return [stream.sequence for stream in self._streams]

    @property
    def size_bytes(self) -> int:
        """The memory that active sequences and prefixes take now, beside the weights."""
        return self._cache.size_bytes + self._prefixes.size_bytes

    @torch.inference_mode()
    def admit(
        self,
        text_tokens: Sequence[int],
        voice: PreparedVoice,
        performance: Performance,
        generator: torch.Generator,
        max_tokens: int,
    ) -> SpeechSequence:
        """Read a text, so that the next step samples its first token.

        Chance comes from `generator` alone, as upstream takes it from the global one: after torch.manual_seed(s) there,
        and with a generator of seed s here, the tokens are equal, and so is the state that the generator is left in.

        Raises RuntimeError when `max_sequences` are active, and ValueError for a text without tokens, or for one that
        with `max_tokens` is longer than the model.
        """
        if len(self._streams) >= self.max_sequences:
            raise RuntimeError(f"{self.max_sequences} sequences are active already")
        text = self._framed(text_tokens)
        prefix = self._prefix(voice, performance.exaggeration)
        self._check_lengths(prefix.length, len(text), max_tokens)
        stream = _Stream(
            sequence=SpeechSequence(self._family, self._config.stop_speech_token, max_tokens),
            performance=performance,
            generator=generator,
            said=self._said(self._config.start_speech_token),
            alignment=Alignment(len(text), self._config.stop_speech_token) if self._config.is_multilingual else None,
            text_starts=prefix.length,
        )
        self._read(stream, text, prefix, voice)
        self._streams.append(stream)
        return stream.sequence

    @torch.inference_mode()
    def step(self) -> None:
        """One token for every active sequence; those that are finished by it leave."""
        if not self._streams:
            return
        for stream, token in zip(self._streams, self._sampled(), strict=True):
            if self._family == "gpt2" and not stream.sequence.tokens:
                stream.said.zero_()  # inference_turbo penalizes the start token at the first step only
            stream.said[token] = True
            stream.sequence.take(token)
        for stream in [stream for stream in self._streams if stream.sequence.is_finished]:
            self._leave(stream)
        if self._streams:
            self._advance()

    @torch.inference_mode()
    def drop(self, sequence: SpeechSequence) -> None:
        """Let go of a sequence at once; nothing happens if it has left already."""
        for stream in [stream for stream in self._streams if stream.sequence is sequence]:
            sequence.ended_by = "dropped"
            self._leave(stream)

    def _framed(self, tokens: Sequence[int]) -> list[int]:
        """The text as the family reads it: a Llama model wants its start and stop around it."""
        if not tokens:
            raise ValueError("a text without tokens cannot be spoken")
        if self._family == "gpt2":
            return list(tokens)
        return [self._config.start_text_token, *tokens, self._config.stop_text_token]

    def _check_lengths(self, prefix: int, text: int, max_tokens: int) -> None:
        whole = prefix + text + self._inputs.starts + max_tokens
        if whole > self._backbone.shape.positions or text > self._inputs.most_text:
            raise ValueError(f"{text} tokens of text and {max_tokens} of speech are more than the model has room for")
        if not 0 < max_tokens <= self._inputs.most_speech:
            raise ValueError(f"max_tokens must be 1 to {self._inputs.most_speech}, not {max_tokens}")

    def _said(self, token: int) -> Tensor:
        said = torch.zeros(self._config.speech_tokens_dict_size, dtype=torch.bool, device=self._device)
        said[token] = True
        return said

    def _prefix_key(self, voice: PreparedVoice, exaggeration: float) -> tuple[str, float | None]:
        return voice.key, exaggeration if self._config.emotion_adv else None

    def _prefix(self, voice: PreparedVoice, exaggeration: float) -> Prefix:
        key = self._prefix_key(voice, exaggeration)
        prefix = self._prefixes.get(key)
        if prefix is None:
            embeddings = self._inputs.voice(voice, exaggeration)
            row = self._cache.add(self._nothing, room=len(embeddings))
            try:
                self._read_segments([Segment(row, len(embeddings))], embeddings)
                prefix = Prefix(self._cache.copy(row, len(embeddings)), len(embeddings))
            finally:
                self._cache.remove(row)
            self._prefixes.put(key, prefix)
        return prefix
