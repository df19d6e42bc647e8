from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from config.settings import CleanupSettings, StorageSettings
from management.cleanup import Cleanup, Report
from management.libraries import Libraries
from resilience.errors import ServiceOverloaded
from tests.utils.audio.coded import coded, film, sound, speech

HOUR_S = 3600.0


def tone(duration_s: float = 0.5) -> bytes:
    file = io.BytesIO()
    samples = 0.3 * np.sin(2 * np.pi * 200 * np.arange(round(duration_s * 16_000)) / 16_000)
    soundfile.write(file, samples, 16_000, format="WAV")
    return file.getvalue()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def libraries(data: Path) -> Iterator[Libraries]:
    opened = Libraries(StorageSettings(min_free_mb=0), data)
    yield opened
    opened.close()


def put(data: Path, relative: str, content: bytes, age_s: float = HOUR_S) -> Path:
    """A file as somebody leaves it by hand, some time ago."""
    path = data / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def cleaned(libraries: Libraries, *, dry_run: bool = False, at_start: bool = False, **settings: Any) -> Report:
    for store in libraries.stores:
        store.rescan()
    cleanup = Cleanup(libraries, CleanupSettings(**settings))
    return cleanup.run(dry_run=dry_run, trigger="start" if at_start else "request")


def removed(report: Report) -> list[tuple[str, str, str]]:
    return sorted((removal.library, removal.path, removal.reason) for removal in report.removed)


BROKEN = ("voices/a/zero.wav", "vc_inputs/zero.mp3", "outputs/deep/er/zero.flac")


def test_empty_and_undecodable_files_go_from_every_library_and_sound_ones_stay(
    libraries: Libraries, data: Path
) -> None:
    for name in BROKEN:
        put(data, name, b"")
        put(data, name.replace("zero", "text"), b"this is no audio")
        put(data, name.replace("zero", "sound"), tone())

    report = cleaned(libraries)

    assert removed(report) == sorted(
        (*name.replace(what, file).split("/", 1), reason)
        for name in BROKEN
        for what, file, reason in (("zero", "zero", "empty"), ("zero", "text", "not decodable"))
    )
    assert report.freed_bytes == 3 * 16
    assert len([*data.rglob("sound.*")]) == 3
    assert not [*data.rglob("zero.*")]
    assert removed(cleaned(libraries)) == []


