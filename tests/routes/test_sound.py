"""What is done to the sound of a generation: inner silences, speed, edges, loudness, formats."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, cycle, islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
import soxr

from tests.engines.embedded.hearing import median_fundamental_hz
from tests.libraries import upload_voice
from tests.listen import Recogniser, clicks, loudness_lufs, peak_dbfs, read, word_error_rate
from tests.recordings import vowels, vowels_wav
from tests.serving import Server, serving
from tests.utils.audio.played import played
from utils.audio.formats import FORMATS
from utils.audio.stretchers import LIBRARIES, available
from utils.audio.waveform import Waveform

TTS, VC = "/api/v1/tts", "/api/v1/vc"
RATE = 24_000
SENTENCE = "My grandfather still keeps his old radio on the kitchen shelf."
TEXT = f"{SENTENCE} Please close the window before you turn off all the lights."
LONG_TEXT = f"{TEXT} Wait! Then, after a while, nobody spoke.\n\nA new paragraph begins here; it says little. The end."
LIVE = {"response_mode": "live"}
MP3_DELAY = 1105  # samples that LAME and a decoder put before the sound, which bare frames cannot tell
STAGES: dict[str, dict[str, Any]] = {
    "auto_editor": {"use_auto_editor": True},
    "speed": {"speed_factor": 1.25},
    "trim": {"trim": True, "trim_threshold_ms": 50},
    "loudness": {"normalize_audio": True},
}

each_library = pytest.mark.parametrize(
    "library",
    [
        pytest.param(name, marks=pytest.mark.skipif(not available(name), reason=f"{name} is not installed"))
        for name in LIBRARIES
    ],
)


def asked(client: httpx.Client, path: str = TTS, **fields: Any) -> dict[str, Any]:
    body = {"text": TEXT, "seed": 11, **fields} if path == TTS else fields
    reply = client.post(path, params={"response_mode": "url"}, json={"export_formats": ["wav"], **body})
    assert reply.status_code == 200, reply.text
    described: dict[str, Any] = reply.json()
    return described


def fetched(client: httpx.Client, reply: dict[str, Any], index: int = 0) -> bytes:
    return client.get(reply["output_files"][index]["url"]).content


def said(client: httpx.Client, **fields: Any) -> Waveform:
    return read(fetched(client, asked(client, **fields)))


def companion_of(server: Server, reply: dict[str, Any]) -> dict[str, Any]:
    first = server.data_dir / reply["output_files"][0]["path"]
    content: dict[str, Any] = json.loads(first.with_suffix(".json").read_text(encoding="utf-8"))
    return content


def true_peak_dbtp(waveform: Waveform) -> float:
    return peak_dbfs(Waveform(soxr.resample(waveform.samples, 1, 8), 8 * waveform.sample_rate))


def with_silence(name: str, folder: Path, *, before_s: float, after_s: float) -> str:
    """A recording to convert: vowels between digital silence."""
    parts = (np.zeros(round(before_s * RATE)), vowels(110).samples, np.zeros(round(after_s * RATE)))
    soundfile.write(folder / "vc_inputs" / name, np.concatenate(parts), RATE, subtype="FLOAT")
    return name


# Speed


@each_library
@pytest.mark.parametrize("factor", [0.5, 0.75, 1.5, 2.0])
def test_speed_changes_the_duration_and_keeps_pitch_and_words(
    client: httpx.Client, server: Server, library: str, factor: float
) -> None:
    plain = said(client, text=SENTENCE)

    reply = asked(client, text=SENTENCE, speed_factor=factor, speed_factor_library=library)

    content = fetched(client, reply)
    fast = read(content)
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        assert file.subtype == "FLOAT"
    assert companion_of(server, reply)["processing"] == [{"stage": "speed", "factor": factor, "library": library}]
    assert reply["audio_duration_seconds"] == pytest.approx(fast.duration_s, abs=0.0001)
    assert fast.duration_s == pytest.approx(plain.duration_s / factor, rel=0.01)
    assert median_fundamental_hz(fast) == pytest.approx(median_fundamental_hz(plain), rel=0.02)
    assert clicks(fast) == []
    if 0.75 <= factor <= 1.5:
        listener = Recogniser.of([SENTENCE])
        errors = [word_error_rate(SENTENCE, listener.hear(sound)) for sound in (plain, fast)]
        assert errors[1] <= errors[0] + 0.1


def test_a_speed_of_one_gives_the_bytes_that_no_speed_gives(client: httpx.Client, server: Server) -> None:
    plain, one = asked(client), asked(client, speed_factor=1.0, speed_factor_library="librosa")

    assert fetched(client, one) == fetched(client, plain)
    assert companion_of(server, one)["processing"] == []
    assert "_speed" not in one["output_files"][0]["filename"]


def test_a_conversion_can_be_made_faster(client: httpx.Client, server: Server) -> None:
    source = with_silence("faster.wav", server.data_dir, before_s=0, after_s=0)
    body = {"input_audio_source": source, "target_voice_source": "clara", "seed": 4}

    plain, one, fast = (asked(client, VC, **body, speed_factor=factor) for factor in (1, 1.0, 1.25))

    assert fetched(client, plain) == fetched(client, one)
    assert fast["audio_duration_seconds"] == pytest.approx(4.0 / 1.25, abs=0.0001)
    assert median_fundamental_hz(read(fetched(client, fast))) == pytest.approx(
        median_fundamental_hz(read(fetched(client, plain))), rel=0.02
    )


@pytest.fixture(scope="module")
def without_librosa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose librosa is broken."""
    broken = tmp_path_factory.mktemp("broken")
    (broken / "librosa").mkdir()
    for name in ("__init__.py", "effects.py"):
        (broken / "librosa" / name).write_text("raise ImportError('this one is broken')", encoding="utf-8")
    environment = {"PYTHONPATH": str(broken)}
    with serving(tmp_path_factory.mktemp("data"), "--engine", "embedded", environment=environment) as running:
        yield running


