from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from tests.recordings import vowels_wav
from tests.serving import Server

TTS = "/api/v1/tts"
JSON = {"Content-Type": "application/json"}


def assert_one_shape(reply: httpx.Response, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = reply.json()
    assert reply.status_code == status, body
    assert set(body) == {"success", "error", "error_code", "detail", "request_id", "timestamp"}
    assert body["success"] is False
    assert body["error_code"] == code
    assert body["request_id"] == reply.headers["x-request-id"]
    assert body["timestamp"].endswith(("Z", "+00:00"))
    assert body["error"]
    return body


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("text", ""),
        ("text", "   \n "),
        ("text", 5),
        ("text", None),
        ("text", ["a"]),
        ("text", "a\u0000b"),
        ("text", "a\u001bb"),
        ("exaggeration", 2.1),
        ("exaggeration", "0.5"),
        ("exaggeration", True),
        ("temperature", 0),
        ("temperature", -1),
        ("cfg_weight", 3),
        ("min_p", 1.5),
        ("top_p", -0.1),
        ("repetition_penalty", 0.5),
        ("seed", -1),
        ("seed", 2**32),
        ("seed", 1.5),
        ("seed", "x"),
        ("language", "klingon"),
        ("num_candidates_per_chunk", 0),
        ("max_attempts_per_candidate", 11),
        ("whisper_model_name", "huge"),
        ("to_lowercase", "yes"),
        ("export_formats", []),
        ("export_formats", ["ogg"]),
        ("export_formats", "wav"),
        ("export_formats", [["wav"]]),
        ("response_mode", "carrier pigeon"),
        ("return_format", "flac"),
        ("speed_factor", 0.49),
        ("speed_factor", 2.1),
        ("speed_factor_library", "sox"),
        ("trim", "yes"),
        ("trim_threshold_ms", 49),
        ("trim_threshold_ms", 1001),
        ("normalize_method", "loud"),
        ("normalize_level", 1),
        ("normalize_tp", 0.1),
        ("ae_threshold", 1.1),
        ("ae_margin", -0.1),
        ("sound_words_field", "=>nothing"),
        ("sound_words_field", "hello=>a\u0000b"),
        ("txet", "a misspelt field"),
    ],
)
def test_a_wrong_field_is_a_422_that_names_it(client: httpx.Client, field: str, value: object) -> None:
    reply = client.post(TTS, json={"text": "Hello there.", field: value})

    body = assert_one_shape(reply, 422, "VALIDATION_ERROR")
    assert any(field in fault["loc"] for fault in body["detail"])
    assert all(set(fault) == {"type", "loc", "msg"} for fault in body["detail"])


@pytest.mark.parametrize("parameter", ["response_mode", "return_format"])
def test_a_wrong_query_parameter_is_a_422_that_names_it(client: httpx.Client, parameter: str) -> None:
    reply = client.post(TTS, params={parameter: "nonsense"}, json={"text": "Hello."})

    body = assert_one_shape(reply, 422, "VALIDATION_ERROR")
    assert ["query", parameter] in [fault["loc"] for fault in body["detail"]]


def test_project_and_folder_that_differ_are_refused(client: httpx.Client) -> None:
    reply = client.post(TTS, json={"text": "Hello.", "project": "a", "folder": "b"})

    assert_one_shape(reply, 422, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe\x00",
        b'{"text": "a", "temperature": NaN}',
        b'{"text": "a", "temperature": Infinity}',
        b'{"text": "a", "temperature": 1e999}',
        b'{"text": NaN}',
        b'{"text": "a \\ud800 b"}',
        b'{"text": "a", "\\udfff": 1}',
        b'{"text": "a", "seed": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"text": "a\nb"}',
        b'{"text": "a"} trailing',
    ],
    ids=lambda content: repr(content[:40]),
)
def test_a_body_that_is_no_request_is_a_422(client: httpx.Client, content: bytes) -> None:
    assert_one_shape(client.post(TTS, content=content, headers=JSON), 422, "VALIDATION_ERROR")


def test_a_flood_of_unknown_fields_gets_a_short_answer(client: httpx.Client) -> None:
    reply = client.post(TTS, json={"text": "Hello.", **{f"field{n}": n for n in range(20_000)}})

    assert_one_shape(reply, 422, "VALIDATION_ERROR")
    assert len(reply.content) < 20_000


@pytest.mark.parametrize("project", ["taken.wav", "taken.wav/below"])
def test_a_project_that_is_a_file_is_a_400(client: httpx.Client, server: Server, project: str) -> None:
    (server.data_dir / "outputs" / "taken.wav").write_bytes(b"RIFF")

    assert_one_shape(client.post(TTS, json={"text": "Hello.", "project": project}), 400, "INVALID_PATH")


