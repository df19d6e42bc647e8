"""`POST /api/v1/concat` and `/api/v1/concat/mixed`: what is asked for is what is heard, to the sample."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from api_models.concatenation import ConcatenationBody, MixedConcatenationBody
from management.companions import COMPANION_LIMIT
from tests.libraries import OUTPUTS, code, faults
from tests.listen import loudness_lufs, read
from tests.management.sounds import comes_true
from tests.recordings import vowels
from tests.serving import Server
from utils.files.atomic import TEMPORARY_PREFIX

CONCAT, MIXED = "/api/v1/concat", "/api/v1/concat/mixed"
RATE = 24_000
LEVEL = 0.25  # of clips whose gaps are to be measured
FRAME = {"mp3": 576, "opus": 960, "aac": 1024}  # samples of a codec frame at 24 kHz (opus: at 48)

Samples = NDArray[np.float32]


def tone(seconds: float, hz: float = 440, rate: int = RATE) -> Samples:
    """It begins and ends at its peak, so that its edges can be found to the sample."""
    return np.asarray(LEVEL * np.cos(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate), np.float32)


def wav(samples: Samples, rate: int = RATE, subtype: str = "FLOAT") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format="WAV")
    return file.getvalue()


@pytest.fixture(scope="module")
def sounds(server: Server) -> dict[str, Samples]:
    """Files below outputs/joined/: five tones, speech with silent edges, a loud one, a stereo one, one at 44.1 kHz."""
    folder = server.data_dir / "outputs" / "joined"
    folder.mkdir(exist_ok=True)
    speech = vowels(150, 1.0).samples
    silent = np.zeros(RATE // 2, np.float32)
    made = {
        **{f"f{number}": tone(0.3 + 0.1 * number, 300 + 60 * number) for number in range(1, 6)},
        "padded": np.concatenate([silent, speech, silent]),
        "loud": (speech / np.abs(speech).max() * 0.9).astype(np.float32),
        "wide": np.stack([tone(0.5, 500), tone(0.5, 600)], axis=1),
    }
    for name, samples in made.items():
        (folder / f"{name}.wav").write_bytes(wav(samples))
    made["fast"] = tone(0.5, 700, 44_100)
    (folder / "fast.wav").write_bytes(wav(made["fast"], 44_100))
    (folder / "noaudio.wav").write_bytes(b"RIFF, but nothing more")
    (folder / "notes.txt").write_text("no audio")
    (folder / "brief.wav").write_bytes(wav(tone(0.09)))
    return made


def named(*names: str) -> list[str]:
    return [name if name.startswith("(") else f"joined/{name}.wav" for name in names]


PLAIN = {"normalize_levels": False}


def described(client: httpx.Client, files: list[Any], **fields: Any) -> dict[str, Any]:
    reply = client.post(CONCAT, params={"response_mode": "url"}, json={"files": files, **PLAIN, **fields})
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


def fetched(client: httpx.Client, reply: dict[str, Any], format_name: str = "wav") -> tuple[Samples, int]:
    url = next(file["url"] for file in reply["files"] if file["format"] == format_name)
    return decoded(client.get(url).content)


def decoded(content: bytes) -> tuple[Samples, int]:
    if content[:1] == b"\xff" and content[1] & 0xF6 == 0xF0:
        with av.open(io.BytesIO(content), "r") as container:
            frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
            return np.concatenate(frames), container.streams.audio[0].rate
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    return samples, rate


def joined(client: httpx.Client, files: list[Any], **fields: Any) -> Samples:
    return fetched(client, described(client, files, **fields))[0]


def refused(client: httpx.Client, files: Any, **fields: Any) -> httpx.Response:
    return client.post(CONCAT, json={"files": files, **fields})


def gaps(samples: Samples, least: int = 200, below: float = LEVEL / 50) -> list[tuple[int, int]]:
    """Start and length of what is silent for so long."""
    quiet = np.abs(samples) <= below
    changes = np.flatnonzero(np.diff(quiet, prepend=False, append=False)).reshape(-1, 2)
    return [(int(start), int(end - start)) for start, end in changes if end - start >= least]


def planned_gaps(reply: dict[str, Any]) -> list[tuple[int, int]]:
    details = reply["metadata"]["processing_details"]
    return [(entry["start_sample"], entry["samples"]) for entry in details if entry["type"] != "file"]


# What is heard


def test_files_and_silences_follow_each_other_to_the_sample(client: httpx.Client, sounds: dict[str, Samples]) -> None:
    reply = described(client, named("(500ms)", "f1", "(1.5s)", "f2", "f3", "(250ms)"))

    heard, rate = fetched(client, reply)

    silent = [np.zeros(count, np.float32) for count in (12_000, 36_000, 6_000)]
    expected = [silent[0], sounds["f1"], silent[1], sounds["f2"], sounds["f3"], silent[2]]
    assert np.array_equal(heard, np.concatenate(expected))
    assert rate == RATE
    assert reply["total_duration_seconds"] == pytest.approx(len(heard) / RATE, abs=1e-6)
    assert reply["file_count"] == 3
    assert reply["metadata"] | {"processing_details": None} == {
        "silence_segments": 3,
        "natural_pauses": 0,
        "total_segments": 6,
        "crossfade_ms": 0,
        "normalized": False,
        "sample_rate": RATE,
        "channels": 1,
        "total_samples": len(heard),
        "trim_summary": {"files_trimmed": 0, "files_not_trimmed": 3, "total_silence_removed_seconds": 0.0},
        "processing_details": None,
    }


CASES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "1a silence and trim": (["f1", "(400ms)", "padded"], {"trim": True}),
    "2a silence": (["f1", "(400ms)", "f2"], {}),
    "3a trim": (["f1", "padded", "f2"], {"trim": True}),
    "3b trim and pause": (["f1", "padded", "f2"], {"trim": True, "pause_duration_ms": 700}),
    "4a plain": (["f1", "f2", "f3"], {}),
    "4b pause": (["f1", "f2", "f3"], {"pause_duration_ms": 700}),
    "mixed": (["f1", "(1s)", "f2", "f3", "(500ms)", "f4", "f5"], {"pause_duration_ms": 600}),
    "edges": (["(300ms)", "f1", "f2", "(2s)"], {"pause_duration_ms": 600}),
    "all": (
        ["(300ms)", "f1", "(1s)", "padded", "f2", "(1s)", "(50ms)", "f3"],
        {"trim": True, "pause_duration_ms": 300},
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("crossfade_ms", [0, 100])
def test_the_gaps_are_what_the_timeline_says(
    client: httpx.Client, sounds: dict[str, Samples], case: str, crossfade_ms: int
) -> None:
    names, fields = CASES[case]

    reply = described(client, named(*names), crossfade_ms=crossfade_ms, export_formats=["wav", "flac"], **fields)

    details = reply["metadata"]["processing_details"]
    for format_name in ("wav", "flac"):
        heard, _ = fetched(client, reply, format_name)
        assert len(heard) == reply["metadata"]["total_samples"]
        for start, count in planned_gaps(reply):
            assert not heard[start : start + count].any()
            for at in (start - 1, start + count):  # sound, unless it fades or the speech has an edge of its own
                beside = next((e for e in details if e["start_sample"] <= at < e["start_sample"] + e["samples"]), None)
                fades = beside and (beside.get("fade_in_samples") or beside.get("fade_out_samples"))
                if beside and beside["type"] == "file" and "padded" not in beside["source"] and not fades:
                    assert abs(heard[at]) > LEVEL / 2
    files = [entry for entry in details if entry["type"] == "file"]
    overlaps = sum(entry["crossfade_samples"] for entry in files)
    assert reply["metadata"]["total_samples"] == sum(entry["samples"] for entry in details) - overlaps
    assert bool(overlaps) == (crossfade_ms > 0 and case in ("3a trim", "4a plain"))
    assert reply["metadata"]["natural_pauses"] == sum(entry["type"] == "natural_pause" for entry in details)


def test_the_documented_example_has_two_silences_and_two_pauses(client: httpx.Client, sounds: Any) -> None:
    files = named("f1", "(1s)", "f2", "f3", "(500ms)", "f4", "f5")

    reply = described(client, files, pause_duration_ms=600, seed=7)

    measured = gaps(fetched(client, reply)[0])
    assert measured == planned_gaps(reply)
    assert [measured[0][1], measured[2][1]] == [24_000, 12_000]
    assert all(400 * 24 <= measured[index][1] <= 800 * 24 for index in (1, 3))
    assert reply["generation_seed_used"] == 7


@pytest.mark.parametrize("format_name", ["mp3", "opus", "aac"])
def test_the_gaps_of_coded_files_are_right_within_a_codec_frame(
    client: httpx.Client, sounds: Any, format_name: str
) -> None:
    reply = described(
        client, named("f1", "(1s)", "f2", "f3", "(500ms)", "f4"), pause_duration_ms=600, export_formats=[format_name]
    )

    heard, rate = fetched(client, reply, format_name)

    frame = FRAME[format_name]
    scale = rate / RATE
    delay = frame if format_name == "aac" else 0  # bare AAC does not say how much of it is priming
    measured = gaps(heard[delay:], least=round(2400 * scale), below=LEVEL / 8)[: len(planned_gaps(reply))]
    for (start, count), (planned_start, planned_count) in zip(measured, planned_gaps(reply), strict=True):
        assert start == pytest.approx(planned_start * scale, abs=frame)
        assert count == pytest.approx(planned_count * scale, abs=frame)


def test_all_formats_are_one_rendering(client: httpx.Client, sounds: Any) -> None:
    formats = ["wav", "flac", "mp3", "opus", "pcm"]
    reply = described(client, named("f1", "f2", "f3"), pause_duration_ms=500, export_formats=formats)

    whole, _ = fetched(client, reply)

    flac, _ = fetched(client, reply, "flac")
    assert np.abs(flac - whole).max() < 2**-22
    bare = client.get(next(file["url"] for file in reply["files"] if file["format"] == "pcm")).content
    assert np.abs(np.frombuffer(bare, "<i2") / 32767 - whole).max() < 2**-15
    for coded in ("mp3", "opus"):
        samples, rate = fetched(client, reply, coded)
        assert abs(len(samples) / rate - len(whole) / RATE) < 0.001
        assert np.corrcoef(samples[:: rate // RATE][: len(whole)], whole)[0, 1] > 0.99


def test_files_and_segments_give_the_same_samples(client: httpx.Client, sounds: Any) -> None:
    options = {"pause_duration_ms": 500, "seed": 3, "crossfade_ms": 50, "trim": True}
    files = [*named("f1", "(1s)", "padded"), {"source": "joined/f3.wav", "gain_db": -3, "fade_out_ms": 50}]
    segments = [
        {"type": "server_file", "source": "joined/f1.wav"},
        {"type": "silence", "source": "(1s)"},
        {"type": "server_file", "source": "joined/padded.wav"},
        {"type": "upload", "index": 0, "gain_db": -3, "fade_out_ms": 50},
    ]

    one = client.post(CONCAT, json={"files": files, **options})
    other = mixed(client, segments, [wav(sounds["f3"])], **options)

    assert one.content == other.content
    assert one.headers["x-generation-seed"] == other.headers["x-generation-seed"] == "3"


def mixed(client: httpx.Client, segments: Any, uploads: list[bytes], /, **options: Any) -> httpx.Response:
    files = [("uploaded_files", (f"take {number}.wav", content)) for number, content in enumerate(uploads)]
    form = {"request_json": (None, json.dumps({"segments": segments, **options}))}
    return client.post(MIXED, files=[*form.items(), *files])


def test_a_seed_draws_the_same_pauses_and_another_seed_others(client: httpx.Client, sounds: Any) -> None:
    def pauses(seed: int | None) -> tuple[int, list[tuple[int, int]]]:
        reply = described(client, named("f1", "f2", "f3"), pause_duration_ms=500, seed=seed)
        return reply["generation_seed_used"], planned_gaps(reply)

    drawn = pauses(0)

    assert drawn[0] > 0
    assert pauses(drawn[0]) == drawn
    assert pauses(1) == pauses(1) != pauses(2)
    assert pauses(None)[0] != pauses(None)[0]


def test_each_file_is_as_loud_as_the_others(client: httpx.Client, sounds: Any) -> None:
    files = ["joined/loud.wav", {"source": "joined/loud.wav", "gain_db": -6}, "joined/f5.wav"]

    reply = client.post(CONCAT, params={"response_mode": "url"}, json={"files": files, "level_lufs": -26}).json()

    whole = read(client.get(reply["files"][0]["url"]).content)
    spans = [(entry["start_sample"], entry["samples"]) for entry in reply["metadata"]["processing_details"]]
    levels = [loudness_lufs(type(whole)(whole.samples[start : start + count], RATE)) for start, count in spans]
    assert levels == pytest.approx([-26, -32, -26], abs=0.2)
    assert reply["metadata"]["normalized"] is True


def test_the_highest_rate_wins_and_stereo_is_kept_if_it_is_asked_for(client: httpx.Client, sounds: Any) -> None:
    reply = described(client, named("f1", "wide", "fast"), channels="auto")

    heard, rate = fetched(client, reply)

    assert (rate, heard.shape[1]) == (44_100, 2)
    assert np.array_equal(heard[-len(sounds["fast"]) :], np.repeat(sounds["fast"][:, None], 2, axis=1))
    assert fetched(client, described(client, named("f1", "wide")))[0].ndim == 1


def test_trimming_tells_what_it_cut(client: httpx.Client, sounds: Any) -> None:
    reply = described(client, named("padded", "f1"), trim=True)

    summary = reply["metadata"]["trim_summary"]
    assert (summary["files_trimmed"], summary["files_not_trimmed"]) == (1, 1)
    assert summary["total_silence_removed_seconds"] == pytest.approx(0.9, abs=0.15)
    removed_s = (len(sounds["padded"]) + len(sounds["f1"]) - reply["metadata"]["total_samples"]) / RATE
    assert removed_s == pytest.approx(summary["total_silence_removed_seconds"], abs=1e-4)


# What is kept, and said


def test_the_result_is_the_file_itself_unless_a_description_is_asked_for(client: httpx.Client, sounds: Any) -> None:
    body = {"files": named("f1", "f2"), "export_formats": ["wav", "mp3"], "project": "kept"}

    reply = client.post(CONCAT, json=body, params={"return_format": "mp3"})

    assert reply.headers["content-type"] == "audio/mpeg"
    assert "concat_" in reply.headers["content-disposition"]
    assert reply.headers["x-alternative-formats"].startswith("wav:/outputs/kept/concat_")
    assert "x-engine" not in reply.headers
    assert int(reply.headers["x-generation-seed"]) > 0
    assert float(reply.headers["x-audio-duration"]) == pytest.approx(read(reply.content).duration_s, abs=0.001)


def test_the_name_tells_what_was_done(client: httpx.Client, sounds: Any) -> None:
    files = named("f1", "f2", "(1s)", "f3")

    reply = described(
        client, files, pause_duration_ms=600, crossfade_ms=500, trim=True, normalize_levels=True, trim_threshold_ms=300
    )

    assert reply["output_files"][0].endswith("_3files_sil1_pause600v200_fade500_leveled_trim300.wav")
    assert described(client, files)["output_files"][0].endswith("_3files_sil1.wav")


def test_the_result_is_listed_with_its_sources_and_all_that_was_done(
    client: httpx.Client, server: Server, sounds: Any, folder: str
) -> None:
    reply = described(client, named("f1", "(1s)", "f2"), project=folder, seed=5, export_formats=["wav", "mp3"])

    listed = OUTPUTS.listed(client, folder=folder, generation_type="concat")

    assert {file["filename"] for file in listed} == set(reply["output_files"])
    assert listed[0]["source_files"] == ["outputs/joined/f1.wav", "outputs/joined/f2.wav"]
    assert listed[0]["parameters"]["seed"] == 5
    assert listed[0]["duration_seconds"] == pytest.approx(reply["total_duration_seconds"], abs=1e-4)
    assert OUTPUTS.names(client, folder=folder, search="f2.wav") == OUTPUTS.names(client, folder=folder)
    (path,) = (server.data_dir / "outputs" / folder).glob("*.json")
    companion = json.loads(path.read_text(encoding="utf-8"))
    assert companion["type"] == "concat"
    assert companion["timeline"] == reply["metadata"]["processing_details"]
    assert companion["timings"].keys() == {"plan_s", "join_s"}


def companion_of(server: Server, reply: dict[str, Any]) -> dict[str, Any]:
    path = server.data_dir / Path(reply["files"][0]["path"]).with_suffix(".json")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_the_companion_holds_what_was_asked_of_each_file(client: httpx.Client, server: Server, sounds: Any) -> None:
    own = {"source": "joined/f2.wav", "gain_db": 1.0, "fade_in_ms": 50, "title": "Zwei"}

    reply = described(client, ["joined/f1.wav", "(1s)", own], chapters=True, export_formats=["mp3"])

    companion = companion_of(server, reply)
    assert companion["parts"] == ["joined/f1.wav", "(1s)", own]
    assert [chapter["title"] for chapter in companion["chapters"]] == ["f1", "Zwei"]
    assert companion["chapters"][1]["start_s"] == pytest.approx(reply["chapters"][1]["start_seconds"])
    listed = OUTPUTS.listed(client, search=reply["output_files"][0])
    assert "parts" not in listed[0]["parameters"]


def test_the_companion_of_ten_thousand_uploads_can_be_read(client: httpx.Client, server: Server, sounds: Any) -> None:
    segments = [{"type": "upload", "index": 0, "gain_db": 1}] * 10_000
    options = {"pause_duration_ms": 50, "crossfade_ms": 5, "chapters": True, "project": "many", **PLAIN}
    form = {"request_json": (None, json.dumps({"segments": segments, **options}, separators=(",", ":")))}
    upload = ("x" * 1000 + ".wav", wav(tone(0.005)))

    reply = client.post(MIXED, params={"response_mode": "url"}, files={**form, "uploaded_files": upload})

    assert reply.status_code == 200
    (path,) = (server.data_dir / "outputs" / "many").glob("*.json")
    assert path.stat().st_size < COMPANION_LIMIT
    assert len(json.loads(path.read_text(encoding="utf-8"))["parts"]) == 10_000


def test_a_name_can_be_given_once_unless_it_may_be_replaced(client: httpx.Client, sounds: Any, folder: str) -> None:
    body = {"project": folder, "output_filename": "Kapitel 1"}
    described(client, named("f1", "f2"), export_formats=["wav", "mp3"], **body)

    taken = refused(client, named("f3", "f4"), export_formats=["flac"], **body)
    replaced = described(client, named("f3", "f4"), export_formats=["flac"], overwrite=True, **body)

    assert code(taken) == (409, "FILE_EXISTS")
    assert replaced["output_files"] == ["Kapitel 1.flac"]
    assert OUTPUTS.names(client, folder=folder) == ["Kapitel 1.flac"]
    twin = refused(client, named("f1", "f2"), project=folder, output_filename="kapitel 1", overwrite=True)
    assert code(twin) == (409, "FILE_EXISTS")


def test_a_dry_run_says_what_would_be_heard_and_writes_nothing(
    client: httpx.Client, server: Server, sounds: Any, folder: str
) -> None:
    body: dict[str, Any] = {"files": named("f1", "f2"), "pause_duration_ms": 500, "seed": 9, "project": folder}

    dry = client.post(CONCAT, params={"dry_run": "true"}, json=body).json()

    assert not (server.data_dir / "outputs" / folder).exists()
    real = described(client, body["files"], pause_duration_ms=500, seed=9, project=folder, normalize_levels=True)
    assert dry["dry_run"] is True
    assert dry["timeline"] == real["metadata"]["processing_details"]
    assert dry["total_duration_seconds"] == real["total_duration_seconds"]
    assert dry["estimated_processing_seconds"] > 0
    assert client.post(CONCAT, json={**body, "dry_run": True}).json()["dry_run"] is True


def test_chapters_are_in_the_reply_and_in_the_files(client: httpx.Client, sounds: Any) -> None:
    files: list[Any] = ["(1s)", {"source": "joined/f1.wav", "title": "Vorwort – 序"}, "(500ms)", "joined/f2.wav"]

    reply = described(client, files, chapters=True, export_formats=["mp3", "opus", "flac", "wav"])

    first = 1 + len(sounds["f1"]) / RATE + 0.5
    assert [(one["title"], one["source"]) for one in reply["chapters"]] == [
        ("Vorwort – 序", "joined/f1.wav"),
        ("f2", "joined/f2.wav"),
    ]
    assert reply["chapters"][0]["start_seconds"] == 0
    assert reply["chapters"][1]["start_seconds"] == pytest.approx(first)
    assert reply["chapters"][1]["end_seconds"] == reply["total_duration_seconds"]
    assert reply["warnings"] == ["chapters are in the reply, but not in the file: wav"]
    for format_name in ("mp3", "opus", "flac"):
        url = next(file["url"] for file in reply["files"] if file["format"] == format_name)
        content = client.get(url).content
        with av.open(io.BytesIO(content), "r") as container:
            marks = [
                (float(one["start"] * (one["time_base"] or 0)), one["metadata"]["title"])
                for one in container.chapters()
            ]
        assert [title for _, title in marks] == ["Vorwort – 序", "f2"]
        assert [start_s for start_s, _ in marks] == pytest.approx([0, first], abs=0.001)
        samples, rate = decoded(content)
        assert len(samples) / rate == pytest.approx(reply["total_duration_seconds"], abs=0.001)
    assert described(client, named("f1", "f2"))["chapters"] == []


@pytest.mark.parametrize(
    ("names", "fields", "warning"),
    [
        (["f1", "(1s)", "f2"], {"crossfade_ms": 100}, "crossfade_ms has no effect"),
        (["f1", "(1s)", "f2"], {"pause_duration_ms": 100}, "pause_duration_ms has no effect"),
        (["f1", "f2"], {"pause_variation_ms": 100}, "pause_variation_ms has no effect without pause_duration_ms"),
        (["f1", "f2"], {"trim": True}, "trim removed nothing"),
        (["f1", "f2"], {"trim_threshold_ms": 100}, "trim_threshold_ms has no effect without trim"),
        (["f1", "f2"], {"seed": 4}, "seed has no effect"),
        (["f1", "f2"], {"crossfade_ms": 1000}, "crossfades shorter than 1000 ms"),
        (["f1", "f2"], {"level_lufs": -20}, "level_lufs has no effect without normalize_levels"),
        (["f1", "f2"], {"crossfade_ms": 5000, "pause_duration_ms": 600}, "fades at pauses shorter than 2500 ms"),
        (["loud", "loud"], {"crossfade_ms": 1000}, "louder than full scale in the crossfade to the clip before"),
    ],
)
def test_a_warning_says_what_is_not_as_one_might_think(
    client: httpx.Client, server: Server, sounds: Any, names: list[str], fields: dict[str, Any], warning: str
) -> None:
    reply = described(client, named(*names), **fields)

    (said,) = reply["warnings"]
    assert said.startswith(warning)
    assert companion_of(server, reply)["warnings"] == [said]


@pytest.mark.parametrize("path", [CONCAT, MIXED])
def test_null_means_the_default(client: httpx.Client, sounds: Any, path: str) -> None:
    model = ConcatenationBody if path == CONCAT else MixedConcatenationBody
    options = {name: None for name in model.model_fields if name not in ("files", "segments")}
    own = {"source": "joined/f2.wav", "gain_db": None, "fade_in_ms": None, "fade_out_ms": None, "title": None}

    def asked(options: dict[str, Any], own: dict[str, Any]) -> httpx.Response:
        if path == CONCAT:
            return client.post(CONCAT, json={"files": ["joined/f1.wav", own], **options})
        return mixed(client, [SERVER_FILE, {"type": "server_file", **own}], [], **options)

    reply = asked(options, own)

    assert reply.status_code == 200, reply.text
    assert reply.content == asked({}, {"source": "joined/f2.wav"}).content


def test_a_file_that_was_cut_is_joined_and_named(client: httpx.Client, server: Server, sounds: Any) -> None:
    content = wav(sounds["f5"])
    cut = content[: len(content) // 2]
    (server.data_dir / "outputs" / "joined" / "cut.wav").write_bytes(cut)

    reply = described(client, named("f1", "cut", "cut"))
    uploaded = mixed(client, [SERVER_FILE, {"type": "upload", "index": 0}], [cut])

    assert reply["warnings"] == ["shorter than their heads say, and joined as far as they go: joined/cut.wav"]
    assert reply["file_count"] == 3
    assert uploaded.headers["x-warnings"].endswith(": take 0.wav")


# Faults


@pytest.fixture
def untouched(server: Server) -> Iterator[None]:
    """Nothing is written, and nothing left."""

    def there() -> set[Path]:
        return {path for path in server.data_dir.rglob("*") if "sqlite" not in path.name}

    before = there()
    yield
    assert there() == before


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("files", "fields", "status", "error_code"),
    [
        (["joined/f1.wav", "joined/nothere.wav"], {}, 404, "FILE_NOT_FOUND"),
        (["joined/f1.wav", "joined"], {}, 404, "FILE_NOT_FOUND"),
        (["joined/f1.wav", "../outputs/joined/f1.wav"], {}, 400, "INVALID_PATH"),
        (["joined/f1.wav", "/etc/passwd"], {}, 400, "INVALID_PATH"),
        (["joined/f1.wav", "joined\\f2.wav"], {}, 400, "INVALID_PATH"),
        (["joined/f1.wav", "joined/noaudio.wav"], {}, 400, "INVALID_AUDIO"),
        (["joined/f1.wav", "joined/notes.txt"], {}, 400, "INVALID_AUDIO"),
        (["joined/f1.wav", "joined/brief.wav"], {}, 400, "INVALID_AUDIO"),
        (["joined/f1.wav", "joined/f2.wav"], {"project": "../out"}, 400, "INVALID_PATH"),
        (["joined/f1.wav", "joined/f2.wav"], {"output_filename": "a/b"}, 400, "INVALID_PATH"),
        (["joined/f1.wav", "joined/f2.wav"], {"output_filename": "../b"}, 400, "INVALID_PATH"),
        (["joined/f1.wav", "joined/f2.wav"], {"output_filename": " b"}, 400, "INVALID_PATH"),
        (["joined/f1.wav", "joined/f2.wav"], {"output_filename": "b "}, 400, "INVALID_PATH"),
        (["joined/f1.wav", "joined/f2.wav"], {"output_filename": "\t"}, 400, "INVALID_PATH"),
        (["joined/f1.wav", "joined/f2.wav"], {"output_filename": "nul"}, 400, "INVALID_PATH"),
        (["joined/f1.wav", " (1s)"], {}, 400, "INVALID_PATH"),
    ],
)
def test_what_cannot_be_joined_is_refused(
    client: httpx.Client, sounds: Any, files: list[str], fields: dict[str, Any], status: int, error_code: str
) -> None:
    reply = refused(client, files, **fields)

    assert code(reply) == (status, error_code)
    if "output_filename" in fields:
        assert ascii(fields["output_filename"]) in reply.json()["error"]
    if not fields:
        assert files[1].rpartition("/")[2].rpartition("\\")[2] in reply.json()["error"]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("files", "fields", "place"),
    [
        (["joined/f1.wav", "joined/f2.wav", "(5ms)"], {}, ["files", 2]),
        (["joined/f1.wav", "(11s)"], {}, ["files", 1]),
        (["(pause)", "joined/f1.wav"], {}, ["files", 0]),
        (["joined/f1.wav", "(1 s)"], {}, ["files", 1]),
        (["joined/f1.wav", "(1S)"], {}, ["files", 1]),
        ([{"source": "(1s)", "gain_db": 3}, "joined/f1.wav"], {}, ["files", 0]),
        ([{"source": "joined/f1.wav", "gain": 3}, "joined/f1.wav"], {}, ["files", 0, "gain"]),
        ([{"source": "joined/f1.wav", "gain_db": 99}, "joined/f1.wav"], {}, ["files", 0, "gain_db"]),
        (["joined/f1.wav", 7], {}, ["files", 1]),
        ([], {}, ["files"]),
        (["joined/f1.wav"], {}, ["files"]),
        (["(1s)", "(1s)"], {}, ["files"]),
        (["joined/f1.wav"] * 10_001, {}, ["files"]),
        (["joined/f1.wav", "(1s)"], {"pause_duration_ms": 3001}, ["pause_duration_ms"]),
        (["joined/f1.wav", "(1s)"], {"pause_duration_ms": 100, "pause_variation_ms": 100}, ["pause_variation_ms"]),
        (["joined/f1.wav", "(1s)"], {"crossfade_ms": 5001}, ["crossfade_ms"]),
        (["joined/f1.wav", "(1s)"], {"trim_threshold_ms": 49}, ["trim_threshold_ms"]),
        (["joined/f1.wav", "(1s)"], {"export_formats": []}, ["export_formats"]),
        (["joined/f1.wav", "(1s)"], {"output_filename": "a.wav"}, ["output_filename"]),
        (["joined/f1.wav", "(1s)"], {"output_filename": "a_original"}, ["output_filename"]),
        (["joined/f1.wav", "(1s)"], {"crossfade": 3}, ["crossfade"]),
        (["joined/f1.wav", "(1s)"], {"response_mode": "live"}, ["response_mode"]),
        (["joined/f1.wav", "(1s)"], {"return_format": "mp3"}, ["return_format"]),
        (["joined/f1.wav", "(1s)"], {"project": "a", "folder": "b"}, []),
    ],
)
def test_a_fault_of_the_request_is_a_422_that_names_the_field(
    client: httpx.Client, sounds: Any, files: Any, fields: dict[str, Any], place: list[Any]
) -> None:
    assert faults(refused(client, files, **fields)) == [["body", *place]]


SERVER_FILE = {"type": "server_file", "source": "joined/f1.wav"}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("segments", "uploads", "status", "place"),
    [
        ([SERVER_FILE, {"type": "upload", "index": 0}], 0, 400, None),
        ([SERVER_FILE, {"type": "upload", "index": 0}], 2, 400, None),
        ([SERVER_FILE, SERVER_FILE], 1, 400, None),
        ([SERVER_FILE, {"type": "upload", "index": 1}], 2, 422, ["segments"]),
        ([SERVER_FILE, {"type": "upload", "index": -1}], 1, 422, ["segments", 1, "index"]),
        ([SERVER_FILE, {"type": "upload", "index": 100}], 1, 422, ["segments", 1, "index"]),
        ([SERVER_FILE, {"type": "upload"}], 1, 422, ["segments", 1, "index"]),
        ([SERVER_FILE, {"type": "file", "source": "x"}], 0, 422, ["segments", 1]),
        ([SERVER_FILE, {"type": "silence", "source": "(5ms)"}], 0, 422, ["segments", 1]),
        ([SERVER_FILE, {"type": "silence", "source": "f2.wav"}], 0, 422, ["segments", 1]),
        ([SERVER_FILE, {"type": "silence", "source": " (1s)"}], 0, 422, ["segments", 1]),
        ([SERVER_FILE, {"type": "silence", "source": "(1s)", "gain_db": 1}], 0, 422, ["segments", 1, "gain_db"]),
        ([SERVER_FILE], 0, 422, ["segments"]),
        ([], 0, 422, ["segments"]),
        ([{"type": "silence", "source": "(1s)"}], 0, 422, ["segments"]),
    ],
)
def test_segments_and_uploads_must_fit(
    client: httpx.Client, sounds: Any, segments: Any, uploads: int, status: int, place: list[Any] | None
) -> None:
    reply = mixed(client, segments, [wav(tone(0.2))] * uploads)

    if place is None:
        assert code(reply) == (status, "UPLOAD_MISMATCH")
    else:
        assert faults(reply) == [["body", *place]]


@pytest.mark.usefixtures("untouched")
def test_a_form_that_is_none_is_refused(client: httpx.Client, sounds: Any) -> None:
    upload = ("uploaded_files", ("a.wav", wav(tone(0.2))))

    assert faults(client.post(MIXED, files=[upload])) == [["body", "request_json"]]
    assert faults(client.post(MIXED, files=[upload, ("request_json", (None, "{"))])) == [["body", "request_json"]]
    assert faults(client.post(MIXED, files=[("other", (None, "{}"))])) == [["body", "other"]]
    assert code(client.post(MIXED, json={"segments": []})) == (415, "UNSUPPORTED_FORMAT")
    assert code(client.post(CONCAT, data={"files": "a"})) == (415, "UNSUPPORTED_FORMAT")


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("content", [b"no audio at all", b"", wav(tone(0)), wav(np.full(8000, np.nan, np.float32))])
@pytest.mark.parametrize("options", [{}, PLAIN])
def test_an_upload_that_is_no_audio_is_named(
    client: httpx.Client, sounds: Any, content: bytes, options: dict[str, Any]
) -> None:
    reply = mixed(client, [SERVER_FILE, {"type": "upload", "index": 0}], [content], **options)

    assert code(reply) == (400, "INVALID_AUDIO")
    assert "take 0.wav" in reply.json()["error"]


@pytest.mark.usefixtures("untouched")
def test_too_many_uploads_are_refused(client: httpx.Client, sounds: Any) -> None:
    segments = [{"type": "upload", "index": index} for index in range(100)]

    reply = mixed(client, segments, [b"x"] * 101)

    assert faults(reply) == [["body", "uploaded_files"]]
    assert "more than 100 files" in reply.json()["error"]


@pytest.mark.usefixtures("untouched")
def test_what_would_be_longer_than_a_recording_may_be_is_refused(client: httpx.Client, long_files: list[str]) -> None:
    reply = refused(client, long_files + long_files[:30], **PLAIN)

    assert faults(reply) == [["body", "files"]]
    assert "16.7 hours" in reply.json()["error"]


def test_a_name_that_no_header_can_carry_is_no_trouble(client: httpx.Client, sounds: Any) -> None:
    segments = [{"type": "upload", "index": 0}, {"type": "upload", "index": 0}]
    form = {"request_json": (None, json.dumps({"segments": segments, "crossfade_ms": 5000}))}

    reply = client.post(MIXED, files={**form, "uploaded_files": ("a\x0b\x7f – 日本.wav", wav(tone(1)))})

    assert reply.status_code == 200
    assert reply.headers["x-warnings"].startswith("crossfades shorter")


def test_an_upload_that_is_too_large_is_a_413(small: httpx.Client) -> None:
    segments = [{"type": "upload", "index": 0}, {"type": "silence", "source": "(1s)"}]

    reply = mixed(small, segments, [wav(tone(12))])

    assert code(reply) == (413, "FILE_TOO_LARGE")


@pytest.fixture(scope="module")
def long_files(server: Server) -> list[str]:
    """They take minutes to be joined."""
    (server.data_dir / "outputs" / "long.wav").write_bytes(wav(np.tile(tone(1), 600), subtype="PCM_16"))
    return ["long.wav"] * 70


def in_the_making(server: Server) -> bool:
    return any(TEMPORARY_PREFIX in path.name for path in (server.data_dir / "outputs").rglob("*"))


def test_a_client_that_leaves_stops_the_work_and_leaves_nothing(server: Server, long_files: list[str]) -> None:
    before = {path for path in server.data_dir.rglob("*") if "sqlite" not in path.name}
    body = {"files": long_files, **PLAIN, "export_formats": ["mp3", "opus"], "project": "left/alone"}

    def ask() -> None:
        with server.client() as client, pytest.raises(httpx.ReadTimeout):
            client.post(CONCAT, json=body, timeout=3)

    asking = threading.Thread(target=ask)
    asking.start()
    assert comes_true(lambda: in_the_making(server))
    asking.join()
    assert comes_true(lambda: not in_the_making(server), within_s=1)

    assert {path for path in server.data_dir.rglob("*") if "sqlite" not in path.name} == before


def test_many_long_joins_hold_up_nobody_else(server: Server, client: httpx.Client, long_files: list[str]) -> None:
    body = {"files": long_files, **PLAIN, "export_formats": ["mp3"]}
    is_over = threading.Event()
    answered: list[int] = []

    async def ask() -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=None, trust_env=False) as session:
            asked = [asyncio.ensure_future(session.post(CONCAT, json=body)) for _ in range(6)]
            while not is_over.is_set():
                await asyncio.wait(asked, timeout=0.02)
            answered.extend(reply.result().status_code for reply in asked if reply.done())
            for reply in asked:
                reply.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    asking = threading.Thread(target=lambda: asyncio.run(ask()))
    asking.start()
    assert comes_true(lambda: in_the_making(server))
    spoken = client.post("/api/v1/tts", json={"text": "Meanwhile.", "export_formats": ["wav", "mp3"]})
    healthy = client.get("/api/v1/health")
    listed = client.get("/api/v1/outputs")
    is_over.set()
    asking.join()

    assert [reply.status_code for reply in (spoken, healthy, listed)] == [200, 200, 200]
    assert answered == []
    assert comes_true(lambda: not in_the_making(server))
