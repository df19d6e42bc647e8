"""A listener that understands English, offline: pocketsphinx with its own acoustic model.

Open dictation is hard for it, so the judge of a test is a closed one: `Recogniser.of` the sentences that should be
heard. It knows their words and some more, in many more orders than theirs, so that it can be wrong.
"""

from __future__ import annotations

import math
import random
import re
import tempfile
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soxr
from pocketsphinx import Decoder, get_model_path

from tests.listen.sound import silences
from tests.listen.transcript import spelled, words
from utils.audio.waveform import Waveform

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LONGEST_PIECE_S = 12.0
"""Longer utterances are cut at a pause: one of minutes is heard badly, and late."""

_RATE = 16_000
_SHORTEST_PIECE_S = 4.0
_LEAD_IN_S = 0.3
_BACK_OFF = 0.1
"""Share of the probability that a word leaves to words that never followed it in the sentences."""

_OTHER_SENTENCES = (
    "A tired cook counted seventeen onions and went to bed.",
    "Bring the green umbrella because it may rain in the afternoon.",
    "Nothing on this shelf belongs to my neighbour.",
    "Her cousin repairs clocks in a cellar under the theatre.",
    "We were told that the museum opens later on Sundays.",
    "If you ask him, he will only shake his head.",
    "Two foxes ran along the wall and vanished.",
    "Most of these pages were printed before the fire.",
    "Could they have sold the piano without a word?",
    "I have never tasted soup as salty as yours.",
)


class Recogniser:
    """Hears words in a waveform. Make one with `of` or `open`; both are cached, and each is one decoder for all."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    @staticmethod
    def of(texts: Sequence[str]) -> Recogniser:
        """A judge of these texts: it hears their words and those of its own distractors, no others."""
        return _closed(tuple(texts))

    @staticmethod
    @cache
    def open() -> Recogniser:
        """Open dictation over 130,000 words. Expect it to miss a third of the words even of clear speech."""
        return Recogniser(_decoder())

    def hear(self, waveform: Waveform) -> str:
        """The words heard, in lower case, "" for none. The same waveform is always heard the same way."""
        return " ".join(filter(None, (self._hear_piece(piece) for piece in pieces(waveform))))

    def _hear_piece(self, waveform: Waveform) -> str:
        samples = soxr.resample(waveform.samples, waveform.sample_rate, _RATE)
        peak = float(np.abs(samples).max(initial=0.0))
        if peak < 1e-4:
            return ""
        pcm = np.pad(samples * (0.7 * 32767 / peak), round(_LEAD_IN_S * _RATE)).astype("<i2").tobytes()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return str(hypothesis.hypstr) if hypothesis else ""


def pieces(waveform: Waveform) -> Iterator[Waveform]:
    """Cut at the longest pause within reach, or, where none is, at the quietest moment, so that no piece is longer
    than `LONGEST_PIECE_S`; together they are the whole waveform."""
    pauses = silences(waveform, at_least_s=0.1)
    rate, start_s = waveform.sample_rate, 0.0
    while waveform.duration_s - start_s > LONGEST_PIECE_S:
        first, last = start_s + _SHORTEST_PIECE_S, start_s + LONGEST_PIECE_S
        lengths = {(begin + end) / 2: end - begin for begin, end in pauses if first < (begin + end) / 2 < last}
        cut_s = max(lengths, key=lengths.__getitem__) if lengths else _quietest_s(waveform, first, last)
        yield Waveform(waveform.samples[round(start_s * rate) : round(cut_s * rate)], rate)
        start_s = cut_s
    yield Waveform(waveform.samples[round(start_s * rate) :], rate)


def _quietest_s(waveform: Waveform, first_s: float, last_s: float) -> float:
    step = waveform.sample_rate // 50
    part = waveform.samples[round(first_s * waveform.sample_rate) : round(last_s * waveform.sample_rate)]
    power = (part[: len(part) // step * step].reshape(-1, step) ** 2).sum(axis=1)
    return first_s + (int(power.argmin()) + 0.5) * step / waveform.sample_rate


def unknown_words(texts: Iterable[str]) -> list[str]:
    """Words that the recogniser's dictionary lacks, sorted: `Recogniser.of` guesses how these are said."""
    return sorted({word for text in texts for word in words(spelled(text))} - _dictionary().keys())


@cache
def _closed(texts: tuple[str, ...]) -> Recogniser:
    sentences = [words(spelled(text)) for text in texts]
    at_a_stretch = [word for sentence in sentences for word in sentence]  # a piece may hold the seam of two sentences
    others = [words(sentence) for sentence in _OTHER_SENTENCES]
    corpus = [*sentences, at_a_stretch, *_shuffled(sentences), *others]
    with tempfile.TemporaryDirectory() as folder:
        bigrams, sounds = Path(folder, "bigrams.arpa"), Path(folder, "words.dict")
        bigrams.write_text(_arpa(corpus), encoding="ascii")
        sounds.write_text(_pronunciations({word for sentence in corpus for word in sentence}), encoding="ascii")
        return Recogniser(_decoder(lm=str(bigrams), dict=str(sounds)))