def test_a_library_that_is_not_there_gives_way_and_the_answer_says_so(without_librosa: Server) -> None:
    body: dict[str, Any] = {"text": SENTENCE, "speed_factor": 1.5, "speed_factor_library": "librosa", "seed": 11}
    with without_librosa.client() as client:
        streamed = client.post(TTS, json=body)
        described = asked(client, **body)

    (stage,) = companion_of(without_librosa, described)["processing"]
    assert stage["library"] not in ("librosa", "none")
    (warning,) = described["warnings"]
    assert "librosa is not available" in warning
    assert stage["library"] in warning
    assert streamed.headers["x-warnings"] == warning
    assert companion_of(without_librosa, described)["warnings"] == [warning]


# Inner silences and edges


def test_inner_silences_are_shortened_by_threshold_and_margin(client: httpx.Client, server: Server) -> None:
    pausing = f"{SENTENCE}\n\n{SENTENCE}"
    plain = said(client, text=pausing)

    reply = asked(client, text=pausing, use_auto_editor=True, ae_margin=0.1)

    short = read(fetched(client, reply))
    (stage,) = companion_of(server, reply)["processing"]
    assert stage["stage"] == "auto_editor"
    assert stage["cuts"] >= 1
    assert stage["removed_s"] == pytest.approx(plain.duration_s - short.duration_s, abs=0.001)
    assert 0.2 < stage["removed_s"] < 1.5
    assert clicks(short) == clicks(plain)


def test_the_original_is_kept_beside_it_listed_and_deleted_with_it(
    client: httpx.Client, server: Server, folder: str
) -> None:
    reply = asked(client, use_auto_editor=True, keep_original_wav_ae=True, project=folder, export_formats=["mp3"])

    short, original = reply["output_files"]
    stem = short["filename"].removesuffix(".mp3")
    assert original["filename"] == f"{stem}_original.wav"
    assert read(fetched(client, reply, 1)).duration_s > reply["audio_duration_seconds"]
    np.testing.assert_array_equal(read(fetched(client, reply, 1)).samples, said(client).samples)
    listed = client.get("/api/v1/outputs", params={"folder": folder}).json()["files"]
    assert {file["filename"] for file in listed} == {short["filename"], original["filename"]}
    assert all(file["generation_type"] == "tts" and file["parameters"]["text"] == TEXT for file in listed)
    companion = server.data_dir / "outputs" / folder / f"{stem}.json"
    for name, is_left in ((short["filename"], True), (original["filename"], False)):
        assert client.delete(f"/api/v1/output/{folder}/{name}", params={"confirm": "true"}).status_code == 200
        assert companion.exists() == is_left


