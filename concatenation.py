"""Everything that is decided before files are joined: which they are, how long, how loud, what comes when."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from config.settings import ConcatenationSettings
from planning import Borrowed, random_seed
from resilience.errors import InvalidAudio, InvalidRequest
from utils.audio.analysis import AudioFacts
from utils.audio.decode import bound_of
from utils.audio.waveform import Extent

if TYPE_CHECKING:
    from utils.audio.chapters import Chapter
    from utils.audio.measures import Measures
    from utils.concatenation.timeline import Clip, Joining, Silence, Timeline

EXACT = ("wav", "flac", "aiff")  # formats whose files are decoded as long as the library says that they are
MOST_CHAPTERS = {"mp3": 65_025, "opus": 1000, "flac": 1000}  # that a file can carry; the others carry none
# Seconds of work for a second of audio, about, on one core of 2020.
READING_S, RESAMPLING_S, LIMITING_S = 0.002, 0.002, 0.003
ENCODING_S = {"wav": 0.001, "mp3": 0.012, "flac": 0.003, "opus": 0.02, "aac": 0.02, "pcm": 0.001}

Check = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipRequest:
    """A file to be joined: a path below outputs/, or, where it is in no library, the `file` itself."""

    source: str
    file: Borrowed | None = None
    title: str | None = None
    gain_db: float = 0.0
    fade_in_ms: float = 0.0
    fade_out_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcatenationRequest:
    """What a client wants to hear in a row. `options` holds the members of ConcatenationSettings that it gave.

    `named` is the field that they came in.
    """

    parts: Sequence[ClipRequest | Silence]
    named: str = "files"
    output_filename: str | None = None
    overwrite: bool = False
    chapters: bool = False
    seed: int = 0
    folder: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class ClipFile(Protocol):
    """A file of the outputs library: see management.stored."""

    @property
    def relative(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def facts(self) -> AudioFacts: ...
    @property
    def content_hash(self) -> str: ...


class ClipLibrary(Protocol):
    """See management.outputs."""

    @property
    def longest_s(self) -> float: ...
    def find(self, name: str) -> ClipFile: ...
    def folder(self, name: str | None) -> Path: ...
    def check_room(self) -> None: ...
    def measured(self, path: Path, content_hash: str, check: Check) -> Measures: ...
    def measured_extent(self, path: Path, check: Check) -> Extent: ...
    def refuse_taken(self, folder: str | None, stem: str, *, overwrite: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class ConcatenationPlan:
    """A request with every default resolved, and what will be heard. `source_files` are below the data folder."""

    request: ConcatenationRequest
    options: ConcatenationSettings
    seed: int
    timeline: Timeline
    source_files: list[str]
    warnings: list[str]

    @property
    def paths(self) -> set[Path]:
        return {clip.clip.path for clip in self.timeline.clips}

    @property
    def chapters(self) -> list[Chapter]:
        """Those that were asked for."""
        return self.timeline.chapters() if self.request.chapters else []

    @property
    def estimated_s(self) -> float:
        """About how long the work takes from here, on one core."""
        extent = self.timeline.extent
        work_s = extent.duration_s * sum(READING_S + ENCODING_S[name] for name in self.options.export_formats)
        for clip in self.timeline.clips:
            duration_s = clip.length / extent.sample_rate
            work_s += duration_s * RESAMPLING_S * (clip.clip.extent.sample_rate != extent.sample_rate)
            work_s += duration_s * LIMITING_S * (clip.ceiling is not None)
        return work_s


class ConcatenationPlanner:
    """Turns requests into plans, with the server's defaults and the files of its outputs library."""

    def __init__(self, settings: ConcatenationSettings, outputs: ClipLibrary) -> None:
        self._settings = settings
        self._outputs = outputs

    def options(self, request: ConcatenationRequest) -> ConcatenationSettings:
        """The server's defaults, with what the request says in their place. Raises InvalidRequest."""
        options = self._settings.model_copy(update=dict(request.options))
        if "pause_variation_ms" in request.options and 0 < options.pause_duration_ms <= options.pause_variation_ms:
            raise InvalidRequest(
                f"a variation of {options.pause_variation_ms} ms is too much for pauses of "
                f"{options.pause_duration_ms} ms",
                field="pause_variation_ms",
            )
        return options

    def plan(self, request: ConcatenationRequest, check: Check) -> ConcatenationPlan:
        """Decide everything. Listens to the files that are not known yet: call it from a thread.

        Raises InvalidRequest, FileMissing, InvalidPath, InvalidAudio, NameTaken, StorageFull, and what `check` raises.
        """
        from utils.concatenation.timeline import Joining, Silence, timeline

        options = self.options(request)
        self._outputs.folder(request.folder)
        self._outputs.check_room()
        if request.output_filename:
            self._outputs.refuse_taken(request.folder, request.output_filename, overwrite=request.overwrite)
        seed = request.seed or random_seed()
        found = _Found(self._outputs, options, check)
        parts = [part if isinstance(part, Silence) else found.clip(part) for part in request.parts]
        how = Joining(**options.model_dump(include=set(Joining.__dataclass_fields__)), seed=seed)
        whole = timeline(_driven(parts, how, check), how)
        self._refuse_too_long(request, whole.extent)
        warnings = [*found.warnings(), *whole.warnings, *_without_effect(request, options, whole)]
        return ConcatenationPlan(request, options, seed, whole, list(found.source_files), warnings)

    def _refuse_too_long(self, request: ConcatenationRequest, extent: Extent) -> None:
        """What no library takes in could be kept, but not be joined or converted again."""
        bound_s = bound_of(self._outputs.longest_s, extent.sample_rate, extent.channels)
        if extent.duration_s > bound_s:
            raise InvalidRequest(
                f"together they last {extent.duration_s / 3600:.1f} hours; a recording may have {bound_s / 3600:.1f}",
                field=request.named,
            )


