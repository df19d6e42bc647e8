from __future__ import annotations

import io
import json
import pickle
import stat
import struct
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from config.settings import StorageSettings
from management.backup import Mode, Restored, restore, stream_backup
from management.libraries import Libraries
from management.stored import StoredFile
from management.voices import Voices
from resilience.errors import FileTooLarge, InvalidArchive, InvalidPath, NameTaken, SpeechError, StorageFull

MAX_BYTES = 100_000_000
Names = dict[str, bytes]


def tone(pitch_hz: float, duration_s: float = 0.3) -> bytes:
    file = io.BytesIO()
    moments = np.arange(round(duration_s * 16_000)) / 16_000
    soundfile.write(file, 0.3 * np.sin(2 * np.pi * pitch_hz * moments), 16_000, format="WAV")
    return file.getvalue()


@pytest.fixture
def voices(tmp_path: Path) -> Iterator[Voices]:
    libraries = Libraries(StorageSettings(min_free_mb=0), tmp_path / "data")
    yield libraries.voices
    libraries.close()


def add(voices: Voices, relative: str, content: bytes, **details: Any) -> StoredFile:
    folder, _, filename = relative.rpartition("/")
    return voices.add(
        io.BytesIO(content), filename, folder=folder or None, overwrite=False, details=details, max_bytes=MAX_BYTES
    )


def backup(voices: Voices) -> bytes:
    return b"".join(stream_backup(voices))


