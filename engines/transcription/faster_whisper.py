"""The listener that knows a hundred languages: Whisper, by faster-whisper, with weights from a folder or the hub."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.transcription.base import CannotListen, Check
from engines.transcription.booth import Booth
from engines.transcription.pieces import pieces
from resilience.errors import ModelUnavailable
from utils.audio.waveform import Waveform

if TYPE_CHECKING:
    import numpy as np
    from faster_whisper import WhisperModel
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

REPOSITORIES = {
    "tiny": "Systran/faster-whisper-tiny",
    "base": "Systran/faster-whisper-base",
    "small": "Systran/faster-whisper-small",
    "medium": "Systran/faster-whisper-medium",
    "large": "Systran/faster-whisper-large-v3",
}
_FILES = ("config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*")
_NEEDED = ("config.json", "model.bin", "tokenizer.json")
_LONGEST_PIECE_S = 29.0  # Whisper hears 30 s at a time
_SHORTEST_PIECE_S = 15.0
_LONGEST_TRANSCRIPT = 448  # tokens that Whisper's decoder has places for
# Whisper's own rule: sure that nobody speaks, unsure of what it wrote. On silence it writes what ends videos.
_NO_SPEECH, _UNSURE = 0.6, -1.0

_Marks = tuple[tuple[str, int, int], ...]  # path, bytes, time of change


@dataclass(frozen=True, slots=True)
class WhisperSource:
    """Where weights may come from: `folder` (or the folder in it that is named like the model) first, then the
    Hugging Face cache, then, unless `offline`, the hub. That it does not answer is known after `hub_timeout_s`."""

    folder: Path | None = None
    offline: bool = False
    hub_timeout_s: float = 8.0


def is_installed() -> bool:
    return find_spec("faster_whisper") is not None


def located(model: str, source: WhisperSource) -> Path | None:
    """The folder on this machine that holds a model whole, None also if it may not be read. No network."""
    try:
        return next(filter(_is_whole, _folders(model, source)), None)
    except OSError:
        return None


def _folders(model: str, source: WhisperSource) -> Iterator[Path]:
    if source.folder is not None:
        yield from (source.folder / name for name in (model, REPOSITORIES[model].rpartition("/")[2]))
        yield source.folder
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(REPOSITORIES[model], "model.bin")
    if isinstance(cached, str):
        yield Path(cached).parent


def why_unavailable(model: str, source: WhisperSource) -> str | None:
    """A clause on why it cannot listen, None if its weights are here or can be fetched; known in bounded time."""
    if not is_installed():
        return "the package faster-whisper is not installed"
    if located(model, source):
        return None
    from huggingface_hub import constants

    missing = f"the weights of Whisper {model} are not here"
    if source.offline or constants.HF_HUB_OFFLINE:
        return f"{missing}, and fetching them is forbidden"
    from engines.chatterbox.files.hub import answers

    if not answers(source.hub_timeout_s):
        return f"{missing}, and the Hugging Face hub did not answer within {source.hub_timeout_s:g} s"
    return None


def fetched(model: str, source: WhisperSource) -> Path:
    """The folder of a model, from the hub if it is not here. Raises ModelUnavailable with the reason."""
    if found := located(model, source):
        return found
    if problem := why_unavailable(model, source):
        raise ModelUnavailable(problem)
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(REPOSITORIES[model], allow_patterns=list(_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, httpx.HTTPError, OSError) as error:
        raise ModelUnavailable(f"fetching Whisper {model} failed: {error}") from error


def _is_whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _NEEDED) and any(folder.glob("vocabulary.*"))


def _marks_of(folder: Path) -> _Marks:
    """What tells these files from others that take their place."""
    try:
        facts = [(path, path.stat()) for pattern in _FILES for path in sorted(folder.glob(pattern))]
    except OSError:  # gone meanwhile
        return ()
    return tuple((str(path), fact.st_size, fact.st_mtime_ns) for path, fact in facts)


@dataclass(frozen=True, slots=True)
class _Loaded:
    whisper: WhisperModel
    marks: _Marks  # of the files that it was made from


class FasterWhisper:
    """Whisper of one size, from files that are here. It is loaded when it first listens, in a booth that it may share
    with other sizes; it is told nothing of the text, so that it cannot hear what it hopes for.

    Files that it cannot be loaded from, or cannot listen with, are not tried again until they change. The threshold
    allows one word in seven, for names and homophones; it was chosen, not measured.
    """

    threshold = 0.85

    def __init__(
        self, model: str, source: WhisperSource, device: str, threads: int = 0, booth: Booth | None = None
    ) -> None:
        """`device` is "cpu" or "cuda"; `threads` 0 is CTranslate2's own number."""
        self.name = f"Whisper {model}"
        self._model = model
        self._source = source
        self._device = device
        self._threads = threads
        self._booth = booth or Booth()
        self._unusable: _Marks | None = None

    def problem(self) -> str | None:
        """A clause on why it cannot listen, as far as that has been seen, for clients to read."""
        if self._unusable is None:
            return None
        folder = located(self._model, self._source)
        if folder is None:
            return f"the weights of {self.name} are not here"
        if self._unusable == _marks_of(folder):
            return f"{self.name} cannot be used with the files that are here"
        return None

    def understands(self, language: str) -> bool:
        from faster_whisper.tokenizer import _LANGUAGE_CODES

        return _base(language) in _LANGUAGE_CODES

    def transcribe(
        self,
        waveforms: Sequence[Waveform],
        language: str,
        text: str,  # noqa: ARG002 - it must not know
        check: Check,
    ) -> list[str]:
        cut = [list(pieces(waveform, _SHORTEST_PIECE_S, _LONGEST_PIECE_S)) for waveform in waveforms]
        samples = [piece for some in cut for piece in some]

        def hear(loaded: _Loaded, is_wanted: Check) -> list[str]:
            try:
                return list(_heard(loaded.whisper, samples, _base(language), self._batch, is_wanted))
            except (RuntimeError, ValueError) as error:  # what CTranslate2 raises for a model that does not fit
                raise self._failed(loaded.marks, error) from error

        heard = iter(self._booth.listen(self, self._load, hear, check))
        return [" ".join(filter(None, (next(heard) for _ in some))) for some in cut]

    @property
    def _batch(self) -> int:
        """Windows that are heard together. Work that nobody wants any more is left between two batches."""
        return 8 if self._device == "cuda" else 2

    def _load(self) -> _Loaded:
        if problem := self.problem():
            raise CannotListen(problem)
        folder = located(self._model, self._source)
        if folder is None:
            raise CannotListen(f"the weights of {self.name} are not here")
        marks = _marks_of(folder)
        number = "float16" if self._device == "cuda" else "int8"
        try:
            from faster_whisper import WhisperModel

            whisper = WhisperModel(str(folder), self._device, compute_type=number, cpu_threads=self._threads)
        except Exception as error:  # of a damaged tokenizer nothing narrower is raised
            raise self._failed(marks, error) from error
        return _Loaded(whisper, marks)

    def _failed(self, marks: _Marks, error: Exception) -> CannotListen:
        """Remember and log it: the same files are not tried again."""
        self._unusable = marks
        folder = Path(marks[0][0]).parent if marks else None
        logger.warning("whisper unusable model=%s folder=%s reason=%s", self._model, folder, error)
        return CannotListen(f"{self.name} cannot be used with the files that are here")