def test_without_the_wish_or_the_stage_no_original_is_kept(client: httpx.Client) -> None:
    assert len(asked(client, use_auto_editor=True)["output_files"]) == 1
    assert len(asked(client, keep_original_wav_ae=True)["output_files"]) == 1


def test_edges_longer_than_the_threshold_are_cut_to_fifty_milliseconds(client: httpx.Client, server: Server) -> None:
    source = with_silence("edges.wav", server.data_dir, before_s=0.6, after_s=0.9)
    body = {"input_audio_source": source, "target_voice_source": "clara", "seed": 4}

    reply = asked(client, VC, **body, trim=True)

    (stage,) = companion_of(server, reply)["processing"]
    assert stage["start_s"] == pytest.approx(0.55, abs=0.03)
    assert stage["end_s"] == pytest.approx(0.85, abs=0.03)
    assert reply["audio_duration_seconds"] == pytest.approx(5.5 - stage["start_s"] - stage["end_s"], abs=0.001)


# The order of the stages, and what is told of them


@pytest.mark.parametrize(("edge_s", "factor", "is_cut"), [(0.15, 0.5, True), (0.15, 1, False), (0.3, 2, False)])
def test_the_threshold_of_the_trim_counts_after_the_change_of_speed(
    client: httpx.Client, server: Server, edge_s: float, factor: float, is_cut: bool
) -> None:
    source = with_silence(f"edges{edge_s}.wav", server.data_dir, before_s=edge_s, after_s=edge_s)
    body = {"input_audio_source": source, "target_voice_source": "clara", "seed": 4}

    reply = asked(client, VC, **body, speed_factor=factor, trim=True, trim_threshold_ms=200)

    trim = companion_of(server, reply)["processing"][-1]
    assert (trim["start_s"] > 0, trim["end_s"] > 0) == (is_cut, is_cut)


def test_silences_are_shortened_before_the_speed_is_changed(client: httpx.Client, server: Server) -> None:
    pausing = f"{SENTENCE}\n\n{SENTENCE}"

    slow, fast = (asked(client, text=pausing, use_auto_editor=True, speed_factor=factor) for factor in (1, 2))

    cuts = [companion_of(server, reply)["processing"][0] for reply in (slow, fast)]
    assert cuts[0] == cuts[1]
    assert fast["audio_duration_seconds"] == pytest.approx(slow["audio_duration_seconds"] / 2, rel=0.001)


@pytest.mark.parametrize(
    "wanted", [[], ["auto_editor"], ["trim"], ["speed", "loudness"], ["auto_editor", "speed", "trim", "loudness"]]
)
def test_the_companion_names_every_stage_that_ran_and_what_it_cost(
    client: httpx.Client, server: Server, wanted: list[str]
) -> None:
    fields = {name: value for stage in reversed(wanted) for name, value in STAGES[stage].items()}

    companion = companion_of(server, asked(client, **fields))

    assert [stage["stage"] for stage in companion["processing"]] == wanted
    costs = {name: seconds for name, seconds in companion["timings"].items() if name.removesuffix("_s") in STAGES}
    assert list(costs) == [f"{stage}_s" for stage in wanted]
    assert all(seconds > 0 for seconds in costs.values())
    spoken = {"plan_s", "synthesis_s", "validation_s"}
    assert companion["timings"].keys() - costs.keys() == spoken
    # The whole took at least what its stages took together, and waiting for a busy machine besides.
    stages_s = sum(seconds for name, seconds in companion["timings"].items() if name != "validation_s")
    assert companion["processing_share"] <= sum(costs.values()) / stages_s * 1.05 + 1e-6
    assert (companion["processing_share"] > 0) == bool(wanted)


