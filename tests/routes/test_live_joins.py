"""Long live audio: its joins, its words, and listeners who leave."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from tests.listen import Recogniser, clicks, read, sentences_heard_in_order, silences, spelled
from tests.recordings import vowels_wav
from tests.serving import Server, serving
from utils.text.split import Grouping, split

TTS, VC = "/api/v1/tts", "/api/v1/vc"
LIVE = {"response_mode": "live"}
DATA = Path(__file__).parents[1] / "data"
SENTENCES = (DATA / "readme_sentences.txt").read_text(encoding="utf-8").split("\n")[:10]
MANY = list(islice(cycle(SENTENCES), 101))
LEAVERS = 50


@pytest.fixture(scope="module")
def lone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose memory, files and line nobody else has a part in."""
    with serving(tmp_path_factory.mktemp("leavers"), "--engine", "embedded") as running:
        yield running


@pytest.mark.parametrize("voice", ["edgar", "clara"])
def test_a_hundred_joins_make_no_click_and_no_gap(client: httpx.Client, voice: str) -> None:
    body = {"text": " ".join(MANY), "seed": 3, "reference_audio_filename": voice, "save": False}

    heard = read(client.post(TTS, params=LIVE, json=body).content)

    pauses = [(start, end) for start, end in silences(heard) if start > 0 and end < heard.duration_s]
    assert clicks(heard) == []
    assert len(pauses) == 100
    assert all(0.27 <= end - start <= 0.6 for start, end in pauses)
    steps = np.abs(np.diff(heard.samples))
    for start, end in pauses:  # where the joins are: from one sound to the next nothing jumps
        within = slice(round((start + 0.005) * heard.sample_rate), round((end - 0.005) * heard.sample_rate))
        assert steps[within].max() < 0.02 * steps.max()


def test_a_conversion_is_heard_live_as_it_is_kept(client: httpx.Client, server: Server) -> None:
    (server.data_dir / "vc_inputs" / "many.wav").write_bytes(
        client.post(TTS, json={"text": " ".join(SENTENCES), "seed": 3, "export_formats": ["wav"]}).content
    )
    (server.data_dir / "voices" / "high.wav").write_bytes(vowels_wav(220))
    body = {"input_audio_source": "many.wav", "target_voice_source": "high", "seed": 3, "chunk_sec": 1.5}

    for options in ({}, {"speed_factor": 1.25, "trim": True}):
        live = read(client.post(VC, params=LIVE, json={**body, **options}).content)
        finished = read(client.post(VC, json={**body, **options}).content)
        np.testing.assert_array_equal(live.samples, finished.samples)
        assert clicks(live) == []


@pytest.mark.parametrize(
    ("options", "missed"),
    [({}, 0), ({"speed_factor": 1.25, "trim": True}, 1)],  # the recogniser learnt from speech at an ordinary pace
    ids=["plain", "fast and trimmed"],
)
def test_every_sentence_of_a_long_live_text_is_heard_in_order(
    client: httpx.Client, options: dict[str, Any], missed: int
) -> None:
    text = (DATA / "narrative.txt").read_text(encoding="utf-8")
    whole = split(" ".join(text.split()), language="en", max_characters=2000, grouping=Grouping.EACH)
    sentences = [spelled(chunk.text) for chunk in whole]

    body = {"text": text, "seed": 5, "export_formats": ["wav"], "save": False, **options}
    heard = read(client.post(TTS, params=LIVE, json=body).content)

    assert len(sentences_heard_in_order(sentences, Recogniser.of(sentences).hear(heard))) <= missed


@pytest.mark.skipif(os.name != "posix", reason="counts the descriptors of a process")
def test_fifty_who_leave_in_the_middle_leave_nothing_behind(lone_server: Server) -> None:
    long = {"text": " ".join(SENTENCES * 10), "seed": 3}
    formats = cycle(["wav", "mp3", "flac", "opus", "aac", "pcm"])
    options: Iterator[dict[str, Any]] = cycle([{}, {"trim": True}, {"speed_factor": 2.0}])
    wishes = [
        {**long, "export_formats": [name], "save": save, **option}
        for name, option, save in islice(zip(formats, options, cycle([True, False]), strict=False), LEAVERS)
    ]

    def all_leave() -> None:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda wish: leave_in_the_middle(lone_server, wish), wishes))

    all_leave()  # what is imported, and kept for the next time, is there afterwards
    before = left_behind(lone_server)
    all_leave()
    after = left_behind(lone_server)

    assert after["files"] == before["files"]
    assert after["line"] == 0
    assert after["processes"] == before["processes"]
    assert after["descriptors"] <= before["descriptors"] + 4
    assert after["memory"] <= before["memory"] + 40e6


def leave_in_the_middle(server: Server, body: dict[str, Any]) -> None:
    with server.client() as client, client.stream("POST", TTS, params=LIVE, json=body) as reply:
        assert next(reply.iter_raw())
    server.wait_for_log("route=/api/v1/tts")


def left_behind(server: Server) -> dict[str, Any]:
    """Once the engine is idle again."""
    with server.client() as client:
        process, engine = psutil.Process(server.process.pid), server.engine_process()
        _, alive = psutil.wait_procs(engine.children(), timeout=20)
        return {
            "files": sorted(path.name for path in server.data_dir.rglob("*") if "sqlite" not in path.name),
            "line": client.get("/api/v1/health").json()["metrics"]["requests_in_line"],
            "processes": len(alive),
            "descriptors": process.num_fds() + engine.num_fds(),
            "memory": process.memory_info().rss,
        }
