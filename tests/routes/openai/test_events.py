"""`stream_format=sse`: the same file in events, word for word as OpenAI sends them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import httpx
import pytest

from tests.routes.openai.asking import SPEECH, audio_in, events, failure, heard, say
from tests.serving import Server, serving
from tests.utils.audio.played import played

TEXT = "Thank you for listening. Please save your work often."
FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")


@pytest.fixture(scope="module")
def lone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose engine nobody else needs."""
    with serving(tmp_path_factory.mktemp("events"), "--engine", "embedded") as running:
        yield running


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_deltas_add_up_to_the_file(client: httpx.Client, format_name: str) -> None:
    bare = heard(say(client, TEXT, response_format=format_name, seed=8))

    reply = say(client, TEXT, response_format=format_name, seed=8, stream_format="sse")

    found = events(reply.content)
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store"
    if format_name == "opus":  # whose streams have a number of their own
        assert played(audio_in(found), "opus").samples == pytest.approx(played(bare, "opus").samples)
    else:
        assert audio_in(found) == bare


@pytest.mark.parametrize("model", ["tts-1", "tts-1-hd", "gpt-4o-mini-tts", "espeak-world"])
def test_events_come_from_every_model(client: httpx.Client, model: str) -> None:
    assert played(audio_in(events(say(client, model=model, stream_format="sse").content)), "mp3").duration_s > 0.3


def test_the_last_events_tell_what_it_came_to(client: httpx.Client) -> None:
    found = events(say(client, TEXT, stream_format="sse", response_format="pcm").content)

    done = found[-2]
    usage = done["usage"]
    assert found[-1] == "[DONE]"
    assert set(done) == {"type", "usage"}
    assert done["type"] == "speech.audio.done"
    assert usage["input_tokens"] == 11
    assert usage["output_tokens"] == pytest.approx(25 * played(audio_in(found), "pcm").duration_s, abs=1)
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert {event["type"] for event in found[:-2]} == {"speech.audio.delta"}


def test_events_come_while_it_is_spoken(client: httpx.Client) -> None:
    body = {"model": "tts-1", "input": TEXT * 20, "voice": "alloy", "stream_format": "sse"}
    with client.stream("POST", SPEECH, json=body) as reply:
        first = next(reply.iter_raw())

        assert first.startswith(b'data: {"type":"speech.audio.delta","audio":"')


def test_what_fails_before_the_first_audio_is_no_event(client: httpx.Client) -> None:
    reply = say(client, stream_format="sse", voice="nobody")

    assert reply.headers["content-type"] == "application/json"
    assert failure(reply) == (400, "voice", "voice_not_found")


def test_what_fails_later_is_told_in_an_event_and_nothing_comes_after_it(lone_server: Server) -> None:
    body = {"model": "tts-1", "input": TEXT * 70, "voice": "alloy", "stream_format": "sse"}
    with lone_server.client() as client, client.stream("POST", SPEECH, json=body) as reply:
        pieces = reply.iter_raw()
        content = next(pieces)
        lone_server.engine_process().send_signal(signal.SIGKILL)
        content += b"".join(pieces)

    *deltas, last = events(content)
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert last["type"] == "error"
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert (last["error"]["type"], last["error"]["code"]) == ("server_error", "model_unavailable")
    assert "[DONE]" not in json.dumps(deltas)
    lone_server.wait_for_log("engine ready")


def test_bare_audio_that_fails_later_is_cut_off(lone_server: Server) -> None:
    body = {"model": "tts-1", "input": TEXT * 70, "voice": "alloy"}
    with lone_server.client() as client, client.stream("POST", SPEECH, json=body) as reply:
        pieces = reply.iter_raw()
        next(pieces)
        lone_server.engine_process().send_signal(signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            for _ in pieces:
                pass

    lone_server.wait_for_log("engine ready")


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
def test_a_client_that_leaves_frees_its_place(lone_server: Server, stream_format: str) -> None:
    body = {"model": "tts-1", "input": TEXT * 70, "voice": "alloy", "stream_format": stream_format}
    with lone_server.client() as client:
        for _ in range(5):
            with client.stream("POST", SPEECH, json=body) as reply:
                next(reply.iter_raw())
            lone_server.wait_for_log("route=/v1/audio/speech")

        assert client.get("/api/v1/health").json()["metrics"]["requests_in_line"] == 0
        assert heard(say(client))
    assert not any((lone_server.data_dir / "outputs").iterdir())
