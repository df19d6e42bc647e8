"""`POST /api/v1/vc`: the same words in another voice."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from api_models.conversion import ConversionBody
from tests.listen import clicks, fundamental_hz, read
from tests.recordings import vowels, vowels_wav
from tests.serving import Server

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
    assert {"plan_s", "conversion_s", "join_s"} <= companion["timings"].keys()


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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input_audio_source", None),
        ("target_voice_source", None),
        ("target_voice_source", ""),
        ("input_audio_source", "https://127.0.0.1/a.wav"),
        ("target_voice_source", "http://127.0.0.1/a.wav"),
        ("chunk_sec", 0.5),
        ("chunk_sec", 301),
        ("overlap_sec", -1),
        ("overlap_sec", 6),
        ("model", "turbo"),
        ("speed_factor", 1.5),
        ("export_formats", []),
        ("return_format", "flac"),
        ("txet", "a misspelt field"),
    ],
)
def test_a_wrong_field_is_a_422_that_names_it(client: httpx.Client, field: str, value: object) -> None:
    body = refused(client, **{field: value})

    assert (body["status"], body["error_code"]) == (422, "VALIDATION_ERROR")
    assert any(field in fault["loc"] for fault in body["detail"])


def test_an_overlap_must_be_less_than_a_window(client: httpx.Client) -> None:
    body = refused(client, chunk_sec=2, overlap_sec=2)

    assert body["status"] == 422
    assert body["detail"][0]["loc"] == ["body", "overlap_sec"]


def test_an_upload_is_a_415_in_this_version(client: httpx.Client) -> None:
    reply = client.post(VC, files={"input_audio": vowels_wav(110)}, data={"target_voice_source": "high"})

    assert (reply.status_code, reply.json()["error_code"]) == (415, "UNSUPPORTED_FORMAT")
