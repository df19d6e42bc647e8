"""The one tree of what this service can fail at.

Clients match on `code`; the message is a sentence for a person and may name what the client sent, never what the
server is made of. Which status each class becomes over HTTP is decided once, in `routes/errors.py`.
"""

from __future__ import annotations

from typing import Any


class SpeechError(Exception):
    """Root of every failure that a client can meet.

    `detail` is extra material for a program (the list of close matches, the fields at fault), JSON-ready.
    """

    code = "INTERNAL_ERROR"
    is_expected = False  # of a server that is well: told to the client, but no reason to warn in the log

    def __init__(self, message: str, *, detail: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class InvalidRequest(SpeechError):
    """A field that no model could refuse by itself: the loaded engine does not take it, or two of them disagree."""

    code = "VALIDATION_ERROR"

    def __init__(self, message: str, *, field: str, where: str = "body", kind: str = "value_error") -> None:
        super().__init__(message, detail=[{"type": kind, "loc": [where, field], "msg": message}])


class NothingToSay(InvalidRequest):
    """A text without a character to speak, or of which its clean-up leaves none."""


class TextTooLong(InvalidRequest):
    code = "TEXT_TOO_LONG"


class UnreadableText(InvalidRequest):
    """A text that the model will never say, however often it is asked: signs that it cannot read, another language."""

    code = "TEXT_UNREADABLE"

    def __init__(self, message: str) -> None:
        super().__init__(message, field="text", kind="unreadable_text")


class InvalidPath(SpeechError):
    """A name or folder that would leave its root, or that some system could not store."""

    code = "INVALID_PATH"


class InvalidAudio(SpeechError):
    """Bytes that are no audio, or audio that cannot serve its purpose."""

    code = "INVALID_AUDIO"


class UnusableAudio(InvalidAudio):
    """Audio, or a film, that is whole, but outside what this server takes: nobody may call the file broken for it."""


class InvalidArchive(SpeechError):
    """A backup that is damaged, or that nobody should unpack."""

    code = "INVALID_ARCHIVE"


class UnsupportedFormat(SpeechError):
    """A media type that this server does not take."""

    code = "UNSUPPORTED_FORMAT"


class UnsupportedAudio(UnsupportedFormat):
    """Audio, but in a container or codec that the libraries do not keep."""


class UploadMismatch(SpeechError):
    """A form whose description speaks of more files than came along, or of fewer."""

    code = "UPLOAD_MISMATCH"


class VoiceNotFound(SpeechError):
    code = "VOICE_NOT_FOUND"


class AmbiguousVoice(InvalidRequest):
    """A short name that several voices answer to; `candidates` are their paths."""

    def __init__(self, message: str, *, field: str, candidates: list[str]) -> None:
        super().__init__(message, field=field, where="path" if field == "path" else "body", kind="ambiguous")
        self.detail[0]["candidates"] = candidates


class ModelNotFound(InvalidRequest):
    """A model of that name cannot be had here; over OpenAI's API only, where it is a resource with an address."""

    code = "MODEL_NOT_FOUND"


class FileMissing(SpeechError):
    code = "FILE_NOT_FOUND"


class NameTaken(SpeechError):
    """A file, or an alias of a voice, that is there already."""

    code = "FILE_EXISTS"


class ConfirmationRequired(SpeechError):
    """A deletion that did not say `confirm=true`."""

    code = "CONFIRMATION_REQUIRED"


class CriteriaRequired(SpeechError):
    """A deletion of many files that does not say which."""

    code = "CRITERIA_REQUIRED"


class RangeNotSatisfiable(SpeechError):
    """A Range header that asks for nothing that the file has."""

    code = "RANGE_NOT_SATISFIABLE"

    def __init__(self, message: str, *, size_bytes: int) -> None:
        super().__init__(message)
        self.size_bytes = size_bytes


class FileTooLarge(SpeechError):
    code = "FILE_TOO_LARGE"


class GenerationFailed(SpeechError):
    """The engine could not speak a chunk of the text."""

    code = "GENERATION_FAILED"


class GenerationTimeout(SpeechError):
    """The engine did not answer within its time."""

    code = "GENERATION_TIMEOUT"


class OriginRefused(SpeechError):
    """A page in a browser that has no business with this server."""

    code = "PERMISSION_DENIED"
    is_expected = True


class NothingCame(SpeechError):
    """A client that holds a place in line and says nothing."""

    code = "IDLE_TIMEOUT"
    is_expected = True


class TryAgainLater(SpeechError):
    """A state that passes; a client may send the same request after `retry_after_s` whole seconds."""

    def __init__(self, message: str, *, retry_after_s: int = 1, detail: Any = None) -> None:
        super().__init__(message, detail=detail)
        self.retry_after_s = retry_after_s


class ModelUnavailable(TryAgainLater):
    """No engine can speak right now: it is loading, restarting, or its weights are missing."""

    code = "MODEL_UNAVAILABLE"


class NotReady(ModelUnavailable):
    """What a probe is told while the engine cannot speak: an answer rather than a failure."""

    is_expected = True


class ServiceOverloaded(TryAgainLater):
    """The line in front of the engine is full."""

    code = "SERVICE_OVERLOADED"
    is_expected = True


class StorageFull(SpeechError):
    code = "STORAGE_FULL"


class DownloadRefused(SpeechError):
    """A web address that this server does not fetch from. Its message never says which rule it broke."""

    code = "DOWNLOAD_REFUSED"


class DownloadFailed(SpeechError):
    """A web address that may be fetched from, but does not give a whole recording in time."""

    code = "DOWNLOAD_FAILED"
    is_expected = True  # the fault of another server
