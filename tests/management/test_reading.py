"""What people do to the files by hand, and what a crash leaves, as the library sees it when it looks again."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from management.libraries import Libraries
from management.reading import LEAVING_PREFIX, PENDING_PREFIX
from management.store import AudioStore, Limits
from management.stored import Description, StoredFile
from management.vc_inputs import VcInputCompanions
from tests.management.sounds import MAX_BYTES, drop, found, listed, on_disk, opened, tone
from utils.audio.formats import Bitrates
from utils.audio.waveform import Waveform
from utils.files.atomic import TEMPORARY_PREFIX

GIVEN_UP = f"{TEMPORARY_PREFIX}4194305-{'0' * 32}"  # by a process whose number no system gives


@pytest.fixture
def store(libraries: Libraries) -> AudioStore:
    return libraries.voices.store


def add(libraries: Libraries, filename: str = "anna.wav", content: bytes | None = None, **details: Any) -> StoredFile:
    return libraries.voices.add(
        io.BytesIO(content or tone()), filename, folder=None, overwrite=True, details=details, max_bytes=MAX_BYTES
    )


def describe(audio: Path, companion: Any) -> Path:
    content = companion if isinstance(companion, bytes) else json.dumps(companion).encode()
    return drop(audio.with_name(f"{audio.name}.json"), content)


# Files


def test_a_file_that_was_copied_in_is_listed_with_what_is_heard_in_it(store: AudioStore) -> None:
    drop(store.root / "a b" / "früh 東京.wav", tone(duration_s=0.5))

    store.rescan()

    [file] = found(store).files
    assert (file.relative, file.facts.duration_s, file.facts.format) == ("a b/früh 東京.wav", 0.5, "wav")
    assert file.about["quality"]["rating"]


def test_a_file_that_was_copied_in_is_found_at_once(store: AudioStore) -> None:
    drop(store.root / "anna.wav", tone())

    assert store.get("anna.wav").facts.duration_s == pytest.approx(0.3)


@pytest.mark.parametrize("is_described", [False, True])
def test_a_file_of_the_same_size_and_time_in_the_place_of_another_is_heard(
    libraries: Libraries, store: AudioStore, is_described: bool
) -> None:
    path = store.root / "anna.wav"
    before = add(libraries) if is_described else store.get(drop(path, tone()).name)
    times = path.stat()

    path.write_bytes(tone(880))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert store.get("anna.wav").content_hash != before.content_hash


def test_a_file_that_was_removed_is_listed_no_more(libraries: Libraries, store: AudioStore) -> None:
    add(libraries).path.unlink()

    store.rescan()

    assert listed(store) == []


def test_a_renamed_folder_takes_its_files_along(store: AudioStore) -> None:
    drop(store.root / "a" / "b" / "anna.wav", tone())
    store.rescan()

    (store.root / "a").rename(store.root / "c")
    store.rescan()

    assert listed(store) == ["c/b/anna.wav"]
    assert [folder.path for folder in store.folders()] == ["", "c", "c/b"]


@pytest.mark.parametrize("content", [b"", b"RIFF but no more", tone()[:44]])
def test_broken_files_are_named_and_hide_nothing(store: AudioStore, content: bytes) -> None:
    drop(store.root / "broken.wav", content)
    drop(store.root / "anna.wav", tone())

    store.rescan()

    assert listed(store) == ["anna.wav"]
    assert [path for path, _ in store.broken()] == ["broken.wav"]


def test_a_broken_file_that_was_mended_is_listed(store: AudioStore) -> None:
    path = drop(store.root / "anna.wav", b"")
    store.rescan()

    path.write_bytes(tone())
    store.rescan()

    assert listed(store) == ["anna.wav"]
    assert store.broken() == []


def test_a_file_that_broke_is_listed_no_more(libraries: Libraries, store: AudioStore) -> None:
    add(libraries).path.write_bytes(b"")

    store.rescan()

    assert listed(store) == []
    assert [path for path, _ in store.broken()] == ["anna.wav"]


class Growing(VcInputCompanions):
    """A file that is still being copied while it is listened to."""

    def __init__(self) -> None:
        self.rest = [tone(duration_s=0.9)]

    def read(self, content: Mapping[str, Any], path: Path) -> Description:
        if self.rest:
            path.write_bytes(self.rest.pop())
        return super().read(content, path)


def test_a_file_that_grew_while_it_was_listened_to_is_listened_to_again(libraries: Libraries, tmp_path: Path) -> None:
    index = libraries.outputs.store.shelf._index
    store = AudioStore(index, tmp_path / "growing", Growing(), Limits(reserve_bytes=0, longest_s=100))
    drop(store.root / "one.wav", tone(duration_s=0.3))

    store.rescan()

    assert store.get("one.wav").facts.duration_s == pytest.approx(0.9)


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
@pytest.mark.parametrize("name", [b"\xff.wav", b"\xff/one.wav", b"a/\xff.wav.json"])
def test_names_that_are_no_text_hide_nothing(store: AudioStore, name: bytes) -> None:
    drop(Path(os.fsdecode(os.fsencode(store.root) + b"/" + name)), tone())
    drop(store.root / "z.wav", tone())

    store.rescan()
    for path in store.root.rglob("*"):
        store.refresh(path)

    assert listed(store) == ["z.wav"]


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_what_is_no_file_hides_nothing(store: AudioStore) -> None:
    (store.root / "loop.wav").symlink_to(store.root / "loop.wav")
    (store.root / "nowhere.wav").symlink_to(store.root / "nothing")
    (store.root / "folder.wav").mkdir()
    drop(store.root / "file", b"")
    drop(store.root / "z.wav", tone())

    store.rescan()
    for path in [*store.root.iterdir(), store.root / "file" / "inner.wav"]:
        store.refresh(path)

    assert listed(store) == ["z.wav"]


# Companions


def test_what_a_person_writes_beside_a_file_is_listed(libraries: Libraries, store: AudioStore) -> None:
    file = add(libraries, description="old")
    drop(store.root / "ben.wav", tone())

    describe(file.path, {"description": "new", "tags": "deep, calm , deep", "created_date": "2020-02-03"})
    describe(store.root / "ben.wav", {"name": "Benjamin"})
    store.rescan()

    anna, ben = found(store, sort_by="filename").files
    assert anna.about["description"] == "new"
    assert anna.description.tags == ["deep", "calm"]
    assert anna.created.isoformat() == "2020-02-03T00:00:00+00:00"
    assert anna.facts == file.facts
    assert ben.description.name == "Benjamin"


def test_a_companion_that_was_changed_is_read_when_the_file_is_asked_for(libraries: Libraries) -> None:
    file = add(libraries, description="old")

    describe(file.path, {"description": "new"})

    assert libraries.voices.get("anna").about["description"] == "new"


def test_a_companion_that_was_removed_takes_its_words_along(libraries: Libraries, store: AudioStore) -> None:
    file = add(libraries, description="old")

    libraries.voices.store.companion_path(file.path).unlink()
    store.rescan()

    [listed_now] = found(store).files
    assert listed_now.about["description"] == ""
    assert listed_now.facts == file.facts


ODD = [
    b"",
    b"\xff\xfe\x00",
    b'{"description": "not closed"',
    b'{"description": "a comma too many",}',
    b"[1, 2]",
    b"null",
    b'"text"',
    b'{"name": ["a"], "description": {"a": 1}, "tags": {"a": 1}, "aliases": 7, "default_parameters": [1]}',
    b'{"tags": [1, null, {"a": 1}, [], true], "aliases": [["x"]], "usage_count": "many", "last_used": 12}',
    b'{"usage_count": -3, "created_date": "yesterday", "last_used": {}, "quality": "good", "audio": [1]}',
    b'{"usage_count": 1.5, "audio": {"size_bytes": "12", "duration_s": "long"}}',
    b'{"usage_count": true}',
    b'{"usage_count": 1' + b"0" * 40 + b"}",
    b'{"usage_count": NaN}',
    b'{"default_parameters": {"temperature": NaN}}',
    b'{"default_parameters": {"temperature": 1e999}}',
    b'{"default_parameters": {"a": ' + b"1" * 5000 + b"}}",
    b'{"default_parameters": ' + b'{"a":' * 900 + b"1" + b"}" * 901,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"created_date": "9999-12-31T23:59:59-23:00", "last_used": "0001-01-01T00:00:00+10:00"}',
    b'{"created_date": "0001-01-01", "last_used": "9999-12-31"}',
    b'{"name": "\\ud800", "description": "\\udfff", "tags": ["\\ud800"], "aliases": ["\\ud800"]}',
    b'{"name": "a\\u0000b", "tags": ["\\u0000"]}',
    b'{"name": "  ", "tags": [" ", ""]}',
    b'{"description": "' + b"long " * 2_000_000 + b'"}',
    b'{"files": "all"}',
    b'{"files": [1, {}, {"filename": 7}, {"filename": "../../secret.wav"}, {"filename": "/etc/passwd.wav"}]}',
    b'{"files": [{"filename": "a\\u0000.wav"}, {"filename": "\\ud800.wav"}, {"filename": "..\\\\up.wav"}]}',
    b'{"files": [{"filename": "' + b"x" * 5000 + b'.wav"}]}',
]


def named(content: bytes) -> str:
    return repr(content[:60])


@pytest.mark.parametrize("library", ["voices", "vc_inputs", "outputs"])
@pytest.mark.parametrize("content", ODD, ids=named)
def test_a_companion_that_nobody_can_read_breaks_nothing(libraries: Libraries, library: str, content: bytes) -> None:
    store: AudioStore = getattr(libraries, library).store
    path = drop(store.root / "anna.wav", tone())
    companion = drop(store.companion_path(path), content)
    drop(store.root / "z.wav", tone())

    store.rescan()
    store.refresh(companion)

    files = found(store, sort_by="filename").files
    assert [file.relative for file in files] == ["anna.wav", "z.wav"]
    for file in files:
        json.dumps(dict(file.about), allow_nan=False).encode()
        assert isinstance(file.about.get("quality", {}), dict)
        assert isinstance(file.about.get("default_parameters", {}), dict)
        assert 0 <= file.usage_count < 2**53


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("duration_s", float("inf")),
        ("duration_s", float("nan")),
        ("duration_s", True),
        ("duration_s", "4"),
        ("duration_s", 0),
        ("sample_rate", float("inf")),
        ("sample_rate", 10**30),
        ("channels", -1),
        ("loudness_lufs", float("nan")),
        ("peak_dbfs", float("-inf")),
        ("format", None),
        ("content_hash", 12),
    ],
)
def test_what_a_companion_says_of_the_sound_is_not_believed_if_it_cannot_be(
    libraries: Libraries, store: AudioStore, key: str, value: Any
) -> None:
    file = add(libraries)
    content = store.companion(file)
    describe(file.path, {**content, "audio": {**content["audio"], key: value}})

    with closing(reopened(libraries)) as again:
        again.voices.store.rescan()
        assert found(again.voices.store).files[0].facts == file.facts
        assert found(again.voices.store).files[0].content_hash == file.content_hash


def reopened(libraries: Libraries) -> Libraries:
    """The libraries of the same folder after their index was deleted."""
    data_dir = libraries.voices.store.root.parent
    libraries.close()
    for path in data_dir.glob("library.sqlite*"):
        path.unlink()
    return opened(data_dir)


def test_what_a_person_wrote_is_not_lost_when_it_cannot_be_read(libraries: Libraries, store: AudioStore) -> None:
    file = add(libraries)
    describe(file.path, b'{"description": "hours of work",}')

    libraries.voices.record_use("anna.wav", "")
    assert file.path.with_name("anna.wav.json").read_bytes() == b'{"description": "hours of work",}'
    libraries.voices.change("anna.wav", {"tags": ["new"]})

    assert any(b"hours of work" in path.read_bytes() for path in store.root.iterdir())


def test_a_companion_leads_to_no_file_but_those_beside_it(libraries: Libraries, tmp_path: Path) -> None:
    outputs = libraries.outputs.store
    secret = drop(tmp_path / "secret.wav", tone())
    inner = drop(outputs.root / "inner.wav", tone())
    for name in ("../../secret.wav", "../inner.wav", str(secret)):
        content = {"files": [{"filename": name, "content_hash": "0", "size_bytes": 1}]}
        companion = drop(outputs.root / "a" / "tts.json", json.dumps(content).encode())
        outputs.refresh(companion)
        companion.replace(companion.with_name(PENDING_PREFIX + companion.name))
        outputs.recover()

    assert secret.exists()
    assert inner.exists()


# The index


def test_an_index_that_was_deleted_is_made_again_without_listening(libraries: Libraries, store: AudioStore) -> None:
    file = add(libraries, description="calm", tags=["deep"])
    content = store.companion(file)
    describe(file.path, {**content, "audio": {**content["audio"], "duration_s": 77.0}})

    with closing(reopened(libraries)) as again:
        again.voices.store.rescan()
        [found_again] = found(again.voices.store, tag="deep").files

    assert found_again.facts.duration_s == 77
    assert found_again.about["quality"] == file.about["quality"]


# Crashes


def left_by(libraries: Libraries) -> tuple[StoredFile, bytes]:
    """A voice, and the companion of another version of it, which is not there."""
    add(libraries, content=tone(880), name="new")
    companion = (libraries.voices.store.root / "anna.wav.json").read_bytes()
    return add(libraries, name="old"), companion


def recovered(libraries: Libraries, store: AudioStore) -> StoredFile:
    store.recover()
    store.rescan()
    [file] = found(store).files
    name = file.path.name
    assert on_disk(store.root) == sorted([file.relative, f"{file.folder}/{name}.json".lstrip("/")]), (
        "something was left behind"
    )
    assert store.companion(file)["audio"]["content_hash"] == file.content_hash
    return file


def test_an_upload_that_a_crash_ended_while_it_was_received_leaves_nothing(store: AudioStore) -> None:
    drop(store.root / GIVEN_UP, tone()[:100])
    drop(store.root / "a" / GIVEN_UP, tone())

    store.recover()
    store.rescan()

    assert on_disk(store.root) == listed(store) == []


def test_an_upload_that_a_crash_ended_before_its_audio_had_a_name_leaves_nothing(
    libraries: Libraries, store: AudioStore
) -> None:
    file = add(libraries)
    store.companion_path(file.path).replace(store.root / f"{PENDING_PREFIX}anna.wav.json")
    file.path.replace(store.root / GIVEN_UP)

    store.recover()
    store.rescan()

    assert on_disk(store.root) == listed(store) == []


def test_an_upload_that_a_crash_ended_after_its_audio_had_a_name_is_there(
    libraries: Libraries, store: AudioStore
) -> None:
    file = add(libraries, name="Anna")
    store.companion_path(file.path).replace(store.root / f"{PENDING_PREFIX}anna.wav.json")

    assert recovered(libraries, store).description.name == "Anna"


def test_an_overwriting_that_a_crash_ended_before_its_audio_had_the_name_changes_nothing(
    libraries: Libraries, store: AudioStore
) -> None:
    old, new_companion = left_by(libraries)
    drop(store.root / f"{PENDING_PREFIX}anna.wav.json", new_companion)
    drop(store.root / GIVEN_UP, tone(880))

    file = recovered(libraries, store)

    assert (file.content_hash, file.description.name) == (old.content_hash, "old")


def test_an_overwriting_that_a_crash_ended_after_its_audio_had_the_name_is_finished(
    libraries: Libraries, store: AudioStore
) -> None:
    old, new_companion = left_by(libraries)
    drop(store.root / f"{PENDING_PREFIX}anna.wav.json", new_companion)
    old.path.write_bytes(tone(880))

    file = recovered(libraries, store)

    assert file.description.name == "new"
    assert file.content_hash != old.content_hash


@pytest.mark.parametrize("written", [b"", b'{"name": "An'])
def test_a_companion_that_a_crash_ended_while_it_was_written_changes_nothing(
    libraries: Libraries, store: AudioStore, written: bytes
) -> None:
    add(libraries, name="Anna")
    drop(store.root / GIVEN_UP, written)
    drop(store.root / f"{PENDING_PREFIX}anna.wav.json", written)

    assert recovered(libraries, store).description.name == "Anna"


def leave(companion: Path) -> None:
    """Its recording is about to go."""
    companion.replace(companion.with_name(LEAVING_PREFIX + companion.name))


@pytest.mark.parametrize("is_leaving", [False, True])
def test_a_move_that_a_crash_ended_before_the_audio_moved_changes_nothing(
    libraries: Libraries, store: AudioStore, is_leaving: bool
) -> None:
    file = add(libraries, name="Anna")
    companion = store.companion_path(file.path)
    (store.root / "folder").mkdir()
    shutil.copy(companion, store.root / "folder" / f"{PENDING_PREFIX}anna.wav.json")
    if is_leaving:
        leave(companion)

    kept = recovered(libraries, store)

    assert (kept.relative, kept.description.name) == ("anna.wav", "Anna")


@pytest.mark.parametrize("prefix", [PENDING_PREFIX, ""])
def test_a_move_that_a_crash_ended_after_the_audio_moved_is_finished(
    libraries: Libraries, store: AudioStore, prefix: str
) -> None:
    file = add(libraries, name="Anna")
    companion = store.companion_path(file.path)
    (store.root / "folder").mkdir()
    shutil.copy(companion, store.root / "folder" / f"{prefix}anna.wav.json")
    leave(companion)
    file.path.rename(store.root / "folder" / "anna.wav")

    moved = recovered(libraries, store)

    assert (moved.relative, moved.description.name) == ("folder/anna.wav", "Anna")


def test_a_deletion_that_a_crash_ended_before_the_audio_was_gone_changes_nothing(
    libraries: Libraries, store: AudioStore
) -> None:
    leave(store.companion_path(add(libraries, name="Anna").path))

    assert recovered(libraries, store).description.name == "Anna"


def test_a_deletion_that_a_crash_ended_after_the_audio_was_gone_leaves_nothing(
    libraries: Libraries, store: AudioStore
) -> None:
    file = add(libraries)
    leave(store.companion_path(file.path))
    file.path.unlink()

    store.recover()
    store.rescan()

    assert on_disk(store.root) == listed(store) == []


def test_a_voice_that_came_after_a_deletion_that_a_crash_ended_keeps_its_own_companion(
    libraries: Libraries, store: AudioStore
) -> None:
    leave(store.companion_path(add(libraries, name="old").path))
    add(libraries, content=tone(880), name="new")

    assert recovered(libraries, store).description.name == "new"


def test_a_companion_that_a_person_wrote_before_its_audio_came_stays(store: AudioStore) -> None:
    describe(store.root / "anna.wav", {"description": "written first"})

    store.recover()
    drop(store.root / "anna.wav", tone())

    assert store.get("anna.wav").about["description"] == "written first"


@pytest.fixture
def generation(libraries: Libraries) -> list[Path]:
    """The files of a generation in two formats."""
    saved = libraries.outputs.save(
        Waveform(np.full(4800, 0.1, np.float32), 24_000),
        generation_type="tts",
        name_parameters=[],
        folder="a",
        formats=["wav", "mp3"],
        bitrates=Bitrates(),
        companion={"type": "tts", "text": "hello"},
    )
    return [file.path for file in saved]


@pytest.mark.parametrize("count", [0, 1])
def test_a_generation_that_a_crash_ended_before_all_its_formats_had_names_leaves_nothing(
    libraries: Libraries, generation: list[Path], count: int
) -> None:
    store, companion = libraries.outputs.store, generation[0].with_suffix(".json")
    companion.replace(companion.with_name(PENDING_PREFIX + companion.name))
    for path in generation[count:]:
        path.replace(path.with_name(GIVEN_UP[:-1] + path.suffix[-1].translate({ord("v"): "a", ord("3"): "b"})))

    store.recover()
    store.rescan()

    assert on_disk(store.root) == listed(store) == []


def test_a_generation_that_a_crash_ended_after_all_its_formats_had_names_is_there(
    libraries: Libraries, generation: list[Path]
) -> None:
    store, companion = libraries.outputs.store, generation[0].with_suffix(".json")
    companion.replace(companion.with_name(PENDING_PREFIX + companion.name))

    store.recover()
    store.rescan()

    assert [file.formats for file in found(store, search="hello").files] == [["mp3", "wav"]] * 2
    assert companion.exists()


def test_what_this_process_is_writing_is_left_alone(libraries: Libraries, store: AudioStore) -> None:
    with store.stage(io.BytesIO(tone()), MAX_BYTES) as staged:
        store.recover()
        store.rescan()

        assert staged.path.exists()
        assert listed(store) == []
