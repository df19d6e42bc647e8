"""`POST /api/v1/vc`: the same words in another voice, asked for as JSON and as a form."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
import soxr

from api_models.conversion import ConversionBody
from tests.libraries import code, faults
from tests.listen import clicks, fundamental_hz, read
from tests.recordings import vowels, vowels_wav
from tests.serving import Server, serving
from tests.utils.audio.coded import coded
from utils.files.atomic import TEMPORARY_PREFIX

VC = "/api/v1/vc"


@pytest.fixture(autouse=True)
def libraries(server: Server) -> Path:
    """A high voice to speak with, and a low one to be converted."""
    (server.data_dir / "voices" / "high.wav").write_bytes(vowels_wav(220))
    (server.data_dir / "vc_inputs" / "low.wav").write_bytes(vowels_wav(110))
    return server.data_dir


def describe(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    body = {"input_audio_source": "low.wav", "target_voice_source": "high", **fields}
    reply = client.post(VC, params={"response_mode": "url"}, json=body)
    assert reply.status_code == 200, reply.text
    described: dict[str, Any] = reply.json()
    return described


def refused(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    reply = client.post(VC, json={"input_audio_source": "low.wav", "target_voice_source": "high", **fields})
    body: dict[str, Any] = reply.json()
    return {"status": reply.status_code, **body}


def test_the_recording_comes_back_at_the_pitch_of_the_target(client: httpx.Client) -> None:
    reply = client.post(VC, json={"input_audio_source": "low.wav", "target_voice_source": "high"})

    converted = read(reply.content)
    assert reply.headers["content-type"] == "audio/wav"
    assert reply.headers["x-engine"] == "embedded"
    assert "x-generation-seed" not in reply.headers
    assert fundamental_hz(converted) == pytest.approx(220, rel=0.07)
    assert converted.duration_s == 4.0


def test_a_voice_of_the_engines_own_can_be_the_target(client: httpx.Client) -> None:
    reply = describe(client, target_voice_source="clara", export_formats=["wav"])

    assert reply["voice"] == "clara"
    assert fundamental_hz(read(client.get(reply["output_files"][0]["url"]).content)) > 150


@pytest.mark.parametrize(
    ("sample_rate", "duration_s", "chunk_sec"), [(24_000, 4.0, 1), (44_100, 3.337, 2.5), (16_000, 5.005, 60)]
)
def test_the_result_is_as_long_as_the_recording(
    client: httpx.Client, libraries: Path, sample_rate: int, duration_s: float, chunk_sec: float
) -> None:
    spoken = np.resize(vowels(110).samples, round(duration_s * sample_rate))
    soundfile.write(libraries / "vc_inputs" / "odd.flac", spoken, sample_rate)

    reply = describe(client, input_audio_source="odd.flac", chunk_sec=chunk_sec, export_formats=["wav"])

    assert reply["audio_duration_seconds"] == pytest.approx(duration_s, abs=0.0002)


def test_no_seam_is_heard_between_windows(client: httpx.Client, libraries: Path) -> None:
    soundfile.write(libraries / "vc_inputs" / "long.wav", np.tile(vowels(110).samples, 3), 24_000)
    body = {"input_audio_source": "long.wav", "target_voice_source": "high", "chunk_sec": 2.3}

    in_windows = read(client.post(VC, json=body).content)

    assert in_windows.duration_s == 12.0
    assert clicks(in_windows) == []
    assert fundamental_hz(in_windows) == pytest.approx(220, rel=0.07)


def test_what_the_server_spoke_can_be_converted(client: httpx.Client) -> None:
    spoken = client.post("/api/v1/tts", params={"response_mode": "url"}, json={"text": "Good morning to you all."})
    name = spoken.json()["output_files"][1]["filename"]

    assert describe(client, input_audio_source=name)["source"] == f"outputs/{name}"


def test_the_result_is_kept_with_a_companion(client: httpx.Client, libraries: Path) -> None:
    reply = describe(client, chunk_sec=2, overlap_sec=0.25, project="dubbing", seed=9, export_formats=["flac"])

    (file,) = reply["output_files"]
    companion = json.loads((libraries / file["path"]).with_suffix(".json").read_text(encoding="utf-8"))
    assert re.fullmatch(r"vc_\d{4}-\d\d-\d\d_\d{6}_\d{6}_chunk2_overlap0\.25_voicehigh\.flac", file["filename"])
    assert file["path"] == f"outputs/dubbing/{file['filename']}"
    assert companion["type"] == "vc"
    assert companion["source_files"] == ["vc_inputs/low.wav"]
    assert companion["seed"] == 9
    assert companion["request"]["overlap_sec"] == 0.25
    assert companion["voice"]["content_hash"]
    assert {"plan_s", "conversion_s"} <= companion["timings"].keys()


def test_defaults_do_not_stand_in_the_name(client: httpx.Client) -> None:
    (file, _) = describe(client)["output_files"]

    assert re.fullmatch(r"vc_[\d-]+_\d{6}_\d{6}_voicehigh\.wav", file["filename"])


def test_a_conversion_can_be_heard_live(client: httpx.Client) -> None:
    body = {"input_audio_source": "low.wav", "target_voice_source": "high", "chunk_sec": 1.5}

    live = client.post(VC, params={"response_mode": "live"}, json=body)
    finished = client.post(VC, json=body)

    assert live.headers["transfer-encoding"] == "chunked"
    np.testing.assert_array_equal(read(live.content).samples, read(finished.content).samples)


def test_null_means_the_servers_default_in_every_field(client: httpx.Client) -> None:
    required = {"input_audio_source", "target_voice_source"}

    describe(client, **{name: None for name in ConversionBody.model_fields if name not in required | {"response_mode"}})


def test_a_watermark_that_cannot_be_had_is_named_in_the_warnings(client: httpx.Client) -> None:
    assert any("watermark" in warning for warning in describe(client, disable_watermark=False)["warnings"])


def test_a_recording_that_was_cut_is_converted_as_far_as_it_goes_and_told(
    client: httpx.Client, libraries: Path
) -> None:
    content = vowels_wav(110)
    (libraries / "vc_inputs" / "cut.wav").write_bytes(content[: len(content) // 2])

    cut, whole = describe(client, input_audio_source="cut.wav"), describe(client)

    assert cut["audio_duration_seconds"] == pytest.approx(whole["audio_duration_seconds"] / 2, abs=0.01)
    assert any("the recording was cut" in warning for warning in cut["warnings"])
    assert not any("the recording was cut" in warning for warning in whole["warnings"])


def test_an_unknown_recording_is_a_404_that_names_it(client: httpx.Client) -> None:
    body = refused(client, input_audio_source="interviews/nobody.wav")

    assert (body["status"], body["error_code"]) == (404, "FILE_NOT_FOUND")
    assert "interviews/nobody.wav" in body["error"]


def test_an_unknown_voice_is_a_404_with_its_close_matches(client: httpx.Client) -> None:
    body = refused(client, target_voice_source="hihg")

    assert (body["status"], body["error_code"]) == (404, "VOICE_NOT_FOUND")
    assert "high.wav" in body["detail"]["close_matches"]


def wav(samples: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 24_000, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize(
    "content", [b"this is a text called wav", b"", wav(np.zeros(0)), wav(vowels(110).samples[:7000])]
)
def test_what_cannot_be_converted_is_a_400(client: httpx.Client, libraries: Path, content: bytes) -> None:
    (libraries / "vc_inputs" / "odd.wav").write_bytes(content)

    body = refused(client, input_audio_source="odd.wav")

    assert (body["status"], body["error_code"]) == (400, "INVALID_AUDIO")


@pytest.mark.parametrize("name", ["../voices/high.wav", "/etc/passwd", "a\\b", ".tmp-1"])
@pytest.mark.parametrize("field", ["input_audio_source", "target_voice_source", "project"])
def test_a_path_that_leaves_its_root_is_a_400(client: httpx.Client, field: str, name: str) -> None:
    body = refused(client, **{field: name})

    assert (body["status"], body["error_code"]) == (400, "INVALID_PATH")


WRONG = [
    ("input_audio_source", ""),
    ("target_voice_source", ""),
    ("chunk_sec", 0.5),
    ("chunk_sec", 301),
    ("overlap_sec", -1),
    ("overlap_sec", 6),
    ("model", "turbo"),
    ("seed", -1),
    ("seed", "x"),
    ("speed_factor", 2.5),
    ("speed_factor_library", "sox"),
    ("trim", "perhaps"),
    ("normalize_level", "loud"),
    ("export_formats", ["ogg"]),
    ("export_formats", ["wav;mp3"]),
    ("return_format", "flac"),
    ("response_mode", "carrier pigeon"),
    ("text", "nobody reads it"),
    ("txet", "a misspelt field"),
]


@pytest.mark.parametrize(
    ("field", "value"),
    [*WRONG, ("input_audio_source", None), ("target_voice_source", None), ("chunk_sec", "2"), ("export_formats", [])],
)
def test_a_wrong_field_is_a_422_that_names_it(client: httpx.Client, field: str, value: object) -> None:
    body = refused(client, **{field: value})

    assert (body["status"], body["error_code"]) == (422, "VALIDATION_ERROR")
    assert any(field in fault["loc"] for fault in body["detail"])


def test_an_overlap_must_be_less_than_a_window(client: httpx.Client) -> None:
    body = refused(client, chunk_sec=2, overlap_sec=2)

    assert body["status"] == 422
    assert body["detail"][0]["loc"] == ["body", "overlap_sec"]


# The same as a form


def form(client: httpx.Client, files: Any = None, **fields: Any) -> httpx.Response:
    """Fields and files as multipart/form-data, whether there are files or not."""
    parts = [(name, (None, str(value))) for name, value in fields.items()]
    return client.post(VC, files=[*parts, *(files or {}).items()])


def unfinished(server: Server) -> list[Path]:
    return list(server.data_dir.rglob(f"{TEMPORARY_PREFIX}*"))


def test_a_form_takes_the_fields_of_the_json_body(client: httpx.Client, libraries: Path) -> None:
    reply = form(
        client,
        {"input_audio": ("my interview.wav", vowels_wav(110))},
        target_voice_source="high",
        chunk_sec="2",
        overlap_sec="0.25",
        seed="9",
        export_formats="FLAC, wav,flac",
        project="dubbing",
        speed_factor="",
        trim="false",
        response_mode="url",
    )

    described = reply.json()
    assert reply.status_code == 200, reply.text
    assert described["source"] == "my interview.wav"
    assert [file["format"] for file in described["output_files"]] == ["flac", "wav"]
    assert described["output_files"][0]["filename"].endswith("_chunk2_overlap0.25_voicehigh.flac")
    companion = json.loads((libraries / described["output_files"][0]["path"]).with_suffix(".json").read_text("utf-8"))
    assert (companion["seed"], companion["request"]["chunk_sec"]) == (9, 2)
    assert companion["source_files"] == ["my interview.wav"]


@pytest.mark.parametrize("filename", ["../../etc/passwd", "a\\b.wav", "C:\\x.wav", "\U0001f600.wav", "x" * 900, "nul"])
def test_the_name_of_an_upload_is_only_a_name(client: httpx.Client, server: Server, filename: str) -> None:
    files = {"input_audio": (filename, vowels_wav(110)), "target_voice": (filename, vowels_wav(220))}

    reply = form(client, files, export_formats="wav")

    assert reply.status_code == 200, reply.text
    assert fundamental_hz(read(reply.content)) == pytest.approx(220, rel=0.07)
    assert reply.headers["content-disposition"].isascii()


@pytest.mark.parametrize(
    "kind", ["m4a", "webm", "aac", "mp4", "ogg", "opus", "mp3", "flac", "aiff", "wav 24 bit", "wav 64-bit float"]
)
def test_a_recording_of_any_kind_comes_back_as_long_as_it_was(client: httpx.Client, kind: str) -> None:
    rate = 48_000 if kind in ("webm", "opus") else 44_100
    spoken = np.resize(soxr.resample(vowels(110).samples, 24_000, rate), round(2.345 * rate)).astype(np.float32)

    reply = form(
        client, {"input_audio": ("audio", coded(spoken, rate, kind))}, target_voice_source="clara", export_formats="wav"
    )

    assert reply.status_code == 200, reply.text
    slack_s = 0.08 if kind == "aac" else 0.002  # bare AAC does not say what its encoder put before the sound
    assert read(reply.content).duration_s == pytest.approx(2.345, abs=slack_s)
    assert fundamental_hz(read(reply.content)) == pytest.approx(185, rel=0.15)


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_wrong_field_of_a_form_is_the_422_that_json_gets(client: httpx.Client, field: str, value: object) -> None:
    body = {"input_audio_source": "low.wav", "target_voice_source": "high", field: value}
    as_json = client.post(VC, json=body).json()
    sent = {name: ",".join(value) if isinstance(value, list) else value for name, value in body.items()}

    reply = form(client, **sent)

    assert code(reply) == (422, "VALIDATION_ERROR")
    if isinstance(value, str) and not value:
        assert faults(reply) == [["body", field]]  # an empty field of a form is one that was not filled in
    else:
        assert faults(reply) == [fault["loc"] for fault in as_json["detail"]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input_audio_source", "../voices/high.wav"),
        ("project", "/etc"),
        ("input_audio_source", "interviews/nobody.wav"),
        ("target_voice_source", "hihg"),
        ("target_voice_source", "http://127.0.0.1/a.wav"),
    ],
)
def test_a_form_fails_as_json_does(client: httpx.Client, field: str, value: str) -> None:
    body = {"input_audio_source": "low.wav", "target_voice_source": "high", field: value}

    assert code(form(client, **body)) == code(client.post(VC, json=body))


@pytest.mark.parametrize(
    ("file", "name"), [("input_audio", "input_audio_source"), ("target_voice", "target_voice_source")]
)
def test_a_recording_that_is_sent_and_named_is_a_422(client: httpx.Client, file: str, name: str) -> None:
    fields = {"input_audio_source": "low.wav", "target_voice_source": "high"}

    reply = form(client, {file: ("a.wav", vowels_wav(110))}, **fields)

    assert faults(reply) == [["body", file]]
    assert name in reply.json()["detail"][0]["msg"]


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ([("target_voice_source", (None, "high")), ("target_voice_source", (None, "clara"))], "target_voice_source"),
        ([("input_audio", ("a.wav", b"RIFF")), ("input_audio", ("b.wav", b"RIFF"))], "input_audio"),
        ([("input_audio", ("a.wav", b"RIFF")), ("input_audio", (None, "low.wav"))], "input_audio"),
        ([("voice_file", ("a.wav", b"RIFF"))], "voice_file"),
        ([("input_audio", (None, "low.wav"))], "input_audio"),
    ],
)
def test_what_a_form_holds_twice_or_in_the_wrong_place_is_a_422(
    client: httpx.Client, parts: list[Any], field: str
) -> None:
    reply = client.post(VC, files=[*parts, ("seed", (None, "1"))])

    assert field in [loc[1] for loc in faults(reply)]


@pytest.mark.parametrize("content", [b"", b"this is a text called wav", wav(np.zeros(0)), vowels_wav(110)[:5000]])
@pytest.mark.parametrize("field", ["input_audio", "target_voice"])
def test_a_file_that_is_no_recording_is_a_400_and_leaves_nothing(
    client: httpx.Client, server: Server, field: str, content: bytes
) -> None:
    files = {"input_audio": ("a.wav", vowels_wav(110)), "target_voice": ("b.wav", vowels_wav(220))}

    reply = form(client, {**files, field: ("c.wav", content)})

    assert code(reply) == (400, "INVALID_AUDIO")
    assert not unfinished(server)


def test_a_file_over_the_limit_is_a_413_and_leaves_nothing(small: httpx.Client, small_server: Server) -> None:
    large, fair = vowels_wav(110) * 3, vowels_wav(220)

    recording = form(small, {"input_audio": ("a.wav", large)}, target_voice_source="clara")
    voice = form(small, {"input_audio": ("a.wav", fair), "target_voice": ("b.wav", large)})
    both = form(small, {"input_audio": ("a.wav", fair), "target_voice": ("b.wav", fair)})
    flood = form(small, {"input_audio": ("a.wav", bytes(5_000_000))}, target_voice_source="clara")

    assert [code(reply) for reply in (recording, voice, flood)] == [(413, "FILE_TOO_LARGE")] * 3
    assert both.status_code == 200
    assert not unfinished(small_server)


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("application/x-www-form-urlencoded", b"input_audio_source=low.wav"),
        ("audio/wav", b"RIFF"),
        ("text/plain", b"{}"),
        ("", b"{}"),
    ],
)
def test_a_body_that_is_neither_json_nor_a_form_is_a_415(
    client: httpx.Client, content_type: str, content: bytes
) -> None:
    reply = client.post(VC, content=content, headers={"Content-Type": content_type})

    assert code(reply) == (415, "UNSUPPORTED_FORMAT")


@pytest.mark.parametrize(
    "content", [b"", b"no form", b'--b\r\nContent-Disposition: form-data; name="input_audio"; filena']
)
@pytest.mark.parametrize("boundary", ["; boundary=b", ""])
def test_a_form_that_is_none_is_a_422(client: httpx.Client, boundary: str, content: bytes) -> None:
    reply = client.post(VC, content=content, headers={"Content-Type": f"multipart/form-data{boundary}"})

    assert code(reply) == (422, "VALIDATION_ERROR")


def test_a_form_of_very_many_fields_is_a_422(client: httpx.Client) -> None:
    assert code(form(client, **{f"field{number}": "x" for number in range(2000)})) == (422, "VALIDATION_ERROR")


def test_an_upload_can_be_heard_live(client: httpx.Client, server: Server) -> None:
    files = {"input_audio": ("a.wav", vowels_wav(110)), "target_voice": ("b.wav", vowels_wav(220))}

    live = form(client, files, response_mode="live", chunk_sec="1.5")
    finished = form(client, files, chunk_sec="1.5")

    assert live.headers["transfer-encoding"] == "chunked"
    np.testing.assert_array_equal(read(live.content).samples, read(finished.content).samples)
    assert not unfinished(server)


@pytest.fixture(scope="module")
def lone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose log nobody else has a part in."""
    with serving(tmp_path_factory.mktemp("lone"), "--engine", "embedded") as running:
        yield running


@pytest.mark.parametrize("mode", ["stream", "live"])
def test_a_client_that_leaves_leaves_nothing_behind(lone_server: Server, mode: str) -> None:
    long = wav(np.tile(vowels(110).samples, 45))
    parts = {"input_audio": ("a.wav", long), "target_voice": ("b.wav", vowels_wav(220))}
    with lone_server.client() as client:
        request = client.build_request("POST", VC, params={"response_mode": mode}, files=parts, data={"chunk_sec": "1"})
        if mode == "live":
            reply = client.send(request, stream=True)
            next(reply.iter_raw())
            reply.close()
        else:
            request.extensions["timeout"]["read"] = 1.5
            with pytest.raises(httpx.ReadTimeout):
                client.send(request)

    lone_server.wait_for_log("route=/api/v1/vc")
    assert not unfinished(lone_server)
    assert not list((lone_server.data_dir / "outputs").iterdir())
