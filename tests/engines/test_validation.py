"""The candidate that says the text is taken, silence never is, and what listening cost is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from engines.base import Cancellation, Cancelled, ValidationWish, derived_seed
from engines.transcription.pocketsphinx import PocketSphinx
from engines.validation import Candidate, choose, is_silent, validated
from resilience.errors import GenerationFailed
from tests.engines.speech import say
from utils.audio.waveform import Waveform

RATE = 24_000
TEXT = "The doctor asked me to drink more water and walk after dinner."
OTHER = "Both painters finished the ceiling before lunch and went home happy."
WISH = ValidationWish(candidates=3, attempts=3, whisper_model="medium", use_whisper=False, longest_on_fail=True)
SILENCE = Waveform(np.zeros(RATE, np.float32), RATE)
MURMUR = Waveform(np.full(RATE, 0.0005, np.float32), RATE)
NOISE = Waveform(np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32) * 0.1, RATE)


class Notes:
    """A listener that has written down beforehand what each candidate says: its samples all have one value.

    It understands every language and looks at no text, hence the arguments that nothing reads.
    """

    name = "notes"
    threshold = 0.8

    def __init__(self, *transcripts: str) -> None:
        self._transcripts = transcripts
        self.batches: list[int] = []

    def understands(self, language: str) -> bool:  # noqa: ARG002
        return True

    def transcribe(self, waveforms: Sequence[Waveform], language: str, text: str, check) -> list[str]:  # noqa: ARG002
        check()
        self.batches.append(len(waveforms))
        return [self._transcripts[round(float(waveform.samples[0]) * 100) - 1] for waveform in waveforms]


class Speaker:
    """Speaks what it is given, one sound after the other, and remembers the seeds."""

    def __init__(self, *sounds: Waveform | None) -> None:
        self._sounds = iter(sounds)
        self.seeds: list[int] = []

    def __call__(self, seeds: Sequence[int]) -> list[Waveform | None]:
        self.seeds += seeds
        return [next(self._sounds) for _ in seeds]


def noted(number: int) -> Waveform:
    """A sound for which `Notes` has its transcript of that number."""
    return Waveform(np.full(RATE // 10, number / 100, np.float32), RATE)


def wish(**changed) -> ValidationWish:
    return ValidationWish(**({name: getattr(WISH, name) for name in WISH.__slots__} | changed))


def run(speak, listener, text="one two three four five", asked=WISH, seed=7):
    return validated(speak, text, "en", seed, asked, listener, lambda: None)


def taken(transcripts: list[str], text: str = "one two three four five", *, longest_on_fail: bool = True, sounds=None):
    sounds = sounds or [noted(1)] * len(transcripts)
    candidates = [Candidate(sound, seed) for seed, sound in enumerate(sounds)]
    return choose(candidates, transcripts, text, "en", 0.8, longest_on_fail=longest_on_fail)


WRONG = {
    "another text": lambda: say(OTHER),
    "half of it": lambda: Waveform(say(TEXT).samples[: len(say(TEXT).samples) // 2], RATE),
    "all of it twice": lambda: Waveform(np.tile(say(TEXT).samples, 2), RATE),
    "backwards": lambda: Waveform(say(TEXT).samples[::-1].copy(), RATE),
    "its words in another order": lambda: say("Dinner after walk and water more drink to me asked doctor the."),
    "noise": lambda: NOISE,
}


@pytest.mark.parametrize("kind", WRONG)
def test_the_right_audio_is_chosen_among_wrong_ones(kind):
    speak = Speaker(WRONG[kind](), SILENCE, say(TEXT))

    chosen = run(speak, PocketSphinx(), TEXT)

    assert chosen.waveform is say(TEXT)
    assert chosen.passed
    assert chosen.score > 0.9
    assert chosen.seed == speak.seeds[2]


@pytest.mark.parametrize("voice", ["edgar", "robin"])
def test_a_voice_that_speaks_clearly_passes_at_once(voice):
    text = "Please close the window at 10:30, before you turn off all 21 lights."

    chosen = run(Speaker(say(text, voice)), PocketSphinx(), text, wish(candidates=1))

    assert chosen.passed, chosen.transcript
    assert chosen.attempts == 1


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_audio_alone_does_not_pass(kind):
    chosen = run(Speaker(WRONG[kind]()), PocketSphinx(), TEXT, wish(candidates=1, attempts=1))

    assert not chosen.passed, chosen.transcript


def test_one_round_is_enough_if_a_candidate_passes():
    speak = Speaker(noted(1), noted(2), noted(3))
    listener = Notes("one two", "one two three four five", "one two three four")

    chosen = run(speak, listener)

    assert (chosen.attempts, chosen.spoken, chosen.score, chosen.passed) == (1, 3, 1.0, True)
    assert chosen.transcript == "one two three four five"
    assert chosen.seed == speak.seeds[1]
    assert listener.batches == [3]


def test_the_first_seed_is_the_requests_own_and_the_others_are_derived_from_it():
    speak = Speaker(*[noted(1)] * 9)

    run(speak, Notes("nothing of it"))

    assert speak.seeds == [7, *(derived_seed(7, attempt) for attempt in range(2, 10))]


def test_rounds_end_when_a_candidate_passes():
    speak = Speaker(*[noted(1)] * 4, noted(2), noted(1))

    chosen = run(speak, Notes("nothing of it", "one two three four five"))

    assert (chosen.attempts, chosen.spoken, chosen.seed) == (2, 6, derived_seed(7, 5))


def test_a_request_chooses_the_same_again():
    first, second = (run(Speaker(say(OTHER)), PocketSphinx(), TEXT, wish(candidates=1, attempts=1)) for _ in range(2))

    assert (first.seed, first.score, first.transcript) == (second.seed, second.score, second.transcript)


def test_what_did_not_pass_is_marked_and_comes_from_any_round():
    speak = Speaker(noted(1), noted(2), noted(1), noted(1))

    chosen = run(speak, Notes("one", "one two three"), asked=wish(candidates=2, attempts=2, longest_on_fail=False))

    assert not chosen.passed
    assert (chosen.attempts, chosen.spoken, chosen.seed) == (2, 4, derived_seed(7, 2))
    assert chosen.score == pytest.approx(0.6)


def test_the_threshold_itself_passes():
    assert taken(["one two three four"]).passed
    assert not taken(["one two three"]).passed


def test_the_best_wins_and_of_equals_the_earlier():
    verdict = taken(["one two three", "one two three four five", "one two three four five"])

    assert (verdict.index, verdict.passed) == (1, True)


def test_if_none_passes_the_longest_transcript_is_taken_or_else_the_best():
    transcripts = ["one two three", "red green blue black white grey", "one two"]

    assert taken(transcripts).index == 1
    assert taken(transcripts, longest_on_fail=False).index == 0


def test_of_transcripts_of_one_length_the_better_is_taken():
    assert taken(["red green blue", "one two blue"]).index == 1


@pytest.mark.parametrize("silent", [SILENCE, MURMUR, Waveform(np.zeros(0, np.float32), RATE)])
def test_silence_is_never_taken_whatever_was_heard_in_it(silent):
    verdict = taken(["one two three four five", "red"], sounds=[silent, noted(1)])

    assert verdict.index == 1
    assert not verdict.passed


def test_a_sound_without_a_word_is_never_taken():
    assert taken(["", " … ", "five"]).index == 2


def test_silence_alone_fails_the_chunk():
    listener = Notes()

    with pytest.raises(GenerationFailed):
        run(Speaker(*[SILENCE] * 9), listener)
    assert listener.batches == []


def test_candidates_that_could_not_be_spoken_are_passed_over():
    chosen = run(Speaker(None, noted(1), None), Notes("one two three four five"))

    assert (chosen.seed, chosen.spoken) == (derived_seed(7, 2), 1)


def test_a_text_without_words_may_be_silent():
    chosen = run(Speaker(*[SILENCE] * 3), Notes(), "…")

    assert (chosen.passed, chosen.score, chosen.seed) == (True, 1.0, 7)


def test_quiet_speech_is_not_silence():
    quiet = Waveform(say(TEXT).samples * np.float32(0.02), RATE)

    assert not is_silent(quiet)
    assert is_silent(Waveform(say(TEXT).samples * np.float32(0.001), RATE))


def test_what_listening_cost_is_known():
    chosen = run(Speaker(say(TEXT)), PocketSphinx(), TEXT, wish(candidates=1))

    assert 0.05 < chosen.cost_s < 30


def test_validation_ends_when_it_is_cancelled():
    cancellation = Cancellation()
    cancellation.cancel()

    with pytest.raises(Cancelled):
        validated(Speaker(), TEXT, "en", 7, WISH, PocketSphinx(), cancellation.check)
