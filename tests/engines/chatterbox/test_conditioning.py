"""A recording is heard as upstream hears it, and what was heard is kept on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import soundfile
import torch

from engines.base import Cancelled
from engines.chatterbox.conditioning import VoiceStore, prepare
from engines.chatterbox.loading.modules import Modules, load_modules
from engines.chatterbox.variants import VARIANTS
from engines.chatterbox.voice import PreparedVoice
from resilience.errors import InvalidAudio
from tests.engines.chatterbox.checkpoints import files_of

TENSORS = [field.name for field in fields(PreparedVoice) if field.name != "key"]


def hum(duration_s: float, sample_rate: int = 24000, amplitude: float = 0.3) -> np.ndarray:
    """A swelling voice-like tone with some noise."""
    times_s = np.arange(round(duration_s * sample_rate)) / sample_rate
    phase = 2 * np.pi * np.cumsum(140 + 30 * np.sin(3 * times_s)) / sample_rate
    tone = sum(np.sin(k * phase) / k for k in range(1, 12)) * (0.6 + 0.4 * np.sin(5 * times_s))
    noise = np.random.default_rng(0).standard_normal(len(times_s))
    return (amplitude * (0.5 * tone + 0.05 * noise)).astype(np.float32)


def wav(samples: np.ndarray, sample_rate: int = 24000) -> BytesIO:
    recording = BytesIO()
    soundfile.write(recording, samples, sample_rate, format="WAV", subtype="FLOAT")
    return recording


def nothing() -> None: ...


@pytest.fixture(scope="module")
def modules(checkpoints: Path) -> dict[str, Modules]:
    return {name: load_modules(VARIANTS[name], files_of(checkpoints, name), torch.device("cpu")) for name in VARIANTS}


def heard(modules: Modules, recording: BinaryIO) -> PreparedVoice:
    return prepare(modules, recording, "key", nothing)


@pytest.fixture
def heard_upstream(
    upstream_model: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, BytesIO], Any]:
    """What upstream's model of that name makes of a recording, with the cast that Turbo needs where numpy is 2."""

    def hear(name: str, recording: BytesIO) -> Any:
        model = upstream_model(name)
        monkeypatch.setattr(model, "conds", None)
        if name == "turbo":
            normalised = model.norm_loudness
            monkeypatch.setattr(model, "norm_loudness", lambda *given: normalised(*given).astype(np.float32))
        path = tmp_path / "voice.wav"
        path.write_bytes(recording.getvalue())
        model.prepare_conditionals(path)
        return model.conds

    return hear


@pytest.mark.parametrize(
    ("name", "sample_rate"), [("english", 24000), ("english", 44100), ("turbo", 24000), ("multilingual", 16000)]
)
def test_a_voice_is_what_upstream_makes_of_the_recording(
    name: str, sample_rate: int, modules: dict[str, Modules], heard_upstream: Callable[[str, BytesIO], Any]
) -> None:
    recording = wav(hum(11.03, sample_rate), sample_rate)

    voice = heard(modules[name], recording)

    conds = heard_upstream(name, recording)
    t3, gen = conds.t3, conds.gen
    assert torch.equal(voice.prompt_tokens, t3.cond_prompt_speech_tokens)
    assert torch.equal(voice.reference_tokens, gen["prompt_token"])
    torch.testing.assert_close(voice.speaker, t3.speaker_emb, atol=1e-4, rtol=0)
    torch.testing.assert_close(voice.reference_mel, gen["prompt_feat"], atol=1e-4, rtol=0)
    torch.testing.assert_close(voice.reference_speaker, gen["embedding"], atol=1e-4, rtol=1e-4)


def test_a_recording_of_no_whole_number_of_tokens_is_heard_as_upstream_hears_it(
    modules: dict[str, Modules], heard_upstream: Callable[[str, BytesIO], Any]
) -> None:
    recording = wav(hum(2.03))  # 50.75 tokens

    voice = heard(modules["english"], recording)

    expected = heard_upstream("english", recording).gen
    assert torch.equal(voice.reference_tokens, expected["prompt_token"])
    assert voice.reference_mel.shape == expected["prompt_feat"].shape


@pytest.mark.parametrize("name", ["turbo", "nano"])
def test_numpy_2_a_normalised_recording_stays_float32(name: str, modules: dict[str, Modules]) -> None:
    voice = heard(modules[name], wav(hum(6)))

    assert {getattr(voice, tensor).dtype for tensor in TENSORS} == {torch.float32, torch.int64}


