"""The listener that knows a hundred languages: Whisper, by faster-whisper, with weights from a folder or the hub."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.transcription.base import Check
from engines.transcription.pieces import pieces
from resilience.errors import ModelUnavailable
from utils.audio.waveform import Waveform

if TYPE_CHECKING:
    import numpy as np
    from faster_whisper import WhisperModel
    from numpy.typing import NDArray

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
_BATCH = 8
_LONGEST_TRANSCRIPT = 448  # tokens that Whisper's decoder has places for
# Whisper's own rule: sure that nobody speaks, unsure of what it wrote. On silence it writes what ends videos.
_NO_SPEECH, _UNSURE = 0.6, -1.0


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
    """The folder on this machine that holds a model whole. No network."""
    if source.folder is not None:
        inside = (source.folder / name for name in (model, REPOSITORIES[model].rpartition("/")[2]))
        if found := next(filter(_is_whole, (*inside, source.folder)), None):
            return found
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(REPOSITORIES[model], "model.bin")
    return Path(cached).parent if isinstance(cached, str) and _is_whole(Path(cached).parent) else None


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
    return all((folder / name).is_file() for name in _NEEDED)


class FasterWhisper:
    """Whisper of one size. It is loaded when it first listens, once for all threads, and hears candidates in one
    batch; it is told nothing of the text, so that it cannot hear what it hopes for.

    The threshold allows one word in seven, for names and homophones; it was chosen, not measured.
    """

    threshold = 0.85

    def __init__(self, model: str, source: WhisperSource, device: str, threads: int = 0) -> None:
        """`device` is "cpu" or "cuda"; `threads` 0 is CTranslate2's own number."""
        self.name = f"Whisper {model}"
        self._model = model
        self._source = source
        self._device = device
        self._threads = threads
        self._loading = threading.Lock()
        self._whisper: WhisperModel | None = None

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
        check()
        whisper = self._loaded()
        cut = [list(pieces(waveform, _SHORTEST_PIECE_S, _LONGEST_PIECE_S)) for waveform in waveforms]
        heard = _heard(whisper, [piece for some in cut for piece in some], _base(language), check)
        return [" ".join(filter(None, (next(heard) for _ in some))) for some in cut]

    def unload(self) -> None:
        """Free its memory; it is loaded anew when it listens again."""
        with self._loading:
            self._whisper = None

    def _loaded(self) -> WhisperModel:
        with self._loading:
            if self._whisper is None:
                self._whisper = self._load(fetched(self._model, self._source))
            return self._whisper

    def _load(self, folder: Path) -> WhisperModel:
        from faster_whisper import WhisperModel

        number = "float16" if self._device == "cuda" else "int8"
        try:
            return WhisperModel(str(folder), self._device, compute_type=number, cpu_threads=self._threads)
        except (RuntimeError, ValueError) as error:  # what CTranslate2 raises for files and devices it cannot use
            raise ModelUnavailable(f"Whisper {self._model} in {folder} cannot be loaded: {error}") from error


def _heard(whisper: WhisperModel, samples: list[NDArray[np.float32]], language: str, check: Check) -> Iterator[str]:
    """One transcript for each piece of at most 30 s, batch by batch, without timestamps and by the likeliest word."""
    import numpy as np
    from faster_whisper.audio import pad_or_trim
    from faster_whisper.tokenizer import Tokenizer
    from faster_whisper.transcribe import get_suppressed_tokens

    tokenizer = Tokenizer(whisper.hf_tokenizer, whisper.model.is_multilingual, "transcribe", language)
    prompt = whisper.get_prompt(tokenizer, [], without_timestamps=True)
    for start in range(0, len(samples), _BATCH):
        check()
        batch = [pad_or_trim(whisper.feature_extractor(piece)[..., :-1]) for piece in samples[start : start + _BATCH]]
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
