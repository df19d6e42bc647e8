import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from utils.text.split import SHORT_SENTENCE, Chunk, Grouping, Pause, split, with_short_first

AWKWARD = "aB. .\n\r \t!?。「」“”\"'()«»…,;\u2029\u2028\x85\xa0é\u0301😀🇫🇷\u200d1[]M—।؟\x0b\ufeff\ud83d"


def sentences(text: str, language: str = "en") -> list[str]:
    return [chunk.text.strip() for chunk in split(text, language=language, max_characters=300, grouping=Grouping.EACH)]


def pieces(text: str, max_characters: int, grouping: Grouping = Grouping.EACH) -> list[Chunk]:
    return split(text, language="en", max_characters=max_characters, grouping=grouping)


@given(
    text=st.one_of(st.text(max_size=200), st.text(AWKWARD, max_size=200)),
    language=st.sampled_from(["en", "de", "fr", "ja", "zh", "hi", "ru", "xx", "pt-BR", ""]),
    max_characters=st.integers(1, 60),
    grouping=st.sampled_from(Grouping),
)
@example(text="M\xa0. A", language="en", max_characters=5, grouping=Grouping.EACH)  # sentencex panics on this
@settings(max_examples=200, derandomize=True, deadline=None, database=None)
def test_nothing_is_lost_added_or_empty(text: str, language: str, max_characters: int, grouping: Grouping):
    chunks = split(text, language=language, max_characters=max_characters, grouping=grouping)

    assert "".join(chunk.text for chunk in chunks) == text
    assert all(chunk.text.strip() for chunk in chunks) or text.isspace()
    assert all(chunk.pause is not Pause.NONE or chunk.text for chunk in chunks)


@given(text=st.text("ab. ,!?。“”\n", max_size=300), max_characters=st.integers(1, 40))
@settings(max_examples=100, derandomize=True, deadline=None, database=None)
def test_no_chunk_is_longer_than_allowed(text: str, max_characters: int):
    for grouping in Grouping:
        assert all(len(chunk.text.strip()) <= max_characters for chunk in pieces(text, max_characters, grouping))


def test_no_text_has_no_chunks_and_a_blank_one_has_one():
    assert pieces("", 10) == []
    assert pieces(" \n\n ", 10) == [Chunk(" \n\n ", Pause.NONE)]


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="0 characters"):
        pieces("Hi.", 0)


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", ["Dr. Smith paid $3.50 at 5 p.m.", "They left for the U.S.", "He stayed."]),
        ("en", ["J. R. R. Tolkien wrote it.", "See No. 5 and Vol. 3, e.g. now.", "OK?"]),
        ("en", ["“Really?” she asked.", "“Go.”", "He left (soon).", "It is over!"]),
        ("en", ["Wait… he left—then came back...", "And so it ended."]),
        ("en", ["1. First of all.", "2. Second."]),
        ("en", ["hello.", "how are you?"]),
        ("es", ["¿Qué?", "¡No!", "La Sra. Paz y D. Juan vinieron."]),
        ("de", ["„Hallo!“ sagte er.", "Am 3. Mai kam z.B. Dr. Weber.", "»Geh.«", "Er ging."]),
        ("fr", ["M. Dupont est là.", "« Bonjour ! » dit-il.", "Mme. Durand aussi."]),
        ("it", ["Il Sig. Rossi è a S. Pietro.", "Vedi pag. 5."]),
        ("ru", ["А. С. Пушкин, т. е. поэт.", "Он ушёл."]),
        ("hi", ["डॉ. शर्मा आए।", "वह गया॥", "ठीक है?"]),
        ("ar", ["كيف حالك؟", "أنا بخير."]),
        ("ko", ["안녕하세요.", "반갑습니다!"]),
        ("xx", ["Hello there.", "World."]),
    ],
)
def test_sentences_end_where_a_reader_ends_them(language: str, expected: list[str]):
    assert sentences(" ".join(expected), language) == expected


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("ja", ["“行こう。”と彼は言った。", "「はい！」", "「いいえ。」", "本当！？", "終わり。"]),
        ("zh", ["你好。", "“走。”他说。", "真的吗？", "好！"]),
    ],
)
def test_sentences_without_spaces_end_at_their_marks_and_keep_their_quotes(language: str, expected: list[str]):
    assert sentences("".join(expected), language) == expected


@pytest.mark.parametrize("tag", ["de", "DE", "de-AT", "de_DE"])
def test_a_language_tag_is_taken_in_any_shape(tag: str):
    assert sentences("Am 3. Mai kam er. Gut.", tag) == ["Am 3. Mai kam er.", "Gut."]


@pytest.mark.parametrize("text", ["Hi.", "...", "😀", "a", "สวัสดีครับผมชื่อจอห์น"])
def test_a_short_text_is_one_chunk(text: str):
    assert pieces(text, 300) == [Chunk(text, Pause.NONE)]


def test_the_pauses_say_what_follows_each_chunk():
    chunks = pieces("One. Two.\n\nThree is long enough to break, and then goes on.", 40)

    assert [chunk.pause for chunk in chunks] == [Pause.SENTENCE, Pause.PARAGRAPH, Pause.CLAUSE, Pause.NONE]