@pytest.mark.parametrize("name", ["turbo", "nano"])
def test_turbo_hears_a_loud_and_a_quiet_recording_alike(name: str, modules: dict[str, Modules]) -> None:
    loud, quiet = (heard(modules[name], wav(hum(6, amplitude=amplitude))) for amplitude in (0.4, 0.01))

    torch.testing.assert_close(loud.reference_mel, quiet.reference_mel, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("name", "too_short_s", "needed"), [("turbo", 4.9, "5 s"), ("english", 0.4, "0.5 s")])
def test_fault_7_a_recording_too_short_for_the_model_is_refused_with_what_it_needs(
    name: str, too_short_s: float, needed: str, modules: dict[str, Modules]
) -> None:
    with pytest.raises(InvalidAudio, match=needed):
        heard(modules[name], wav(hum(too_short_s)))

    heard(modules[name], wav(hum(VARIANTS[name].least_reference_s)))


def test_fault_7_no_voice_stays_on_the_modules(modules: dict[str, Modules]) -> None:
    first = heard(modules["english"], wav(hum(1)))
    heard(modules["english"], wav(hum(2)))

    again = heard(modules["english"], wav(hum(1)))

    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in TENSORS)


def test_silence_is_no_voice(modules: dict[str, Modules]) -> None:
    with pytest.raises(InvalidAudio, match="silent"):
        heard(modules["turbo"], wav(np.zeros(6 * 24000, np.float32)))


def test_a_voice_that_is_hardly_there_is_still_heard(modules: dict[str, Modules]) -> None:
    click = np.zeros(6 * 24000, np.float32)
    click[1000] = 1e-4

    voice = heard(modules["turbo"], wav(click))

    assert torch.isfinite(voice.speaker).all()
    assert torch.isfinite(voice.reference_mel).all()


def test_one_may_leave_between_any_two_steps(modules: dict[str, Modules]) -> None:
    looks = 0

    def count() -> None:
        nonlocal looks
        looks += 1

    prepare(modules["english"], wav(hum(1)), "key", count)
    assert looks >= 5

    def leave_at_last() -> None:
        nonlocal looks
        looks -= 1
        if not looks:
            raise Cancelled

    with pytest.raises(Cancelled):
        prepare(modules["english"], wav(hum(1)), "key", leave_at_last)


def voice_of(key: str) -> PreparedVoice:
    return PreparedVoice(
        key=key,
        speaker=torch.rand(1, 256),
        prompt_tokens=torch.randint(6561, (1, 150)),
        reference_tokens=torch.randint(6561, (1, 50)),
        reference_mel=torch.rand(1, 100, 80),
        reference_speaker=torch.rand(1, 192),
    )


@pytest.fixture
def store(tmp_path: Path) -> VoiceStore:
    """Room for two voices and a half."""
    return VoiceStore(tmp_path / "prepared", int(2.5 * voice_of("any").size_bytes))


def test_a_kept_voice_is_there_for_the_next_process(store: VoiceStore, tmp_path: Path) -> None:
    voice = voice_of("english-r1-../odd key")
    store.put(voice)

    kept = VoiceStore(tmp_path / "prepared", 10**6).get(voice.key)

    assert kept is not None
    assert kept.key == voice.key
    assert all(torch.equal(getattr(kept, name), getattr(voice, name)) for name in TENSORS)


def test_a_voice_that_was_never_kept_is_not_there(store: VoiceStore) -> None:
    assert store.get("nobody") is None


def test_the_least_recently_used_voice_makes_room(store: VoiceStore, tmp_path: Path) -> None:
    for age_s, key in ((20, "first"), (10, "second")):
        before = set((tmp_path / "prepared").glob("*"))
        store.put(voice_of(key))
        (new,) = set((tmp_path / "prepared").glob("*")) - before
        os.utime(new, (new.stat().st_atime, new.stat().st_mtime - age_s))
    assert store.get("first") is not None  # used now

    store.put(voice_of("third"))

    assert store.get("second") is None
    assert store.get("first") is not None
    assert store.get("third") is not None


def test_a_voice_larger_than_the_store_is_not_kept(tmp_path: Path) -> None:
    store = VoiceStore(tmp_path / "prepared", 1000)
    store.put(voice_of("large"))

    assert store.get("large") is None


@pytest.mark.parametrize("kept", [0, 0.5, 0.99])
def test_a_damaged_file_is_removed_and_as_good_as_absent(kept: float, store: VoiceStore, tmp_path: Path) -> None:
    store.put(voice_of("torn"))
    (path,) = (tmp_path / "prepared").iterdir()
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])

    assert store.get("torn") is None
    assert not path.exists()


def test_a_store_that_cannot_be_written_costs_no_speech(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "prepared").write_text("a file where the folder should be")
    store = VoiceStore(tmp_path / "prepared", 10**6)

    store.put(voice_of("unlucky"))

    assert store.get("unlucky") is None
    assert "prepared voice not kept" in caplog.text
