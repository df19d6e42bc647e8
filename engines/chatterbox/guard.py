"""How long speech of a text can be: a model that stops long before has left words out, one that goes on rambles."""

from __future__ import annotations

import math

TOKENS_A_SECOND = 25
LONGEST = 1000  # tokens: what upstream allows, 40 s
SLOWEST_S_PER_LETTER = 0.2  # three times slower than an unhurried reader of English
FASTEST_S_PER_LETTER = 0.02  # 50 letters a second: nobody speaks half as fast
GRACE_S = 4.0  # for pauses, laughter, and a beginning and end of silence
WORTH_A_LOOK = 25  # letters: a shorter text says too little about its duration

# A character of these scripts is a syllable or a word.
DENSE = (("\u3040", "\u30ff"), ("\u3400", "\u9fff"), ("\uac00", "\ud7af"))
DENSE_LETTERS = 4


def letters_in(text: str) -> int:
    """How many letters of an alphabet the text is worth when it is spoken."""
    return sum(_worth(character) for character in text)


def most_tokens(text: str) -> int:
    """Speech tokens after which a model that has not stopped is taken to have run on."""
    duration_s = GRACE_S + SLOWEST_S_PER_LETTER * letters_in(text)
    return min(LONGEST, math.ceil(duration_s * TOKENS_A_SECOND))


def is_too_short(text: str, tokens: int) -> bool:
    """True if so few speech tokens cannot hold all of the text."""
    letters = letters_in(text)
    return letters >= WORTH_A_LOOK and tokens < FASTEST_S_PER_LETTER * letters * TOKENS_A_SECOND


def _worth(character: str) -> int:
    if not character.isalnum():
        return 0
    return DENSE_LETTERS if any(first <= character <= last for first, last in DENSE) else 1
