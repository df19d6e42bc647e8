"""T3's loop, ours: sequences of different requests, voices and settings advance together, a token at each step.

The tokens are those of upstream's T3.inference and inference_turbo, whatever else is being decoded. Nothing is left on
upstream's modules: no hooks, no settings, no caches.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from engines.chatterbox.device import torch_alone
from engines.chatterbox.t3.alignment import Alignment
from engines.chatterbox.t3.linear import Precision
from engines.chatterbox.t3.prefixes import PrefixCache
from engines.chatterbox.t3.reading import Reader
from engines.chatterbox.t3.sampling import (
    Performance,
    Settings,
    draw,
    gpt2_probabilities,
    guided,
    llama_probabilities,
)
from engines.chatterbox.t3.sequence import SpeechSequence
from engines.chatterbox.t3.transformer import Transformer
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


@dataclass(frozen=True, slots=True, eq=False)
class _Lineup:
    """Those who are active, as the sampler takes them: for each the rows that are compared, settings, what it said."""

    conditioned: Tensor  # (n,) int64
    compared: Tensor  # with itself where there is no guidance
    settings: Settings
    said: Tensor  # (n, vocabulary) bool; each stream's `said` is a row of it

    @classmethod
    def of(cls, streams: Sequence[_Stream], device: torch.device) -> _Lineup:
        said = torch.stack([stream.said for stream in streams])
        for stream, row in zip(streams, said, strict=True):
            stream.said = row
        return cls(
            conditioned=torch.tensor([stream.rows[0] for stream in streams], device=device),
            compared=torch.tensor([stream.rows[-1] for stream in streams], device=device),
            settings=Settings.of([stream.performance for stream in streams], device),
            said=said,
        )


class Decoder:
    """The T3 of one model and the sequences that it is speaking. To be used from one thread.

    The transformer's weights move from `t3` (upstream's T3, float32, in eval mode, on `device`) into the decoder, in
    the given precision: `t3` cannot run by itself afterwards. At most `max_sequences` are spoken at a time, and about
    `prefix_bytes` are kept of what their voices begin with.
    On an NVIDIA device its steps are recorded as a CUDA graph, if it `records`. Raises ValueError for a precision that
    the device has no kernels for.
    """

    def __init__(
        self,
        t3: Any,
        variant: Variant,
        precision: Precision,
        device: torch.device,
        max_sequences: int,
        prefix_bytes: int = PREFIX_BYTES,
        *,
        records: bool = True,
    ) -> None:
        self.precision = precision
        self.max_sequences = max_sequences
        self._is_llama = variant.family == "llama"
        self._family = variant.family
        self._watches_alignment = variant.watches_alignment
        self._config = t3.hp
        self._undisturbed = torch_alone if device.type == "cpu" else nullcontext
        self.device = device
        with torch.inference_mode():
            self._transformer = Transformer(
                t3,
                self.precision,
                device,
                most_rows=max_sequences * (2 if self._is_llama else 1),
                watches_alignment=variant.watches_alignment,
                records=records and device.type == "cuda",
            )
        self._cache = self._transformer.cache
        self._prefixes = PrefixCache(prefix_bytes)
        self._reader = Reader(
            self._transformer,
            self._prefixes,
            has_emotion=self._config.emotion_adv,
            keeps_unread=device.type != "cuda",
        )
        self._streams: list[_Stream] = []
        self._owners: list[_Stream] = []  # of the cache's rows
        self._lineup: _Lineup | None = None  # of the streams, until one joins or leaves

    @property
    def active(self) -> Sequence[SpeechSequence]:
        """The sequences that the next step goes on with, the longest-standing first."""
        return [stream.sequence for stream in self._streams]

    @property
    def size_bytes(self) -> int:
        """The memory that active sequences and the beginnings of voices take now, beside the weights."""
        return self._cache.size_bytes + self._prefixes.size_bytes

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

        Raises RuntimeError when `max_sequences` are active, and ValueError for a text without tokens or for one that
        the model has no room for, with `max_tokens` after it. Whatever it raises, the active sequences are as before.
        """
        if len(self._streams) >= self.max_sequences:
            raise RuntimeError(f"{self.max_sequences} sequences are active already")
        before = self._cache.rows
        with torch.inference_mode(), self._undisturbed():
            try:
                stream = self._begin(self._framed(text_tokens), voice, performance, generator, max_tokens)
            except BaseException:
                self._cache.truncate(before)  # a row without an owner would become the next sequence's
                raise
        self._owners += [stream] * len(stream.rows)
        self._streams.append(stream)
        self._lineup = None
        return stream.sequence

    def step(self) -> None:
        """One token for every active sequence; those that are finished by it leave."""
        with torch.inference_mode(), self._undisturbed():
            if self._streams:
                self._speak()
            if self._streams:
                self._advance()

    def drop(self, sequence: SpeechSequence) -> None:
        """Let go of a sequence at once, ended by "dropped"; nothing happens if it has left already."""
        with torch.inference_mode():
            for stream in [stream for stream in self._streams if stream.sequence is sequence]:
                sequence.ended_by = "dropped"
                self._leave(stream)

    def _begin(
        self,
        text: Sequence[int],
        voice: PreparedVoice,
        performance: Performance,
        generator: torch.Generator,
        max_tokens: int,
    ) -> _Stream:
        """A stream that has read its voice and text in new last rows. It is not among the active ones yet."""
        prefix = self._reader.prefix(voice, performance.exaggeration)
        self._check_room(prefix.length + len(text), len(text), max_tokens)
        stream = _Stream(
            sequence=SpeechSequence(self._family, self._config.stop_speech_token, max_tokens),
            performance=performance,
            generator=generator,
            said=self._only(self._config.start_speech_token),
            alignment=Alignment(len(text), self._config.stop_speech_token) if self._watches_alignment else None,
            text_starts=prefix.length,
        )
        self._reader.read(text, prefix, is_guided=self._is_llama and performance.cfg_weight > 0)
        stream.rows = list(range(len(self._owners), self._cache.rows))
        self._listen(stream, attention_row=0)
        return stream

    def _framed(self, tokens: Sequence[int]) -> list[int]:
        """The text as the family reads it: a Llama model wants its start and stop around it."""
        if not tokens:
            raise ValueError("a text without tokens cannot be spoken")
        if not self._is_llama:
            return list(tokens)
        return [self._config.start_text_token, *tokens, self._config.stop_text_token]

    def _check_room(self, read: int, text: int, max_tokens: int) -> None:
        inputs, positions = self._transformer.inputs, self._transformer.shape.positions
        if text > (inputs.most_text or positions):
            raise ValueError(f"a text of {text} tokens is longer than the model's {inputs.most_text}")
        room = min(inputs.most_speech or positions, positions - read - inputs.starts)
        if not 0 < max_tokens <= room:
            raise ValueError(f"max_tokens must be 1 to {room} after a text of {text} tokens, not {max_tokens}")

    def _only(self, token: int) -> Tensor:
        said = torch.zeros(self._config.speech_tokens_dict_size, dtype=torch.bool, device=self.device)
        said[token] = True
        return said

    def _speak(self) -> None:
        """Sample a token for every stream; those that it finishes leave."""
        for stream, token in zip(self._streams, self._sampled(), strict=True):
            if not self._is_llama and not stream.sequence.tokens:
                stream.said.zero_()  # inference_turbo penalizes the start token in the first draw only
                stream.said[token] = True
            stream.sequence.take(token)
        for stream in [stream for stream in self._streams if stream.sequence.is_finished]:
            self._leave(stream)

    def _sampled(self) -> list[int]:
        lineup = self._lineup = self._lineup or _Lineup.of(self._streams, self.device)
        heard = self._transformer.logits
        logits = guided(heard[lineup.conditioned], heard[lineup.compared], lineup.settings)
        if self._watches_alignment:
            logits = torch.stack([self._judged(*judged) for judged in zip(self._streams, logits, strict=True)])
        probabilities = (llama_probabilities if self._is_llama else gpt2_probabilities)(
            logits, lineup.said, lineup.settings
        )
        drawn = draw(probabilities, [stream.generator for stream in self._streams])
        lineup.said.scatter_(1, drawn[:, None], value=True)
        tokens: list[int] = drawn.tolist()
        return tokens

    def _judged(self, stream: _Stream, logits: Tensor) -> Tensor:
        """The stream's logits, as the analyzer of a multilingual model lets them be."""
        if stream.alignment is None:
            return logits
        last = stream.sequence.tokens[-1] if stream.sequence.tokens else self._config.start_speech_token
        return stream.alignment.step(logits[None], next_token=last)[0]

    def _advance(self) -> None:
        self._transformer.advance(
            [stream.sequence.tokens[-1] for stream in self._owners],
            [len(stream.sequence.tokens) for stream in self._owners],
        )
        for stream in self._streams:
            self._listen(stream, stream.rows[0])

    def _listen(self, stream: _Stream, attention_row: int) -> None:
        if stream.alignment is not None:
            stream.alignment.listen(self._transformer.watch.weights, attention_row, stream.text_starts)

    def _leave(self, stream: _Stream) -> None:
        """Free the stream's rows; the last rows move into them."""
        self._streams.remove(stream)
        self._lineup = None
        while stream.rows:
            row = stream.rows.pop()
            moved = self._transformer.remove(row)
            owner = self._owners.pop()
            if moved != row:
                self._owners[row] = owner
                owner.rows[owner.rows.index(moved)] = row
