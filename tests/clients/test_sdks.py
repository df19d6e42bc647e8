"""OpenAI's own SDKs against a real server: they cannot tell it from the one that they were made for."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from tests.clients.sdk import Sdk, SdkError
from tests.listen import read
from tests.recordings import vowels_wav
from tests.serving import Server
from tests.utils.audio.played import played

TEXT = "The first sentence stands here. Does the second one ask something?"
TTS: dict[str, Any] = {"model": "tts-1", "voice": "alloy"}
MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
RATE = 24_000


def seconds_of_pcm(content: bytes) -> float:
    return played(content, "pcm").duration_s


# ---- Speech


def test_speech_is_mp3_unless_another_format_is_asked_for(sdk: Sdk, server: Server) -> None:
    reply = sdk.do("create", server.url, **TTS, input=TEXT)

    assert reply["headers"]["content-type"] == "audio/mpeg"
    assert read(reply["audio"]).duration_s > 2


@pytest.mark.parametrize("format_name", MEDIA_TYPES)
def test_each_format_arrives_whole_under_its_own_name(sdk: Sdk, server: Server, format_name: str) -> None:
    reply = sdk.do("create", server.url, **TTS, input=TEXT, response_format=format_name)

    assert reply["headers"]["content-type"] == MEDIA_TYPES[format_name]
    assert 2 < played(reply["audio"], format_name).duration_s < 10


def test_a_body_is_read_piece_by_piece(sdk: Sdk, server: Server) -> None:
    reply = sdk.do("stream", server.url, **TTS, input=TEXT * 5, response_format="wav")

    assert reply["pieces"] > 1
    assert reply["request_id"]
    assert read(reply["audio"]).duration_s > 10


def test_the_events_of_a_stream_carry_one_file_and_what_it_cost(sdk: Sdk, server: Server) -> None:
    *deltas, done = sdk.do("sse", server.url, **TTS, input=TEXT)["events"]

    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert read(b"".join(base64.b64decode(event["audio"]) for event in deltas)).duration_s > 2
    assert done["type"] == "speech.audio.done"
    assert done["usage"]["total_tokens"] == done["usage"]["input_tokens"] + done["usage"]["output_tokens"] > 0


def test_half_the_speed_takes_twice_as_long(sdk: Sdk, server: Server) -> None:
    calm, slow = (
        seconds_of_pcm(sdk.do("create", server.url, **TTS, input=TEXT, response_format="pcm", speed=speed)["audio"])
        for speed in (1, 0.5)
    )

    assert slow == pytest.approx(2 * calm, rel=0.1)


def test_another_voice_sounds_different(sdk: Sdk, server: Server) -> None:
    spoken = [
        sdk.do("create", server.url, model="tts-1", voice=voice, input=TEXT, response_format="pcm")["audio"]
        for voice in ("alloy", "onyx")
    ]

    assert spoken[0] != spoken[1]


@pytest.mark.parametrize("model", ["tts-1", "tts-1-hd", "gpt-4o-mini-tts"])
def test_the_models_of_openai_all_speak(sdk: Sdk, server: Server, model: str) -> None:
    reply = sdk.do("create", server.url, model=model, voice="nova", input="Hello.", instructions="Speak cheerfully.")

    assert read(reply["audio"]).duration_s > 0.2


@pytest.mark.parametrize(
    "text", [".", "😀", "你好。", "<b>Bold</b> & brash"], ids=["dot", "emoji", "chinese", "markup"]
)
def test_whatever_a_chat_holds_is_answered_with_audio(sdk: Sdk, server: Server, text: str) -> None:
    assert read(sdk.do("create", server.url, **TTS, input=text)["audio"]).duration_s > 0


# ---- Models


def test_every_model_of_the_list_can_be_looked_up(sdk: Sdk, server: Server) -> None:
    listed = sdk.do("models", server.url)["models"]

    assert {"tts-1", "tts-1-hd", "gpt-4o-mini-tts"} <= {model["id"] for model in listed}
    for model in listed:
        found = sdk.do("model", server.url, model=model["id"])
        assert found["model"]["id"] == model["id"]
        assert found["request_id"]


def test_a_name_with_a_slash_reaches_the_server_as_one_name(sdk: Sdk, server: Server) -> None:
    with pytest.raises(SdkError) as caught:
        sdk.do("model", server.url, model="ResembleAI/no such model")

    assert (caught.value.kind, caught.value.code) == ("NotFoundError", "model_not_found")
    assert "'ResembleAI/no such model'" in caught.value.message


# ---- Errors


@pytest.mark.parametrize(
    ("wrong", "kind", "status", "param", "code"),
    [
        ({"input": ""}, "BadRequestError", 400, "input", "string_too_short"),
        ({"input": "x" * 4097}, "BadRequestError", 400, "input", "string_too_long"),
        ({"input": None}, "BadRequestError", 400, "input", None),
        ({"input": 5}, "BadRequestError", 400, "input", "invalid_type"),
        ({"voice": "nobody"}, "BadRequestError", 400, "voice", "voice_not_found"),
        ({"voice": {"id": "voice_nobody"}}, "BadRequestError", 400, "voice", "voice_not_found"),
        ({"model": "gpt-9-tts"}, "NotFoundError", 404, "model", "model_not_found"),
        ({"response_format": "ogg"}, "BadRequestError", 400, "response_format", "invalid_value"),
        ({"speed": 9}, "BadRequestError", 400, "speed", "invalid_value"),
    ],
)
def test_a_mistake_raises_the_error_that_names_it(
    sdk: Sdk, server: Server, wrong: dict[str, Any], kind: str, status: int, param: str, code: str | None
) -> None:
    with pytest.raises(SdkError) as caught:
        sdk.do("create", server.url, **{**TTS, "input": TEXT, **wrong})

    error = caught.value
    assert (error.kind, error.status, error.param) == (kind, status, param)
    assert code is None or error.code == code
    assert error.type == "invalid_request_error"
    assert error.request_id


# ---- A server that is busy


def test_a_full_line_is_waited_for_with_the_sdks_own_patience(sdk: Sdk, short_line: Server) -> None:
    request = {**TTS, "input": TEXT, "response_format": "pcm"}

    replies = sdk.do("together", short_line.url, max_retries=10, times=6, request=request)["replies"]

    assert all(seconds_of_pcm(base64.b64decode(reply)) > 2 for reply in replies), replies


def test_without_patience_a_full_line_is_an_error_of_the_server(sdk: Sdk, short_line: Server) -> None:
    request = {**TTS, "input": TEXT * 20}

    replies = sdk.do("together", short_line.url, max_retries=0, times=24, request=request)["replies"]

    turned_away = [reply for reply in replies if reply in ("InternalServerError", "RateLimitError")]
    assert turned_away
    assert all(read(base64.b64decode(reply)).duration_s > 30 for reply in replies if reply not in turned_away)


def test_24_requests_at_once_are_all_served(sdk: Sdk, server: Server) -> None:
    request = {**TTS, "input": TEXT, "response_format": "pcm"}

    replies = sdk.do("together", server.url, max_retries=2, times=24, request=request)["replies"]

    lengths = {len(base64.b64decode(reply)) for reply in replies}
    assert min(lengths) > 2 * 2 * RATE
    assert np.ptp(list(lengths)) < RATE  # within half a second of each other: each has the whole text


# ---- Voices of one's own


def test_a_voice_is_made_spoken_with_and_taken_away(newest: Sdk, server: Server, tmp_path) -> None:
    sample = tmp_path / "me.wav"
    sample.write_bytes(vowels_wav(160))

    consent = newest.do("create_consent", server.url, name="I", language="en", recording=str(sample))
    made = newest.do("create_voice", server.url, name="mine", consent=consent["id"], audio_sample=str(sample))
    spoken = newest.do("create", server.url, model="tts-1", voice={"id": made["id"]}, input=TEXT)
    gone = newest.do("delete_voice", server.url, voice_id=made["id"])

    assert (made["object"], made["name"]) == ("audio.voice", "mine")
    assert read(spoken["audio"]).duration_s > 2
    assert gone["deleted"] is True
    with pytest.raises(SdkError) as caught:
        newest.do("delete_voice", server.url, voice_id=made["id"])
    assert caught.value.kind == "NotFoundError"


# ---- What calls the SDK on behalf of others


def test_litellm_speaks_through_the_server(newest: Sdk, server: Server) -> None:
    reply = newest.do("litellm_speech", server.url, model="openai/tts-1", voice="alloy", input=TEXT)

    assert reply["headers"]["content-type"] == "audio/mpeg"
    assert read(reply["audio"]).duration_s > 2


def test_litellm_hears_why_a_request_was_refused(newest: Sdk, server: Server) -> None:
    with pytest.raises(SdkError, match="nobody") as caught:
        newest.do("litellm_speech", server.url, model="openai/tts-1", voice="nobody", input=TEXT)

    assert caught.value.status == 400