def test_each_removal_is_logged_with_its_reason(
    libraries: Libraries, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(data, "outputs/größe.wav", b"")

    with caplog.at_level(logging.INFO, "management.cleanup"):
        cleaned(libraries)

    assert "removed library=outputs reason=empty bytes=0 path='gr\\xf6\\xdfe.wav'" in caplog.messages


def test_a_dry_run_tells_the_same_and_removes_nothing(libraries: Libraries, data: Path) -> None:
    for name in BROKEN:
        put(data, name, b"")
    for number in range(4):
        put(data, f"outputs/{number}.wav", tone(10), age_s=HOUR_S + number)
    before = {path: path.read_bytes() for path in data.rglob("*.*") if path.suffix in (".wav", ".mp3", ".flac")}

    told = cleaned(libraries, dry_run=True, max_outputs_mb=1)

    assert all(path.read_bytes() == content for path, content in before.items())
    assert told.removed_count == 4
    assert removed(cleaned(libraries, max_outputs_mb=1)) == removed(told)


def test_what_is_younger_than_a_minute_stays(libraries: Libraries, data: Path) -> None:
    young = put(data, "voices/young.wav", b"", age_s=50)
    put(data, "voices/old.wav", b"", age_s=70)

    assert removed(cleaned(libraries)) == [("voices", "old.wav", "empty")]
    assert young.exists()


def test_what_is_in_use_stays(libraries: Libraries, data: Path) -> None:
    for number in range(4):
        put(data, f"outputs/{number}.wav", tone(10), age_s=2 * HOUR_S - number)
    broken = put(data, "voices/broken.wav", b"text")

    with libraries.in_use(data / "outputs" / "0.wav", broken):
        report = cleaned(libraries, max_outputs_mb=1)

    assert removed(report) == [("outputs", "1.wav", "over the limit")]
    assert broken.exists()


def test_above_the_limit_the_oldest_go_first_until_it_is_met(libraries: Libraries, data: Path) -> None:
    for number in (3, 1, 4, 0, 2):
        put(data, f"vc_inputs/x/{number}.wav", tone(10), age_s=24 * HOUR_S - number)

    report = cleaned(libraries, max_vc_inputs_mb=1)

    assert removed(report) == [("vc_inputs", f"x/{number}.wav", "over the limit") for number in (0, 1)]
    assert report.freed_bytes == 2 * len(tone(10))
    assert libraries.vc_inputs.store.totals()[1] <= 1_000_000


def test_a_limit_never_takes_young_files(libraries: Libraries, data: Path) -> None:
    for number in range(5):
        put(data, f"outputs/{number}.wav", tone(10), age_s=5)

    assert removed(cleaned(libraries, max_outputs_mb=1)) == []


def test_voices_have_no_limit(libraries: Libraries, data: Path) -> None:
    for number in range(5):
        put(data, f"voices/{number}.wav", tone(10))

    assert removed(cleaned(libraries, max_outputs_mb=1, max_vc_inputs_mb=1)) == []


def test_broken_files_stay_where_the_settings_say_so(libraries: Libraries, data: Path) -> None:
    put(data, "voices/broken.wav", b"text")

    assert removed(cleaned(libraries, broken_files=False)) == []


@pytest.mark.parametrize("duration_s", [0.01, 20.0])
def test_a_recording_that_is_too_short_or_too_long_to_be_listed_is_no_rubbish(data: Path, duration_s: float) -> None:
    libraries = Libraries(StorageSettings(min_free_mb=0, longest_audio_h=0.001), data)
    path = put(data, "voices/mine.wav", tone(duration_s))

    report = cleaned(libraries)
    libraries.close()

    assert removed(report) == []
    assert path.exists()


def wav(sample_rate: int = 16_000, channels: int = 1, value: float = 0.1) -> bytes:
    file = io.BytesIO()
    samples = np.full((sample_rate, channels), value)
    soundfile.write(file, samples, sample_rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def with_too_large_an_index() -> bytes:
    content = bytearray(coded(speech(), 24_000, "m4a"))
    count = 80_000_000
    sizes, chunks, times = (content.index(box) for box in (b"stsz", b"stsc", b"stts"))
    content[sizes + 8 : sizes + 16] = struct.pack(">II", 1, count)
    content[chunks + 12 : chunks + 24] = struct.pack(">III", 1, count, 1)
    content[times + 12 : times + 16] = struct.pack(">I", count)
    return bytes(content)


UNUSUAL: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a rate above ours": ("wav", lambda: wav(384_000)),
    "a rate below ours": ("wav", lambda: wav(4000)),
    "many channels": ("wav", lambda: wav(channels=16)),
    "very many channels": ("wav", lambda: tone().replace(b"\1\0\1\0", b"\1\0\1\4", 1)),
    "samples that are not numbers": ("wav", lambda: wav(value=np.nan)),
    "a film without sound": ("m4a", lambda: film("mp4")),
    "a film without sound in Matroska": ("ogg", lambda: film("matroska")),
    "a film named like a sound": ("wav", lambda: film("avi")),
    "AC-3 in MP4": ("m4a", lambda: sound("ac3", "mp4")),
    "AC-3 in WAV": ("wav", lambda: sound("ac3", "wav")),
    "FLAC in Ogg": ("ogg", lambda: sound("flac", "ogg")),
    "WavPack": ("wav", lambda: sound("wavpack", "wv")),
    "ALAC in CAF": ("m4a", lambda: sound("alac", "caf")),
    "a codec that nobody knows": (
        "m4a",
        lambda: coded(speech(), 24_000, "m4a").replace(b"mp4a", b"abcd").replace(b"esds", b"free"),
    ),
    "too large an index": ("m4a", with_too_large_an_index),
    "a large head and no samples": (
        "wav",
        lambda: tone()[:36] + b"JUNK\0\x20\0\0" + bytes(8192) + b"data\0\0\0\0" + bytes(8000),
    ),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_a_recording_outside_what_we_take_is_no_rubbish(libraries: Libraries, data: Path, kind: str) -> None:
    extension, content = UNUSUAL[kind]
    path = put(data, f"voices/mine.{extension}", content())

    assert removed(cleaned(libraries)) == []
    assert path.exists()
    assert [name for name, _ in libraries.voices.store.broken()] == [path.name]


@pytest.mark.parametrize("kind", ["wav 16 bit", "flac", "ogg", "opus", "m4a", "aac", "mka"])
def test_what_is_left_of_a_damaged_recording_goes_if_nobody_can_decode_it(
    libraries: Libraries, data: Path, kind: str
) -> None:
    content = coded(speech(), 24_000, kind)
    put(data, "voices/damaged.wav", content[:12] + b"damaged " * 200)

    assert removed(cleaned(libraries)) == [("voices", "damaged.wav", "not decodable")]


def test_a_head_without_samples_is_empty(libraries: Libraries, data: Path) -> None:
    put(data, "voices/head.wav", coded(np.zeros(0, np.float32), 24_000, "wav 16 bit"))

    assert removed(cleaned(libraries)) == [("voices", "head.wav", "empty")]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_is_not_taken_for_broken(libraries: Libraries, data: Path) -> None:
    path = put(data, "voices/secret.wav", tone())
    path.chmod(0)

    assert removed(cleaned(libraries)) == []


def test_what_a_crash_left_half_written_goes_whatever_its_age(libraries: Libraries, data: Path) -> None:
    stray = put(data, f"outputs/book/.tmp-{os.getpid()}-{uuid.uuid4().hex}", b"half", age_s=0)

    report = cleaned(libraries)

    assert removed(report) == [("outputs", f"book/{stray.name}", "temporary")]
    assert not stray.exists()


def test_a_name_that_no_client_may_use_is_no_obstacle(libraries: Libraries, data: Path) -> None:
    path = put(data, "voices/what now?.wav", b"")

    assert cleaned(libraries).removed_count == 1
    assert not path.exists()


RECORD = {"content_hash": "00", "duration_s": 1.0}
GENERATION = {"type": "tts", "created_date": "2026-01-01T00:00:00+00:00"}


def test_at_the_start_companions_go_whose_recordings_are_gone(libraries: Libraries, data: Path) -> None:
    kept = {
        "voices/notes.json": {"mine": 1},
        "voices/list.wav.json": [1],
        "outputs/settings.json": {"files": []},
        "outputs/moved.json": {**GENERATION, "files": [{"filename": "other name.wav"}]},
        "outputs/there.json": {**GENERATION, "files": [{"filename": "there.wav"}]},
        "voices/there.wav.json": {"audio": RECORD},
    }
    kept |= {  # which hold what a person wrote
        "voices/a/anna.wav.json": {"audio": RECORD},
        "vc_inputs/in.mp3.json": {"text": "words", "audio": RECORD},
    }
    lonely = {
        "outputs/b/tts_1.json": {**GENERATION, "files": [{"filename": "tts_1.wav"}]},
    }
    for name, content in (kept | lonely).items():
        put(data, name, json.dumps(content).encode())
    for name in ("outputs/other name.wav", "outputs/there.wav", "voices/there.wav"):
        put(data, name, tone())
    put(data, "voices/young.wav.json", json.dumps({"audio": RECORD}).encode(), age_s=5)

    assert removed(cleaned(libraries)) == []
    report = cleaned(libraries, at_start=True)

    assert removed(report) == sorted((*name.split("/", 1), "companion of nothing") for name in lonely)
    assert all((data / name).exists() for name in kept)


def test_a_long_report_names_the_first_and_counts_all(libraries: Libraries, data: Path) -> None:
    for _ in range(1005):
        put(data, f"outputs/.tmp-{os.getpid()}-{uuid.uuid4().hex}", b"x")

    report = cleaned(libraries)

    assert (len(report.removed), report.removed_count, report.freed_bytes) == (1000, 1005, 1005)


class Blocked:
    """Libraries whose listing waits until it is let go."""

    is_read = True

    def __init__(self) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()

    @property
    def stores(self) -> list[Any]:
        self.asked.set()
        self.go_on.wait(10)
        return []


def test_there_is_one_clean_up_at_a_time() -> None:
    blocked = Blocked()
    cleanup = Cleanup(blocked, CleanupSettings())
    first = threading.Thread(target=cleanup.run)
    first.start()
    blocked.asked.wait(10)

    assert cleanup.status().is_running
    with pytest.raises(ServiceOverloaded) as refusal:
        cleanup.run()
    blocked.go_on.set()
    first.join()

    assert refusal.value.retry_after_s > 0
    assert not cleanup.status().is_running
    assert cleanup.status().last_run is not None


class Failing:
    """Libraries on a disk that fails the first time."""

    is_read = True

    def __init__(self) -> None:
        self.looked = 0
        self.twice = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    @property
    def stores(self) -> list[Any]:
        self.looked += 1
        if self.looked == 1:
            raise OSError(5, "Input/output error")
        self.loop.call_soon_threadsafe(self.twice.set)
        return []


def test_the_schedule_goes_on_after_a_failure_and_ends_when_it_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> Cleanup:
        libraries = Failing()
        cleanup = Cleanup(libraries, CleanupSettings(interval_h=1e-6))
        cleanup.start()
        await asyncio.wait_for(libraries.twice.wait(), 10)
        await cleanup.close()
        looked = libraries.looked
        await asyncio.sleep(0)
        assert libraries.looked == looked
        return cleanup

    cleanup = asyncio.run(scenario())

    assert "clean-up failed trigger=start" in caplog.text
    status = cleanup.status()
    assert status.last_run is not None
    assert status.last_run.trigger == "schedule"
    assert status.next_run_at is not None


class Watched:
    """Libraries that tell when somebody looks at them."""

    is_read = True

    def __init__(self) -> None:
        self.looked = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    @property
    def stores(self) -> list[Any]:
        self.loop.call_soon_threadsafe(self.looked.set)
        return []


def test_without_an_interval_there_is_the_clean_up_at_the_start_alone() -> None:
    async def scenario() -> Cleanup:
        libraries = Watched()
        cleanup = Cleanup(libraries, CleanupSettings(interval_h=0))
        cleanup.start()
        await asyncio.wait_for(libraries.looked.wait(), 10)
        await cleanup.close()
        return cleanup

    status = asyncio.run(scenario()).status()

    assert status.last_run is not None
    assert status.last_run.trigger == "start"
    assert status.next_run_at is None


def test_a_server_that_stops_waits_for_a_clean_up_and_begins_no_other() -> None:
    blocked = Blocked()

    async def scenario() -> Cleanup:
        cleanup = Cleanup(blocked, CleanupSettings())
        cleanup.start()
        await asyncio.to_thread(blocked.asked.wait, 10)
        closing = asyncio.create_task(cleanup.close())
        await asyncio.sleep(0)
        assert cleanup.status().is_running
        assert not closing.done()
        blocked.go_on.set()
        await asyncio.wait_for(closing, 10)
        return cleanup

    cleanup = asyncio.run(scenario())

    assert not cleanup.status().is_running
    with pytest.raises(ServiceOverloaded):
        cleanup.run()