def zipped(files: Names, compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return file.getvalue()


def take(voices: Voices, archive: bytes, mode: Mode = "skip", max_bytes: int = MAX_BYTES) -> Restored:
    return restore(voices, io.BytesIO(archive), mode, max_bytes)


def on_disk(root: Path) -> dict[str, bytes | None]:
    """Every path below the root, hidden ones too, with the content of files."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None for path in root.rglob("*")
    }


def told(voices: Voices) -> dict[str, Any]:
    """What the library says of each of its voices, but for the moment when the file was written."""
    return {file.relative: (file.content_hash, file.facts, file.description) for file in voices.store.oldest()}


def folders(voices: Voices) -> dict[str, int]:
    return {folder.path: folder.count for folder in voices.store.folders()}


def furnish(voices: Voices) -> None:
    """A library with something of everything."""
    add(
        voices, "anna.wav", tone(200), name="Anna", description="two\nlines", tags=["warm", "früh"], aliases=["Ännchen"]
    )
    add(voices, "narrators/größe ünï.wav", tone(110), default_parameters={"temperature": 0.6, "seed": 3})
    add(voices, "日本/声 🎙️.wav", tone(300), aliases=["koe", "声"])
    voices.record_use("anna.wav", "")
    voices.record_use("anna.wav", "")
    (voices.store.root / "by-hand.wav").write_bytes(tone(150))
    (voices.store.root / "empty" / "inner").mkdir(parents=True)
    voices.store.rescan()


# Backup


def test_a_backup_holds_every_voice_as_it_is_and_a_companion_of_each(voices: Voices) -> None:
    furnish(voices)

    with zipfile.ZipFile(io.BytesIO(backup(voices))) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        recordings = [name for name in names if name.endswith(".wav")]
        assert sorted(recordings) == sorted(told(voices))
        for name in recordings:
            assert archive.read(name) == (voices.store.root / name).read_bytes()
            assert json.loads(archive.read(f"{name}.json"))["audio"]["content_hash"]
        assert "empty/inner/" in names


def test_what_is_wiped_comes_back_as_it_was(voices: Voices) -> None:
    furnish(voices)
    archive, before, tree = backup(voices), told(voices), folders(voices)
    recordings = {name: content for name, content in on_disk(voices.store.root).items() if name.endswith(".wav")}
    for path in sorted(voices.store.root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    voices.store.rescan()
    assert not told(voices)

    done = take(voices, archive)

    assert sorted(done.restored) == sorted(before)
    assert (done.skipped, done.renamed, done.warnings) == ([], {}, [])
    assert told(voices) == before
    assert folders(voices) == tree
    assert voices.get("ÄNNCHEN").usage_count == 2
    disk = on_disk(voices.store.root)
    assert {name: content for name, content in disk.items() if name.endswith(".wav")} == recordings
    assert not [name for name in disk if name.rpartition("/")[2].startswith(".")]


def test_the_first_bytes_of_a_backup_are_there_before_the_last_voice_is_read(voices: Voices) -> None:
    for number in range(8):
        add(voices, f"{number}.wav", tone(200 + number, duration_s=20))

    pieces = stream_backup(voices)
    first = next(pieces)
    gone = voices.store.delete("7.wav")

    names = zipfile.ZipFile(io.BytesIO(b"".join([first, *pieces]))).namelist()
    assert gone == ["7.wav"]
    assert "0.wav" in names
    assert "7.wav" not in names
    assert len(first) < 600_000


def test_a_backup_takes_no_more_memory_for_a_large_voice(voices: Voices) -> None:
    add(voices, "long.wav", tone(200, duration_s=600))
    list(stream_backup(voices))

    tracemalloc.start()
    size = sum(map(len, stream_backup(voices)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert size > 19_000_000
    assert peak < 4_000_000


def test_a_backup_of_a_folder_has_what_lies_below_it(voices: Voices) -> None:
    for name in ("a/one.wav", "a/b/two.wav", "ab/three.wav", "four.wav"):
        add(voices, name, tone(200))

    names = zipfile.ZipFile(io.BytesIO(b"".join(stream_backup(voices, "a")))).namelist()

    assert sorted(name for name in names if name.endswith(".wav")) == ["a/b/two.wav", "a/one.wav"]
    with pytest.raises(InvalidPath):
        stream_backup(voices, "../outputs")


def test_a_voice_whose_companion_was_edited_badly_can_be_backed_up_and_restored(voices: Voices) -> None:
    add(voices, "anna.wav", tone(200), description="kept")
    companion = voices.store.root / "anna.wav.json"
    said = json.loads(companion.read_text())
    edited = {**said, "tags": "one, two", "name": 7, "usage_count": "many", "created_date": "long ago", "mine": 1}
    companion.write_text(json.dumps(edited))
    voices.store.refresh(companion)
    archive = backup(voices)
    voices.store.delete("anna.wav")

    done = take(voices, archive)

    assert done.restored == ["anna.wav"]
    about = voices.get("anna").about
    assert (about["description"], about["tags"]) == ("kept", ["one", "two"])


def test_an_empty_library_has_a_backup_that_can_be_restored(voices: Voices) -> None:
    assert take(voices, backup(voices)) == Restored()


# Restoring beside what is there


def test_by_default_a_voice_that_is_there_is_left_as_it_is(voices: Voices) -> None:
    add(voices, "anna.wav", tone(200), description="mine")
    before = on_disk(voices.store.root)

    done = take(voices, zipped({"anna.wav": tone(300)}))

    assert (done.restored, done.skipped) == ([], ["anna.wav"])
    assert on_disk(voices.store.root) == before


def test_overwriting_puts_recording_and_companion_in_the_place_of_the_old_ones(voices: Voices) -> None:
    add(voices, "anna.wav", tone(200), description="old", tags=["old"])

    done = take(voices, zipped({"anna.wav": tone(300), "anna.wav.json": b'{"description": "new"}'}), "overwrite")

    assert done.restored == ["anna.wav"]
    assert voices.get("anna").path.read_bytes() == tone(300)
    assert (voices.get("anna").about["description"], voices.get("anna").about["tags"]) == ("new", [])


def test_renaming_keeps_both_under_the_next_free_number(voices: Voices) -> None:
    add(voices, "x/anna.wav", tone(200))
    add(voices, "x/anna-2.wav", tone(210))

    done = take(voices, zipped({"x/anna.wav": tone(300), "x/anna-3.wav": tone(310)}), "rename")

    assert done.renamed == {"x/anna.wav": "x/anna-4.wav"}
    assert sorted(done.restored) == ["x/anna-3.wav", "x/anna-4.wav"]
    assert voices.get("x/anna-4.wav").path.read_bytes() == tone(300)
    assert voices.get("x/anna.wav").path.read_bytes() == tone(200)


def test_restoring_twice_with_renaming_does_not_double_the_library(voices: Voices) -> None:
    add(voices, "anna.wav", tone(200))
    archive = zipped({"anna.wav": tone(300), "ben.wav": tone(100)})
    take(voices, archive, "rename")
    before = on_disk(voices.store.root)

    done = take(voices, archive, "rename")

    assert sorted(done.skipped) == ["anna.wav", "ben.wav"]
    assert on_disk(voices.store.root) == before


def test_an_alias_that_another_voice_has_is_left_out_and_told(voices: Voices) -> None:
    add(voices, "anna.wav", tone(200), aliases=["Früh"])

    done = take(
        voices,
        zipped(
            {
                "ben.wav": tone(100),
                "ben.wav.json": b'{"aliases": ["fruh", "benny"]}',
                "carl.wav": tone(110),
                "carl.wav.json": b'{"aliases": ["Benny"]}',
            }
        ),
    )

    assert voices.get("früh").relative == "anna.wav"
    assert voices.get("benny").relative == "ben.wav"
    assert len(done.warnings) == 2
    assert "ben.wav" in done.warnings[0]
    assert "anna.wav" in done.warnings[0]
    assert "carl.wav" in done.warnings[1]


def test_the_id_of_a_voice_stays_with_one_recording(voices: Voices) -> None:
    made = voices.create(io.BytesIO(tone(200)), "Anna", consent=None, max_bytes=MAX_BYTES).about["voice_id"]
    theirs, other = json.dumps({"voice_id": made}).encode(), b'{"voice_id": "voice_1"}'
    archive = {"b.wav": tone(100), "c.wav": tone(110), "d.wav": tone(120)}
    companions = {"b.wav.json": theirs, "c.wav.json": other, "d.wav.json": other}

    take(voices, zipped(archive | companions))

    assert voices.get(made).relative == "Anna.wav"
    assert voices.get("voice_1").relative == "c.wav"


def test_voices_that_are_overwritten_may_exchange_their_aliases(voices: Voices) -> None:
    add(voices, "anna.wav", tone(200), aliases=["one"])
    add(voices, "ben.wav", tone(100), aliases=["two"])
    archive = zipped(
        {
            "anna.wav": tone(200),
            "anna.wav.json": b'{"aliases": ["two"]}',
            "ben.wav": tone(100),
            "ben.wav.json": b'{"aliases": ["one"]}',
        }
    )

    done = take(voices, archive, "overwrite")

    assert done.warnings == []
    assert (voices.get("one").relative, voices.get("two").relative) == ("ben.wav", "anna.wav")


def test_more_voices_can_be_restored_than_a_process_may_have_open_files(voices: Voices) -> None:
    resource = pytest.importorskip("resource", reason="needs POSIX limits")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len([*Path("/dev/fd").iterdir()]) + 30
    archive = zipped({f"{number}.wav": tone(200 + number) for number in range(few + 50)})
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, limits[1]))
    try:
        done = take(voices, archive)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert len(done.restored) == few + 50


# What a person may pack by hand


def test_what_systems_add_to_archives_is_passed_over(voices: Voices) -> None:
    done = take(
        voices,
        zipped({"a/": b"", "a/anna.wav": tone(200), "a/.DS_Store": b"x", "__MACOSX/a/._anna.wav": b"x"}),
    )

    assert done.restored == ["a/anna.wav"]
    assert sorted(on_disk(voices.store.root)) == ["a", "a/anna.wav", "a/anna.wav.json"]


def test_a_packed_archive_with_names_in_the_decomposed_spelling_is_taken(voices: Voices) -> None:
    done = take(voices, zipped({"fru\u0308h.wav": tone(200)}, zipfile.ZIP_DEFLATED))

    assert done.restored == ["fr\u00fch.wav"]


def test_a_name_in_utf8_that_is_not_marked_as_such_is_read_as_it_was_meant(voices: Voices) -> None:
    archive = bytearray(zipped({"früh.wav": tone(200)}))
    for signature, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        archive[archive.index(signature) + at + 1] &= ~0x08

    assert take(voices, bytes(archive)).restored == ["früh.wav"]


def test_what_a_companion_says_that_nobody_knows_is_its_owners_and_stays(voices: Voices) -> None:
    said = {"description": "kept", "mine": 1, "audio": {"duration_s": 99}, "name": None}

    done = take(voices, zipped({"anna.wav": tone(200), "anna.wav.json": json.dumps(said).encode()}))

    assert done.warnings == []
    companion = json.loads((voices.store.root / "anna.wav.json").read_text())
    assert companion["mine"] == 1
    assert companion["audio"]["duration_s"] == pytest.approx(0.3)


# What is refused


def entry(name: str, **attributes: Any) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


def with_entry(info: zipfile.ZipInfo, content: bytes = b"x") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("good.wav", tone(200))
        archive.writestr(info, content)
    return file.getvalue()


def with_name(name: bytes) -> bytes:
    """An archive whose second entry has a name that Python would not write."""
    plain = with_entry(entry("N" * len(name)), tone(100))
    return plain.replace(b"N" * len(name), name)


def patched(archive: bytes, *, at: int, to: bytes, entry_at: int = -1) -> bytes:
    """The archive with a field of its last entry, in the list of contents, written over."""
    content = bytearray(archive)
    start = content.rindex(b"PK\1\2") if entry_at < 0 else entry_at
    content[start + at : start + at + len(to)] = to
    return bytes(content)


def encrypted() -> bytes:
    archive = with_entry(entry("secret.wav"), tone(100))
    local = archive.rindex(b"PK\3\4")
    content = bytearray(patched(archive, at=8, to=b"\1\0"))
    content[local + 6 : local + 8] = b"\1\0"
    return bytes(content)


def bomb() -> bytes:
    """Silence that calls itself a wav of 4 GB, within 20 kB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.wav", tone(100)[:44] + bytes(20_000_000))
    content = bytearray(file.getvalue())
    start = content.rindex(b"PK\1\2")
    struct.pack_into("<L", content, start + 24, 0xFFFFFFF0)
    return bytes(content)


def overlapping() -> bytes:
    """Two entries, one recording: the second one's place in the list of contents is the first one's."""
    content = bytearray(zipped({"a.wav": tone(200), "b.wav": tone(200)}))
    struct.pack_into("<L", content, content.rindex(b"PK\1\2") + 42, 0)
    return bytes(content)


def overlapping_under_one_name() -> bytes:
    content = bytearray(zipped({"a.wav": tone(200), "b.wav": tone(200)}).replace(b"b.wav", b"a.wav"))
    struct.pack_into("<L", content, content.rindex(b"PK\1\2") + 42, 0)
    return bytes(content)


def lying_about_its_size(real: bytes, said: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.wav", tone(200))
        archive.writestr("liar.wav", real)
    return patched(file.getvalue(), at=24, to=struct.pack("<L", said))


def without_most_of_its_entries() -> bytes:
    content = bytearray(zipped({f"{number}.wav": b"x" for number in range(30)}))
    end = content.rindex(b"PK\5\6")
    content[end + 8 : end + 12] = struct.pack("<HH", 2, 2)
    return bytes(content)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "slip": lambda: with_name(b"../x.wav"),
    "slip in the middle": lambda: with_name(b"a/../../x.wav"),
    "absolute": lambda: with_name(b"/tmp/x.wav"),
    "drive": lambda: with_name(b"C:x.wav"),
    "backslash": lambda: with_name(b"..\\x.wav"),
    "null byte": lambda: with_name(b"x.wav\0.txt"),
    "hidden": lambda: with_entry(entry(".hidden.wav"), tone(100)),
    "link": lambda: with_entry(entry("link.wav", external_attr=(stat.S_IFLNK | 0o777) << 16), b"/etc/passwd"),
    "device": lambda: with_entry(entry("dev.wav", external_attr=(stat.S_IFCHR | 0o777) << 16), b""),
    "encrypted": encrypted,
    "50,000 entries": lambda: zipped({f"{number}.wav": b"" for number in range(50_000)}),
    "more entries than it says": without_most_of_its_entries,
    "bomb": bomb,
    "ten gigabytes, stored": lambda: patched(with_entry(entry("b.wav"), tone(100)), at=20, to=b"\xf0\xff\xff\xff" * 2),
    "overlap": overlapping,
    "overlap under one name": overlapping_under_one_name,
    "twice": lambda: with_name(b"good.wav"),
    "twice but for case": lambda: with_entry(entry("GOOD.wav"), tone(100)),
    "twice but for the spelling": lambda: zipped({"\u00f6.wav": tone(100), "o\u0308.wav": tone(200)}),
    "a file as a folder": lambda: zipped({"good.wav": tone(100), "good.wav/inner.wav": tone(100)}),
    "shorter than it says": lambda: lying_about_its_size(tone(100), len(tone(100)) + 4000),
    "longer than it says": lambda: lying_about_its_size(tone(100), len(tone(100)) - 4000),
    "wrong checksum": lambda: patched(with_entry(entry("x.wav"), tone(100)), at=16, to=b"1234"),
    "another name inside": lambda: with_entry(entry("inner.wav"), tone(100)).replace(b"inner.wav", b"other.wav", 1),
    "pickle": lambda: with_entry(entry("model.pt"), pickle.dumps({"a": 1})),
    "pickle as a wav": lambda: with_entry(entry("model.wav"), pickle.dumps({"a": 1})),
    "pickle as a companion": lambda: with_entry(entry("good.wav.json"), pickle.dumps({"a": 1})),
    "text as a wav": lambda: with_entry(entry("text.wav"), b"no audio at all"),
    "empty wav": lambda: with_entry(entry("empty.wav"), b""),
    "other files": lambda: with_entry(entry("readme.txt"), b"hello"),
    "archive in the archive": lambda: with_entry(entry("more.zip"), zipped({"a.wav": tone(100)})),
    "companion that is a list": lambda: with_entry(entry("good.wav.json"), b"[]"),
    "companion that is deep": lambda: with_entry(entry("good.wav.json"), b"[" * 200_000),
    "companion with a wrong type": lambda: with_entry(entry("good.wav.json"), b'{"tags": [1]}'),
    "companion with half a character": lambda: with_entry(entry("good.wav.json"), b'{"name": "\\ud800"}'),
    "companion with an infinity": lambda: with_entry(entry("good.wav.json"), b'{"quality": {"x": 1e999}}'),
    "companion with endless text": lambda: with_entry(
        entry("good.wav.json"), b'{"description": "' + b"x" * 200_000 + b'"}'
    ),
    "companion of megabytes": lambda: with_entry(entry("good.wav.json"), b" " * 5_000_000),
    "cut off": lambda: with_entry(entry("x.wav"), tone(100))[:-30],
    "cut off in the middle": lambda: with_entry(entry("x.wav"), tone(100))[:4000],
    "more behind it": lambda: with_entry(entry("x.wav"), tone(100)) + b"more",
    "something before it": lambda: b"more" + with_entry(entry("x.wav"), tone(100)),
    "no zip": lambda: tone(200),
    "nothing": lambda: b"",
    "only an end": lambda: b"PK\5\6" + b"\xff" * 18,
}


REASONS = {
    "slip": "not allowed",
    "null byte": "control",
    "link": "link",
    "encrypted": "encrypted",
    "50,000 entries": "50,000 entries",
    "more entries than it says": "not as long",
    "bomb": "unpack to far more",
    "overlap": "shares its bytes",
    "twice but for case": "twice",
    "twice but for the spelling": "twice",
    "shorter than it says": "shorter",
    "another name inside": "two ways",
    "pickle": "neither audio",
    "companion that is deep": "no JSON",
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("mode", ["skip", "overwrite", "rename"])
def test_a_hostile_archive_is_refused_and_leaves_the_library_byte_for_byte_as_it_was(
    voices: Voices, tmp_path: Path, kind: str, mode: Mode
) -> None:
    add(voices, "good.wav", tone(440), description="mine")
    before, listed = on_disk(tmp_path / "data" / "voices"), told(voices)

    with pytest.raises((InvalidArchive, InvalidPath), match=REASONS.get(kind)):
        take(voices, HOSTILE[kind](), mode)

    assert on_disk(tmp_path / "data" / "voices") == before
    assert told(voices) == listed
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_every_end_of_an_archive_that_is_cut_off_is_refused(voices: Voices) -> None:
    archive = zipped({"a.wav": tone(200), "a.wav.json": b"{}"})

    for length in range(0, len(archive), 97):
        with pytest.raises(SpeechError):
            take(voices, archive[:length])

    assert on_disk(voices.store.root) == {}


def test_no_damage_to_an_archive_is_more_than_a_refusal(voices: Voices) -> None:
    archive = zipped({"a.wav": tone(200), "a.wav.json": b'{"name": "A"}', "b/": b""}, zipfile.ZIP_DEFLATED)
    generator = np.random.default_rng(7)

    for _ in range(300):
        damaged = bytearray(archive)
        for _ in range(int(generator.integers(1, 6))):
            damaged[int(generator.integers(len(damaged)))] = int(generator.integers(256))
        with suppress(SpeechError):
            take(voices, bytes(damaged), "overwrite")

    names = on_disk(voices.store.root)
    assert not [name for name in names if name.rpartition("/")[2].startswith(".")]


def test_a_bomb_is_refused_before_it_is_unpacked(voices: Voices) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(20):
            archive.writestr(f"{number}.wav", tone(100)[:44] + bytes(900_000))
    packed = file.getvalue()
    tracemalloc.start()

    with pytest.raises(FileTooLarge):
        take(voices, packed, max_bytes=10_000_000)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000
    assert on_disk(voices.store.root) == {}


# Faults while it is put in place


@pytest.mark.parametrize("mode", ["skip", "overwrite", "rename"])
def test_a_fault_in_the_last_file_undoes_the_ones_before_it(voices: Voices, mode: Mode) -> None:
    for name in ("a.wav", "b.wav", "c/d.wav"):
        add(voices, name, tone(440), description="mine", aliases=[f"alias of {name}"])
    (voices.store.root / "e").write_bytes(b"a file where a folder should be")
    before, listed, tree = on_disk(voices.store.root), told(voices), folders(voices)
    names = ("a.wav", "b.wav", "new/deep/x.wav", "c/y.wav", "e/z.wav")

    with pytest.raises(InvalidPath):
        take(voices, zipped({"also/new/": b"", **{name: tone(100) for name in names}}), mode)

    assert on_disk(voices.store.root) == before
    assert told(voices) == listed
    assert folders(voices) == tree
    assert voices.get("alias of a.wav").relative == "a.wav"


def test_a_folder_with_the_name_of_a_voice_stops_a_restoration(voices: Voices) -> None:
    (voices.store.root / "z.wav").mkdir()
    before = on_disk(voices.store.root)

    with pytest.raises(InvalidPath):
        take(voices, zipped({"a.wav": tone(100), "z.wav": tone(100)}), "overwrite")

    assert on_disk(voices.store.root) == before


def test_a_disk_that_fills_up_while_it_is_restored_leaves_the_library_as_it_was(tmp_path: Path) -> None:
    libraries = Libraries(StorageSettings(min_free_mb=10**9), tmp_path)
    try:
        with pytest.raises(StorageFull):
            take(libraries.voices, zipped({"a.wav": tone(100)}))
        assert on_disk(libraries.voices.store.root) == {}
    finally:
        libraries.close()


def test_what_somebody_uploads_while_a_backup_is_restored_is_not_replaced(voices: Voices) -> None:
    archive = zipped({f"{number:02}.wav": tone(200 + number) for number in range(40)})
    uploads = threading.Thread(target=upload_from_the_end, args=(voices, 40))
    uploads.start()

    done = take(voices, archive, "skip")
    uploads.join()

    for number in range(40):
        name = f"{number:02}.wav"
        assert (name in done.restored) == (voices.get(name).path.read_bytes() == tone(200 + number))
    assert len(done.restored) + len(done.skipped) == 40


def upload_from_the_end(voices: Voices, count: int) -> None:
    for number in reversed(range(count)):
        with suppress(NameTaken):
            add(voices, f"{number:02}.wav", tone(900))
