"""Chatterbox through the HTTP API: a real server, a real engine process, the package's real code on small weights."""

from __future__ import annotations

import io
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import soundfile

from tests.engines.chatterbox.checkpoints import STOP_AFTER, environment, hub_cache
from tests.recordings import vowels_wav
from tests.routes.openai.dictating import dictating
from tests.serving import Server, serving
from tests.utils.audio.played import played

PITCHES_HZ = (90, 110, 130, 150, 180, 210, 240, 270)
SENTENCE = "It was late in the evening."
SECONDS_A_TOKEN = 0.04
OFFLINE = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def voices_in(data_dir: Path) -> Path:
    (data_dir / "voices").mkdir(parents=True)
    for pitch_hz in PITCHES_HZ:
        (data_dir / "voices" / f"v{pitch_hz}.wav").write_bytes(vowels_wav(pitch_hz))
    return data_dir


@pytest.fixture(scope="module")
def weights(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints under other names, for tests that damage them."""
    return Path(shutil.copytree(checkpoints, tmp_path_factory.mktemp("weights") / "copy", copy_function=os.link))


@pytest.fixture(scope="module")
def chatterbox(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data_dir = voices_in(tmp_path_factory.mktemp("served"))
    arguments = ("--engine", "chatterbox", "--weights", str(weights), "--model", "english")
    with serving(data_dir, *arguments, environment={**environment(), **OFFLINE}) as server:
        yield server


@pytest.fixture(scope="module")
def client(chatterbox: Server) -> Iterator[httpx.Client]:
    with chatterbox.client() as session:
        yield session


def say(client: httpx.Client, text: str = SENTENCE, **options: object) -> httpx.Response:
    body = {"text": text, "seed": 7, "export_formats": ["wav"], "bypass_whisper_checking": True, **options}
    return client.post("/api/v1/tts", json=body)


def duration_s(reply: httpx.Response) -> float:
    assert reply.status_code == 200, reply.text
    return float(soundfile.info(io.BytesIO(reply.content)).duration)


def loaded_models(client: httpx.Client) -> set[str]:
    return {model["name"] for model in client.get("/api/v1/health").json()["models"] if model["loaded"]}


def test_the_configured_variant_speaks_with_its_own_voice(client: httpx.Client) -> None:
    reply = say(client)

    assert reply.headers["X-Engine"] == "chatterbox"
    assert duration_s(reply) == pytest.approx(STOP_AFTER * SECONDS_A_TOKEN, abs=SECONDS_A_TOKEN)


@pytest.mark.parametrize(
    ("model", "text", "language"),
    [
        ("english", SENTENCE, "en"),
        ("multilingual", "Es war spät am Abend.", "de"),
        ("multilingual", "早上好", "zh"),
        ("turbo", "It was late [laugh] in the evening.", "en"),
    ],
)
def test_every_variant_speaks_when_a_request_names_it(
    client: httpx.Client, model: str, text: str, language: str
) -> None:
    reply = say(client, text, model=model, language=language, response_mode="url")

    assert reply.status_code == 200, reply.text
    assert reply.json()["model"] == model
    assert reply.json()["audio_duration_seconds"] > 0.1
    assert model in loaded_models(client)


def test_an_unknown_variant_is_refused_with_those_that_there_are(client: httpx.Client) -> None:
    reply = say(client, model="gigantic")

    assert reply.status_code == 422
    assert "english, turbo, nano, multilingual" in reply.json()["error"]


def test_a_language_that_the_variant_does_not_speak_is_refused(client: httpx.Client) -> None:
    reply = say(client, model="english", language="de")

    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == ["body", "language"]


def test_what_a_variant_does_not_heed_is_in_the_warnings(client: httpx.Client) -> None:
    reply = say(client, model="turbo", cfg_weight=0.3, exaggeration=0.9, response_mode="url").json()

    assert "cfg_weight has no effect on the model turbo" in reply["warnings"]
    assert "exaggeration has no effect on the model turbo" in reply["warnings"]


def test_the_same_seed_gives_the_same_samples_and_another_does_not(client: httpx.Client) -> None:
    first, again, other = say(client), say(client), say(client, seed=8)

    assert first.content == again.content
    assert first.content != other.content


def test_eight_voices_at_once_are_each_what_they_are_alone(client: httpx.Client) -> None:
    def speak(pitch_hz: int) -> bytes:
        reply = say(client, reference_audio_filename=f"v{pitch_hz}", cfg_weight=0.5)  # all with one seed
        assert reply.status_code == 200, reply.text
        return reply.content

    alone = [speak(pitch_hz) for pitch_hz in PITCHES_HZ]
    with ThreadPoolExecutor(len(PITCHES_HZ)) as threads:
        crowd = list(threads.map(speak, PITCHES_HZ))

    assert crowd == alone
    assert len(set(alone)) == len(alone)


def test_no_guidance_at_all_is_a_performance_too(client: httpx.Client) -> None:
    assert duration_s(say(client, cfg_weight=0)) == pytest.approx(STOP_AFTER * SECONDS_A_TOKEN, abs=SECONDS_A_TOKEN)


def test_turbo_names_the_seconds_that_its_reference_lacks(client: httpx.Client) -> None:
    reply = say(client, model="turbo", reference_audio_filename="v90")

    assert reply.status_code == 400
    assert reply.json()["error_code"] == "INVALID_AUDIO"
    assert "5" in reply.json()["error"]


def test_a_watermark_changes_the_samples_and_nothing_else(client: httpx.Client) -> None:
    plain, marked = say(client), say(client, disable_watermark=False)

    assert plain.content != marked.content
    assert duration_s(plain) == duration_s(marked)


def test_a_recording_takes_on_another_voice_and_keeps_its_length(chatterbox: Server, client: httpx.Client) -> None:
    (chatterbox.data_dir / "vc_inputs").mkdir(exist_ok=True)
    (chatterbox.data_dir / "vc_inputs" / "said.wav").write_bytes(vowels_wav(200))
    body = {"input_audio_source": "said.wav", "target_voice_source": "v110", "export_formats": ["wav"], "seed": 3}

    assert duration_s(client.post("/api/v1/vc", json=body)) == pytest.approx(4.0, abs=SECONDS_A_TOKEN)


def test_live_speech_begins_before_it_is_complete_and_is_as_long(client: httpx.Client) -> None:
    body = {"text": SENTENCE, "seed": 7, "export_formats": ["wav"], "response_mode": "live"}
    with client.stream("POST", "/api/v1/tts", json=body) as reply:
        assert reply.status_code == 200
        pieces = list(reply.iter_raw())

    frames = (sum(map(len, pieces)) - 44) // 4
    assert len(pieces) > 2
    assert frames / 24_000 == pytest.approx(STOP_AFTER * SECONDS_A_TOKEN, abs=2 * SECONDS_A_TOKEN)


def test_a_client_that_leaves_frees_its_place(chatterbox: Server, client: httpx.Client) -> None:
    with pytest.raises(httpx.ReadTimeout):
        client.post("/api/v1/tts", json={"text": f"{SENTENCE} " * 200}, timeout=0.5)

    assert duration_s(say(client)) > 1
    assert client.get("/api/v1/health").json()["metrics"]["requests_in_line"] == 0


def test_memory_does_not_grow_with_the_number_of_requests(chatterbox: Server, client: httpx.Client) -> None:
    def speak(number: int) -> int:
        return say(client, seed=number + 1, reference_audio_filename=f"v{PITCHES_HZ[number % 8]}").status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(speak, range(24))) == {200}
        before = chatterbox.engine_process().memory_info().rss
        assert set(threads.map(speak, range(48))) == {200}

    assert chatterbox.engine_process().memory_info().rss < 1.1 * before


def test_a_killed_engine_comes_back_with_its_variant(chatterbox: Server, client: httpx.Client) -> None:
    os.kill(chatterbox.engine_process().pid, signal.SIGKILL)
    chatterbox.wait_for_log("engine ready")

    assert duration_s(say(client)) > 1


def test_a_damaged_file_of_another_variant_is_named_and_the_others_speak_on(
    weights: Path, client: httpx.Client
) -> None:
    broken = weights / "turbo" / "t3_nano_v1.safetensors"
    whole = broken.read_bytes()
    broken.unlink()  # it is a hard link to the file of other tests
    broken.write_bytes(whole[:10_000])
    refused, other = say(client, model="nano"), say(client)
    broken.write_bytes(whole)

    assert (refused.status_code, refused.json()["error_code"]) == (503, "MODEL_UNAVAILABLE")
    assert "t3_nano_v1.safetensors" in refused.json()["error"]
    assert other.status_code == 200
    assert say(client, model="nano").status_code == 200


def test_a_wrong_folder_and_a_missing_file_are_named_and_mended_without_a_restart(
    checkpoints: Path, tmp_path: Path
) -> None:
    config, folder = tmp_path / "config.yaml", tmp_path / "weights"
    config.write_text(f"chatterbox:\n  weights: {tmp_path / 'nowhere'}\n  model: english\n")
    shutil.copytree(checkpoints / "english", folder)
    (folder / "s3gen.safetensors").unlink()
    arguments = ("--engine", "chatterbox", "--config", str(config))
    ready = ("serving on", "engine unavailable")
    with (
        serving(tmp_path / "data", *arguments, environment={**environment(), **OFFLINE}, ready=ready) as server,
        server.client() as client,
    ):
        nowhere, unready = say(client), client.get("/api/v1/health/ready")
        config.write_text(f"chatterbox:\n  weights: {folder}\n  model: english\n")
        server.wait_for_log("s3gen.safetensors")
        incomplete = say(client)
        shutil.copy(checkpoints / "english" / "s3gen.safetensors", folder)
        server.wait_for_log("engine ready")

        assert duration_s(say(client)) > 1

    assert (nowhere.status_code, unready.status_code, incomplete.status_code) == (503, 503, 503)
    assert incomplete.json()["error_code"] == "MODEL_UNAVAILABLE"
    assert "nowhere" in nowhere.json()["error"]
    assert "s3gen.safetensors" in incomplete.json()["error"]


def test_the_hubs_cache_serves_without_a_network_and_idle_variants_leave(checkpoints: Path, tmp_path: Path) -> None:
    settings = {"HF_HOME": str(hub_cache(checkpoints, tmp_path / "hub")), "CHATTERBOX_CHATTERBOX__UNLOAD_AFTER_S": "0"}
    arguments = ("--engine", "chatterbox", "--model", "multilingual")
    with (
        serving(tmp_path / "data", *arguments, environment={**environment(), **OFFLINE, **settings}) as server,
        server.client() as client,
    ):
        assert duration_s(say(client, language="fr")) > 1
        assert duration_s(say(client, model="nano")) > 0
        server.wait_for_log("model unloaded name=nano")

        assert duration_s(say(client, model="nano")) > 0
        assert "multilingual" in loaded_models(client)


@pytest.mark.parametrize("fallback", ["embedded", "none"])
def test_without_weights_and_hub_it_falls_back_as_configured_and_says_so(tmp_path: Path, fallback: str) -> None:
    settings = {"CHATTERBOX_ENGINE__FALLBACK": fallback, "HF_HOME": str(tmp_path / "empty")}
    ready = ("serving on", "engine ready" if fallback == "embedded" else "engine unavailable")
    with (
        serving(tmp_path / "data", "--engine", "auto", environment={**OFFLINE, **settings}, ready=ready) as server,
        server.client() as client,
    ):
        reply = client.post("/api/v1/tts", json={"text": "Hello."})
        warnings = client.get("/api/v1/health").json()["warnings"]

    assert reply.status_code == (200 if fallback == "embedded" else 503)
    assert any("Chatterbox" in warning or "chatterbox" in warning for warning in warnings)


def test_a_text_that_is_dictated_is_spoken_and_cancelled(chatterbox: Server) -> None:
    with dictating(chatterbox, voice="v110", model="chatterbox-english") as dictation:
        dictation.write(f"{SENTENCE} {SENTENCE} And")
        dictation.hear_until("sentence")
        dictation.tell("cancel")
        dictation.hear_until("cancelled")
        before = len(dictation.audio)
        dictation.write(SENTENCE)
        dictation.tell("end")
        code = dictation.hear_out()

    heard = played(dictation.audio[before:], "pcm")
    assert code == 1000
    assert " ".join(dictation.sentences_after("cancelled")) == SENTENCE
    assert heard.duration_s > STOP_AFTER * SECONDS_A_TOKEN / 2
