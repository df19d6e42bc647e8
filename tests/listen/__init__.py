"""What a test can hear: levels, pitch, pauses, clicks (`sound`), words (`recogniser`), their order (`transcript`)."""

from tests.listen.recogniser import Recogniser, unknown_words
from tests.listen.sound import (
    clicks,
    duration_s,
    energy_at,
    fundamental_hz,
    is_silent,
    loudness_lufs,
    peak_dbfs,
    read,
    silences,
    voiced_hz,
)
from tests.listen.transcript import sentences_heard_in_order, spelled, word_error_rate, words

__all__ = [
    "Recogniser",
    "clicks",
    "duration_s",
    "energy_at",
    "fundamental_hz",
    "is_silent",
    "loudness_lufs",
    "peak_dbfs",
    "read",
    "sentences_heard_in_order",
    "silences",
    "spelled",
    "unknown_words",
    "voiced_hz",
    "word_error_rate",
    "words",
]
