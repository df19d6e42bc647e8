"""Everything that is decided before the engine is asked: the model, the voice, the clean text and its chunks."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from config.settings import ApiSettings, SpeechSettings
from engines.base import (
    ChunkRequest,
    EngineInfo,
    ModelInfo,
    Sampling,
    ValidationWish,
    VoicePrompt,
    derived_seed,
)
from monitoring import context
from resilience.errors import InvalidRequest, NothingToSay, TextTooLong, VoiceNotFound
from utils.text.normalize import CleanUp, clean, lowercase, refuse_control_characters
from utils.text.split import Chunk, Grouping, split, with_short_first

if TYPE_CHECKING:
    from pathlib import Path

MAX_SEED = 2**32 - 1
FIRST_CHUNK_S = 3.0  # of work that a listener waits for at most, as far as the first chunk decides it
FIRST_CHARACTERS = 40  # but it must be long enough for a model to find its rhythm in
NOT_OF_A_VOICE = ("default_voice", "save")
SAMPLING = ("exaggeration", "temperature", "cfg_weight", "min_p", "top_p", "repetition_penalty")


@dataclass(frozen=True, slots=True)
class Borrowed:
    """A recording that came with the request, or was fetched for it; it is gone once that is answered.

    `relative` is what its owner calls it, `content_hash` SHA-256 in hex.
    """

    relative: str
    path: Path
    content_hash: str
    default_parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """What a client asks to be said. `options` holds the members of SpeechSettings that the client gave a value.

    None is what the client left open. `model` is one of the engine's, a `seed` of 0 a random one. `voice_file` is the
    voice itself, where it is in no library. `wants_listening` is true if the client asked in so many words for
    candidates to be compared.
    """

    text: str
    model: str | None = None
    voice: str | None = None
    voice_file: Borrowed | None = None
    seed: int | None = None
    sound_words: str | None = None
    folder: str | None = None
    wants_listening: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


class Recording(Protocol):
    """A voice of the library: see management.voices."""

    @property
    def relative(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def content_hash(self) -> str: ...
    @property
    def default_parameters(self) -> Mapping[str, Any]: ...


class VoiceLibrary(Protocol):
    def find(self, name: str, *, field: str) -> Recording | None: ...
    def not_found(self, name: str, others: Sequence[str]) -> VoiceNotFound: ...


@dataclass(frozen=True, slots=True)
class Manner:
    """How a text is to be spoken: all of a request that can be decided without its text."""

    request: SpeechRequest
    options: SpeechSettings
    engine: EngineInfo
    model: ModelInfo
    voice: VoicePrompt
    seed: int
    ignored: list[str]


@dataclass(frozen=True, slots=True)
class SpeechPlan:
    """A request with every default resolved, and the work that it means for the engine."""

    request: SpeechRequest
    options: SpeechSettings
    engine: EngineInfo
    model: ModelInfo
    voice: VoicePrompt
    seed: int
    text: str
    chunks: list[Chunk]
    work: list[ChunkRequest]
    warnings: list[str]


class Planner:
    """Turns requests into plans, with the server's defaults and the voices of its library."""

    def __init__(self, speech: SpeechSettings, api: ApiSettings, voices: VoiceLibrary) -> None:
        self._speech = speech
        self._api = api
        self._voices = voices

    def options(self, request: SpeechRequest) -> SpeechSettings:
        """The server's defaults, in their place those of the voice, in their place what the request says.

        Looks into the library of voices: call it from a thread. Raises AmbiguousVoice, InvalidPath.
        """
        return self._resolved(request)[1]

    def plan(self, request: SpeechRequest, engine: EngineInfo, *, early: float | None = None) -> SpeechPlan:
        """Decide all that can be decided.

        `early` is for somebody who listens meanwhile: the characters of text that the engine speaks in a second, by
        which the first chunk is made short. A model whose speech is the same either way is left its chunks.

        Reads the voice's recording: call it from a thread. Raises InvalidRequest and TextTooLong, VoiceNotFound,
        InvalidPath, InvalidAudio.
        """
        return self.plan_part(self.manner(request, engine), request.text, early=early)

    def manner(self, request: SpeechRequest, engine: EngineInfo) -> Manner:
        """As `plan`, but for the text of the request."""
        request, options, ignored = self._resolved(request)
        model = self.model(request.model, engine)
        refuse_control_characters(request.sound_words or "", field="sound_words_field")
        if model.language_of(options.language) is None:
            raise InvalidRequest(
                f"the model {model.name} does not speak {options.language!a}; it speaks {', '.join(model.languages)}",
                field="language",
            )
        voice = self.voice(request.voice, model, request.voice_file)
        return Manner(request, options, engine, model, voice, request.seed or random_seed(), ignored)

    def plan_part(self, manner: Manner, text: str, *, early: float | None, first: int = 0) -> SpeechPlan:
        """The text or the next part of it, whose chunks are counted from `first` on. Takes a thread's time.

        Raises NothingToSay, InvalidRequest and TextTooLong.
        """
        self._check(text)
        manner = replace(manner, request=replace(manner.request, text=text))
        request, options, engine, model = manner.request, manner.options, manner.engine, manner.model
        text = self._clean(request, options)
        chunks = self._split(text, options, model)
        if early is not None and not model.same_when_early:
            most = max(FIRST_CHARACTERS, round(FIRST_CHUNK_S * early))
            chunks = with_short_first(chunks, language=options.language, max_characters=most)
        work = [
            self._chunk_request(chunk, index, manner, early=early is not None, is_first=index == first)
            for index, chunk in enumerate(chunks, first)
        ]
        warnings = [*manner.ignored, *self._warnings(request, options, engine, model)]
        if early is not None and request.wants_listening and _is_heard(request, options, engine, model):
            warnings.append("not validated: live audio leaves before anybody could listen to it")
        return SpeechPlan(request, options, engine, model, manner.voice, manner.seed, text, chunks, work, warnings)

    def model(self, name: str | None, engine: EngineInfo) -> ModelInfo:
        """The model of that name, the engine's default for None. Raises InvalidRequest."""
        if model := engine.model_named(name):
            return model
        known = ", ".join(model.name for model in engine.models)
        raise InvalidRequest(f"the {engine.name} engine has no model {name!a}; it has {known}", field="model")

    def voice(
        self,
        name: str | None,
        model: ModelInfo,
        file: Borrowed | None = None,
        *,
        field: str = "reference_audio_filename",
    ) -> VoicePrompt:
        """The library comes first, so that a recording may take the name of a model's own voice.

        `file` is the voice itself, if it came along; `field` is where the client names it. Raises VoiceNotFound,
        InvalidRequest, InvalidPath, InvalidAudio.
        """
        if file:
            return VoicePrompt(file.relative, str(file.path), file.content_hash)
        name = name or self._speech.default_voice
        if name is None:
            if not model.voices:
                raise InvalidRequest(f"the model {model.name} has no voice of its own: name one", field=field)
            return VoicePrompt(model.voices[0])
        if recording := self._voices.find(name, field=field):
            return VoicePrompt(recording.relative, str(recording.path), recording.content_hash)
        if name in model.voices:
            return VoicePrompt(name)
        raise self._voices.not_found(name, model.voices)

    def _resolved(self, request: SpeechRequest) -> tuple[SpeechRequest, SpeechSettings, list[str]]:
        """The request with the voice's defaults for what it leaves open, its options, and what had to be ignored."""
        name = request.voice or self._speech.default_voice
        recording = None
        if name and not request.voice_file:
            recording = self._voices.find(name, field="reference_audio_filename")
        options, seed, sound_words, ignored = {}, None, None, []
        for key, value in (recording.default_parameters if recording else {}).items():
            if key == "seed" and isinstance(value, int) and 0 <= value <= MAX_SEED:
                seed = value
            elif key == "sound_words_field" and isinstance(value, str):
                sound_words = value
            elif fault := _fault(key, value):
                ignored.append(f"the voice's default {key} was ignored: {fault}")
            else:
                options[key] = getattr(SpeechSettings.model_validate({key: value}), key)
        resolved = replace(
            request,
            seed=request.seed if request.seed is not None else seed,
            sound_words=request.sound_words if request.sound_words is not None else sound_words,
        )
        return resolved, self._speech.model_copy(update={**options, **request.options}), ignored

    def _check(self, text: str) -> None:
        if not text.strip():
            raise NothingToSay("the text is empty", field="text", kind="string_too_short")
        if len(text.strip()) > self._api.max_text_length:
            raise TextTooLong(
                f"the text has {len(text.strip())} characters; at most {self._api.max_text_length} are allowed",
                field="text",
                kind="string_too_long",
            )
        refuse_control_characters(text)

    def _clean(self, request: SpeechRequest, options: SpeechSettings) -> str:
        text = clean(
            request.text,
            CleanUp(
                to_lowercase=options.to_lowercase,
                normalize_spacing=options.normalize_spacing,
                fix_dot_letters=options.fix_dot_letters,
                remove_reference_numbers=options.remove_reference_numbers,
                sound_words=request.sound_words or "",
            ),
            self._api.max_text_length,
        )
        if not text.strip():
            raise NothingToSay("nothing is left to say after the clean-up of the text", field="text")
        return text

    @staticmethod
    def _split(text: str, options: SpeechSettings, model: ModelInfo) -> list[Chunk]:
        grouping = Grouping.FULL if options.enable_batching else Grouping.EACH
        if grouping is Grouping.EACH and options.smart_batch_short_sentences:
            grouping = Grouping.SHORT
        longest = min(options.chunk_characters, model.chunk_characters)
        return split(text, language=options.language, max_characters=longest, grouping=grouping)

    @staticmethod
    def _chunk_request(chunk: Chunk, index: int, manner: Manner, *, early: bool, is_first: bool) -> ChunkRequest:
        text, options, model, seed = chunk.text.strip(), manner.options, manner.model, manner.seed
        return ChunkRequest(
            text=lowercase(text) if options.to_lowercase else text,
            language=model.language_of(options.language) or options.language,
            voice=manner.voice,
            sampling=Sampling(**{name: getattr(options, name) for name in SAMPLING}),
            seed=derived_seed(seed, index) if index else seed,
            model=model.name,
            watermark=not options.disable_watermark,
            early=early and is_first,
            max_attempts=options.max_attempts_per_candidate,
            validation=None if early else _wish(manner.request, options, manner.engine, model),
            request_id=context.request_id.get(),
        )

    @staticmethod
    def _warnings(request: SpeechRequest, options: SpeechSettings, engine: EngineInfo, model: ModelInfo) -> list[str]:
        warnings = [
            f"{name} has no effect on the model {model.name}"
            for name in SAMPLING
            if name in request.options and name not in model.takes
        ]
        warnings += options.without_effect(request.options)
        if not options.disable_watermark and not model.watermarks:
            warnings.append(f"not watermarked: the model {model.name} has no watermark here")
        if not any(character.isalnum() for character in request.text):
            warnings.append("the text has no letter or digit: there may be little or nothing to hear")
        if (
            not options.bypass_whisper_checking
            and (request.wants_listening or model.needs_listening)
            and not _is_heard(request, options, engine, model)
        ):
            asked = f"; name num_candidates_per_chunk to have {engine.transcriber} listen" if engine.transcriber else ""
            warnings.append(f"not validated, one candidate was made of each chunk: Whisper is not at hand{asked}")
        return warnings