def test_a_hard_wrapped_line_is_no_paragraph():
    assert [chunk.pause for chunk in pieces("One\ntwo.\nThree.", 40)] == [Pause.SENTENCE, Pause.NONE]


def test_what_cannot_be_said_goes_with_its_neighbour():
    assert sentences("The end.\n\n***\n\n...and then? ! Good. 😀") == ["The end.\n\n***", "...and then? !", "Good. 😀"]


LONG = "This one is clearly longer than a short sentence."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"Hi. {LONG} {LONG}", [f"Hi. {LONG}", LONG]),
        (f"{LONG} {LONG} Bye.", [LONG, f"{LONG} Bye."]),
        (f"{LONG}\n\nNo. {LONG}", [LONG, f"No. {LONG}"]),
        (f"Oh.\n\n{LONG}", ["Oh.", LONG]),
        (f"{LONG} Bye. {'x' * 58}.", [f"{LONG} Bye.", f"{'x' * 58}."]),
    ],
)
def test_a_short_sentence_shares_a_chunk_with_its_neighbour_in_the_paragraph(text: str, expected: list[str]):
    assert [chunk.text.strip() for chunk in pieces(text, 60, Grouping.SHORT)] == expected


def test_long_sentences_are_not_grouped_with_each_other_by_short():
    assert len(LONG) > SHORT_SENTENCE
    assert len(pieces(f"{LONG} {LONG}", 300, Grouping.SHORT)) == 2


def test_full_takes_as_many_sentences_of_a_paragraph_as_fit():
    chunks = pieces("One two. Three four. Five six.\n\nSeven.", 22, Grouping.FULL)

    assert [chunk.text for chunk in chunks] == ["One two. Three four. ", "Five six.\n\n", "Seven."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two three four, five six seven eight", ["one two three four, ", "five six seven eight"]),
        ("worth 1,000,000 or at 12:30 tomorrow", ["worth 1,000,000 or ", "at 12:30 tomorrow"]),
        ("He came — and he saw — and left", ["He came — ", "and he saw — and left"]),
        (
            "彼は長い長い道を歩いて来たが、やがて疲れて座り込んだ",
            ["彼は長い長い道を歩いて来たが、", "やがて疲れて座り込んだ"],
        ),
        ("abcdefghijklmnopqrstuvwxyz", ["abcdefghijklm", "nopqrstuvwxyz"]),
        ("“We go now. They stay here. So it is done”", ["“We go now. ", "They stay here. ", "So it is done”"]),
    ],
)
def test_a_long_sentence_breaks_at_a_clause_or_else_a_word_or_else_anywhere(text: str, expected: list[str]):
    assert [chunk.text for chunk in pieces(text, 24)] == expected


def test_a_sentence_of_5000_characters_breaks_into_pieces_of_similar_length():
    text = ("word " * 1000)[:-1]

    lengths = [len(chunk.text.strip()) for chunk in pieces(text, 300)]

    assert len(lengths) == 17
    assert min(lengths) > 250


@pytest.mark.parametrize("length", [301, 302, 599, 601, 899, 901, 5000])
def test_no_scrap_remains_of_a_long_word(length: int):
    assert min(len(chunk.text) for chunk in pieces("x" * length, 300)) > 140


@pytest.mark.parametrize(
    "grapheme", ["e\u0301", "👩‍👩‍👧", "🇫🇷", "👍🏽", "क्षि", "กำ", "\U0001100d", "한", "\ud83d\ude00"]
)
def test_a_grapheme_is_never_cut(grapheme: str):
    for max_characters in (1, 2, 3, 5, 8):
        chunks = pieces(grapheme * 20, max_characters)

        assert all(chunk.text.replace(grapheme, "") == "" for chunk in chunks)


def test_a_decomposed_syllable_stays_whole():
    syllable = unicodedata.normalize("NFD", "한")

    assert {len(chunk.text) for chunk in pieces(syllable * 10, 2)} == {3}


FIRST = "A rather long sentence, which has a second clause, and even a third. "


def short_first(text: str, max_characters: int) -> list[Chunk]:
    return with_short_first(pieces(text, 300), language="en", max_characters=max_characters)


def test_the_first_chunk_is_cut_where_a_reader_would_breathe_and_the_others_stay():
    chunks = short_first(FIRST + LONG, 40)

    assert [chunk.text for chunk in chunks] == [FIRST[:24], FIRST[24:], LONG]
    assert [chunk.pause for chunk in chunks] == [Pause.CLAUSE, Pause.SENTENCE, Pause.NONE]


@pytest.mark.parametrize("text", [LONG, "Hi.", "Unbreakable" * 3])
def test_a_first_chunk_that_is_short_stays(text: str):
    assert short_first(text, 60) == pieces(text, 300)


@given(text=st.text(AWKWARD, min_size=1, max_size=200), max_characters=st.integers(1, 60))
@settings(max_examples=100, derandomize=True, deadline=None, database=None)
def test_nothing_is_lost_or_added_by_a_short_first_chunk(text: str, max_characters: int):
    assert "".join(chunk.text for chunk in short_first(text, max_characters)) == text
