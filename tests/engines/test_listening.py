"""Whisper listens where it can, the offline recogniser where it cannot, and no request fails for want of a listener."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import aclosing
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from config.settings import ChatterboxSettings, EngineSettings, ValidationSettings
from engines import listening
from engines.base import (
    Cancellation,
    Cancelled,
    ChunkOutcome,
    ChunkRequest,
    EngineInfo,
    Remark,
    ValidationWish,
    VoicePrompt,
    derived_seed,
)
from engines.embedded.engine import EmbeddedEngine
from engines.host import EngineHost, EngineParts
from engines.listening import Listener, Listeners, ListeningOptions, spoken_and_heard
from engines.transcription import faster_whisper
from engines.transcription.base import CannotListen
from engines.transcription.pocketsphinx import PocketSphinx
from resilience.errors import GenerationFailed, ModelUnavailable
from tests.engines.speech import NEUTRAL
from utils.audio.waveform import Waveform

TEXT = "The doctor asked me to drink more water and walk after dinner."
WISH = ValidationWish(candidates=2, attempts=2, whisper_model="tiny", use_whisper=True, longest_on_fail=False)
OFFLINE = ValidationWish(candidates=2, attempts=2, whisper_model="tiny", use_whisper=False, longest_on_fail=False)
CHUNK = ChunkRequest(TEXT, "en", VoicePrompt("clara"), NEUTRAL, seed=7)
FILES = ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt")


@pytest.fixture(autouse=True)
def always_look_again(monkeypatch):
    monkeypatch.setattr(listening, "LOOK_AGAIN_S", 0.0)


@pytest.fixture(autouse=True)
def no_weights_of_this_machine(monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)


def listeners_of(folder, offline=True) -> Listeners:
    return Listeners(ListeningOptions(model="tiny", weights=str(folder), offline=offline, hub_timeout_s=0.2))


def damage(folder):
    for name in FILES:
        (folder / name).write_text("{}")


@cache
def engine() -> EmbeddedEngine:
    embedded = EmbeddedEngine()
    embedded.load(lambda _: None)
    return embedded


def join(pieces):
    return Waveform(np.concatenate([piece.samples for piece in pieces]), pieces[0].sample_rate)


class Speaker:
    """The embedded engine, and what was asked of it; with `remark` it says something of every candidate."""

    def __init__(self, remark: str | None = None, failing: frozenset[int] = frozenset()) -> None:
        self.chunks: list[ChunkRequest] = []
        self.order: list[str] = []
        self._remark = remark
        self._failing = failing

    def __call__(self, chunk):
        self.chunks.append(chunk)
        self.order.append("begun")

        def wait():
            self.order.append("waited for")
            if chunk.seed in self._failing:
                raise GenerationFailed("it could not be spoken")
            remarks = [Remark(f"{self._remark} {chunk.seed}")] if self._remark else []
            return [*engine().speak(chunk, None, Cancellation()), *remarks]

        return wait

    @property
    def seeds(self):
        return [chunk.seed for chunk in self.chunks]


class Deaf:
    """A transcriber that understands shares of what it should hear, one after the other; None: it cannot listen.

    It knows every language, hence the arguments that nothing reads.
    """

    name = "deaf"
    threshold = 0.8

    def __init__(self, *shares: float | None) -> None:
        self._shares = iter(shares)

    def understands(self, language: str) -> bool:  # noqa: ARG002
        return True

    def transcribe(self, waveforms, language, text, check):  # noqa: ARG002
        words = text.split()
        shares = [next(self._shares) for _ in waveforms]
        if None in shares:
            raise CannotListen("deaf hears nothing today")
        return [" ".join(words[: round(len(words) * (share or 0))]) for share in shares]


def hear(speaker, listener, wish=WISH, chunk=CHUNK, check=lambda: None):
    return spoken_and_heard(speaker, join, chunk, wish, listener, check)


# Who listens


def test_the_offline_recogniser_listens_to_english_where_whisper_is_not_here(tmp_path):
    listeners = listeners_of(tmp_path)

    assert not listeners.has_whisper
    assert listeners.name == "pocketsphinx"
    assert isinstance(listeners.listener(WISH, "en").transcriber, PocketSphinx)
    assert isinstance(listeners.listener(OFFLINE, "en-GB").transcriber, PocketSphinx)
    nobody = listeners.listener(WISH, "de")
    assert nobody.transcriber is None
    assert nobody.remarks == ("not validated: nothing that listens here understands 'de'",)


def test_whisper_listens_where_it_is_here_and_wished_for(tmp_path):
    damage(tmp_path)  # that it is, nobody has seen yet
    listeners = listeners_of(tmp_path)

    assert listeners.has_whisper
    assert listeners.name == "Whisper tiny"
    german = listeners.listener(WISH, "de")
    assert (getattr(german.transcriber, "name", None), german.stand_in) == ("Whisper tiny", None)
    assert isinstance(listeners.listener(WISH, "en").stand_in, PocketSphinx)
    assert isinstance(listeners.listener(OFFLINE, "en").transcriber, PocketSphinx)
    assert listeners.listener(OFFLINE, "de").transcriber is None
    assert listeners.listener(WISH, "tlh").transcriber is None


def test_weights_are_looked_for_anew_after_some_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(listening, "LOOK_AGAIN_S", 0.3)
    listeners = listeners_of(tmp_path)
    assert not listeners.has_whisper
    damage(tmp_path)
    assert not listeners.has_whisper
    time.sleep(0.4)

    assert listeners.has_whisper


def test_a_failed_fetch_is_not_repeated_and_files_put_there_by_hand_are_seen(tmp_path, monkeypatch):
    asked, refused = [], threading.Event()

    def refuse(model, source):
        asked.append(model)
        refused.set()
        raise ModelUnavailable("the hub is broken")

    monkeypatch.setattr(faster_whisper, "why_unavailable", lambda model, source: None)
    monkeypatch.setattr(faster_whisper, "fetched", refuse)
    listeners = listeners_of(tmp_path, offline=False)

    for _ in range(3):
        assert isinstance(listeners.listener(WISH, "en").transcriber, PocketSphinx)
        assert refused.wait(5)
    assert asked == ["tiny"]

    damage(tmp_path)
    assert listeners.has_whisper


def test_whisper_that_was_fetched_is_at_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(listening, "LOOK_AGAIN_S", 3600)
    monkeypatch.setattr(faster_whisper, "why_unavailable", lambda model, source: None)
    monkeypatch.setattr(faster_whisper, "fetched", lambda model, source: damage(tmp_path))
    listeners = listeners_of(tmp_path, offline=False)
    assert not listeners.has_whisper

    listeners.listener(WISH, "en")

    deadline = time.monotonic() + 5
    while not listeners.has_whisper:
        assert time.monotonic() < deadline
        time.sleep(0.02)


# When Whisper is damaged


def test_the_offline_recogniser_stands_in_for_a_damaged_whisper(tmp_path, caplog):
    damage(tmp_path)
    listeners, speaker = listeners_of(tmp_path), Speaker()

    _, outcome = hear(speaker, listeners.listener(WISH, "en"))

    assert outcome.score is not None
    assert outcome.score > 0.7
    assert outcome.remarks == ("Whisper tiny cannot be used with the files that are here",)
    assert speaker.seeds == [7, derived_seed(7, 2)], "the candidates are not spoken twice"
    assert not listeners.has_whisper
    assert listeners.name == "pocketsphinx"

    later = listeners.listener(WISH, "en")

    assert isinstance(later.transcriber, PocketSphinx)
    assert later.remarks == outcome.remarks
    assert len([record for record in caplog.records if "unusable" in record.message]) == 1


def test_nobody_stands_in_for_a_damaged_whisper_in_other_languages(tmp_path):
    damage(tmp_path)
    listeners = listeners_of(tmp_path)

    waveform, outcome = hear(Speaker(), listeners.listener(WISH, "de"))

    assert waveform.duration_s > 1
    assert (outcome.seed, outcome.score) == (7, None)
    assert outcome.remarks == ("Whisper tiny cannot be used with the files that are here", "not validated")
    later = listeners.listener(WISH, "de")
    assert later.transcriber is None
    assert len(later.remarks) == 2


@pytest.mark.model
@pytest.mark.slow
def test_whisper_is_used_again_once_its_files_are_mended(tmp_path):
    pytest.importorskip("torch", reason="the full layer is not installed")
    from tests.engines.tiny_whisper import write_tiny_whisper

    write_tiny_whisper(tmp_path)
    weights = (tmp_path / "model.bin").read_bytes()
    (tmp_path / "model.bin").write_bytes(weights[: len(weights) // 2])
    listeners = listeners_of(tmp_path)
    hear(Speaker(), listeners.listener(WISH, "en"))
    assert listeners.name == "pocketsphinx"

    (tmp_path / "model.bin").write_bytes(weights)

    assert listeners.has_whisper
    _, outcome = hear(Speaker(), listeners.listener(WISH, "en"))
    assert "by Whisper tiny; the one taken scored 0.00" in outcome.remarks[-1]  # its weights are random


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.bin", "tokenizer.json", "config.json"])
def test_whatever_file_of_whisper_is_garbage_the_chunk_is_spoken(tmp_path, name):
    pytest.importorskip("torch", reason="the full layer is not installed")
    from tests.engines.tiny_whisper import write_tiny_whisper

    write_tiny_whisper(tmp_path)
    (tmp_path / name).write_bytes(bytes(range(256)) * 40)

    _, outcome = hear(Speaker(), listeners_of(tmp_path).listener(WISH, "en"))

    assert outcome.score is not None
    assert "cannot be used" in outcome.remarks[0]


# In the engine process


async def outcome_of(host: EngineHost, chunk: ChunkRequest) -> ChunkOutcome:
    with host.place_in_line() as place:
        async with aclosing(host.stream_work(place, [chunk])) as stream:
            return [event async for _, event in stream if isinstance(event, ChunkOutcome)][-1]


def test_the_server_is_told_when_whisper_comes_and_speaks_on_when_it_proves_to_be_damaged(tmp_path):
    async def until(host: EngineHost, transcriber: str) -> EngineInfo:
        while not host.info or host.info.transcriber != transcriber:  # noqa: ASYNC110 - it comes with a heartbeat
            await asyncio.sleep(0.05)
        return host.info

    async def test():
        settings = EngineSettings(name="embedded"), ChatterboxSettings(), ValidationSettings(weights=tmp_path)
        host = EngineHost(EngineParts(*settings, "tiny"))
        await host.start()
        try:
            info = await host.wait_until_ready()
            assert (info.transcriber, info.listens_unasked) == ("pocketsphinx", False)
            damage(tmp_path)
            assert (await until(host, "Whisper tiny")).listens_unasked

            english = await outcome_of(host, replace(CHUNK, validation=WISH))
            german = await outcome_of(host, replace(CHUNK, language="de", validation=WISH))

            assert english.score is not None
            assert "cannot be used" in english.remarks[0]
            assert german.score is None
            assert "cannot be used" in german.remarks[0]
            assert not (await until(host, "pocketsphinx")).listens_unasked
            assert host.restarts == 0
        finally:
            await host.close()

    asyncio.run(asyncio.wait_for(test(), 60))


# Rounds, seeds and remarks


def test_a_candidate_that_is_understood_ends_the_rounds():
    speaker = Speaker()

    waveform, outcome = hear(speaker, Listener(PocketSphinx()), OFFLINE)

    assert waveform.duration_s > 2
    assert speaker.seeds == [7, derived_seed(7, 2)]
    assert all(chunk.is_last_attempt for chunk in speaker.chunks)
    assert speaker.order == ["begun", "begun", "waited for", "waited for"]
    assert (outcome.attempts, outcome.remarks) == (1, ())
    assert outcome.score is not None
    assert outcome.score > 0.7
    assert outcome.validation_s > 0


def test_the_best_of_all_rounds_is_taken_with_its_own_remarks_and_a_doubt():
    speaker = Speaker("hoarse")

    _, outcome = hear(speaker, Listener(Deaf(0.1, 0.2, 0.6, 0.3)))

    seeds = [7, *(derived_seed(7, attempt) for attempt in (2, 3, 4))]
    assert speaker.seeds == seeds
    assert (outcome.seed, outcome.attempts) == (seeds[2], 2)
    assert outcome.remarks == (
        f"hoarse {seeds[2]}",
        f"none of 4 candidates was understood well enough by deaf; the one taken scored {outcome.score:.2f}",
    )


def test_a_candidate_that_failed_is_left_out():
    _, outcome = hear(Speaker(failing=frozenset({7})), Listener(Deaf(1.0)))

    assert (outcome.seed, outcome.score) == (derived_seed(7, 2), 1)


def test_a_stand_in_hears_both_rounds_if_the_listener_is_lost_in_the_second():
    speaker = Speaker()

    _, outcome = hear(speaker, Listener(Deaf(0.1, 0.1, None, None), stand_in=Deaf(0.2, 0.2, 0.9, 0.9)))

    assert len(speaker.seeds) == 4
    assert outcome.seed == speaker.seeds[2]
    assert outcome.remarks == ("deaf hears nothing today",)


def test_if_every_candidate_fails_the_chunk_does():
    seeds = frozenset({7, *(derived_seed(7, attempt) for attempt in (2, 3, 4))})

    with pytest.raises(GenerationFailed):
        hear(Speaker(failing=seeds), Listener(Deaf()))


def test_what_check_raises_ends_it():
    cancellation = Cancellation()
    cancellation.cancel()

    with pytest.raises(Cancelled):
        hear(Speaker(), Listener(PocketSphinx()), check=cancellation.check)
