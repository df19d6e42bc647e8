from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from engines.base import Cancellation, Cancelled, ChunkRequest, Sampling, VoicePrompt
from engines.embedded import engine as module
from engines.embedded.engine import EmbeddedEngine
from resilience.errors import GenerationFailed, InvalidAudio, ModelUnavailable, UnreadableText
from tests.engines.embedded.conftest import NEUTRAL, SENTENCE, CancelledAtLook, Stopwatch, harmonic_tone, recording_of
from tests.engines.embedded.hearing import fundamentals_hz
from utils.audio.resample import resample
from utils.audio.waveform import Waveform

MODEL, REFERENCE = "espeak-world", VoicePrompt("somebody.wav")
CHUNK = ChunkRequest(SENTENCE, "en", VoicePrompt("clara"), NEUTRAL, seed=7)


@pytest.fixture(scope="module")
def low_voice(engine):
    return engine.prepare(MODEL, REFERENCE, recording_of(harmonic_tone(100)), Cancellation())


def samples_of(engine, chunk, conditionals=None):
    return np.concatenate([piece.samples for piece in engine.speak(chunk, conditionals, Cancellation())])


def test_it_says_what_it_can_do():
    info = EmbeddedEngine().load(lambda progress: None)

    model = info.models[0]
    assert (info.name, model.sample_rate, model.same_when_early) == ("embedded", 24000, True)
    assert (model.clones_voices, model.converts, model.watermarks) == (True, True, False)
    assert model.takes == {"exaggeration", "temperature", "cfg_weight"}
    assert 2 <= info.concurrency <= 8
    assert model.voices[0] == "edgar"
    assert {"en", "ja", "zh", "pt-br"} <= set(model.languages)


def test_importing_it_loads_no_library():
    code = (
        "import sys, engines.embedded.engine;"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'pyworld', 'soxr', 'soundfile', 'espeakng_loader')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_missing_package_is_named_with_its_cure(monkeypatch):
    monkeypatch.setattr(module, "PACKAGES", {"no_such_module": "pyworld-prebuilt"})

    with pytest.raises(ModelUnavailable, match="pip install pyworld-prebuilt"):
        EmbeddedEngine().load(lambda progress: None)


def test_speech_comes_in_pieces_of_a_fifth_of_a_second(engine):
    pieces = list(engine.speak(CHUNK, None, Cancellation()))

    assert len(pieces) > 10
    assert {len(piece.samples) for piece in pieces[:-1]} == {4800}
    assert {piece.sample_rate for piece in pieces} == {24000}
    assert all(piece.samples.dtype == np.float32 for piece in pieces)


def test_the_first_piece_does_not_wait_for_the_last(engine):
    story = replace(CHUNK, text="And then they went on. " * 20_000)

    stream = engine.speak(story, None, Cancellation())
    first = next(stream)
    stream.close()

    assert len(first.samples) == 4800


def test_eight_threads_at_once_speak_the_same_samples_as_one_alone(engine, low_voice):
    jobs = [
        (replace(CHUNK, voice=VoicePrompt(voice), seed=seed), conditionals)
        for seed in (1, 2)
        for voice, conditionals in (("edgar", None), ("clara", None), ("robin", None), ("low", low_voice))
    ]
    alone = [samples_of(engine, *job) for job in jobs]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda job: samples_of(engine, *job), jobs))

    assert all(map(np.array_equal, alone, together))
    assert len({samples.tobytes() for samples in alone}) == len(jobs)


def test_streamed_resampling_is_that_of_the_whole_utterance(engine):
    from engines.embedded import espeak
    from engines.embedded.voices import OWN_VOICES, performance

    raw = espeak.stream_utterance(
        CHUNK.text,
        "en-us",
        performance(OWN_VOICES["clara"], CHUNK.sampling, CHUNK.seed),
        engine._library_path,
        engine._data_path,
        Cancellation(),
    )
    whole = resample(Waveform(np.concatenate(list(raw)), espeak.SAMPLE_RATE), 24000)

    assert np.array_equal(samples_of(engine, CHUNK), whole.samples)