def test_the_name_of_a_file_tells_speed_and_trim(client: httpx.Client) -> None:
    (file,) = asked(client, speed_factor=1.2, trim=True, trim_threshold_ms=150)["output_files"]

    assert re.fullmatch(r"tts_[\d-]+_\d{6}_\d{6}_temp0\.75_seed11_speed1\.2_trim150\.wav", file["filename"])


def test_a_voice_brings_its_own_sound_and_the_request_has_the_last_word(client: httpx.Client, server: Server) -> None:
    defaults = {"speed_factor": 2.0, "trim": True, "export_formats": ["flac", "opus"]}
    upload_voice(client, "hasty.wav", vowels_wav(150), default_parameters=json.dumps(defaults), overwrite="true")
    body = {"text": SENTENCE, "reference_audio_filename": "hasty", "seed": 3}

    hasty = client.post(TTS, json=body)
    calm = client.post(TTS, json={**body, "speed_factor": 1.0, "trim": False, "export_formats": ["wav"]})

    assert hasty.headers["content-type"] == "audio/flac"
    assert "_speed2" in hasty.headers["content-disposition"]
    assert hasty.headers["x-alternative-formats"].startswith("opus:/outputs/")
    assert calm.headers["content-type"] == "audio/wav"
    ratio = read(calm.content).duration_s / read(hasty.content).duration_s
    assert 1.9 < ratio < 2.8  # the trim takes something too


# Loudness


@pytest.mark.parametrize(("level", "ceiling"), [(-24.0, -2.0), (-16.0, -1.0), (-30.0, -9.0)])
def test_speech_is_brought_to_the_loudness_asked_for_below_its_ceiling(
    client: httpx.Client, server: Server, level: float, ceiling: float
) -> None:
    reply = asked(client, normalize_audio=True, normalize_level=level, normalize_tp=ceiling)

    sound = read(fetched(client, reply))
    assert sound.duration_s > 3
    assert loudness_lufs(sound) == pytest.approx(level, abs=0.5)
    assert true_peak_dbtp(sound) <= ceiling + 0.1
    (stage,) = companion_of(server, reply)["processing"]
    assert stage["loudness_lufs"] == pytest.approx(loudness_lufs(sound), abs=0.2)
    assert stage["true_peak_dbtp"] <= ceiling + 0.1


def test_the_method_peak_sets_the_largest_sample(client: httpx.Client) -> None:
    sound = said(client, normalize_audio=True, normalize_method="peak", normalize_level=-6.0)

    assert peak_dbfs(sound) == pytest.approx(-6.0, abs=0.01)


def test_what_cannot_be_reached_is_told(client: httpx.Client) -> None:
    reply = asked(client, normalize_audio=True, normalize_level=0.0, normalize_tp=-9.0)

    assert true_peak_dbtp(read(fetched(client, reply))) <= -8.9
    assert reply["warnings"]


@pytest.mark.parametrize("text", ["Hi.", ".", "..."])
def test_next_to_nothing_survives_every_option(client: httpx.Client, text: str) -> None:
    fields = {name: value for stage in STAGES.values() for name, value in stage.items()}

    sound = said(client, text=text, **fields, keep_original_wav_ae=True)

    assert np.isfinite(sound.samples).all()
    assert len(sound.samples)


def test_a_recording_of_silence_survives_every_option(client: httpx.Client, server: Server) -> None:
    soundfile.write(server.data_dir / "vc_inputs" / "silence.wav", np.zeros(RATE), RATE)
    fields = {name: value for stage in STAGES.values() for name, value in stage.items()}

    reply = asked(client, VC, input_audio_source="silence.wav", target_voice_source="clara", **fields)

    assert np.isfinite(read(fetched(client, reply)).samples).all()


# Formats


