import tracemalloc

import pytest

from resilience.errors import InvalidRequest, TextTooLong
from utils.text.sound_words import parse_sound_words, replace_sound_words


def said(field: str, text: str, max_characters: int = 10_000) -> str:
    return replace_sound_words(text, parse_sound_words(field), max_characters)


def test_entries_stand_one_a_line_or_between_commas():
    assert parse_sound_words("um, uh\nGIF => jif\r\n\n  you   know ,") == {
        "um": "",
        "uh": "",
        "GIF": "jif",
        "you know": "",
    }


def test_an_empty_field_changes_nothing():
    assert said(" \n,", "Um,  hello .") == "Um,  hello ."


@pytest.mark.parametrize("field", ["=>x", "um, => x", "=>"])
def test_an_entry_with_nothing_to_replace_is_refused(field: str):
    with pytest.raises(InvalidRequest) as refused:
        parse_sound_words(field)

    assert refused.value.detail[0]["loc"] == ["body", "sound_words_field"]


def test_two_entries_that_disagree_about_a_word_are_refused():
    with pytest.raises(InvalidRequest, match="two replacements"):
        parse_sound_words("gif=>jif\nGIF=>ghif")


def test_a_word_is_replaced_in_any_case_and_only_whole():
    assert said("cat=>dog", "Cat, CAT and concatenated cats.") == "dog, dog and concatenated cats."


def test_a_contraction_is_another_word_but_a_possessive_is_not():
    assert said("can=>may, Ann=>Anne", "I can't, you can. Ann's Ann.") == "I can't, you may. Anne's Anne."


def test_a_removal_leaves_no_half_of_a_word():
    assert said("uh\ndog", "Uh-huh, the dog's bone.") == "Uh-huh, the dog's bone."


@pytest.mark.parametrize("field", ["new=>old, new york=>NYC", "new york=>NYC, new=>old"])
def test_the_longest_phrase_wins_whatever_the_order(field: str):
    assert said(field, "New\nYork is new.") == "NYC is old."


def test_a_replacement_is_not_replaced_again():
    assert said("a=>b, b=>a", "a b") == "b a"


def test_special_characters_mean_themselves():
    assert said(r"c++=>see plus plus, a.b=>x, \d=>y, (z)=>zed", r"C++ or a.b, axb, \d 5 (z)") == (
        r"see plus plus or x, axb, y 5 zed"
    )
    assert said("um=>\\1 \\g<0>", "um") == "\\1 \\g<0>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Well, um, yes.", "Well, yes."),
        ("Um, yes.", "yes."),
        ("It is um um here.", "It is here."),
        ("That is it um.", "That is it."),
        ("Well, um. Yes.", "Well. Yes."),
        ("Hello. Um! Bye.", "Hello. Bye."),
        ("It — um — rains.", "It — rains."),
        ("“Um yes,” (um no) he said.", "“yes,” (no) he said."),
        ("One\num\ntwo", "One\n\ntwo"),
        ("um", ""),
    ],
)
def test_a_removal_takes_along_the_blank_and_the_comma_that_only_it_needed(text: str, expected: str):
    assert said("um", text) == expected


def test_a_sound_in_asterisks_can_be_removed_without_gluing_words():
    assert said("*laughs*", "Yes *laughs* no*laughs*more *laughs*.") == "Yes no more."


def test_scripts_without_spaces_match_inside_the_line():
    assert said("東京=>とうきょう\nOK=>オーケー", "私は東京に行く。OKです") == "私はとうきょうに行く。オーケーです"
    assert said("สวัสดี=>หวัดดี", "สวัสดีครับ") == "หวัดดีครับ"


def test_a_devanagari_letter_is_not_cut_out_of_its_syllable():
    assert said("क=>x", "कि क") == "कि x"


def test_letters_keep_their_own_spelling_rules():
    assert said("straße=>street, İzmir=>Smyrna", "Straße, İzmir") == "street, Smyrna"


@pytest.mark.parametrize(("text", "expected"), [("ΟΔΟΣ", "street"), ("οδός οδος.", "οδός street."), ("Οδοσ", "street")])
def test_a_sigma_is_one_letter_wherever_it_stands(text: str, expected: str):
    assert said("οδος=>street", text) == expected


def test_a_blank_in_a_phrase_is_any_run_of_white_space():
    text = "The  new\n\n \tYork, the new York\u3000 times  now "

    assert said("new york=>NYC, new york times=>NYT", text) == "The  NYC, the NYT  now "


def test_a_phrase_that_the_end_of_the_text_cuts_off_is_not_found():
    assert said("new york city=>NYC, new=>old", "new york") == "old york"


@pytest.mark.parametrize("limit", [10_000, 20_000])
def test_a_text_that_replacements_make_too_long_is_refused_with_its_limit(limit: int):
    with pytest.raises(TextTooLong, match=f"{limit} characters") as refused:
        said("a=>" + "x" * 2000, "a " * 5000, limit)

    assert refused.value.detail[0]["loc"] == ["body", "sound_words_field"]
    assert refused.value.detail[0]["type"] == "string_too_long"


def test_a_text_that_would_be_too_long_is_never_built():
    text, field = "a " * 5000, "a=>" + "x" * 20_000
    tracemalloc.start()
    try:
        with pytest.raises(TextTooLong):
            said(field, text)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 10_000_000  # the text would have 100,000,000 characters


@pytest.mark.parametrize("text", ["cat cats", "\n cat cats  ", "cat, um, cats"])
def test_the_limit_counts_what_is_said_without_outer_white_space(text: str):
    allowed = said("cat=>tiger, um", text, 20)

    assert said("cat=>tiger, um", text, len(allowed.strip())) == allowed
    with pytest.raises(TextTooLong):
        said("cat=>tiger, um", text, len(allowed.strip()) - 1)


def test_the_first_word_of_a_phrase_does_not_hide_the_others_that_share_it():
    field = "\n".join(f"a {number}=>{number}!" for number in range(1000))

    assert said(field, "A 7 a 700 a b a 999.") == "7! 700! a b 999!."
