"""What is decided before a text is spoken, without an engine."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from config.settings import ApiSettings, SpeechSettings, StorageSettings
from engines.base import EngineInfo, ModelInfo
from management.libraries import Libraries
from planning import Planner, SpeechPlan, SpeechRequest

SENTENCE = "A sentence of some length, which has a second clause, and even a third one. "
SLOW, FAST = 3.0, 500.0  # characters a second


def plan(data_dir: Path, *, same_when_early: bool, early: float | None, text: str = SENTENCE * 3) -> SpeechPlan:
    model = ModelInfo(
        name="any",
        sample_rate=24_000,
        voices=("own",),
        languages=("en",),
        takes=frozenset(),
        same_when_early=same_when_early,
        clones_voices=True,
        converts=False,
        watermarks=False,
        chunk_characters=300,
        needs_listening=False,
    )
    with closing(Libraries(StorageSettings(), data_dir)) as libraries:
        planner = Planner(SpeechSettings(), ApiSettings(), libraries.voices)
        return planner.plan(SpeechRequest(text, seed=5), EngineInfo("any", "cpu", (model,), 4), early=early)


def test_a_slow_model_begins_with_a_short_chunk_where_somebody_listens(tmp_path: Path) -> None:
    finished = plan(tmp_path, same_when_early=False, early=None)

    live = plan(tmp_path, same_when_early=False, early=SLOW)

    assert len(live.work[0].text) <= 40 < len(finished.work[0].text)
    assert [chunk.text for chunk in live.work[2:]] == [chunk.text for chunk in finished.work[1:]]
    assert "".join(chunk.text for chunk in live.chunks) == finished.text


@pytest.mark.parametrize(("same_when_early", "early"), [(False, FAST), (True, SLOW)])
def test_a_fast_model_or_one_that_says_the_same_either_way_keeps_its_chunks(
    tmp_path: Path, same_when_early: bool, early: float
) -> None:
    finished = plan(tmp_path, same_when_early=same_when_early, early=None)

    live = plan(tmp_path, same_when_early=same_when_early, early=early)

    assert [(chunk.text, chunk.seed) for chunk in live.work] == [(chunk.text, chunk.seed) for chunk in finished.work]
    assert [chunk.early for chunk in live.work] == [True, False, False]
