"""Texts and transcripts are compared by what was said, not by how it is written down; listeners hear what is there."""

from __future__ import annotations

import threading
import time
import weakref

import numpy as np
import pytest

from engines.base import Cancellation, Cancelled
from engines.transcription.base import CannotListen
from engines.transcription.booth import Booth
from engines.transcription.faster_whisper import FasterWhisper, WhisperSource, fetched, located, why_unavailable
from engines.transcription.numbers import in_digits, readings
from engines.transcription.pieces import SAMPLE_RATE, pieces
from engines.transcription.pocketsphinx import PocketSphinx
from engines.transcription.pronunciation import sounds_of
from engines.transcription.score import score
from engines.transcription.words import said_words, words_of
from resilience.errors import ModelUnavailable
from tests.engines.speech import say
from utils.audio.waveform import Waveform

SENTENCE = "Three yellow boats were waiting near the bridge when we arrived."

SAME_IN_ENGLISH = """
He has 21 cats. | he has twenty-one cats
In 1984 it rained | In nineteen eighty four it rained.
In 1984 | in one thousand nine hundred and eighty-four
In 1984 | in nineteen hundred eighty four
in 2024 | in twenty twenty-four
in 2024 | in two thousand and twenty four
in 2005 | in two thousand five
in 1905 | in nineteen oh five
the year 2000 | the year two thousand
the 1980s | the nineteen eighties
the 80s | the eighties
1,234 | one thousand two hundred thirty-four
1,000,000 people | one million people
2,500,000 | two million five hundred thousand
123,456 | one hundred twenty three thousand four hundred fifty six
10,000 | ten thousand
1200 | Twelve hundred
1001 | a thousand and one
100 | a hundred
105 | one hundred and five
555-1234 | five five five one two three four
One, two, three, four | 1, 2, 3, 4
5-10 people | five to ten people
100-200 | one hundred to two hundred
3.5 km | three point five kilometres
0.5 | zero point five
0.5 | point five
version 2.0 | version two point zero
-5 degrees | minus five degrees
1/2 | one half
3/4 of it | three quarters of it
2/3 | two thirds
3½ hours | three and a half hours
$5 | five dollars
$3.50 | three dollars and fifty cents
$2.5 million | two point five million dollars
$5k | five thousand dollars
£1.20 | one pound twenty pence
50% of us | fifty percent of us
50 per cent | 50%
the 21st century | the twenty-first century
May 2nd | May second
1st | first
20th | twentieth
Chapter 7 | chapter seven
Chapter VII | chapter seven
No. 5 | number five
#5 | number 5
at 10:30 | at ten thirty
at 10:05 | at ten oh five
at 3:00 p.m. | at three o'clock PM
3pm | three p.m.
9 a.m. | nine am
24/7 | twenty four seven
20°C | twenty degrees Celsius
60 mph | sixty miles per hour
5kg | five kilograms
20 seconds | twenty seconds
colour of honour | color of honor
organise the theatre | organize the theater
travelled and analysed | traveled and analyzed
marvellous neighbours | marvelous neighbors
defence catalogue | defense catalog
grey programme, judgement | gray program judgment
towards St. John's Street | toward Saint Johns St
Dr. Smith | Doctor Smith
Mr. and Mrs. Jones | mister and missus jones
I don't know | I do not know
I can't, it's late | I cannot, it is late
They'll say we've won | they will say we have won
J.R.R. Tolkien | J. R. R. Tolkien
j r r tolkien | JRR Tolkien
e-mail | email
every day | everyday
well-known | well known
a naïve café | a naive cafe
he said “hi” … | He said, 'hi'.
example.com | example dot com
Smith & Sons | Smith and Sons
Um, I think so | I think so
[laugh] Well done | well done
ok TV | okay television
"""

SAME_ELSEWHERE = [
    ("fr", "Élève à l’école !", "élève à l'école"),
    ("de", "Die Straße, 1.234 Meter", "die strasse 1234 Meter"),
    ("tr", "İSTANBUL'da", "istanbul'da"),
    ("hi", "१२ पानी, है।", "12 पानी है"),
    ("ar", "مَرْحَبًا", "مرحبا"),
    ("zh", "二十一个人，三万元。", "21个人3万元"),
    ("zh-CN", "今天 天气很好！", "今天天气很好"),
    ("ja", "こんにちは、世界。", "こんにちは世界"),
    ("ja", "二〇二四年", "2024年"),
]

DIFFERENT = [
    ("21 cats", "22 cats"),
    ("in 1984", "in 1994"),
    ("$5", "five pounds"),
    ("three million", "three thousand"),
    ("the first", "the fourth"),
    ("I do know", "I do not know"),
    ("filled", "felled"),
]


