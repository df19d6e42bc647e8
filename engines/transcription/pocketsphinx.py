"""The listener that needs no weights: pocketsphinx, whose English model is inside its wheel."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from engines.transcription.base import Check
from engines.transcription.expectation import PHONE_MARK, models_of
from engines.transcription.pieces import SAMPLE_RATE, pieces
from utils.audio.waveform import Waveform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pocketsphinx import Decoder

LONGEST_PIECE_S = 12.0  # longer utterances are heard badly, and late
_SHORTEST_PIECE_S = 4.0
_LEAD_IN_S = 0.3
_PEAK = 0.7  # every piece is brought to it: the model knows speech of an ordinary level
_INAUDIBLE = 1e-4
_PHONES_A_WORD = 3


def why_unavailable() -> str | None:
    """A clause on why it cannot listen, None if it can."""
    return None if find_spec("pocketsphinx") else "the package pocketsphinx is not installed"


class PocketSphinx:
    """Hears whether an English text was said. What is no word of the text it hears as other words, or as phones.

    The threshold was measured with the embedded engine, 14 texts by each of its voices: of the right audio 0.77 to 1
    is understood, of half of it at most 0.65, of its words in another order at most 0.4, of other texts, of it
    backwards and of it said twice less. A text of one or two words may pass cut short, one of foreign names may fail.
    """

    name = "pocketsphinx"
    threshold = 0.7

    def understands(self, language: str) -> bool:
        return language.lower().partition("-")[0] == "en"

    def transcribe(
        self,
        waveforms: Sequence[Waveform],
        language: str,  # noqa: ARG002 - it is English
        text: str,
        check: Check,
    ) -> list[str]:
        decoder = _decoder(text)
        return [_hear(decoder, waveform, check) for waveform in waveforms]


def _decoder(text: str) -> Decoder:
    """Made for each text: that takes 15 ms, and no two threads share one."""
    from pocketsphinx import Decoder

    bigrams, sounds = models_of(text)
    with tempfile.TemporaryDirectory(prefix="pocketsphinx-") as folder:
        model, dictionary = Path(folder, "bigrams.arpa"), Path(folder, "words.dict")
        model.write_text(bigrams, encoding="utf-8")
        dictionary.write_text(sounds, encoding="utf-8")
        # Six Gaussians a frame in place of four: a fifth slower, a third fewer errors on a formant voice.
        return Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", topn=6, lm=str(model), dict=str(dictionary))


def _hear(decoder: Decoder, waveform: Waveform, check: Check) -> str:
    words: list[str] = []
    for piece in pieces(waveform, _SHORTEST_PIECE_S, LONGEST_PIECE_S):
        check()
        words += _hear_piece(decoder, piece)
    return " ".join(words)


def _hear_piece(decoder: Decoder, samples: NDArray[np.float32]) -> list[str]:
    import numpy as np

    peak = float(np.abs(samples).max(initial=0.0))
    if peak < _INAUDIBLE:
        return []
    pcm = np.pad(samples * (_PEAK * 32767 / peak), round(_LEAD_IN_S * SAMPLE_RATE)).astype("<i2").tobytes()
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return _words(str(hypothesis.hypstr).split()) if hypothesis else []


def _words(heard: list[str]) -> list[str]:
    """Phones that belong to no word make up words of three, so that they count as words; a single one is a noise."""
    words: list[str] = []
    for is_noise, run in groupby(heard, lambda word: word.startswith(PHONE_MARK)):
        sounds = list(run)
        if not is_noise:
            words += sounds
        elif len(sounds) > 1:
            phones = [sound.removeprefix(PHONE_MARK).lower() for sound in sounds]
            words += ["".join(phones[at : at + _PHONES_A_WORD]) for at in range(0, len(phones), _PHONES_A_WORD)]
    return words
