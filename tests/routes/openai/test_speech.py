"""`POST /v1/audio/speech`: what is asked for, and what is heard."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.listen import (
    Recogniser,
    fundamental_hz,
    loudness_lufs,
    sentences_heard_in_order,
    spelled,
    word_error_rate,
)
from tests.routes.openai.asking import JSON, SPEECH, failure, heard, message, say
from tests.routes.openai.containers import aac_frames, mp3_frames, ogg_pages
from tests.serving import Server
from tests.utils.audio.played import played
from utils.text.split import Grouping, split

DATA = Path(__file__).parents[2] / "data"
TEXT = "Our train leaves from platform seven at half past nine. Please close the window before you turn off the lights."
MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
BUILT_IN = "alloy ash ballad coral echo fable onyx nova sage shimmer verse marin cedar".split()
MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15")


@pytest.fixture(scope="module")
def spoken(client: httpx.Client) -> dict[str, httpx.Response]:
    """The same text and seed in every format."""
    return {name: say(client, TEXT, response_format=name, seed=7) for name in MEDIA_TYPES}


# What is sent


@pytest.mark.parametrize("format_name", MEDIA_TYPES)
def test_the_answer_is_one_file_of_the_format_that_was_asked_for(
    spoken: dict[str, httpx.Response], format_name: str
) -> None:
    reply = spoken[format_name]

    assert reply.status_code == 200
    assert reply.headers["content-type"] == MEDIA_TYPES[format_name]
    assert reply.headers["transfer-encoding"] == "chunked"
    assert not {"content-length", "content-encoding"} & reply.headers.keys()
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["x-request-id"]
    assert int(reply.headers["openai-processing-ms"]) > 0
    assert played(reply.content, format_name).duration_s == pytest.approx(
        played(spoken["pcm"].content, "pcm").duration_s, abs=0.15
    )


@pytest.mark.parametrize("format_name", MEDIA_TYPES)
def test_the_words_are_heard_in_every_format(spoken: dict[str, httpx.Response], format_name: str) -> None:
    sound = played(spoken[format_name].content, format_name)

    assert word_error_rate(TEXT, Recogniser.of(TEXT.split(". ")).hear(sound)) <= 0.1


def test_without_a_format_it_is_mp3_whatever_the_client_accepts(client: httpx.Client) -> None:
    for accepted in ("application/octet-stream", "audio/wav", "application/octet-stream, text/event-stream"):
        body = {"model": "tts-1", "input": "Hi.", "voice": "alloy"}
        reply = client.post(SPEECH, json=body, headers={"Accept": accepted})

        assert reply.headers["content-type"] == "audio/mpeg"
        assert reply.content[:1] == b"\xff"


def test_mp3_is_bare_frames_of_mpeg_2_at_a_constant_bit_rate(spoken: dict[str, httpx.Response]) -> None:
    frames = list(mp3_frames(spoken["mp3"].content))

    assert {(frame.version, frame.layer, frame.kbps, frame.sample_rate, frame.is_mono) for frame in frames} == {
        (2, 3, 128, 24_000, True)
    }
    assert not any(mark in spoken["mp3"].content[:400] for mark in (b"ID3", b"Xing", b"Info"))


def test_opus_is_one_ogg_stream_of_24_khz_mono(spoken: dict[str, httpx.Response]) -> None:
    pages = list(ogg_pages(spoken["opus"].content))

    magic, version, channels, _, sample_rate = struct.unpack("<8sBBHI", pages[0].content[:16])
    assert (magic, version, channels, sample_rate) == (b"OpusHead", 1, 1, 24_000)
    assert pages[1].content.startswith(b"OpusTags")
    assert {page.stream for page in pages} == {pages[0].stream}
    assert [page.number for page in pages] == list(range(len(pages)))
    assert [page.is_first for page in pages] == [True] + [False] * (len(pages) - 1)
    assert [page.is_last for page in pages] == [False] * (len(pages) - 1) + [True]


def test_aac_is_adts_frames_of_24_khz_mono(spoken: dict[str, httpx.Response]) -> None:
    frames = list(aac_frames(spoken["aac"].content))

    assert {(frame.profile, frame.sample_rate, frame.channels) for frame in frames} == {("LC", 24_000, 1)}


def test_flac_is_16_bit_and_leaves_length_and_checksum_open(spoken: dict[str, httpx.Response]) -> None:
    content = spoken["flac"].content

    about = int.from_bytes(content[18:26], "big")
    assert content[:4] == b"fLaC"
    assert content[4] & 0x7F == 0
    assert (about >> 44, (about >> 41 & 7) + 1, (about >> 36 & 31) + 1, about & (1 << 36) - 1) == (24_000, 1, 16, 0)
    assert content[26:42] == bytes(16)


def test_wav_has_one_head_of_44_bytes_that_leaves_the_length_open(spoken: dict[str, httpx.Response]) -> None:
    content = spoken["wav"].content

    assert content[:44].hex() == (
        "52494646ffffffff57415645666d74201000000001000100c05d000080bb00000200100064617461ffffffff"
    )
    assert content.count(b"RIFF") == 1
    assert content[44:] == spoken["pcm"].content


def test_pcm_is_16_bit_samples_and_nothing_else(spoken: dict[str, httpx.Response]) -> None:
    assert len(spoken["pcm"].content) % 2 == 0
    assert played(spoken["flac"].content, "flac").samples == pytest.approx(
        played(spoken["pcm"].content, "pcm").samples, abs=1e-4
    )


def test_it_is_the_speech_of_the_native_api(client: httpx.Client) -> None:
    spoken = {"reference_audio_filename": "clara", "seed": 7, "speed_factor": 1.3, "export_formats": ["pcm"]}
    native = client.post("/api/v1/tts", json={"text": TEXT, **spoken})

    assert heard(say(client, TEXT, voice="clara", seed=7, speed=1.3, response_format="pcm")) == native.content


def test_every_sentence_of_a_long_text_is_heard_in_order(client: httpx.Client) -> None:
    text = (DATA / "narrative.txt").read_text(encoding="utf-8")
    whole = split(" ".join(text.split()), language="en", max_characters=2000, grouping=Grouping.EACH)
    sentences = [spelled(chunk.text) for chunk in whole]

    sound = played(heard(say(client, text, voice="edgar", seed=5, response_format="flac")), "flac")

    assert sentences_heard_in_order(sentences, Recogniser.of(sentences).hear(sound)) == []


def test_audio_comes_in_chunks_while_it_is_made(client: httpx.Client) -> None:
    body = {"model": "tts-1", "input": "One more sentence. " * 60, "voice": "alloy", "response_format": "pcm"}
    with client.stream("POST", SPEECH, json=body) as reply:
        sizes = [len(chunk) for chunk in reply.iter_raw()]

    assert len(sizes) > 10
    assert sizes[0] < sum(sizes) / 10


# Who speaks, and with which model


@pytest.mark.parametrize("model", MODELS)
def test_the_models_of_openai_are_known(client: httpx.Client, model: str) -> None:
    assert heard(say(client, "Hi.", model=model))


@pytest.mark.parametrize("model", ["embedded-espeak-world", "espeak-world", "embedded"])
def test_a_model_of_the_engine_may_be_named_with_the_engine_or_without(client: httpx.Client, model: str) -> None:
    assert heard(say(client, "Hi.", model=model))


@pytest.mark.parametrize("voice", BUILT_IN)
def test_the_voices_of_openai_are_known(client: httpx.Client, voice: str) -> None:
    assert heard(say(client, "Hi.", voice=voice))
    assert heard(say(client, "Hi.", voice={"id": voice}))


def test_they_are_as_many_voices_as_the_engine_has(client: httpx.Client) -> None:
    own = client.get("/api/v1/config").json()["engine"]["voices"]

    sounds = {heard(say(client, "Hello there.", voice=voice, seed=3, response_format="pcm")) for voice in BUILT_IN}

    assert len(sounds) == len(own)


def test_a_name_of_openai_means_what_the_settings_say(named: httpx.Client) -> None:
    mapped, direct = (
        heard(say(named, "I have a high voice.", voice=voice, seed=3, response_format="wav"))
        for voice in ("alloy", "narrators/anna.wav")
    )

    assert mapped == direct
    assert fundamental_hz(played(mapped, "wav")) == pytest.approx(255, rel=0.1)


def test_a_name_that_the_settings_give_to_nobody_is_refused(named: httpx.Client) -> None:
    reply = say(named, voice="marin")

    assert failure(reply) == (400, "voice", "voice_not_found")
    assert "nobody" in message(reply)
    assert "/v1/audio/voices" in message(reply)


def test_an_unknown_voice_is_refused_with_where_to_find_the_others(client: httpx.Client) -> None:
    for voice in ("nobody", "../../etc/passwd", "a\\b", {"id": "voice_0"}):
        reply = say(client, voice=voice)

        assert failure(reply) == (400, "voice", "voice_not_found")
        assert "/v1/audio/voices" in message(reply)


def test_an_unknown_model_is_a_404_that_names_it(client: httpx.Client) -> None:
    reply = say(client, model="whisper-1")

    assert failure(reply) == (404, "model", "model_not_found")
    assert "The model 'whisper-1' does not exist" in message(reply)


# What may stand in the body


@pytest.mark.parametrize(
    "fields",
    [
        {"speed": 1},
        {"instructions": "Speak like a pirate."},
        {"instructions": "None"},
        {"instructions": None, "response_format": None, "speed": None, "stream_format": None, "seed": None},
        {"stream": True, "chunking": {"a": [1]}, "user": None},
        {"params": {"exaggeration": "much", "desired_length": 200, "device": "auto"}},
        {"response_format": "MP3"},
        {"exaggeration": 0.9, "cfg_weight": 0.3, "temperature": 0.6, "min_p": 0.1, "top_p": 0.9, "seed": 4},
        {"repetition_penalty": 1.3, "language": "en-US", "to_lowercase": False, "sound_words_field": "hello=>goodbye"},
        {"lang_code": "de"},
        {"project": "book/one", "save": False},
    ],
    ids=str,
)
def test_what_clients_send_besides_is_heeded_or_passed_over(client: httpx.Client, fields: dict[str, Any]) -> None:
    assert heard(say(client, "Hi.", **fields))


def test_extensions_change_what_is_heard(client: httpx.Client) -> None:
    def sound(**fields: Any) -> bytes:
        return heard(say(client, "Good morning.", response_format="pcm", **fields))

    plain = sound(seed=5)

    assert sound(seed=5) == plain
    assert sound(seed=6) != plain
    assert sound(seed=5, exaggeration=1.4) != plain
    assert sound(seed=5, lang_code="de") == sound(seed=5, language="de") != plain
    assert sound(seed=5, sound_words_field="morning=>evening") != plain


@pytest.mark.parametrize("speed", [0.25, 0.5, 1.5, 4])
def test_the_speed_is_kept_over_the_whole_range(client: httpx.Client, speed: float) -> None:
    plain, other = (
        played(heard(say(client, TEXT, voice="edgar", response_format="wav", seed=7, **fields)), "wav")
        for fields in ({}, {"speed": speed})
    )

    assert other.duration_s == pytest.approx(plain.duration_s / speed, rel=0.03)
    if speed <= 2:  # beyond, little is left to measure a pitch in
        assert fundamental_hz(other) == pytest.approx(fundamental_hz(plain), rel=0.05)


def test_edges_and_loudness_are_done_as_asked(client: httpx.Client) -> None:
    fields = {"trim": True, "normalize_audio": True, "normalize_level": -20}
    sound = played(heard(say(client, TEXT, response_format="wav", seed=7, **fields)), "wav")

    assert loudness_lufs(sound) == pytest.approx(-20, abs=0.5)
    assert len(heard(say(client, TEXT, response_format="wav", seed=7, trim=True))) < len(
        heard(say(client, TEXT, response_format="wav", seed=7))
    )


@pytest.mark.parametrize(
    "text",
    [
        ".",
        "?!",
        "😀",
        "👍🏽👩‍👩‍👧",
        "<speak>Hello <b>there</b></speak>",
        "# A title\n\n* one\n* two",
        "你好，世界。",
        "こんにちは。",
        "안녕하세요.",
        " \n Hi. \n ",
        "a" * 4096,
    ],
    ids=lambda text: text[:12],
)
def test_any_text_gives_audio(client: httpx.Client, text: str) -> None:
    assert len(heard(say(client, text, response_format="wav"))) > 44


def test_white_space_at_the_ends_does_not_count(client: httpx.Client) -> None:
    assert heard(say(client, " " * 50 + "Hello. " * 585 + " " * 50))  # 4095 characters without it
    assert failure(say(client, "Hello. " * 586 + ".")) == (400, "input", "string_too_long")


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer null", "Bearer sk-123", "Basic abc"])
def test_without_keys_whatever_a_client_brings_is_good(client: httpx.Client, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization else {}

    reply = client.post(SPEECH, json={"model": "tts-1", "input": "Hi.", "voice": "alloy"}, headers=headers)

    assert heard(reply)


@pytest.mark.parametrize("address", ["/audio/speech", "/v1//audio/speech", "/v1/audio/speech/"])
def test_other_spellings_of_the_address_are_the_same(client: httpx.Client, address: str) -> None:
    body = {"model": "tts-1", "input": "Hi.", "voice": "alloy", "seed": 2}

    assert heard(client.post(address, json=body)) == heard(client.post(SPEECH, json=body))


def test_the_id_of_a_request_comes_back(client: httpx.Client) -> None:
    body = {"model": "tts-1", "input": "Hi.", "voice": "alloy"}

    assert client.post(SPEECH, json=body, headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"


# What is kept


def test_nothing_is_kept_unless_it_is_asked_for(named: httpx.Client, named_server: Server) -> None:
    outputs = named_server.data_dir / "outputs"
    before = sorted(outputs.rglob("*"))

    heard(say(named, "Nobody keeps this.", project="nowhere"))

    assert sorted(outputs.rglob("*")) == before


def test_what_is_to_be_kept_is_in_the_outputs_library(named: httpx.Client, named_server: Server) -> None:
    heard(say(named, "Keep this.", save=True, project="kept/here", export_formats=["flac"], seed=9))

    folder = named_server.data_dir / "outputs" / "kept" / "here"
    (companion,) = (json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json"))
    assert companion["request"]["text"] == "Keep this."
    assert companion["seed"] == 9
    assert [path.suffix for path in folder.iterdir() if path.suffix != ".json"] == [".flac"]


def test_a_folder_outside_the_library_is_refused(named: httpx.Client) -> None:
    for kept, field in ((True, "project"), (False, "project"), (False, "folder")):
        assert failure(say(named, save=kept, **{field: "../elsewhere"})) == (400, field, "invalid_path")


@pytest.mark.parametrize("path", ["/v1/audio/speech/", "//v1/audio/speech", "/audio/speech/"])
def test_a_slash_too_many_does_no_harm(client: httpx.Client, path: str) -> None:
    body = {"model": "tts-1", "input": "Hello there.", "voice": "alloy", "seed": 3}

    assert heard(client.post(path, json=body)) == heard(say(client, seed=3))


# Pages of other origins


def test_a_page_may_send_the_headers_of_the_sdk(client: httpx.Client) -> None:
    asked = "authorization, content-type, x-stainless-lang, x-stainless-retry-count, openai-organization"
    reply = client.options(
        SPEECH,
        headers={
            "Origin": "http://localhost:3000",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": asked,
        },
    )

    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert {name.strip() for name in reply.headers["access-control-allow-headers"].lower().split(",")} >= {
        name.strip() for name in asked.split(",")
    }


def test_a_page_may_read_the_id_of_its_request(client: httpx.Client) -> None:
    body = {"model": "tts-1", "input": "Hi.", "voice": "alloy"}

    reply = client.post(SPEECH, json=body, headers={"Origin": "http://localhost:3000", **JSON})

    assert "x-request-id" in reply.headers["access-control-expose-headers"].lower()
