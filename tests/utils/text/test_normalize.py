from dataclasses import replace

import pytest

from resilience.errors import InvalidRequest, TextTooLong
from utils.text.normalize import CleanUp, clean, lowercase, refuse_control_characters

NOTHING = CleanUp(
    to_lowercase=False, normalize_spacing=False, fix_dot_letters=False, remove_reference_numbers=False, sound_words=""
)
LIMIT = 10_000
SPACING = replace(NOTHING, normalize_spacing=True)
LETTERS = replace(NOTHING, fix_dot_letters=True)
NUMBERS = replace(NOTHING, remove_reference_numbers=True)
EVERYTHING = CleanUp(True, True, True, True, "um")


def test_without_options_the_text_is_untouched():
    text = " The  U.S.\tArmy[12] \n\n\n left.12 "

    assert clean(text, NOTHING, LIMIT) == text


def test_lower_case_is_left_for_after_the_splitting():
    assert clean("He Left.", EVERYTHING, LIMIT) == "He Left."
    assert lowercase("He Left. ÄÖ") == "he left. äö"


def test_the_steps_work_together():
    assert clean("Um, the U.S.[3]  Army\nleft.12 Um. Good.", EVERYTHING, LIMIT) == "the U S Army left. Good."


def test_sound_words_cannot_make_the_text_longer_than_allowed():
    with pytest.raises(TextTooLong, match="10000 characters") as refused:
        clean("a " * 5000, replace(EVERYTHING, sound_words="a=>" + "x" * 2000), LIMIT)

    assert refused.value.detail[0]["loc"] == ["body", "sound_words_field"]


@pytest.mark.parametrize("blanks", ["  ", "\t", "\xa0 ", "\v\f", "\n", " \r\n ", "\u2028", "\u3000"])
def test_a_run_of_blanks_or_a_hard_wrap_becomes_one_space(blanks: str):
    assert clean(f"one{blanks}two", SPACING, LIMIT) == "one two"


@pytest.mark.parametrize("blanks", ["\n\n", " \n \t\n\n ", "\r\n\r\n", "\u2029"])
def test_a_blank_line_stays_a_paragraph_break(blanks: str):
    assert clean(f" \none{blanks}two\n\n", SPACING, LIMIT) == "one\n\ntwo"


def test_a_hyphen_at_a_line_end_stays():
    assert clean("well-\nknown", SPACING, LIMIT) == "well- known"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("J.R.R. Tolkien wrote.", "J R R Tolkien wrote."),
        ("J.R.R.Tolkien wrote.", "J R R Tolkien wrote."),
        ("The U.S. Army, the U.S.A and the U.S.'s role.", "The U S Army, the U S A and the U S's role."),
        ("U.S.-based, in the U.S. (and Canada).", "U S-based, in the U S (and Canada)."),
        ("Washington, D.C. is big.", "Washington, D C is big."),
        ("А.С. Пушкин", "А С Пушкин"),
    ],
)
def test_dotted_capitals_lose_their_dots(text: str, expected: str):
    assert clean(text, LETTERS, LIMIT) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He moved to the U.S. He stayed.", "He moved to the U S. He stayed."),
        ("He moved to the U.S.", "He moved to the U S."),
        ("“He likes the U.S.” They do.", "“He likes the U S.” They do."),
        ("He likes the U.S. “We do too.”", "He likes the U S. “We do too.”"),
        ("The U.S.\n\nCanada", "The U S.\n\nCanada"),
        ("In the U.S...", "In the U S..."),
    ],
)
def test_the_period_that_ends_a_sentence_stays(text: str, expected: str):
    assert clean(text, LETTERS, LIMIT) == expected


@pytest.mark.parametrize(
    "text", ["e.g. this, i.e. that, at 5 p.m. sharp", "Mr. J. Doe", "j.r.doe@x.com", "J.R.Doe@x.com", "3.5"]
)
def test_other_dots_stay(text: str):
    assert clean(text, LETTERS, LIMIT) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A word[12] here.", "A word here."),
        ("It ended.[3,4] Then", "It ended. Then"),
        ("A word[5–7], and[1][2] “so.”[3, 5]", "A word, and “so.”"),
        ("In 1945[12] and war[3] (again).", "In 1945 and war (again)."),
        ("战争[12]在。[3]", "战争在。"),
        ("战争[12]𠮷。人々[3]が。", "战争𠮷。人々が。"),
        ("ﾃｽﾄ[12]ﾃﾞｽ。", "ﾃｽﾄﾃﾞｽ。"),
        ("The end of the war.12 Then", "The end of the war. Then"),
        ("“The war.”3 Then! Really?4", "“The war.” Then! Really?"),
        ("The end of the war.12\n\nthen", "The end of the war.12\n\nthen"),
    ],
)
def test_citation_marks_go(text: str, expected: str):
    assert clean(text, NUMBERS, LIMIT) == expected


@pytest.mark.parametrize(
    "text",
    [
        "It was so (2024) and [2024] and year[2024].",
        "It costs 3.50 in v2.0.1 and Python3.12 Is out.",
        "See No.5 Then Fig.3 Shows vol.12 He said; Chapter.4",
        "array[0] and array[1] and x[1] = 5 and my_list[2] and name[1].field",
        "[1] First\n[2] Second",
        "see [1].",
        "the war.5 million, at 9.30 He left",
        "word[citation needed] and [a]",
    ],
)
def test_numbers_that_may_mean_something_stay(text: str):
    assert clean(text, NUMBERS, LIMIT) == text


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x1c", "\x7f", "\x80", "\x9f"])
def test_a_control_character_is_refused_with_its_code_and_place(character: str):
    with pytest.raises(InvalidRequest, match=rf"character 3 .*U\+{ord(character):04X}") as refused:
        refuse_control_characters(f"ab{character}c")

    assert refused.value.detail[0]["loc"] == ["body", "text"]


@pytest.mark.parametrize("harmless", "\t\n\r\v\f\x85\u2028\u2029\u3000\xad\u200b\u200d")
def test_white_space_and_joiners_pass_so_the_control_character_behind_them_is_the_one_refused(harmless: str):
    with pytest.raises(InvalidRequest, match=r"character 3 .*U\+0000"):
        refuse_control_characters(f"a{harmless}\x00")
