"""What is decided before a recording is converted, without an engine."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.settings import ApiSettings, ConversionSettings, SpeechSettings, StorageSettings
from conversion import ConversionPlan, ConversionPlanner, ConversionRequest, fitted
from engines.base import EngineInfo, ModelInfo
from management.libraries import Libraries
from planning import Borrowed, Planner
from resilience.errors import FileMissing, GenerationFailed, InvalidRequest, UnusableAudio
from tests.recordings import vowels_wav
from utils.audio.waveform import Waveform

RATE = 24_000


def model(name: str, *, converts: bool) -> ModelInfo:
    return ModelInfo(
        name=name,
        sample_rate=RATE,
        voices=("own",),
        languages=("en",),
        takes=frozenset(),
        same_when_early=False,
        clones_voices=True,
        converts=converts,
        watermarks=False,
        chunk_characters=300,
        needs_listening=False,
    )


SPEAKER, CONVERTER = model("speaker", converts=False), model("converter", converts=True)


def plan(
    data_dir: Path, *models: ModelInfo, concurrency: int = 8, longest_s: float = 600.0, **fields: Any
) -> ConversionPlan:
    with closing(Libraries(StorageSettings(), data_dir)) as libraries:
        planner = Planner(SpeechSettings(), ApiSettings(), libraries.voices)
        conversions = ConversionPlanner(planner, ConversionSettings(), libraries.recordings, longest_s)
        (data_dir / "vc_inputs" / "a.wav").write_bytes(vowels_wav(110))
        request = ConversionRequest(source="a.wav", voice="own", **fields)
        return conversions.plan(request, EngineInfo("any", "cpu", models, concurrency), lambda: None)


def silence(count: int) -> Waveform:
    return Waveform(np.zeros(count, np.float32), RATE)


def test_the_first_model_that_converts_is_taken(tmp_path: Path) -> None:
    assert plan(tmp_path, SPEAKER, CONVERTER).model is CONVERTER


@pytest.mark.parametrize(("models", "hint"), [((SPEAKER, CONVERTER), "converter can"), ((SPEAKER,), "cannot convert")])
def test_a_model_that_cannot_convert_is_refused(tmp_path: Path, models: tuple[ModelInfo, ...], hint: str) -> None:
    with pytest.raises(InvalidRequest, match=hint):
        plan(tmp_path, *models, model="speaker")


def test_every_window_has_a_seed_of_its_own_and_the_same_one_again(tmp_path: Path) -> None:
    options = {"chunk_sec": 1.0}

    first, again = (plan(tmp_path, CONVERTER, seed=7, options=options).work(lambda: None) for _ in range(2))

    seeds = [window.seed for window in first]
    assert seeds[0] == 7
    assert len(set(seeds)) == len(seeds) == 5
    assert [window.seed for window in again] == seeds


@pytest.mark.parametrize(("chunk_sec", "concurrency", "at_once"), [(60, 4, 4), (60, 32, 8), (300, 8, 1)])
def test_long_windows_are_given_to_the_engine_a_few_at_a_time(
    tmp_path: Path, chunk_sec: float, concurrency: int, at_once: int
) -> None:
    planned = plan(tmp_path, CONVERTER, concurrency=concurrency, options={"chunk_sec": chunk_sec})

    assert planned.at_once == at_once


def test_a_recording_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableAudio, match="longer than 2 seconds"):
        plan(tmp_path, CONVERTER, longest_s=2.0)


def test_a_recording_that_vanishes_before_it_is_listened_to_is_missing(tmp_path: Path) -> None:
    gone = Borrowed("gone.wav", tmp_path / "gone.wav", "00" * 32)

    with pytest.raises(FileMissing, match="removed while it was being read"):
        plan(tmp_path, CONVERTER, source_file=gone)


@pytest.mark.parametrize("count", [RATE - 960, RATE, RATE + 960])
def test_what_misses_a_windows_length_by_a_token_is_made_to_fit(count: int) -> None:
    assert len(fitted(silence(count), silence(RATE)).samples) == RATE


@pytest.mark.parametrize("count", [0, RATE // 2, 2 * RATE])
def test_what_misses_it_by_more_has_failed(count: int) -> None:
    with pytest.raises(GenerationFailed, match=r"of a stretch of 1\.00"):
        fitted(silence(count), silence(RATE))