def test_a_text_over_the_limit_is_told_the_limit(client: httpx.Client) -> None:
    body = assert_one_shape(client.post(TTS, json={"text": "a" * 10_001}), 422, "TEXT_TOO_LONG")

    assert "10000" in body["error"]


def test_sound_words_cannot_make_a_text_longer_than_the_limit(client: httpx.Client) -> None:
    reply = client.post(TTS, json={"text": "a " * 4900, "sound_words_field": "a=>" + "b" * 19_000})

    assert_one_shape(reply, 422, "TEXT_TOO_LONG")


def test_ten_megabytes_of_text_are_refused_before_they_are_read_whole(client: httpx.Client) -> None:
    reply = client.post(TTS, json={"text": "a" * 10_000_000})

    assert_one_shape(reply, 413, "FILE_TOO_LARGE")
    assert reply.headers["connection"] == "close"


def test_a_body_without_a_length_is_cut_off_at_the_limit(client: httpx.Client) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 500_000_000:
            sent += 65_536
            yield b" " * 65_536

    with suppress(httpx.WriteError):  # the server may hang up while we are still sending
        assert_one_shape(client.post(TTS, content=endless(), headers=JSON), 413, "FILE_TOO_LARGE")

    assert sent < 100_000_000


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "audio/wav", ""])
def test_a_body_that_is_not_called_json_is_a_415(client: httpx.Client, content_type: str) -> None:
    reply = client.post(TTS, content=b'{"text": "Hello."}', headers={"Content-Type": content_type})

    assert_one_shape(reply, 415, "UNSUPPORTED_FORMAT")


def test_an_unknown_voice_is_a_404_with_its_close_matches(client: httpx.Client) -> None:
    client.post("/api/v1/voice", files={"voice_file": ("annabelle.wav", vowels_wav(200))})

    reply = client.post(TTS, json={"text": "Hello.", "reference_audio_filename": "anabelle"})

    body = assert_one_shape(reply, 404, "VOICE_NOT_FOUND")
    assert "anabelle" in body["error"]
    assert body["detail"]["close_matches"] == ["annabelle.wav"]
    near_own = client.post(TTS, json={"text": "Hello.", "reference_audio_filename": "clarra"}).json()
    assert near_own["detail"]["close_matches"] == ["clara"]


def test_a_voice_that_is_no_audio_is_a_400(client: httpx.Client, server: Server) -> None:
    (server.data_dir / "voices" / "noise.wav").write_bytes(b"this is a text called wav")

    reply = client.post(TTS, json={"text": "Hello.", "reference_audio_filename": "noise.wav"})

    assert_one_shape(reply, 400, "INVALID_AUDIO")


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "a/../../b", "C:\\x", "a\u0000b", "..%2f..", "a\\b", "."]
)
@pytest.mark.parametrize("field", ["project", "folder", "reference_audio_filename"])
def test_a_path_that_leaves_its_root_is_a_400(client: httpx.Client, field: str, name: str) -> None:
    reply = client.post(TTS, json={"text": "Hello.", field: name})

    assert_one_shape(reply, 400, "INVALID_PATH")


@pytest.mark.parametrize("path", ["missing.wav", "tts.json", "folder"])
def test_an_output_that_is_not_there_is_a_404(client: httpx.Client, path: str) -> None:
    assert_one_shape(client.get(f"/outputs/{path}"), 404, "FILE_NOT_FOUND")


@pytest.mark.parametrize("path", ["..%2f..%2fconfig.yaml", "%2Fetc%2Fpasswd", "a%5Cb.wav", ".hidden.wav", "a%00.wav"])
def test_an_output_path_that_leaves_its_root_is_a_400(client: httpx.Client, path: str) -> None:
    assert_one_shape(client.get(f"/outputs/{path}"), 400, "INVALID_PATH")


def test_an_unknown_address_and_a_wrong_method_have_the_same_shape(client: httpx.Client) -> None:
    assert_one_shape(client.get("/api/v1/nothing"), 404, "NOT_FOUND")
    assert_one_shape(client.get(TTS), 405, "METHOD_NOT_ALLOWED")


def test_a_sane_request_id_comes_back_and_a_strange_one_is_replaced(client: httpx.Client) -> None:
    assert client.get("/", headers={"X-Request-ID": "my-id_1.2"}).headers["x-request-id"] == "my-id_1.2"
    for strange in ("a b", "x" * 200, '"><script>'):
        assert client.get("/", headers={"X-Request-ID": strange}).headers["x-request-id"] != strange