def test_every_format_of_a_request_is_the_same_rendering(client: httpx.Client, server: Server) -> None:
    reply = asked(client, export_formats=list(FORMATS), speed_factor=1.1, trim=True)

    sounds = {
        file["format"]: played(fetched(client, reply, number), file["format"])
        for number, file in enumerate(reply["output_files"])
    }
    assert list(sounds) == list(FORMATS)
    wav = sounds.pop("wav")
    np.testing.assert_allclose(sounds["flac"].samples, wav.samples, atol=2**-22)
    np.testing.assert_allclose(sounds["pcm"].samples, wav.samples, atol=0.5001 / 32767)
    for sound in sounds.values():
        assert sound.duration_s == pytest.approx(wav.duration_s, abs=0.09)
        assert loudness_lufs(sound) == pytest.approx(loudness_lufs(wav), abs=0.5)
    files = companion_of(server, reply)["files"]
    assert len({file["duration_s"] for file in files}) == 1


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_format_that_is_asked_for_comes_with_its_content_type(client: httpx.Client, format_name: str) -> None:
    body = {"text": "Hello there.", "seed": 2, "export_formats": ["WAV", format_name]}

    streamed = client.post(TTS, params={"return_format": format_name.upper()}, json=body)

    assert streamed.status_code == 200, streamed.text
    assert streamed.headers["content-type"] == FORMATS[format_name].media_type
    name = streamed.headers["content-disposition"].partition('"')[2].rstrip('"')
    again = client.get(f"/outputs/{name}")
    assert name.endswith(f".{format_name}")
    assert again.headers["content-type"] == FORMATS[format_name].media_type
    assert again.content == streamed.content
    (listed,) = client.get("/api/v1/outputs", params={"filenames": name}).json()["files"]
    assert listed["format"] == format_name
    assert listed["sample_rate"] == RATE
    assert listed["duration_seconds"] == pytest.approx(float(streamed.headers["x-audio-duration"]), abs=0.001)
    part = client.get(f"/outputs/{name}", headers={"Range": "bytes=2-9"})
    assert (part.status_code, part.content) == (206, streamed.content[2:10])


def test_samples_without_a_head_are_still_listed_once_the_index_is_made_anew(tmp_path: Path) -> None:
    with serving(tmp_path, "--engine", "embedded") as server, server.client() as client:
        asked(client, text="Hello there.", export_formats=["pcm", "aac"])
        before = client.get("/api/v1/outputs").json()["files"]
    for index in tmp_path.rglob("*.sqlite*"):
        index.unlink()
    ready = ("engine ready", "read library=outputs")
    with serving(tmp_path, "--engine", "embedded", ready=ready) as server, server.client() as client:
        after = client.get("/api/v1/outputs").json()["files"]
        assert {file["filename"].rpartition(".")[2] for file in after} == {"pcm", "aac"}
        assert sorted(map(str, after)) == sorted(map(str, before))
        for file in after:
            assert client.get(file["url"]).status_code == 200


# Live


@pytest.mark.parametrize("format_name", FORMATS)
def test_what_has_come_of_live_audio_can_be_played_before_its_end(client: httpx.Client, format_name: str) -> None:
    body = {"text": TEXT, "seed": 11, "export_formats": [format_name]}

    with client.stream("POST", TTS, params=LIVE, json=body) as reply:
        media_type = reply.headers["content-type"]
        pieces = list(reply.iter_raw())

    assert media_type == FORMATS[format_name].media_type
    whole = played(b"".join(pieces), format_name)
    assert whole.duration_s == pytest.approx(said(client).duration_s, abs=0.15)
    assert len(pieces) > 1
    so_far_s = [played(content, format_name).duration_s for content in accumulate(pieces)]
    assert so_far_s == sorted(so_far_s)
    assert 0.1 < so_far_s[0] < 0.8 * so_far_s[-1]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (TTS, {"text": TEXT}),
        (VC, {"input_audio_source": "edges.wav", "target_voice_source": "clara"}),
    ],
)
@pytest.mark.parametrize(
    ("field", "value"),
    [("normalize_audio", True), ("use_auto_editor", True)],
)
def test_live_audio_refuses_what_needs_the_whole(
    client: httpx.Client, path: str, body: dict[str, Any], field: str, value: Any
) -> None:
    reply = client.post(path, params=LIVE, json={**body, field: value})

    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == ["body", field]
    assert client.post(path, params={"response_mode": "stream"}, json={**body, field: value}).status_code != 422


