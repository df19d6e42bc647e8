"""Every failure below `/v1` has OpenAI's envelope, and no mistake of a client is one that its SDK would send again."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from config.settings import Settings, StorageSettings
from main_api import create_app
from resilience import errors
from routes.errors import internal_error, stopping
from routes.openai.envelope import envelope
from tests.routes.openai.asking import JSON, SPEECH, failure, message, say
from tests.serving import serving

GOOD = {"model": "tts-1", "input": "Hi.", "voice": "alloy"}
SENT_AGAIN = {408, 409, 429, *range(500, 600)}  # by the SDKs


# Faults in the body


@pytest.mark.parametrize("field", ["model", "input", "voice"])
@pytest.mark.parametrize("value", ["left out", None])
def test_a_missing_field_is_named(client: httpx.Client, field: str, value: Any) -> None:
    body = {key: value for key, value in GOOD.items() if key != field} | ({field: None} if value is None else {})
    reply = client.post(SPEECH, json=body)

    assert failure(reply) == (400, field, "missing_required_parameter")
    assert f"Missing required parameter: '{field}'." in message(reply)


@pytest.mark.parametrize(
    ("field", "value", "expected", "got"),
    [
        ("input", 5, "a string", "an integer"),
        ("input", ["a"], "a string", "an array"),
        ("input", {"text": "a"}, "a string", "an object"),
        ("input", True, "a string", "a boolean"),
        ("model", 1.5, "a string", "a number"),
        ("voice", 1, "a string", "an integer"),
        ("voice", {"id": 1}, "a string", "an integer"),
        ("voice", {"id": None}, "a string", "null"),
        ("instructions", 1, "a string", "an integer"),
        ("speed", "1.0", "a number", "a string"),
        ("speed", True, "a number", "a boolean"),
        ("seed", "x", "an integer", "a string"),
        ("seed", 1.5, "an integer", "a number"),
        ("exaggeration", "0.5", "a number", "a string"),
        ("trim", "yes", "a boolean", "a string"),
        ("save", 1, "a boolean", "an integer"),
        ("export_formats", "wav", "an array", "a string"),
    ],
)
def test_a_wrong_type_is_named_with_the_right_one(
    client: httpx.Client, field: str, value: Any, expected: str, got: str
) -> None:
    reply = say(client, **{field: value}) if field != "input" else client.post(SPEECH, json={**GOOD, "input": value})

    assert failure(reply) == (400, field, "invalid_type")
    assert f"Invalid type for '{field}': expected {expected}, but got {got} instead." in message(reply)


@pytest.mark.parametrize("text", ["", "   ", "\n\t\u3000"])
def test_a_text_without_a_character_is_too_short(client: httpx.Client, text: str) -> None:
    reply = say(client, text)

    assert failure(reply) == (400, "input", "string_too_short")
    assert "String should have at least 1 character" in message(reply)


def test_a_text_that_is_too_long_is_told_the_limit(client: httpx.Client) -> None:
    reply = say(client, "a" * 4097)

    assert failure(reply) == (400, "input", "string_too_long")
    assert "String should have at most 4096 characters" in message(reply)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("speed", 0.24, "0.25 to 4"),
        ("speed", 4.1, "0.25 to 4"),
        ("speed", -1, "0.25 to 4"),
        ("exaggeration", 2.1, "0 to 2"),
        ("seed", -1, "0 to 4294967295"),
        ("trim_threshold_ms", 1001, "50 to 1000"),
        ("response_format", "ogg", "'wav', 'mp3', 'flac', 'opus', 'aac' or 'pcm'"),
        ("response_format", "", "'wav', 'mp3', 'flac', 'opus', 'aac' or 'pcm'"),
        ("stream_format", "chunks", "'audio' or 'sse'"),
        ("export_formats", ["ogg"], "'mp3'"),
        ("language", "klingon", "does not speak"),
        ("lang_code", "klingon", "does not speak"),
        ("voice", {"name": "alloy"}, "id"),
        ("voice", {"id": "alloy", "x": 1}, "nothing else"),
    ],
)
def test_a_wrong_value_is_named_with_what_may_stand_there(
    client: httpx.Client, field: str, value: Any, told: str
) -> None:
    reply = say(client, **{field: value})

    assert failure(reply) == (400, field, "invalid_value")
    assert told in message(reply)


@pytest.mark.parametrize(
    "fields",
    [
        {"language": "en", "lang_code": "de"},
        {"project": "a", "folder": "b"},
        {"speed": 2, "speed_factor": 1.5},
    ],
    ids=str,
)
def test_two_fields_that_contradict_each_other_are_refused(client: httpx.Client, fields: dict[str, Any]) -> None:
    assert failure(say(client, **fields))[0] == 400


@pytest.mark.parametrize("content", [b"", b"{", b'{"model": }', b"\xff\xfe", b"[" * 100_000, b'{"a": NaN, }'])
def test_a_body_that_is_no_json_could_not_be_read(client: httpx.Client, content: bytes) -> None:
    reply = client.post(SPEECH, content=content, headers=JSON)

    assert failure(reply) == (400, None, None)
    assert "We could not parse the JSON body of your request" in message(reply)


@pytest.mark.parametrize(
    ("content", "boundary"), [(b"no form", "; boundary=x"), (b"", "; boundary=x"), (b"--x\r\n", "")]
)
def test_a_form_that_is_none_could_not_be_read(client: httpx.Client, content: bytes, boundary: str) -> None:
    headers = {"Content-Type": f"multipart/form-data{boundary}"}

    assert failure(client.post("/v1/audio/voices", content=content, headers=headers))[0] == 400


@pytest.mark.parametrize("content", [b"[]", b"null", b'"text"', b"5"])
def test_json_that_is_no_object_is_refused(client: httpx.Client, content: bytes) -> None:
    assert failure(client.post(SPEECH, content=content, headers=JSON))[0] == 400


@pytest.mark.parametrize("text", ["a\u0000b", "a\u001bb"])
def test_control_characters_are_refused(client: httpx.Client, text: str) -> None:
    assert failure(say(client, text)) == (400, "input", "invalid_value")


def test_half_a_character_can_be_answered(client: httpx.Client) -> None:
    content = b'{"model": "\\ud800", "input": "Hi.", "voice": "\\udfff"}'

    assert failure(client.post(SPEECH, content=content, headers=JSON))[0] in (400, 404)


def test_another_kind_of_body_is_refused(client: httpx.Client) -> None:
    reply = client.post(SPEECH, data={"model": "tts-1"})

    assert failure(reply) == (415, None, "unsupported_format")


def test_too_large_a_body_is_not_read(client: httpx.Client) -> None:
    def endless() -> Any:
        yield b'{"input": "'
        yield from [b"a" * 65536] * 200

    assert failure(client.post(SPEECH, json={**GOOD, "input": "a" * 1_000_000})) == (413, None, "request_too_large")
    try:
        reply = client.post(SPEECH, content=endless(), headers=JSON)
    except (httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError):
        pass  # it was told no while it was still sending
    else:
        assert failure(reply) == (413, None, "request_too_large")


# Addresses


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/nothing"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/audio/transcriptions"),
        ("GET", "/v1/audio"),
    ],
)
def test_an_unknown_address_is_a_404_that_names_it(client: httpx.Client, method: str, path: str) -> None:
    reply = client.request(method, path)

    assert failure(reply) == (404, None, None)
    assert f"Invalid URL ({method} {path})" in message(reply)
    assert failure(client.request(method, "/audio/nothing")) == (404, None, None)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", SPEECH),
        ("DELETE", SPEECH),
        ("POST", "/v1/models"),
        ("OPTIONS", SPEECH),
        ("DELETE", "/v1/models/tts-1"),
        ("PUT", "/v1/audio/voices"),
    ],
)
def test_a_method_that_an_address_does_not_take_is_a_405(client: httpx.Client, method: str, path: str) -> None:
    reply = client.request(method, path)

    assert failure(reply) == (405, None, "method_not_supported")
    assert f"Not allowed to {method} on {path}." in message(reply)
    assert reply.headers["allow"]


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/nothing", "/v1x", "/audios"])
def test_other_addresses_keep_their_own_body(client: httpx.Client, path: str) -> None:
    assert client.get(path).json()["error_code"] == "NOT_FOUND"


# Failures of the server


def test_whatever_can_fail_has_an_envelope() -> None:
    for kind in leaves(errors.SpeechError):
        body = envelope(500, kind.code, "a sentence", {"window": 3}).error
        assert body.code is None or body.code == body.code.lower()


def test_what_nobody_foresaw_tells_nothing_of_the_inside(tmp_path: Path) -> None:
    app = create_app(Settings(storage=StorageSettings(data_dir=tmp_path)))
    scope = {"type": "http", "path": "/v1/audio/speech", "app": app}

    told = [answer(scope) for answer in (internal_error, stopping)]

    assert [(reply.status_code, json.loads(bytes(reply.body))["error"]["type"]) for reply in told] == [
        (500, "server_error"),
        (503, "service_unavailable_error"),
    ]
    assert json.loads(bytes(told[0].body))["error"]["code"] is None
    assert told[1].headers["retry-after"] == "10"


def leaves(kind: type[errors.SpeechError]) -> list[type[errors.SpeechError]]:
    return [kind, *(leaf for sub in kind.__subclasses__() for leaf in leaves(sub))]


def test_a_recording_that_is_none_is_a_mistake_of_the_client(named: httpx.Client, named_server: Any) -> None:
    (named_server.data_dir / "voices" / "noise.wav").write_bytes(b"this is a text called wav")

    status, _, code = failure(say(named, voice="noise"))

    assert (status, code) == (400, "invalid_audio")
    assert status not in SENT_AGAIN


def test_of_24_clients_at_once_each_is_served_or_told_when_to_come_back(tmp_path: Path) -> None:
    environment = {"CHATTERBOX_ENGINE__MAX_WAITING": "4", "CHATTERBOX_STORAGE__MIN_FREE_MB": "1000000000"}
    with serving(tmp_path, "--engine", "embedded", environment=environment) as server, server.client() as client:
        with ThreadPoolExecutor(24) as threads:
            replies = list(threads.map(lambda _: say(client, "This takes a while. " * 100), range(24)))
        late, kept = say(client), say(client, save=True)

    refused = [reply for reply in replies if reply.status_code != 200]
    assert {reply.status_code for reply in replies} == {200, 503}
    for reply in refused:
        assert failure(reply) == (503, None, "server_is_overloaded")
        assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert late.status_code == 200  # and needs no room on the disk
    assert failure(kept) == (507, None, "storage_full")
    assert kept.headers["x-should-retry"] == "false"  # which would only be full again


def test_without_an_engine_it_is_a_503_that_says_so(tmp_path: Path) -> None:
    arguments = ("--engine", "chatterbox", "--weights", str(tmp_path))
    environment = {"CHATTERBOX_CHATTERBOX__OFFLINE": "true"}
    ready = ("serving on",)
    with serving(tmp_path, *arguments, environment=environment, ready=ready) as server, server.client() as client:
        reply = say(client)
        listed = client.get("/v1/models")

    assert failure(reply) == (503, None, "model_unavailable")
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert listed.json() == {"object": "list", "data": [], "models": []}
