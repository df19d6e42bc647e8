"""What pocketsphinx may hear: the words of a text, in its order or any other, common words, and any sounds at all.

Open dictation is beyond it, and told only the text it would hear the text in anything. So words that are not the
text's and single phones compete with it: other words are heard as such, and what is no speech as phones.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict

from engines.transcription.numbers import readings
from engines.transcription.pronunciation import PHONES, sounds_of
from engines.transcription.words import said_words

PHONE_MARK = "~"
"""A word of the model that begins with it is a phone: a sound that belongs to no word."""

BACK_OFF = 0.1
COMMON_SHARE = 0.2
PHONE_SHARE = 0.2
_COMMON = (
    "the of and a to in is you that it he was for on are as with his they i at be this have from or one had by word "
    "but not what all were we when your can said there use an each which she do how their if will up other about out "
    "many then them these so some her would make like him into time has look two more write go see number no way could "
    "people my than first water been call who its now find long down day did get come made may part over new sound "
    "take only little work know place year live me back give most very after thing our just name good sentence man "
    "think say great where help through much before line right too mean old any same tell boy follow came want show "
    "also around form three small set put end does another well large must big even such because turn here why ask "
    "went men read need land different home us move try kind hand picture again change off play spell air away animal "
    "house point page letter mother answer found study still learn should world"
).split()


def models_of(text: str) -> tuple[str, str]:
    """The bigram model, in ARPA form, and the dictionary that pocketsphinx is to hear a text with."""
    sentences = _sentences(text)
    singles = _singles(sentences)
    return _arpa(singles, _pairs(sentences)), _pronunciations(singles)


def _sentences(text: str) -> list[list[str]]:
    """The text as it may be said, numbers in each of their ways, and its words once in another order."""
    said = [[way for way in readings(word) or [[word]] if all(map(sounds_of, way))] for word in said_words(text)]
    spoken = [ways for ways in said if ways]
    whole = [[word for way in ways for word in way] for ways in _each_way(spoken)]
    mixed = whole[0].copy()
    random.Random(len(mixed)).shuffle(mixed)
    return [*whole, mixed]


def _each_way(spoken: list[list[list[str]]]) -> list[list[list[str]]]:
    """As many sentences as the number with the most ways has; the others use their first again."""
    most = max(map(len, spoken), default=1)
    return [[ways[turn] if turn < len(ways) else ways[0] for ways in spoken] for turn in range(most)]


def _singles(sentences: list[list[str]]) -> dict[str, float]:
    """The probability of every word by itself, the end of a sentence among them."""
    own = Counter(word for sentence in sentences for word in [*sentence, "</s>"])
    share = (1 - COMMON_SHARE - PHONE_SHARE) / own.total()
    singles = {word: share * count for word, count in own.items()}
    for word in _COMMON:
        singles[word] = singles.get(word, 0.0) + COMMON_SHARE / len(_COMMON)
    return singles | {PHONE_MARK + phone: PHONE_SHARE / len(PHONES) for phone in PHONES}


def _pairs(sentences: list[list[str]]) -> dict[str, Counter[str]]:
    followers: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for sentence in sentences:
        for left, right in zip(["<s>", *sentence], [*sentence, "</s>"], strict=True):
            followers[left][right] += 1
    return dict(followers)


def _arpa(singles: dict[str, float], followers: dict[str, Counter[str]]) -> str:
    """What follows in the text shares 1 - `BACK_OFF` of the probability after a word, all words share the rest
    (interpolated as in Jelinek and Mercer 1980, with a fixed weight)."""
    lone, pairs = [], []
    for left in sorted({"<s>", *singles}):
        following = followers.get(left, Counter())
        chance = math.log10(singles[left]) if left in singles else -99.0
        lone.append(f"{chance:.4f} {left} {math.log10(BACK_OFF) if following else 0.0:.4f}")
        for right, count in sorted(following.items()):
            share = (1 - BACK_OFF) * count / following.total() + BACK_OFF * singles[right]
            pairs.append(f"{math.log10(share):.4f} {left} {right}")
    head = ["\\data\\", f"ngram 1={len(lone)}", f"ngram 2={len(pairs)}"]
    return "\n".join([*head, "", "\\1-grams:", *lone, "", "\\2-grams:", *pairs, "", "\\end\\", ""])


def _pronunciations(vocabulary: dict[str, float]) -> str:
    """The lines of a dictionary file; a word's second and later ways are numbered from 2."""
    lines = []
    for word in sorted(vocabulary.keys() - {"</s>"}):
        ways = [word.removeprefix(PHONE_MARK)] if word.startswith(PHONE_MARK) else sounds_of(word)
        lines += [f"{word if way == 1 else f'{word}({way})'} {sounds}" for way, sounds in enumerate(ways, start=1)]
    return "\n".join(lines) + "\n"