def _heard(
    whisper: WhisperModel, samples: list[NDArray[np.float32]], language: str, size: int, check: Check
) -> Iterator[str]:
    """One transcript for each piece of at most 30 s, `size` at a time, without timestamps and by the likeliest word."""
    import numpy as np
    from faster_whisper.audio import pad_or_trim
    from faster_whisper.tokenizer import Tokenizer
    from faster_whisper.transcribe import get_suppressed_tokens

    tokenizer = Tokenizer(whisper.hf_tokenizer, whisper.model.is_multilingual, "transcribe", language)
    prompt = whisper.get_prompt(tokenizer, [], without_timestamps=True)
    for start in range(0, len(samples), size):
        check()
        batch = [pad_or_trim(whisper.feature_extractor(piece)[..., :-1]) for piece in samples[start : start + size]]
        answers = whisper.model.generate(
            whisper.encode(np.stack(batch)),
            [prompt] * len(batch),
            beam_size=1,
            max_length=_LONGEST_TRANSCRIPT,
            suppress_blank=True,
            suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
            return_scores=True,
            return_no_speech_prob=True,
        )
        yield from (_text_of(answer, tokenizer) for answer in answers)


def _text_of(answer: Any, tokenizer: Any) -> str:
    tokens = answer.sequences_ids[0]
    if answer.no_speech_prob > _NO_SPEECH and answer.scores[0] < _UNSURE:
        return ""
    return str(tokenizer.decode(tokens)).strip()


def _base(language: str) -> str:
    return re.split("[-_]", language.lower())[0]