def _decoder(**models: str) -> Decoder:
    """Six Gaussians a frame in place of four: a fifth slower, a third fewer errors on a formant voice."""
    return Decoder(samprate=_RATE, loglevel="FATAL", topn=6, **models)


def _shuffled(sentences: list[list[str]]) -> list[list[str]]:
    """The same words dealt anew into as many sentences: the distractors that only listening tells from the truth."""
    dealt = [word for sentence in sentences for word in sentence]
    random.Random(len(dealt)).shuffle(dealt)
    return [[dealt.pop() for _ in sentence] for sentence in sentences]


def _arpa(corpus: list[list[str]]) -> str:
    """A bigram model in ARPA form: the pairs of the corpus share 1 - `_BACK_OFF` of what may follow a word, and all
    words share the rest by how often they occur (absolute back-off, as in Katz 1987 with a fixed discount)."""
    followers: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for sentence in corpus:
        for left, right in zip(["<s>", *sentence], [*sentence, "</s>"], strict=True):
            followers[left][right] += 1
    counts = sum(followers.values(), Counter[str]())
    total = counts.total()
    singles, pairs = [], []
    for left in sorted({"<s>", *counts}):
        following = followers[left]
        elsewhere = 1 - sum(counts[right] for right in following) / total
        weight = math.log10(_BACK_OFF / elsewhere) if following else 0.0
        singles.append(f"{math.log10(counts[left] / total) if counts[left] else -99:.4f} {left} {weight:.4f}")
        for right, count in sorted(following.items()):
            pairs.append(f"{math.log10((1 - _BACK_OFF) * count / following.total()):.4f} {left} {right}")
    head = ["\\data\\", f"ngram 1={len(singles)}", f"ngram 2={len(pairs)}"]
    return "\n".join([*head, "", "\\1-grams:", *singles, "", "\\2-grams:", *pairs, "", "\\end\\", ""])


def _pronunciations(vocabulary: set[str]) -> str:
    """The lines of a dictionary file; a word's second and later ways are numbered from 2."""
    lines = []
    for word in sorted(vocabulary):
        ways = _dictionary().get(word) or [guessed_sounds(word)]
        lines += [f"{word if way == 1 else f'{word}({way})'} {sounds}" for way, sounds in enumerate(ways, start=1)]
    return "\n".join(lines) + "\n"


@cache
def _dictionary() -> dict[str, list[str]]:
    ways: defaultdict[str, list[str]] = defaultdict(list)
    with Path(get_model_path("en-us/cmudict-en-us.dict")).open(encoding="utf-8") as lines:
        for line in lines:
            word, sounds = line.rstrip().split(" ", 1)
            ways[word.partition("(")[0]].append(sounds)
    return dict(ways)


_LETTER_SOUNDS = dict(
    pair.split("=")
    for pair in (
        "tion=SH AH N,ough=AO,eigh=EY,igh=AY,tch=CH,dge=JH,sch=SH,ck=K,ch=CH,sh=SH,th=TH,ph=F,wh=W,ng=NG,qu=K W,kn=N,"
        "wr=R,gh=G,ee=IY,ea=IY,oo=UW,ou=AW,ow=OW,oi=OY,oy=OY,ai=EY,ay=EY,au=AO,aw=AO,oa=OW,ie=IY,ei=EY,ew=Y UW,ar=AA R,"
        "er=ER,ir=ER,ur=ER,or=AO R,a=AE,b=B,c=K,d=D,e=EH,f=F,g=G,h=HH,i=IH,j=JH,k=K,l=L,m=M,n=N,o=AA,p=P,q=K,r=R,s=S,"
        "t=T,u=AH,v=V,w=W,x=K S,y=IY,z=Z,'="
    ).split(",")
)
_SPELLINGS = re.compile("|".join(_LETTER_SOUNDS))


def guessed_sounds(word: str) -> str:
    """ARPAbet for a word of a to z that no dictionary has: the longest spelling first, a doubled letter once, the
    "e" at the end silent. Good enough to tell a name from the other words of a test, not to judge how it is said."""
    once = re.sub(r"([b-df-hj-np-tv-z])\1", r"\1", word)
    silent = once[:-1] if len(once) > 3 and once.endswith("e") and once[-2] not in "aeiou" else once
    return " ".join(filter(None, (_LETTER_SOUNDS[spelling] for spelling in _SPELLINGS.findall(silent))))