@pytest.mark.parametrize("pair", SAME_IN_ENGLISH.strip().splitlines())
def test_english_is_compared_as_it_is_said(pair):
    text, transcript = pair.split(" | ")

    assert score(transcript, text, "en") == 1, (words_of(text, "en"), words_of(transcript, "en"))


@pytest.mark.parametrize(("language", "text", "transcript"), SAME_ELSEWHERE)
def test_case_marks_and_digits_of_other_languages_do_not_count(language, text, transcript):
    assert score(transcript, text, language) == 1


@pytest.mark.parametrize(("text", "transcript"), DIFFERENT)
def test_what_sounds_different_is_an_error(text, transcript):
    assert score(transcript, text, "en") < 1


def test_a_score_is_the_share_of_words_that_were_right():
    assert score("one a three four", "one two three four", "en") == 0.75
    assert score("the boats were waiting", "the three boats were waiting there", "en") == pytest.approx(4 / 6)
    assert score("", "a b c d words here", "en") == 0
    assert score("words and words and more words than anybody wrote", "words", "en") == 0


def test_a_text_without_words_cannot_be_misunderstood():
    assert score("Thank you.", "… ♪", "en") == 1


def test_languages_without_spaces_are_scored_by_character():
    assert score("今天天汽很好", "今天天气很好", "zh") == pytest.approx(5 / 6)
    assert score("こんばんは", "こんにちは", "ja") == pytest.approx(3 / 5)
    assert score("สวัสดี", "สวัสดี", "th") == 1


@pytest.mark.parametrize("number", ["0", "7", "21", "105", "1200", "1905", "1984", "2000", "2024", "65536", "1000000"])
def test_every_way_to_read_a_number_comes_to_its_digits(number):
    ways = readings(number)

    assert ways
    assert all("".join(in_digits(way)) == "".join(in_digits([number])) for way in ways), ways


def test_what_is_said_keeps_numbers_for_the_listener_to_read():
    assert said_words("At 10:30 on the 2nd, $5.") == "at 10 30 on the 2nd 5 dollars".split()


