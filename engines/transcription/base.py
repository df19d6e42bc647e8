"""What a listener is. The model behind one is loaded when it first listens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from utils.audio.waveform import Waveform

Check = Callable[[], None]


class CannotListen(Exception):
    """Raised by a listener whose model is missing, damaged or fails. What was spoken is none the worse for it."""


class Transcriber(Protocol):
    """Writes down what is said in waveforms. Safe from any thread; the same waveform gets the same transcript."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    @property
    def threshold(self) -> float:
        """The least `score` of a transcript that counts as understood: what this listener misses of clear speech."""

    def understands(self, language: str) -> bool: ...

    def transcribe(self, waveforms: Sequence[Waveform], language: str, text: str, check: Check) -> list[str]:
        """One transcript a waveform, "" for nothing heard.

        `text` is what should be said, for a listener that has to know which words exist; it must be able to hear
        others. `check` is called often, by this thread, and may raise. Raises CannotListen.
        """
