"""`response_mode=live`: what a client hears while the text is still being spoken."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from generations import Generation, LivePiece
from routes.live import Bare, LiveAudio
from tests.listen import clicks, read, silences
from tests.recordings import vowels_wav
from tests.serving import Server, serving
from tests.utils.audio.played import played
from utils.audio.formats import FORMATS, Bitrates
from utils.audio.live_encode import live_encoder
from utils.audio.waveform import Waveform

TTS = "/api/v1/tts"
LIVE = {"response_mode": "live"}
TEXT = "The first sentence stands here. Does the second one ask something? The third one shouts aloud!"
LONG_TEXT = "and then we walked on through the long grass. " * 200


@pytest.fixture(scope="module")
def lone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose log, line and engine nobody else has a part in."""
    with serving(tmp_path_factory.mktemp("live"), "--engine", "embedded") as running:
        yield running


def companions(server: Server) -> list[dict[str, Any]]:
    files = sorted((server.data_dir / "outputs").glob("tts_*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def test_live_speech_is_what_the_finished_file_has(client: httpx.Client) -> None:
    live = client.post(TTS, params=LIVE, json={"text": TEXT, "seed": 5})
    finished = read(client.post(TTS, json={"text": TEXT, "seed": 5}).content)

    heard = read(live.content)
    assert live.status_code == 200
    assert heard.duration_s == pytest.approx(finished.duration_s, abs=0.02)
    assert len(silences(heard)) == len(silences(finished))
    assert clicks(heard) == clicks(finished)


def test_the_headers_tell_what_is_known_before_the_end(client: httpx.Client) -> None:
    reply = client.post(TTS, params=LIVE, json={"text": TEXT, "seed": 42, "min_p": 0.1})

    assert reply.headers["content-type"] == "audio/wav"
    assert reply.headers["x-engine"] == "embedded"
    assert reply.headers["x-generation-seed"] == "42"
    assert "min_p" in reply.headers["x-warnings"]
    assert reply.headers["transfer-encoding"] == "chunked"
    assert not {"content-length", "etag", "x-audio-duration", "x-processing-time"} & reply.headers.keys()


def test_a_seed_that_was_drawn_can_be_used_again(client: httpx.Client) -> None:
    first = client.post(TTS, params=LIVE, json={"text": TEXT})
    again = client.post(TTS, params=LIVE, json={"text": TEXT, "seed": int(first.headers["x-generation-seed"])})

    assert again.content == first.content


@pytest.mark.parametrize(
    ("query", "body", "format_name"),
    [
        ({"return_format": "mp3"}, {}, "mp3"),
        ({}, {"return_format": "mp3"}, "mp3"),
        ({}, {"export_formats": ["flac", "mp3", "wav"]}, "flac"),
        ({}, {"export_formats": ["opus", "flac"]}, "opus"),
    ],
)
def test_the_format_is_the_one_asked_for_or_the_first(
    client: httpx.Client, query: dict[str, str], body: dict[str, Any], format_name: str
) -> None:
    reply = client.post(TTS, params={**LIVE, **query}, json={"text": TEXT, **body})

    assert reply.headers["content-type"] == FORMATS[format_name].media_type
    assert played(reply.content, format_name).duration_s > 3


def test_a_fault_before_the_first_audio_has_a_status_of_its_own(client: httpx.Client, server: Server) -> None:
    (server.data_dir / "voices" / "noise.wav").write_bytes(b"this is a text called wav")

    unknown = client.post(TTS, params=LIVE, json={"text": TEXT, "reference_audio_filename": "nobody"})
    no_audio = client.post(TTS, params=LIVE, json={"text": TEXT, "reference_audio_filename": "noise"})

    assert (unknown.status_code, unknown.json()["error_code"]) == (404, "VOICE_NOT_FOUND")
    assert (no_audio.status_code, no_audio.json()["error_code"]) == (400, "INVALID_AUDIO")


def test_a_cloned_voice_can_be_heard_live(client: httpx.Client, server: Server) -> None:
    (server.data_dir / "voices" / "anna.wav").write_bytes(vowels_wav(200))

    reply = client.post(TTS, params=LIVE, json={"text": TEXT, "reference_audio_filename": "anna"})

    assert read(reply.content).duration_s > 3


def test_what_was_heard_is_kept_once_it_is_whole(lone_server: Server) -> None:
    with lone_server.client() as client:
        heard = read(client.post(TTS, params=LIVE, json={"text": TEXT}).content)

    (kept,) = companions(lone_server)
    assert kept["request"]["live"] is True
    assert [file["filename"].rpartition(".")[2] for file in kept["files"]] == ["wav", "mp3"]
    assert [chunk["text"].strip() for chunk in kept["chunks"]] == TEXT.replace("? ", "?|").replace(". ", ".|").split(
        "|"
    )
    file = lone_server.data_dir / "outputs" / kept["files"][0]["filename"]
    np.testing.assert_array_equal(read(file).samples, heard.samples)


def test_what_is_only_to_be_heard_leaves_nothing_behind(lone_server: Server) -> None:
    def below_data() -> set[str]:
        return {str(path) for path in lone_server.data_dir.rglob("*") if "sqlite" not in path.name}

    with lone_server.client() as client:
        kept = client.post(TTS, params=LIVE, json={"text": TEXT, "seed": 5})
        before = below_data()
        heard = client.post(TTS, params=LIVE, json={"text": TEXT, "seed": 5, "save": False, "project": "not/made"})

    assert heard.content == kept.content
    assert below_data() == before


@pytest.mark.parametrize("mode", ["stream", "url"])
def test_only_live_audio_can_be_sent_without_being_kept(client: httpx.Client, mode: str) -> None:
    reply = client.post(TTS, params={"response_mode": mode}, json={"text": TEXT, "save": False})

    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == ["body", "save"]
    assert client.post(TTS, params={"response_mode": mode}, json={"text": TEXT, "save": True}).status_code == 200


def test_a_server_may_keep_nothing_that_is_heard_live_unless_it_is_asked_to(tmp_path: Path) -> None:
    with serving(tmp_path, "--engine", "embedded", environment={"CHATTERBOX_SPEECH__SAVE": "false"}) as server:
        with server.client() as client:
            client.post(TTS, params=LIVE, json={"text": TEXT})
            assert companions(server) == []
            client.post(TTS, params=LIVE, json={"text": TEXT, "save": True})
            client.post(TTS, json={"text": TEXT})
        assert [kept["request"]["live"] for kept in companions(server)] == [True, False]


def test_a_listener_who_leaves_frees_the_engine_and_nothing_is_kept(lone_server: Server) -> None:
    before = companions(lone_server)
    with lone_server.client() as client:
        with client.stream("POST", TTS, params=LIVE, json={"text": LONG_TEXT}) as reply:
            next(reply.iter_raw())

        lone_server.wait_for_log("route=/api/v1/tts")
        _, alive = psutil.wait_procs(lone_server.engine_process().children(), timeout=5)
        line = client.get("/api/v1/health").json()["metrics"]["requests_in_line"]

    assert not alive
    assert line == 0
    assert companions(lone_server) == before


def test_audio_comes_before_the_last_chunk_and_breaks_off_when_the_engine_is_lost(lone_server: Server) -> None:
    before = companions(lone_server)
    with lone_server.client() as client, client.stream("POST", TTS, params=LIVE, json={"text": LONG_TEXT}) as reply:
        pieces = reply.iter_raw()
        first = next(pieces)
        lone_server.engine_process().send_signal(signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            for _ in pieces:
                pass

    assert reply.status_code == 200
    assert read(first).sample_rate == 24_000
    assert "MODEL_UNAVAILABLE" in lone_server.wait_for_log("cut short")
    lone_server.wait_for_log("engine ready")
    with lone_server.client() as client:
        assert client.get("/api/v1/health").json()["error_summary"]["by_code"]["MODEL_UNAVAILABLE"] == 1
    assert companions(lone_server) == before


def test_a_client_that_takes_nothing_any_more_is_left() -> None:
    closed: list[bool] = []

    async def speech() -> AsyncGenerator[LivePiece | Generation]:
        try:
            while True:
                yield piece
        finally:
            closed.append(True)

    async def never(*_: object) -> Any:
        await asyncio.Event().wait()

    async def listen() -> None:
        stream = speech()
        borrowed = AsyncExitStack()
        borrowed.callback(closed.append, True)
        first = await anext(stream)
        assert isinstance(first, LivePiece)
        encoder = live_encoder("wav", 24_000, Bitrates())
        answer = LiveAudio(first, stream, encoder, Bare("audio/wav"), borrowed, stalled_after_s=0.01)
        await asyncio.wait_for(answer({"type": "http"}, never, never), 10)

    piece = LivePiece(Waveform(np.zeros(4800, np.float32), 24_000), "embedded", 1, [], is_last=False)
    asyncio.run(listen())

    assert closed == [True, True]  # the speech, and what was borrowed for it