@pytest.mark.parametrize("format_name", ["wav", "flac", "pcm", "mp3", "opus", "aac"])
@pytest.mark.parametrize(
    "options",
    [{}, {"speed_factor": 1.5}, {"trim": True}, {"speed_factor": 0.8, "trim": True}],
    ids=["plain", "fast", "trimmed", "slow and trimmed"],
)
def test_live_audio_is_that_of_the_finished_file(
    client: httpx.Client, format_name: str, options: dict[str, Any]
) -> None:
    body = {"text": LONG_TEXT, "seed": 11, "export_formats": [format_name], **options}

    live = played(client.post(TTS, params=LIVE, json=body).content, format_name).samples
    finished = played(client.post(TTS, json=body).content, format_name).samples

    if format_name in ("wav", "flac", "pcm"):
        np.testing.assert_array_equal(live, finished)
    else:
        sound, other = live[MP3_DELAY if format_name == "mp3" else 0 :], finished
        count = min(len(sound), len(other))
        assert count > 0.99 * len(finished)
        assert np.square(sound[:count] - other[:count]).mean() < 0.001 * np.square(other).mean()


def test_a_voice_that_asks_for_speed_is_heard_at_it_live(client: httpx.Client) -> None:
    upload_voice(client, "swift.wav", vowels_wav(150), default_parameters='{"speed_factor": 1.5}', overwrite="true")
    body = {"text": SENTENCE, "reference_audio_filename": "swift", "seed": 3}

    swift = read(client.post(TTS, params=LIVE, json=body).content)
    plain = read(client.post(TTS, params=LIVE, json={**body, "speed_factor": 1.0}).content)

    assert swift.duration_s == pytest.approx(plain.duration_s / 1.5, abs=0.001)


@pytest.mark.skipif(available("torchaudio"), reason="torchaudio is installed")
def test_who_else_changes_the_speed_is_told_with_the_first_audio(client: httpx.Client) -> None:
    body = {"text": SENTENCE, "speed_factor": 1.5, "speed_factor_library": "torchaudio"}

    reply = client.post(TTS, params=LIVE, json=body)

    assert "torchaudio is not available here" in reply.headers["x-warnings"]


# Many at once


def crowd() -> list[dict[str, Any]]:
    voices, speeds = cycle(["edgar", "clara", "robin", "crowd1", "crowd2"]), cycle([0.75, 1.0, 1.25, 1.5])
    libraries, formats = cycle([*filter(available, LIBRARIES), "auto"]), cycle(FORMATS)
    sounds = cycle([{}, {"trim": True}, {"use_auto_editor": True}, {"normalize_audio": True}, {"trim": True}])
    return [
        {
            "text": f"Client number {number} has something to say. It is not much.",
            "seed": number + 1,
            "reference_audio_filename": voice,
            "speed_factor": speed,
            "speed_factor_library": library,
            "export_formats": list(dict.fromkeys([format_name, "wav"])),
            **sound,
        }
        for number, voice, speed, library, format_name, sound in islice(
            zip(range(20), voices, speeds, libraries, formats, sounds, strict=False), 20
        )
    ]


def test_twenty_at_once_each_get_what_they_get_alone(client: httpx.Client, server: Server) -> None:
    for number, hz in enumerate((130, 210), start=1):
        (server.data_dir / "voices" / f"crowd{number}.wav").write_bytes(vowels_wav(hz))

    with ThreadPoolExecutor(20) as threads:
        together = list(threads.map(lambda body: client.post(TTS, json=body), crowd()))
    alone = [client.post(TTS, json=body) for body in crowd()]

    assert {reply.status_code for reply in together} == {200}
    assert [reply.content for reply in together] == [reply.content for reply in alone]
    assert not list(server.data_dir.rglob(".tmp-*"))
