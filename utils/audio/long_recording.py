"""Recordings too long to hold: listened to once for their measures, then read in windows that overlap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from resilience.errors import FileMissing, InvalidAudio
from utils.audio.decode import OpenRecording, bounded_blocks, is_cut_wav, mono_blocks, open_recording
from utils.audio.resample import MISS, stream_resampled
from utils.audio.waveform import Waveform

CHANGED = "the recording was changed while it was being read"

Window = tuple[int, int]  # the samples where it begins and ends


@dataclass(frozen=True, slots=True)
class LongRecording:
    """A recording on disk: how many samples a channel, at which rate in Hz, and the largest one in size."""

    path: Path
    count: int
    sample_rate: int
    peak: float

    @property
    def duration_s(self) -> float:
        return self.count / self.sample_rate

    def count_at(self, sample_rate: int) -> int:
        """How many samples it has at another rate."""
        return round(self.count * sample_rate / self.sample_rate)


def measure(path: Path, longest_s: float, check: Callable[[], None]) -> LongRecording:
    """Listen to the whole recording, in the memory of a block.

    Raises InvalidAudio as `decode.read_recording` does, UnusableAudio for what is too long (`decode.bounded_blocks`),
    and FileMissing.
    """
    count, peak = 0, 0.0
    with opened(path) as file:
        for block in bounded_blocks(file, longest_s, check):
            mono = block.mean(axis=1)
            count += len(mono)
            peak = max(peak, float(np.abs(mono).max(initial=0.0)))
        return LongRecording(path, count, file.sample_rate, peak)


def windows(count: int, longest: int, overlap: int) -> Iterator[Window]:
    """Where `count` samples are cut: windows of one length, none longer than `longest`, each sharing `overlap`.

    Equal ones, so that the last is no scrap in which there is nothing to go by. `overlap` is less than `longest`.
    """
    number = max(1, math.ceil((count - overlap) / (longest - overlap)))
    for index in range(number):
        yield (count - overlap) * index // number, (count - overlap) * (index + 1) // number + overlap


def read_windows(
    recording: LongRecording, spans: Iterator[Window], sample_rate: int, check: Callable[[], None]
) -> Iterator[Waveform]:
    """The recording's windows at another rate, mono; float files that exceed full scale are scaled into [-1, 1].

    `spans` are windows of its samples at `sample_rate`, in order. Reads on as windows are asked for, and holds one of
    them. Raises InvalidAudio if the recording is not the one that was measured, FileMissing if it is gone.
    """
    with opened(recording.path) as file:
        blocks = (block / max(1.0, recording.peak) for block in mono_blocks(file, check))
        stream = _at_rate(blocks, recording.sample_rate, sample_rate)
        held, position = np.zeros(0, np.float32), 0
        for start, end in spans:
            parts = [held[start - position :]]
            count = len(parts[0])
            while count < end - start:
                part = next(stream, None)
                if part is None:
                    break
                parts.append(part)
                count += len(part)
            missing = end - start - count
            if missing > MISS or file.sample_rate != recording.sample_rate:
                raise InvalidAudio(CHANGED)
            held, position = np.concatenate([*parts, np.zeros(max(0, missing), np.float32)]), start
            yield Waveform(held[: end - start], sample_rate)


@contextmanager
def opened(path: Path) -> Iterator[OpenRecording]:
    """The recording's samples, to be read from the beginning.

    Found a moment ago, it may be gone: a client may delete it until it is in use, a person at any time. Raises
    FileMissing, and InvalidAudio as `decode.open_recording` does.
    """
    with _stream(path) as stream, open_recording(stream) as file:
        yield file


def is_cut(path: Path) -> bool:
    """`decode.is_cut_wav`, of which 4 KB are read. Raises FileMissing."""
    with _stream(path) as stream:
        return is_cut_wav(stream)


def _stream(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise FileMissing("the recording was removed while it was being read") from error


def _at_rate(blocks: Iterator[NDArray[np.float32]], from_rate: int, to_rate: int) -> Iterator[NDArray[np.float32]]:
    return blocks if from_rate == to_rate else stream_resampled(blocks, from_rate, to_rate)
