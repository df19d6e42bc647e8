"""Everything that is decided before a recording is said again: the model, the voice, the windows it is cut into."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from config.settings import MOST_OVERLAP, ConversionSettings
from engines.base import EngineInfo, ModelInfo, VoicePrompt, WindowRequest, derived_seed
from monitoring import context
from planning import Borrowed, Planner, random_seed
from resilience.errors import GenerationFailed, InvalidAudio, InvalidRequest
from utils.audio.waveform import Waveform

if TYPE_CHECKING:
    from pathlib import Path

    from utils.audio.long_recording import LongRecording

SHORTEST_S = 0.3  # in less there is nothing of a voice to go by
SECONDS_AT_ONCE = 480.0  # of recording that the engine is given at once: bounds the memory, keeps its threads at work
ALLOWED_MISS_S = 0.1  # by which a model may miss a window's duration: it counts in tokens of 0.04 s


@dataclass(frozen=True, slots=True)
class ConversionRequest:
    """Which recording a client wants to hear in which voice.

    `options` holds the members of ConversionSettings that the client gave a value. `model` is one of the engine's,
    None for the first that can. `source_file` and `voice_file` are the recordings themselves, where they are in no
    library.
    """

    source: str
    voice: str
    source_file: Borrowed | None = None
    voice_file: Borrowed | None = None
    model: str | None = None
    seed: int = 0
    folder: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class SourceFile(Protocol):
    """A recording of the libraries: see management.recordings."""

    @property
    def relative(self) -> str: ...
    @property
    def path(self) -> Path: ...


class SourceLibrary(Protocol):
    def find(self, name: str) -> SourceFile: ...


@dataclass(frozen=True, slots=True)
class ConversionPlan:
    """A request with every default resolved, and the recording that it means."""

    request: ConversionRequest
    options: ConversionSettings
    engine: EngineInfo
    model: ModelInfo
    voice: VoicePrompt
    seed: int
    source: str
    recording: LongRecording
    warnings: list[str]

    @property
    def count(self) -> int:
        """Samples of the result."""
        return self.recording.count_at(self.model.sample_rate)

    @property
    def overlap(self) -> int:
        """Samples that neighbouring windows share."""
        return min(round(self.options.overlap_sec * self.model.sample_rate), self._longest - 1)

    @property
    def at_once(self) -> int:
        """How many windows the engine is given at once."""
        return max(1, min(self.engine.concurrency, int(SECONDS_AT_ONCE // self.options.chunk_sec)))

    @property
    def _longest(self) -> int:
        return round(self.options.chunk_sec * self.model.sample_rate)

    def work(self, check: Callable[[], None]) -> Iterator[WindowRequest]:
        """The windows, each read from the disk when it is asked for. Ask from a thread."""
        from utils.audio.long_recording import read_windows, windows

        spans = windows(self.count, self._longest, self.overlap)
        stream = read_windows(self.recording, spans, self.model.sample_rate, check)
        for index, audio in enumerate(stream):
            yield WindowRequest(
                audio=audio,
                voice=self.voice,
                seed=derived_seed(self.seed, index) if index else self.seed,
                model=self.model.name,
                watermark=not self.options.disable_watermark,
                request_id=context.request_id.get(),
            )


class ConversionPlanner:
    """Turns requests into plans, with the server's defaults and the recordings of its libraries."""

    def __init__(
        self, planner: Planner, conversion: ConversionSettings, sources: SourceLibrary, longest_s: float
    ) -> None:
        """`longest_s` is that of a recording, as `utils.audio.decode.bounded_blocks` counts it."""
        self._planner = planner
        self._longest_s = longest_s
        self._conversion = conversion
        self._sources = sources

    def options(self, request: ConversionRequest) -> ConversionSettings:
        """The server's defaults, with what the request says in their place. Raises InvalidRequest."""
        options = self._conversion.model_copy(update=dict(request.options))
        if options.overlap_sec > options.chunk_sec * MOST_OVERLAP:
            raise InvalidRequest(
                f"an overlap of {options.overlap_sec:g} s is too much for windows of {options.chunk_sec:g} s",
                field="overlap_sec",
            )
        return options

    def plan(self, request: ConversionRequest, engine: EngineInfo, check: Callable[[], None]) -> ConversionPlan:
        """Decide all that can be decided. Listens to the whole recording: call it from a thread.

        Raises InvalidRequest, VoiceNotFound, FileMissing, InvalidPath, InvalidAudio, and what `check` raises.
        """
        from utils.audio.long_recording import is_cut, measure

        options = self.options(request)
        model = self._model(request.model, engine)
        source = request.source_file or self._sources.find(request.source)
        voice = self._planner.voice(request.voice, model, request.voice_file, field="target_voice_source")
        recording = measure(source.path, self._longest_s, check)
        if recording.duration_s < SHORTEST_S:
            raise InvalidAudio(f"the recording is shorter than {SHORTEST_S} seconds")
        warnings = options.without_effect(request.options)
        if not options.disable_watermark and not model.watermarks:
            warnings.append(f"not watermarked: the model {model.name} has no watermark here")
        if is_cut(source.path):
            warnings.append(
                "the recording was cut: it is shorter than its head says, and was converted as far as it goes"
            )
        seed = request.seed or random_seed()
        return ConversionPlan(request, options, engine, model, voice, seed, source.relative, recording, warnings)

    def _model(self, name: str | None, engine: EngineInfo) -> ModelInfo:
        able = [model for model in engine.models if model.converts]
        if name is None and able:
            return able[0]
        model = self._planner.model(name, engine)
        if not model.converts:
            known = f"; {', '.join(other.name for other in able)} can" if able else ""
            raise InvalidRequest(f"the model {model.name} cannot convert a voice{known}", field="model")
        return model


def fitted(converted: Waveform, window: Waveform) -> Waveform:
    """What a model made of a window, exactly as long. Raises GenerationFailed if it is another length altogether."""
    import numpy as np

    count = len(window.samples)
    miss = count - len(converted.samples)
    if abs(miss) > ALLOWED_MISS_S * window.sample_rate:
        raise GenerationFailed(
            f"the engine made {converted.duration_s:.2f} seconds of a stretch of {window.duration_s:.2f}"
        )
    return Waveform(np.pad(converted.samples[:count], (0, max(0, miss))), window.sample_rate)
