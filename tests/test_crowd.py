"""Many clients with many voices at once: no voice bleeds into another, no answer depends on who else is there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.listen import fundamental_hz, read
from tests.recordings import vowels_wav
from tests.serving import Server, serving

PITCHES_HZ = (85, 105, 130, 155, 185, 220, 255, 300)
CLIENTS = 40


@pytest.fixture(scope="module")
def busy_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("crowd")
    (data_dir / "voices").mkdir()
    for pitch_hz in PITCHES_HZ:
        (data_dir / "voices" / f"v{pitch_hz}.wav").write_bytes(vowels_wav(pitch_hz))
    with serving(data_dir, "--engine", "embedded") as server:
        yield server


def body(number: int) -> dict[str, object]:
    return {
        "text": f"Client number {number} has something to say.",
        "reference_audio_filename": f"v{PITCHES_HZ[number % len(PITCHES_HZ)]}",
        "seed": number + 1,
        "export_formats": ["wav"],
    }


def test_forty_clients_with_eight_voices_each_get_their_own(busy_server: Server) -> None:
    with busy_server.client() as client:

        def say(number: int) -> httpx.Response:
            return client.post("/api/v1/tts", json=body(number))

        with ThreadPoolExecutor(CLIENTS) as threads:
            crowd = list(threads.map(say, range(CLIENTS)))
        alone = [say(number) for number in range(0, CLIENTS, 3)]

    assert {reply.status_code for reply in crowd} == {200}
    assert [reply.content for reply in crowd[::3]] == [reply.content for reply in alone]
    for number, reply in enumerate(crowd[:16]):
        wanted_hz = PITCHES_HZ[number % len(PITCHES_HZ)]
        assert fundamental_hz(read(reply.content)) == pytest.approx(wanted_hz, rel=0.1)


def test_a_full_line_answers_503_with_a_time_to_come_back(tmp_path: Path) -> None:
    environment = {"CHATTERBOX_ENGINE__MAX_WAITING": "2"}
    text = "This goes on for quite some time before it comes to its end. " * 150
    with serving(tmp_path, "--engine", "embedded", environment=environment) as server, server.client() as client:

        def say(_: int) -> httpx.Response:
            return client.post("/api/v1/tts", json={"text": text, "export_formats": ["wav"]})

        with ThreadPoolExecutor(8) as threads:
            replies = list(threads.map(say, range(8)))

    refused = [reply for reply in replies if reply.status_code == 503]
    assert len(refused) >= 4
    assert {reply.json()["error_code"] for reply in refused} == {"SERVICE_OVERLOADED"}
    assert all(1 <= int(reply.headers["retry-after"]) <= 60 for reply in refused)
    assert any(reply.status_code == 200 for reply in replies)


def test_the_server_says_it_is_alive_while_every_core_speaks(busy_server: Server) -> None:
    with busy_server.client() as client, ThreadPoolExecutor(12) as threads:
        speaking = [threads.submit(client.post, "/api/v1/tts", json=body(number)) for number in range(12)]
        answered = 0
        while not all(reply.done() for reply in speaking):
            started_at = time.monotonic()
            assert client.get("/api/v1/health/live").status_code == 200
            assert time.monotonic() - started_at < 5  # a frozen event loop; benchmarks/ has the true figure
            answered += 1

    assert answered >= 5