def _fault(key: str, value: Any) -> str | None:
    """What is wrong with an option that somebody wrote into a voice's companion."""
    if key not in SpeechSettings.model_fields or key in NOT_OF_A_VOICE:
        return "there is no such option"
    try:
        SpeechSettings.model_validate({key: value})
    except ValidationError as error:
        return error.errors()[0]["msg"]
    return None


def random_seed() -> int:
    return secrets.randbelow(MAX_SEED) + 1


def _is_heard(request: SpeechRequest, options: SpeechSettings, engine: EngineInfo, model: ModelInfo) -> bool:
    """True if a transcriber listens: asked for, or unasked where one is good enough for a model that needs it."""
    if engine.transcriber is None or options.bypass_whisper_checking:
        return False
    return request.wants_listening or (model.needs_listening and engine.listens_unasked)


def _wish(
    request: SpeechRequest, options: SpeechSettings, engine: EngineInfo, model: ModelInfo
) -> ValidationWish | None:
    """How a transcriber is to listen to each chunk; None where nobody does."""
    if not _is_heard(request, options, engine, model):
        return None
    return ValidationWish(
        candidates=options.num_candidates_per_chunk,
        attempts=options.max_attempts_per_candidate,
        whisper_model=options.whisper_model_name,
        use_whisper=options.use_faster_whisper,
        longest_on_fail=options.use_longest_transcript_on_fail,
    )
