from __future__ import annotations

import io
import json
import re
import shutil
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from api_models.speech import SpeechBody
from tests.listen import read, voiced_hz
from tests.serving import Server

TTS = "/api/v1/tts"


def describe(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    reply = client.post(TTS, params={"response_mode": "url"}, json=fields)
    assert reply.status_code == 200, reply.text
    described: dict[str, Any] = reply.json()
    return described


def test_a_text_comes_back_as_a_wav_of_32_bit_floats(client: httpx.Client) -> None:
    reply = client.post(TTS, json={"text": "Good morning to you all."})

    assert reply.status_code == 200
    assert reply.headers["content-type"] == "audio/wav"
    with soundfile.SoundFile(io.BytesIO(reply.content)) as file:
        assert (file.subtype, file.channels, file.samplerate) == ("FLOAT", 1, 24_000)
        assert 0.8 < file.frames / file.samplerate < 4


def test_the_headers_tell_what_was_made(client: httpx.Client) -> None:
    reply = client.post(TTS, json={"text": "Good morning.", "seed": 42, "export_formats": ["flac", "mp3", "wav"]})

    headers = reply.headers
    assert headers["content-type"] == "audio/flac"
    assert int(headers["content-length"]) == len(reply.content)
    assert headers["etag"]
    assert headers["accept-ranges"] == "bytes"
    assert headers["x-generation-seed"] == "42"
    assert headers["x-engine"] == "embedded"
    assert float(headers["x-audio-duration"]) == pytest.approx(read(reply.content).duration_s, abs=0.001)
    assert float(headers["x-processing-time"]) > 0
    assert headers["content-disposition"].startswith('attachment; filename="tts_')
    others = dict(part.split(":", 1) for part in headers["x-alternative-formats"].split("|"))
    assert set(others) == {"mp3", "wav"}
    assert client.get(others["mp3"]).headers["content-type"] == "audio/mpeg"


@pytest.mark.parametrize("mode", ["stream", "file", "download", "STREAM"])
def test_the_names_for_streaming_mean_the_same(client: httpx.Client, mode: str) -> None:
    reply = client.post(TTS, params={"response_mode": mode}, json={"text": "Hi."})

    assert reply.headers["content-type"] == "audio/wav"


def test_the_description_names_every_file_and_each_can_be_fetched(client: httpx.Client, server: Server) -> None:
    reply = describe(client, text="Good morning.", export_formats=["wav", "mp3", "flac"], project="book/chapter 1")

    assert reply["success"] is True
    assert [file["format"] for file in reply["output_files"]] == ["wav", "mp3", "flac"]
    for file in reply["output_files"]:
        content = client.get(file["url"]).content
        assert file["url"].startswith("/outputs/book/chapter%201/tts_")
        assert file["path"] == f"outputs/book/chapter 1/{file['filename']}"
        assert (server.data_dir / file["path"]).read_bytes() == content
        assert len(content) == file["size_bytes"]
        assert read(content).duration_s == pytest.approx(reply["audio_duration_seconds"], abs=0.01)


def test_the_mode_and_format_may_stand_in_the_body_and_the_query_wins(client: httpx.Client) -> None:
    body = {"text": "Hi.", "response_mode": "url", "return_format": "mp3"}

    assert client.post(TTS, json=body).headers["content-type"] == "application/json"
    streamed = client.post(TTS, params={"response_mode": "stream"}, json=body)
    assert streamed.headers["content-type"] == "audio/mpeg"
    assert (
        client.post(TTS, params={"response_mode": "stream", "return_format": "wav"}, json=body).content[:4] == b"RIFF"
    )


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(client: httpx.Client) -> None:
    def say(seed: int) -> bytes:
        return client.post(TTS, json={"text": "Tell me again. And again.", "seed": seed}).content

    assert say(7) == say(7)
    assert say(7) != say(8)


def test_a_seed_that_was_drawn_can_be_used_again(client: httpx.Client) -> None:
    first = client.post(TTS, json={"text": "Tell me again."})
    again = client.post(TTS, json={"text": "Tell me again.", "seed": int(first.headers["x-generation-seed"])})

    assert int(first.headers["x-generation-seed"]) > 0
    assert again.content == first.content


def test_the_companion_tells_how_the_audio_came_about(client: httpx.Client, server: Server) -> None:
    reply = describe(client, text="One sentence is here.  Another sentence follows it.", seed=5, exaggeration=0.7)

    file = server.data_dir / reply["output_files"][0]["path"]
    companion = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    assert companion["type"] == "tts"
    assert companion["engine"]["name"] == "embedded"
    assert companion["request"]["exaggeration"] == 0.7
    assert companion["seed"] == 5
    assert companion["text"] == "One sentence is here. Another sentence follows it."
    assert "".join(chunk["text"] for chunk in companion["chunks"]) == companion["text"]
    assert companion["duration_s"] == pytest.approx(reply["audio_duration_seconds"], abs=0.001)
    assert {"plan_s", "synthesis_s"} <= companion["timings"].keys()


def test_file_names_tell_type_time_and_parameters(client: httpx.Client) -> None:
    reply = describe(client, text="Hi.", seed=42, exaggeration=0.7)

    assert all(file["filename"].isascii() for file in reply["output_files"])
    pattern = r"tts_\d{4}-\d\d-\d\d_\d{6}_\d{6}_temp0\.75_seed42_exag0\.7\.(wav|mp3)"
    assert all(re.fullmatch(pattern, file["filename"]) for file in reply["output_files"])


def test_sentences_are_chunks_and_join_back_to_the_text(client: httpx.Client) -> None:
    text = "The first sentence stands here. Does the second one ask something? The third one shouts aloud!"

    reply = describe(client, text=text)

    assert "".join(chunk["text"] for chunk in reply["chunks"]) == text
    assert len(reply["chunks"]) == 3
    assert [chunk["index"] for chunk in reply["chunks"]] == [0, 1, 2]


def test_batching_speaks_short_sentences_in_one_chunk(client: httpx.Client) -> None:
    text = "The first sentence stands here. The second one follows it. The third one ends it."

    assert len(describe(client, text=text, enable_batching=True)["chunks"]) == 1


def test_exaggeration_widens_the_pitch(client: httpx.Client) -> None:
    def spread(exaggeration: float) -> float:
        body = {"text": "Where on earth have you been all this time?", "exaggeration": exaggeration, "seed": 3}
        return float(np.std(np.log(voiced_hz(read(client.post(TTS, json=body).content)))))

    assert spread(1.5) > 1.5 * spread(0.0)


@pytest.mark.parametrize(("tag", "same"), [("de-DE", "de"), ("EN_us", "en-us"), ("zh-Hans-CN", "zh")])
def test_a_language_may_be_named_with_its_region(client: httpx.Client, tag: str, same: str) -> None:
    def say(language: str) -> bytes:
        return client.post(TTS, json={"text": "Guten Morgen. 早上好。", "language": language, "seed": 1}).content

    assert say(tag) == say(same)


def test_an_option_without_effect_is_named_in_the_warnings(client: httpx.Client) -> None:
    reply = describe(client, text="Hi.", min_p=0.05, disable_watermark=False)

    assert any("min_p" in warning for warning in reply["warnings"])
    assert any("watermark" in warning for warning in reply["warnings"])
    assert describe(client, text="Hi.")["warnings"] == []


@pytest.mark.parametrize("text", ["Hi.", "A", "7", ".", "...", "😀", "Ω", "!?", "—"])
def test_nothing_is_too_short_to_be_answered_with_audio(client: httpx.Client, text: str) -> None:
    reply = client.post(TTS, json={"text": text})

    assert reply.status_code == 200, reply.text
    assert len(reply.content) > 44


def test_one_sentence_of_five_thousand_characters_is_spoken_whole(client: httpx.Client) -> None:
    text = ("and then we walked on through the long grass " * 112).strip()

    reply = describe(client, text=text, export_formats=["wav"])

    assert len(text) > 5000
    assert "".join(chunk["text"] for chunk in reply["chunks"]) == text
    assert reply["audio_duration_seconds"] > 200


def test_a_format_asked_for_twice_is_made_once(client: httpx.Client) -> None:
    reply = describe(client, text="Hi.", export_formats=["WAV", "wav", "mp3"])

    assert [file["format"] for file in reply["output_files"]] == ["wav", "mp3"]


@pytest.mark.parametrize(
    "wish", [{"num_candidates_per_chunk": 2}, {"use_faster_whisper": True}, {"use_longest_transcript_on_fail": True}]
)
def test_a_wish_for_a_transcriber_is_granted_or_the_answer_says_why_not(
    client: httpx.Client, wish: dict[str, Any]
) -> None:
    listens = client.get("/api/v1/config").json()["engine"]["transcriber"] is not None

    reply = describe(client, text="Good morning to you all.", **wish)

    assert all((chunk["score"] is not None) == listens for chunk in reply["chunks"])
    assert any("not validated" in warning for warning in reply["warnings"]) != listens


def test_an_outputs_folder_that_was_taken_away_is_made_anew(client: httpx.Client, server: Server) -> None:
    shutil.rmtree(server.data_dir / "outputs")

    assert client.get("/api/v1/health").status_code == 200
    assert client.post(TTS, json={"text": "Hi."}).status_code == 200


def test_null_means_the_servers_default_in_every_field(client: httpx.Client) -> None:
    nulls = {name: None for name in SpeechBody.model_fields if name != "text"}

    reply = client.post(TTS, json={"text": "Hi.", **nulls})

    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "audio/wav"


def test_neutral_values_of_the_options_of_sound_change_nothing(client: httpx.Client) -> None:
    body = {"text": "Hi.", "seed": 6}
    neutral = {"speed_factor": 1.0, "trim": False, "normalize_audio": False, "speed_factor_library": "librosa"}

    assert client.post(TTS, json={**body, **neutral}).content == client.post(TTS, json=body).content


def test_a_text_that_the_engine_can_never_say_is_the_callers_mistake(client: httpx.Client) -> None:
    unreadable = {"text": "𠮷", "language": "ja"}

    native = client.post("/api/v1/tts", json=unreadable)
    openai = client.post(
        "/v1/audio/speech", json={"model": "tts-1", "voice": "clara", "input": unreadable["text"], "language": "ja"}
    )

    assert (native.status_code, native.json()["error_code"]) == (422, "TEXT_UNREADABLE")
    assert native.json()["detail"][0]["loc"] == ["body", "text"]
    assert openai.status_code == 400
    assert (openai.json()["error"]["param"], openai.json()["error"]["code"]) == ("input", "text_unreadable")