class _Found:
    """The files of one request; those that it names several times are looked for once."""

    def __init__(self, outputs: ClipLibrary, options: ConcatenationSettings, check: Check) -> None:
        self.source_files: dict[str, None] = {}  # in the order in which they come
        self._outputs = outputs
        self._options = options
        self._check = check
        self._files: dict[str, ClipFile] = {}
        self._extents: dict[Path, Extent] = {}
        self._measures: dict[Path, Measures] = {}
        self._cut: dict[str, bool] = {}  # by source

    def warnings(self) -> Iterator[str]:
        from utils.concatenation.timeline import named

        if cut := [source for source, is_cut in self._cut.items() if is_cut]:
            yield f"shorter than their heads say, and joined as far as they go: {named(cut)}"

    def clip(self, asked: ClipRequest) -> Clip:
        from utils.audio.long_recording import is_cut
        from utils.concatenation.render import told_of
        from utils.concatenation.timeline import Clip

        with told_of(asked.source):
            if asked.file:
                name, path, content_hash, facts = asked.file.relative, asked.file.path, asked.file.content_hash, None
            else:
                file = self._file(asked.source)
                name, path, content_hash, facts = f"outputs/{file.relative}", file.path, file.content_hash, file.facts
            self.source_files[name] = None
            needed = self._options.normalize_levels or self._options.trim or asked.gain_db > 0
            measures = self._measured(path, content_hash) if needed else None
            extent = measures.extent if measures else self._extent(path, facts)
            if not extent.count:
                raise InvalidAudio("there is no sound in it")
            if asked.source not in self._cut:
                self._cut[asked.source] = is_cut(path)
        return Clip(
            source=asked.source,
            path=path,
            extent=extent,
            measures=measures,
            title=asked.title or PurePosixPath(asked.source).stem,
            gain_db=asked.gain_db,
            fade_in_ms=asked.fade_in_ms,
            fade_out_ms=asked.fade_out_ms,
        )

    def _file(self, source: str) -> ClipFile:
        if source not in self._files:
            self._check()
            self._files[source] = self._outputs.find(source)
        return self._files[source]

    def _measured(self, path: Path, content_hash: str) -> Measures:
        if path not in self._measures:
            self._measures[path] = self._outputs.measured(path, content_hash, self._check)
        return self._measures[path]

    def _extent(self, path: Path, facts: AudioFacts | None) -> Extent:
        if facts and facts.format in EXACT:
            return Extent(round(facts.duration_s * facts.sample_rate), facts.sample_rate, facts.channels)
        if path not in self._extents:
            self._extents[path] = self._outputs.measured_extent(path, self._check)
        return self._extents[path]


def _driven(parts: Sequence[Clip | Silence], how: Joining, check: Check) -> list[Clip | Silence]:
    """The parts, each clip with the gain that the limiter will take. Equal ones are listened to once."""
    from utils.concatenation.levels import drive_db
    from utils.concatenation.render import told_of
    from utils.concatenation.timeline import Clip, channels_of

    clips = [part for part in parts if isinstance(part, Clip)]
    channels = channels_of(clips, how)
    drives: dict[tuple[Path, float], float] = {}
    for clip in clips if how.normalize_levels else ():
        if (clip.path, clip.gain_db) not in drives:
            with told_of(clip.source):
                drives[clip.path, clip.gain_db] = drive_db(clip, how, channels, check)
    return [
        replace(part, drive_db=drives.get((part.path, part.gain_db), 0.0)) if isinstance(part, Clip) else part
        for part in parts
    ]


def _without_effect(request: ConcatenationRequest, options: ConcatenationSettings, whole: Timeline) -> Iterator[str]:
    """What was asked for and changes nothing, or not all that it might."""
    fades = any(clip.fades_in or clip.fades_out for clip in whole.clips)
    idle = {
        "pause_variation_ms": None if options.pause_duration_ms else "pause_duration_ms",
        "trim_threshold_ms": None if options.trim else "trim",
        "level_lufs": None if options.normalize_levels else "normalize_levels",
        "level_tp": None
        if any(clip.ceiling for clip in whole.clips) or options.normalize_levels
        else "normalize_levels",
        "crossfade_curve": None if options.crossfade_ms or fades else "crossfade_ms",
    }
    for name, needed in idle.items():
        if needed and name in request.options:
            yield f"{name} has no effect without {needed}"
    if request.seed and not whole.pauses:
        yield "seed has no effect: no pauses are drawn"
    if request.overwrite and not request.output_filename:
        yield "overwrite has no effect without output_filename"
    mute = [name for name in options.export_formats if MOST_CHAPTERS.get(name, 0) < len(whole.clips)]
    if request.chapters and mute:
        yield f"chapters are in the reply, but not in the file: {', '.join(mute)}"
