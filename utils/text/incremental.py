"""Sentences of a text that is still being written: each is given away once it is known where it ends."""

from __future__ import annotations

import re
from itertools import accumulate, pairwise

from utils.text.split import Chunk, Grouping, Pause, split

LONGEST = 500  # characters that are waited for without the end of a sentence

# What must have come of the next sentence: its first word, which decides whether "Vol." or "U.S." ended the one
# before. Scripts without spaces are decided by as many characters as the rules of split.py look at.
_BEGUN = re.compile(r"\s*(?:\S+\s|\S{8})")
# Within marks that are still open nothing ends: "He said “Go. Now.” and left" is one sentence.
_CLOSERS = {'"': '"', "“": "”", "„": "“", "«": "»", "(": ")", "[": "]", "「": "」", "『": "』", "（": "）"}


class GrowingText:
    """Takes a text in pieces of any size and gives back its sentences, which join to exactly that text.

    A sentence ends where `split` ends it in the whole text, but for two cases: one that is longer than `LONGEST` is
    given away in parts, and a quotation that is open for so long is no longer waited for.
    """

    def __init__(self, language: str) -> None:
        self._language = language
        self._pending = ""

    def __len__(self) -> int:
        """Characters that were not given away yet."""
        return len(self._pending)

    def add(self, text: str) -> list[Chunk]:
        """The sentences that are whole now."""
        self._pending += text
        pauses = self._ends(self._pending)
        begun = [end for end in pauses if _BEGUN.match(self._pending, end)]
        if not begun:
            return []
        ends = self._decided(begun)
        if not ends and len(self._pending) > LONGEST:
            ends = begun
        sentences = [Chunk(self._pending[start:end], pauses[end]) for start, end in pairwise((0, *ends))]
        self._pending = self._pending[ends[-1] if ends else 0 :]
        return sentences

    def flush(self) -> list[Chunk]:
        """All the rest, as if the text ended here; a pause follows, should it go on."""
        rest, self._pending = self._pending, ""
        ends = {**self._ends(rest), len(rest): Pause.SENTENCE}
        return [Chunk(rest[start:end], ends[end]) for start, end in pairwise((0, *ends))] if rest else []

    def clear(self) -> None:
        """Forget what was not given away."""
        self._pending = ""

    def _decided(self, ends: list[int]) -> list[int]:
        """Those that no text to come can take back by closing what is open."""
        closers = {closer for opener, closer in _CLOSERS.items() if opener in self._pending}
        for closer in sorted(closers):
            closed = self._ends(self._pending + closer)
            ends = [end for end in ends if end in closed]
        return ends

    def _ends(self, text: str) -> dict[int, Pause]:
        """Where a sentence ends and another follows, with the pause between them."""
        chunks = split(text, language=self._language, max_characters=LONGEST, grouping=Grouping.EACH)
        lengths = accumulate(len(chunk.text) for chunk in chunks[:-1])
        return {end: chunk.pause for end, chunk in zip(lengths, chunks, strict=False)}