def test_long_sound_is_cut_where_it_is_quiet():
    loud = np.full(SAMPLE_RATE * 6, 0.5, np.float32)
    pause = np.zeros(SAMPLE_RATE // 2, np.float32)

    cut = list(pieces(Waveform(np.concatenate([loud, pause, loud]), SAMPLE_RATE), 4, 12))

    assert sum(map(len, cut)) == len(loud) * 2 + len(pause)
    assert len(cut) == 2
    assert 6 < len(cut[0]) / SAMPLE_RATE < 6.5


def test_an_unknown_name_is_sounded_out_and_a_known_word_looked_up():
    assert sounds_of("colour") == ["K AH L ER"]
    assert sounds_of("zbignew") == ["Z B IH G N Y UW"]
    assert sounds_of("42") == []


def test_pocketsphinx_hears_the_text_and_the_way_its_numbers_are_said():
    text = "In 1987 he sold 21 yellow boats."

    heard = PocketSphinx().transcribe([say(text)], "en", text, lambda: None)[0]

    assert score(heard, text, "en") > 0.8, heard


def test_pocketsphinx_hears_other_words_than_it_was_told_to_expect():
    heard = PocketSphinx().transcribe([say("My grandfather keeps his old radio.")], "en", SENTENCE, lambda: None)[0]

    assert score(heard, SENTENCE, "en") < 0.3, heard


def test_pocketsphinx_understands_english_only():
    listener = PocketSphinx()

    assert listener.understands("en-GB")
    assert not listener.understands("de")


def test_a_listener_stops_when_it_is_cancelled():
    cancellation = Cancellation()
    cancellation.cancel()

    with pytest.raises(Cancelled):
        PocketSphinx().transcribe([say(SENTENCE)], "en", SENTENCE, cancellation.check)


def test_whisper_says_at_once_that_its_weights_are_not_here(tmp_path):
    source = WhisperSource(tmp_path, offline=True)

    assert located("medium", source) is None
    assert "Whisper medium" in str(why_unavailable("medium", source))


@pytest.mark.parametrize("folder", [".", "tiny", "faster-whisper-tiny"])
def test_whisper_is_found_in_a_folder_and_in_one_named_for_it(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    for name in ("config.json", "model.bin", "tokenizer.json"):
        (tmp_path / folder / name).touch()
    assert located("tiny", WhisperSource(tmp_path, offline=True)) is None

    (tmp_path / folder / "vocabulary.txt").touch()

    assert located("tiny", WhisperSource(tmp_path, offline=True)) == tmp_path / folder


def test_whisper_that_cannot_be_had_is_unavailable_and_says_why(tmp_path):
    listener = FasterWhisper("tiny", WhisperSource(tmp_path, offline=True), "cpu")

    with pytest.raises(ModelUnavailable, match="fetching them is forbidden"):
        fetched("tiny", WhisperSource(tmp_path, offline=True))
    with pytest.raises(CannotListen, match="are not here"):
        listener.transcribe([say("Hello.")], "en", "Hello.", lambda: None)


@pytest.fixture(scope="module")
def babbling(tmp_path_factory):
    """A Whisper of random weights: it understands nothing, but is loaded, fed and read as the real ones are."""
    pytest.importorskip("torch", reason="the full layer is not installed")
    from tests.engines.tiny_whisper import write_tiny_whisper

    folder = write_tiny_whisper(tmp_path_factory.mktemp("tiny"))
    return FasterWhisper("tiny", WhisperSource(folder, True), "cpu", booth=Booth(idle_s=0.5))


@pytest.mark.model
@pytest.mark.slow
def test_whisper_hears_candidates_of_any_length_in_one_batch_as_it_hears_each_alone(babbling):
    noise = np.random.default_rng(0).standard_normal(40 * SAMPLE_RATE).astype(np.float32) * 0.1
    waveforms = [Waveform(noise[: seconds * SAMPLE_RATE], SAMPLE_RATE) for seconds in (1, 5, 40)]

    together = babbling.transcribe(waveforms, "en-GB", "", lambda: None)

    assert together == [babbling.transcribe([waveform], "en", "", lambda: None)[0] for waveform in waveforms]
    assert all(together)
    assert babbling.understands("sv")
    assert not babbling.understands("tlh")
    time.sleep(1)  # it is unloaded
    assert babbling.transcribe(waveforms[:1], "en", "", lambda: None) == together[:1]


@pytest.mark.model
@pytest.mark.slow
def test_whisper_is_left_at_once_in_the_middle_of_long_sound(babbling):
    noise = np.random.default_rng(0).standard_normal(60 * SAMPLE_RATE).astype(np.float32) * 0.1
    waveforms = [Waveform(noise, SAMPLE_RATE)] * 40
    babbling.transcribe([Waveform(noise[:SAMPLE_RATE], SAMPLE_RATE)], "en", "", lambda: None)
    began = time.monotonic()

    def check():
        if time.monotonic() > began + 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        babbling.transcribe(waveforms, "en", "", check)

    assert time.monotonic() - began < 3


def test_damaged_whisper_weights_are_tried_once(tmp_path, caplog):
    for name in ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt"):
        (tmp_path / name).write_text("{}")
    listener = FasterWhisper("tiny", WhisperSource(tmp_path, offline=True), "cpu")
    assert listener.problem() is None

    for _ in range(2):
        with pytest.raises(CannotListen, match="cannot be used"):
            listener.transcribe([say("Hello.")], "en", "Hello.", lambda: None)

    assert listener.problem() == "Whisper tiny cannot be used with the files that are here"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    (tmp_path / "model.bin").write_text("another")
    assert listener.problem() is None


class Model:
    """Something in memory."""


def test_a_booth_is_left_within_a_moment_and_drops_work_that_nobody_wants():
    booth, cancellation, steps = Booth(), Cancellation(), []

    def hear(model, is_wanted):
        for step in range(100):
            is_wanted()
            steps.append(step)
            time.sleep(0.2)
        return []

    threading.Timer(0.3, cancellation.cancel).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        booth.listen("a", Model, hear, cancellation.check)

    assert time.monotonic() - began < 1
    assert booth.listen("a", Model, lambda model, is_wanted: ["next"], lambda: None) == ["next"]
    assert len(steps) < 6


def test_a_booth_is_left_while_its_model_is_loaded():
    booth, cancellation, may_end = Booth(), Cancellation(), threading.Event()
    threading.Timer(0.2, cancellation.cancel).start()
    began = time.monotonic()

    with pytest.raises(Cancelled):
        booth.listen("a", lambda: may_end.wait(10), lambda model, is_wanted: [], cancellation.check)

    assert time.monotonic() - began < 1
    may_end.set()


def test_a_booth_holds_the_model_that_listened_last_until_it_is_idle():
    booth, most = Booth(idle_s=0.3), []
    alive: weakref.WeakSet[Model] = weakref.WeakSet()

    def load():
        most.append(len(alive) + 1)
        alive.add(model := Model())
        return model

    for owner in "aabba":
        booth.listen(owner, load, lambda model, is_wanted: [], lambda: None)
    assert most == [1, 1, 1]
    assert booth.owner == "a"
    assert len(alive) == 1

    time.sleep(0.8)

    assert not alive
    assert booth.owner is None
