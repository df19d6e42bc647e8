"""A text that arrives in pieces: its sentences come out whole, in time, and every character once."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.text.incremental import LONGEST, GrowingText
from utils.text.split import Chunk, Grouping, Pause, split

NARRATIVE = (Path(__file__).resolve().parents[2] / "data" / "narrative.txt").read_text(encoding="utf-8")
PIECES_OF_TEXT = st.sampled_from(
    [
        *"aB.!?…,;:\"'“”«»()- \n3",
        "Dr. ",
        "U.S. ",
        "3.14",
        "J. R. R. ",
        "。",
        "「",
        "」",
        "你好",
        "\n\n",
        "Vol. ",
        "e.g. ",
        "🙂",
    ]
)


def heard(pieces: list[str], language: str = "en") -> list[Chunk]:
    text = GrowingText(language)
    return [*itertools.chain.from_iterable(text.add(piece) for piece in pieces), *text.flush()]


def cut(text: str, places: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in itertools.pairwise(edges)]


def whole(text: str, language: str = "en") -> list[str]:
    chunks = split(text, language=language, max_characters=LONGEST, grouping=Grouping.EACH)
    return [chunk.text for chunk in chunks]


@settings(deadline=None, max_examples=300)
@given(st.lists(PIECES_OF_TEXT, max_size=60).map("".join), st.lists(st.integers(0, 10_000), max_size=20))
def test_every_character_is_spoken_once_however_the_text_arrives(text: str, places: list[int]) -> None:
    assert "".join(chunk.text for chunk in heard(cut(text, places))) == text


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 100_000), max_size=200))
def test_a_story_has_the_same_sentences_however_it_arrives(places: list[int]) -> None:
    chunks = heard(cut(NARRATIVE, places))

    assert [chunk.text for chunk in chunks] == whole(NARRATIVE)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Dr. Smith paid 3.14 dollars to J. R. R. Tolkien in the U.S. Army. See Vol. 3. It is long."),
        ("en", "He said “Go. Now. Run.” and left. Then he slept (as one does. Always.) until noon. He woke."),
        ("en", 'She asked: "Why? And when?" Nobody knew... but she did. Really?! Yes.'),
        ("de", "Am 3. Oktober kam er z. B. mit Dr. Maier. „Geh. Jetzt.“ rief sie. Er ging."),
        ("zh", "今天天气很好。我们去公园吧！“走。”他说。好的，走吧。"),
        ("ja", "「行こう。」と言った。それから寝た。おやすみなさい。"),
        ("en", "1. First point. 2. Second point.\n\nA new paragraph. - one\n- two"),
    ],
)
def test_letter_by_letter_makes_the_sentences_of_the_whole_text(language: str, text: str) -> None:
    assert [chunk.text for chunk in heard(list(text), language)] == whole(text, language)


def test_a_sentence_leaves_as_soon_as_the_next_one_has_begun() -> None:
    text = GrowingText("en")

    assert text.add("It is done. ") == []
    assert text.add("We") == []
    assert text.add(" go") == [Chunk("It is done. ", Pause.SENTENCE)]
    assert len(text) == len("We go")


def test_a_chinese_sentence_leaves_without_a_space() -> None:
    text = GrowingText("zh")

    assert text.add("今天天气很好。我们去") == []
    assert text.add("公园吧然后") == [Chunk("今天天气很好。", Pause.SENTENCE)]


def test_what_is_flushed_is_not_waited_for_and_what_follows_is_a_new_sentence() -> None:
    text = GrowingText("en")
    text.add("Hold on")

    assert text.flush() == [Chunk("Hold on", Pause.SENTENCE)]
    assert text.flush() == []
    assert text.add(" I am back. Where were ") == [Chunk(" I am back. ", Pause.SENTENCE)]


def test_a_paragraph_is_known_by_its_pause() -> None:
    assert [chunk.pause for chunk in heard(["One.\n", "\nTwo. Three."])] == [
        Pause.PARAGRAPH,
        Pause.SENTENCE,
        Pause.SENTENCE,
    ]


@pytest.mark.parametrize("text", ["word " * 2000, "x" * 9000, "“" + "He went on. " * 900, "( . " * 3000])
def test_a_text_without_an_end_is_not_waited_for(text: str) -> None:
    growing = GrowingText("en")
    most = 0
    for start in range(0, len(text), 50):
        growing.add(text[start : start + 50])
        most = max(most, len(growing))

    assert most <= 2 * LONGEST


def test_what_is_forgotten_is_never_spoken() -> None:
    text = GrowingText("en")
    text.add("This was a mistake")
    text.clear()

    assert text.flush() == []