@pytest.mark.parametrize("with_reference", [False, True])
def test_exaggeration_is_heard_as_a_livelier_pitch(speak, low_voice, with_reference):
    def liveliness(exaggeration):
        heard = speak(
            voice="clara",
            sampling=Sampling(exaggeration, temperature=0, cfg_weight=0.5),
            conditionals=low_voice if with_reference else None,
        )
        return np.std(np.log(fundamentals_hz(heard)))

    assert liveliness(0.0) < liveliness(0.5) < liveliness(1.0)


def test_a_lower_cfg_weight_is_heard_as_a_slower_pace(speak):
    slow, fast = (speak(sampling=Sampling(0.5, 0, cfg_weight)) for cfg_weight in (0.0, 1.0))

    assert slow.duration_s > 1.08 * fast.duration_s


@pytest.mark.parametrize("text", ["", " ", "...", "—", "\u200b", "😀", "a\0b", "a\ud800b", "<speak>hi</speak>"])
@pytest.mark.parametrize("with_reference", [False, True])
def test_odd_texts_give_short_audio(speak, low_voice, text, with_reference):
    heard = speak(text, conditionals=low_voice if with_reference else None)

    assert 0 < heard.duration_s < 3
    assert np.isfinite(heard.samples).all()


def test_a_text_that_comes_out_silent_is_a_failure(engine, monkeypatch):
    monkeypatch.setattr(module, "INAUDIBLE", 2.0)  # deaf: hears no speech in anything

    with pytest.raises(UnreadableText, match="no sound"):
        samples_of(engine, CHUNK)


def test_an_unknown_own_voice_is_refused_by_name(engine):
    with pytest.raises(GenerationFailed, match="'nobody'"):
        samples_of(engine, replace(CHUNK, voice=VoicePrompt("nobody")))


def test_an_unknown_language_is_refused_by_name(engine):
    with pytest.raises(GenerationFailed, match="'tlh'"):
        samples_of(engine, replace(CHUNK, language="tlh"))


@pytest.mark.parametrize("with_reference", [False, True])
def test_cancelled_speech_stops(engine, low_voice, with_reference):
    cancellation = Cancellation()
    stream = engine.speak(CHUNK, low_voice if with_reference else None, cancellation)

    next(stream)
    cancellation.cancel()

    with pytest.raises(Cancelled):
        next(stream)


def test_two_minutes_with_a_reference_can_be_left_at_any_half_second_of_work(engine, low_voice):
    story = replace(CHUNK, text="And so they went on, and nobody said a word about it until evening. " * 29)
    stopwatch = Stopwatch()

    pieces = list(engine.speak(story, low_voice, stopwatch))

    assert len(pieces) > 400
    assert stopwatch.longest_s < 0.5


def test_listening_to_a_minute_can_be_left_at_any_half_second_of_work(engine):
    recording = recording_of(resample(harmonic_tone(140, 70), 96000))
    stopwatch = Stopwatch()

    engine.prepare(MODEL, REFERENCE, recording, stopwatch)

    assert stopwatch.longest_s < 0.5


@pytest.mark.parametrize("look", [1, 3, 8])
def test_cancelled_listening_stops(engine, look):
    with pytest.raises(Cancelled):
        engine.prepare(MODEL, REFERENCE, recording_of(harmonic_tone(140, 20)), CancelledAtLook(look))


def test_a_recording_without_a_voice_is_refused(engine):
    silence = Waveform(np.zeros(48000, np.float32), 24000)

    with pytest.raises(InvalidAudio):
        engine.prepare(MODEL, REFERENCE, recording_of(silence), Cancellation())


def test_a_prepared_voice_says_how_large_it_is(low_voice):
    assert 2 * 513 * 8 <= low_voice.size_bytes < 20_000
