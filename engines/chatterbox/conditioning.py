"""What a variant makes of a recording, and the store on disk for what was made."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import librosa
import numpy as np
import pyloudnorm
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from engines.chatterbox import upstream
from engines.chatterbox.variants import Variant
from engines.chatterbox.voice import PreparedVoice
from resilience.errors import InvalidAudio, StorageFull
from utils.audio.decode import read_recording
from utils.files.atomic import replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

LISTEN_RATE = 16_000  # of the voice encoder, the speaker encoder and the tokenizer of speech
REFERENCE_S = 10.0  # what S3Gen hears of a recording
LONGEST_S = 60.0  # what the voice encoder hears of it; upstream has no limit
LOUDNESS_LUFS = -27.0  # at which Turbo and Nano have learned to listen
TENSORS = tuple(field.name for field in fields(PreparedVoice) if field.name != "key")


class Listeners(Protocol):
    """The modules of a variant that hear a recording; `Modules` are such."""

    @property
    def variant(self) -> Variant: ...
    @property
    def s3gen(self) -> nn.Module: ...
    @property
    def voice_encoder(self) -> nn.Module: ...


def prepare(listeners: Listeners, recording: BinaryIO, key: str, check: Callable[[], None]) -> PreparedVoice:
    """Listen to a recording as upstream's `prepare_conditionals` does; some 0.1 s for each second that is heard.

    `check` is called between the steps and may raise to leave. Nothing of the voice stays on the modules. Raises
    InvalidAudio for what is no recording, is silent, or is shorter than the variant needs.
    """
    variant = listeners.variant
    samples = _read_samples(variant, recording, check)
    check()
    with torch.no_grad():
        listened = librosa.resample(samples, orig_sr=upstream.s3gen.S3GEN_SR, target_sr=LISTEN_RATE)
        speaker = _speaker(listeners.voice_encoder, listened)
        check()
        prompt = listened[: round(variant.prompt_s * LISTEN_RATE)]
        prompt_tokens, _ = listeners.s3gen.tokenizer.forward([prompt], max_len=variant.prompt_tokens)
        check()
        reference = samples[: round(REFERENCE_S * upstream.s3gen.S3GEN_SR)]
        tokens, mel, reference_speaker = _reference(listeners.s3gen, reference, check)
    return PreparedVoice(key, speaker, torch.atleast_2d(prompt_tokens).cpu(), tokens, mel, reference_speaker)


def _read_samples(variant: Variant, recording: BinaryIO, check: Callable[[], None]) -> NDArray[np.float32]:
    """At S3Gen's rate, resampled as librosa.load does it; for Turbo and Nano of the loudness that they know."""
    waveform = read_recording(recording, LONGEST_S, check)
    if waveform.duration_s < variant.least_reference_s:
        raise InvalidAudio(
            f"the recording of the voice lasts {waveform.duration_s:.1f} s; the model {variant.name} needs "
            f"{variant.least_reference_s:g} s or more"
        )
    if not waveform.samples.any():
        raise InvalidAudio("the recording of the voice is silent")
    rate = upstream.s3gen.S3GEN_SR
    samples: NDArray[np.float32] = librosa.resample(waveform.samples, orig_sr=waveform.sample_rate, target_sr=rate)
    return _normalised(samples, rate) if variant.family == "gpt2" else samples


def _normalised(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """At `LOUDNESS_LUFS` by ITU-R BS.1770-4; as they are if nothing in them is loud enough to be measured.

    With numpy 2 upstream's gain makes the samples float64, which its modules refuse.
    """
    with np.errstate(divide="ignore"):  # the loudness of a silent block is minus infinity
        loudness_lufs = pyloudnorm.Meter(sample_rate).integrated_loudness(samples)
    if not math.isfinite(loudness_lufs):
        return samples
    gain = np.float32(10.0 ** ((LOUDNESS_LUFS - loudness_lufs) / 20.0))
    return samples * gain


def _speaker(voice_encoder: nn.Module, samples: NDArray[np.float32]) -> Tensor:
    """The voice encoder's embedding (1, 256) of all that was read, at `LISTEN_RATE`."""
    embeddings = voice_encoder.embeds_from_wavs([samples], sample_rate=LISTEN_RATE)
    return torch.from_numpy(embeddings).mean(dim=0, keepdim=True)


def _reference(
    s3gen: nn.Module, samples: NDArray[np.float32], check: Callable[[], None]
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (1, m), mel spectrogram (1, 2m or 2m + 1, 80) and speaker (1, 192), as `S3Gen.embed_ref` has them.

    It takes a second for 10 s, so one may leave in between; upstream's also logs a warning whenever a recording is no
    multiple of 40 ms.
    """
    device, rate = s3gen.device, upstream.s3gen.S3GEN_SR
    reference = torch.from_numpy(samples).to(device)[None]
    mel = s3gen.mel_extractor(reference).transpose(1, 2)
    resampler = upstream.s3gen_module.get_resampler(rate, LISTEN_RATE, device)
    listened = resampler(reference)
    speaker = s3gen.speaker_encoder.inference(listened)
    check()
    tokens, _ = s3gen.tokenizer(listened)
    return tokens[:, : mel.shape[1] // 2].cpu(), mel.cpu(), speaker.cpu()


class VoiceStore:
    """Prepared voices in a folder of their own, within a number of bytes; the least recently used leave first.

    Safe from any thread and process. A file that is damaged is as good as absent, and removed.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """`folder` is made with the first voice; nothing else may be kept there."""
        self._folder, self._max_bytes = folder, max_bytes

    def get(self, key: str) -> PreparedVoice | None:
        """The voice of that key, which becomes the most recently used."""
        path = self._path(key)
        try:
            tensors = load(path.read_bytes())
            voice = PreparedVoice(key=key, **tensors)
            os.utime(path)
        except OSError:
            return None
        except (SafetensorError, TypeError, ValueError):  # not whole, or not with a voice's tensors
            logger.warning("prepared voice damaged file=%s", path.name)
            path.unlink(missing_ok=True)
            return None
        return voice

    def put(self, voice: PreparedVoice) -> None:
        """Keep a voice, if it and the disk have room for each other: what cannot be kept is listened to again."""
        content = save({name: getattr(voice, name).contiguous() for name in TENSORS})
        if len(content) > self._max_bytes:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._path(voice.key)) as file:
                file.write(content)
            self._evict()
        except (OSError, StorageFull) as error:
            logger.warning("prepared voice not kept reason=%s", error)

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"

    def _evict(self) -> None:
        newest_first = sorted(
            ((path, path.stat()) for path in self._folder.glob("*.safetensors")),
            key=lambda kept: kept[1].st_mtime_ns,
            reverse=True,
        )
        kept_bytes = 0
        for path, status in newest_first:
            kept_bytes += status.st_size
            if kept_bytes > self._max_bytes:
                path.unlink(missing_ok=True)
