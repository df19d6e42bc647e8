"""A timeline as sound: one pass over the clips, in the memory of some blocks and of a crossfade."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager

import numpy as np
from numpy.typing import NDArray

from resilience.errors import FileMissing, InvalidAudio
from utils.audio.channels import mixed
from utils.audio.crossfade import Curve, falling, rising
from utils.audio.decode import BLOCK_FRAMES, blocks
from utils.audio.limiter import Limiter
from utils.audio.long_recording import CHANGED, opened
from utils.audio.resample import MISS, StreamResampler
from utils.audio.waveform import Extent
from utils.concatenation.timeline import PlacedClip, PlacedSilence, Timeline, factor, named

Block = NDArray[np.float32]
Check = Callable[[], None]


def rendered(
    timeline: Timeline,
    check: Check = lambda: None,
    progress: Callable[[int], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> Generator[Block]:
    """The whole, block by block, shape (n, channels), exactly as many samples as the timeline says.

    Where nothing is asked of a clip, its samples are not touched. Where clips that cross-fade would exceed full scale
    together, they are held there, and `warn` is told so at the end. `check` is called before each block and may raise
    to leave, `progress` after it with how many samples there are. Raises InvalidAudio, which names the clip, for one
    that is not the one that was measured, and FileMissing if it is gone.
    """
    count = 0
    held_down: list[str] = []
    for block in _joined(timeline, check, held_down):
        yield block
        count += len(block)
        progress(count)
    if held_down:
        warn(f"louder than full scale in the crossfade to the clip before, and held there: {named(held_down)}")


def _joined(timeline: Timeline, check: Check, held_down: list[str]) -> Iterator[Block]:
    """`held_down` takes the sources of the clips whose crossfade with the one before had to be."""
    shared = np.zeros((0, timeline.extent.channels), np.float32)  # the end of the clip before
    for entry in timeline.entries:
        if isinstance(entry, PlacedSilence):
            for start in range(0, entry.length, BLOCK_FRAMES):
                check()
                yield np.zeros((min(BLOCK_FRAMES, entry.length - start), timeline.extent.channels), np.float32)
            continue
        held: list[Block] = [shared[:0]]
        done, until = 0, entry.length - entry.overlap_after
        with told_of(entry.clip.source), closing(_heard(entry, timeline, check)) as stream:
            for block in stream:
                both = min(len(shared), len(block))
                block[:both] += shared[:both]
                if np.abs(block[:both]).max(initial=0.0) > 1:
                    block[:both].clip(-1, 1, out=block[:both])
                    held_down.append(entry.clip.source)
                shared = shared[both:]
                given = max(0, min(len(block), until - done))
                done += len(block)
                if given:
                    yield block[:given]
                if given < len(block):  # an empty part would keep the whole block in memory
                    held.append(block[given:])
        shared = np.concatenate(held)


@contextmanager
def told_of(source: str) -> Iterator[None]:
    """Whatever is wrong with a clip is told with its name."""
    try:
        yield
    except (InvalidAudio, FileMissing) as error:
        sentence = error.message if source in error.message else f"{source}: {error.message}"
        raise type(error)(sentence, detail=error.detail) from error


def _heard(entry: PlacedClip, timeline: Timeline, check: Check) -> Generator[Block]:
    """What is heard of a clip, as long as it is in the whole, before its neighbours are added."""
    extent, to = entry.clip.extent, timeline.extent
    with opened(entry.clip.path) as file:
        if (file.sample_rate, file.channels) != (extent.sample_rate, extent.channels):
            raise InvalidAudio(CHANGED)
        own = _part(blocks(file, check), entry.first, entry.last)
        stream: Iterator[Block] = (mixed(block, to.channels) for block in own)
        if entry.ceiling is not None:
            stream = _limited(stream, entry, to.channels)
        elif entry.gain_db:
            stream = (block * np.float32(factor(entry.gain_db)) for block in stream)
        if extent.sample_rate != to.sample_rate:
            stream = _fitted(_resampled(stream, extent.sample_rate, to), entry.length)
        yield from _faded(stream, entry, timeline.curve)


def _part(stream: Iterator[Block], first: int, last: int) -> Iterator[Block]:
    """The samples from `first` to before `last`. Raises InvalidAudio if there are fewer."""
    position = 0
    for block in stream:
        part = block[max(0, first - position) : last - position]
        position += len(block)
        if len(part):
            yield part
        if position >= last:
            return
    raise InvalidAudio(CHANGED)


def _limited(stream: Iterator[Block], entry: PlacedClip, channels: int) -> Iterator[Block]:
    assert entry.ceiling is not None
    limiter = Limiter(entry.clip.extent.sample_rate, channels, entry.ceiling, factor(entry.gain_db))
    for block in stream:
        yield limiter.add(block)
    yield limiter.rest()


def _resampled(stream: Iterator[Block], from_rate: int, to: Extent) -> Iterator[Block]:
    resampler = StreamResampler(from_rate, to.sample_rate, to.channels)
    for block in stream:
        yield resampler.add(block if to.channels > 1 else block[:, 0]).reshape(-1, to.channels)
    yield resampler.rest().reshape(-1, to.channels)


def _fitted(stream: Iterator[Block], length: int) -> Iterator[Block]:
    """Exactly so many samples: a resampler misses the length that the rates promise by some."""
    count, last = 0, np.zeros((0, 1), np.float32)
    for block in stream:
        last = block[: length - count]
        count += len(last)
        yield last
    if length - count > MISS:
        raise InvalidAudio(CHANGED)
    yield np.zeros((length - count, last.shape[1]), np.float32)


def _faded(stream: Iterator[Block], entry: PlacedClip, curve: Curve) -> Iterator[Block]:
    """Under the clip's fades. The blocks are written to."""
    start = 0
    for block in stream:
        end = start + len(block)
        for fade in entry.fades_in:
            if start < fade:
                gains = rising(fade, start, min(end, fade), curve)
                block[: len(gains)] *= gains[:, np.newaxis]
        for fade in entry.fades_out:
            before = entry.length - fade  # where it begins
            if end > before:
                gains = falling(fade, max(start, before) - before, end - before, curve)
                block[len(block) - len(gains) :] *= gains[:, np.newaxis]
        yield block
        start = end
