from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from config.settings import StorageSettings
from management.libraries import Libraries
from management.store import AudioStore
from management.stored import Selection, StoredFile
from resilience.errors import (
    FileMissing,
    FileTooLarge,
    InvalidAudio,
    InvalidPath,
    NameTaken,
    StorageFull,
    UnsupportedAudio,
)
from tests.management.sounds import MAX_BYTES, at_once, drop, found, listed, on_disk, tone

LONGEST_FOLDER = "/".join("abcdefghijklmnop")


@pytest.fixture
def store(libraries: Libraries) -> AudioStore:
    return libraries.vc_inputs.store


@pytest.fixture
def upload(libraries: Libraries) -> Any:
    def add(filename: str = "one.wav", content: bytes | None = None, **changes: Any) -> StoredFile:
        asked: dict[str, Any] = {"folder": None, "overwrite": False, "text": "", "max_bytes": MAX_BYTES}
        return libraries.vc_inputs.add(io.BytesIO(content or tone()), filename, **{**asked, **changes})

    return add


def companion_of(file: StoredFile) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.path.with_name(f"{file.filename}.json").read_text(encoding="utf-8"))
    return content


def same(one: StoredFile, other: StoredFile) -> bool:
    names = ("relative", "version", "companion_version", "facts", "content_hash", "created")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def test_an_upload_keeps_its_bytes_and_what_was_heard_in_it(store: AudioStore, upload: Any) -> None:
    sent = tone(duration_s=0.5)

    file = upload("früh 東京 🎤.wav", sent, folder="a b/c", text="Guten Tag")

    assert file.path.read_bytes() == sent
    assert file.relative == "a b/c/früh 東京 🎤.wav"
    assert (file.facts.duration_s, file.facts.sample_rate, file.facts.channels) == (0.5, 8000, 1)
    assert companion_of(file)["audio"]["content_hash"] == file.content_hash
    assert companion_of(file)["text"] == "Guten Tag"
    assert same(found(store).files[0], file)
    assert same(store.get(file.relative), file)


def test_an_upload_leaves_nothing_but_the_file_and_its_companion(store: AudioStore, upload: Any) -> None:
    upload()

    assert on_disk(store.root) == ["one.wav", "one.wav.json"]


def test_a_name_that_is_taken_is_refused_and_nothing_changes(store: AudioStore, upload: Any) -> None:
    first = upload(text="first")

    with pytest.raises(NameTaken):
        upload(content=tone(880), text="second")

    assert same(store.get("one.wav"), first)
    assert companion_of(first)["text"] == "first"


def test_what_is_refused_at_last_leaves_no_folder(store: AudioStore) -> None:
    asked = iter([None])

    def refuse(_: str) -> None:
        if next(asked, NameTaken) is NameTaken:
            raise NameTaken("once it was listened to")

    with pytest.raises(NameTaken):
        store.put(
            io.BytesIO(tone()),
            "a.wav",
            folder="new/one",
            overwrite=False,
            content=lambda _: {},
            max_bytes=MAX_BYTES,
            check=refuse,
        )

    assert list(store.root.iterdir()) == []


def test_with_overwrite_the_new_file_and_its_companion_take_the_place_of_the_old(
    store: AudioStore, upload: Any
) -> None:
    upload(text="first")

    second = upload(content=tone(880), text="second", overwrite=True)

    assert second.path.read_bytes() == tone(880)
    assert companion_of(second)["text"] == "second"
    assert [same(file, second) for file in found(store).files] == [True]


def test_of_several_uploads_of_one_name_at_once_one_is_taken(store: AudioStore, upload: Any) -> None:
    outcomes = at_once(6, lambda number: upload(content=tone(200 + 50 * number), text=str(number)))

    [winner] = [outcome for outcome in outcomes if isinstance(outcome, StoredFile)]
    assert [type(outcome) for outcome in outcomes].count(NameTaken) == 5
    assert store.get("one.wav").content_hash == winner.content_hash
    assert on_disk(store.root) == ["one.wav", "one.wav.json"]


class Endless(io.BytesIO):
    """An upload that never ends; how much of it was read."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        self.count += size or 0
        return bytes(size or 0)


def test_what_is_too_large_is_refused_before_it_is_read(libraries: Libraries, store: AudioStore) -> None:
    endless = Endless()

    with pytest.raises(FileTooLarge):
        libraries.vc_inputs.add(endless, "a.wav", folder=None, overwrite=False, text="", max_bytes=3_000_000)

    assert endless.count < 5_000_000
    assert on_disk(store.root) == []


@pytest.mark.parametrize(
    ("content", "failure"),
    [
        (b"", InvalidAudio),
        (b"not audio at all, whatever its name says", InvalidAudio),
        (tone()[:20], InvalidAudio),
        (tone(duration_s=0.05), InvalidAudio),
        (tone(container="AIFF"), UnsupportedAudio),
    ],
)
def test_what_is_no_audio_that_can_be_kept_is_refused(store: AudioStore, content: bytes, failure: type) -> None:
    with pytest.raises(failure):
        store.put(
            io.BytesIO(content), "a.wav", folder="new", overwrite=False, content=lambda _: {}, max_bytes=MAX_BYTES
        )

    assert on_disk(store.root) == []
    assert listed(store) == []


def test_a_full_disk_refuses_uploads(tmp_path: Path) -> None:
    full = Libraries(StorageSettings(min_free_mb=10**12), tmp_path)
    with closing(full), pytest.raises(StorageFull):
        full.vc_inputs.add(io.BytesIO(tone()), "a.wav", folder=None, overwrite=False, text="", max_bytes=MAX_BYTES)


@pytest.mark.parametrize(
    ("sent_as", "container", "kept_as"),
    [
        ("one.wav", "WAV", "one.wav"),
        ("one.WAV", "WAV", "one.WAV"),
        ("one.mp3", "WAV", "one.mp3"),
        ("one.bin", "WAV", "one.bin.wav"),
        ("one", "FLAC", "one.flac"),
        ("Dr. No", "WAV", "Dr. No.wav"),
    ],
)
def test_a_name_that_is_none_of_audio_gets_the_extension_of_what_it_is(
    upload: Any, sent_as: str, container: str, kept_as: str
) -> None:
    assert upload(sent_as, tone(container=container)).filename == kept_as


def test_the_content_says_what_it_is_not_the_name(upload: Any) -> None:
    assert upload("one.wav", tone(container="FLAC")).facts.format == "flac"


@pytest.mark.parametrize("name", ["../a.wav", "/a.wav", "a\\b.wav", "a/b.wav", ".a.wav", "a\0.wav", "con.wav", ""])
def test_a_name_that_is_no_file_name_is_refused(store: AudioStore, upload: Any, name: str) -> None:
    with pytest.raises(InvalidPath):
        upload(name)

    assert on_disk(store.root.parent / "outputs") == on_disk(store.root) == []


@pytest.mark.parametrize("folder", ["..", "a/../..", "/tmp", "a//b", "C:/a", ".hidden", LONGEST_FOLDER])
def test_a_folder_that_is_none_is_refused(upload: Any, folder: str) -> None:
    with pytest.raises(InvalidPath):
        upload(folder=folder)


def test_a_file_is_no_folder_and_a_folder_no_file(store: AudioStore, upload: Any) -> None:
    upload("one.wav", folder="two.wav")

    with pytest.raises(InvalidPath):
        upload("three.wav", folder="two.wav/one.wav")
    with pytest.raises(InvalidPath):
        upload("two.wav", overwrite=True)


def test_a_file_that_was_opened_is_read_to_its_end_though_it_is_deleted(store: AudioStore, upload: Any) -> None:
    upload()
    _, opened = store.open("one.wav")

    with opened:
        store.delete("one.wav")
        assert opened.read() == tone()


def test_a_deleted_file_takes_its_companion_along(store: AudioStore, upload: Any) -> None:
    upload(folder="a")

    assert store.delete("a/one.wav") == ["a/one.wav"]
    assert on_disk(store.root) == []
    assert listed(store) == []
    with pytest.raises(FileMissing):
        store.delete("a/one.wav")


@pytest.mark.parametrize("name", ["one.wav.json", "nothing.wav", "a"])
def test_only_audio_is_found_and_deleted(store: AudioStore, upload: Any, name: str) -> None:
    upload()
    upload(folder="a")

    for refused in (store.get, store.open, store.delete):
        with pytest.raises(FileMissing):
            refused(name)
    assert len(on_disk(store.root)) == 4


def test_bulk_deletion_takes_what_meets_every_criterion(store: AudioStore, upload: Any) -> None:
    for folder, name in (("a", "one"), ("a/b", "one"), ("a/b", "two"), ("ab", "one")):
        upload(f"{name}.wav", folder=folder)

    removed = store.delete_matching(Selection(folder="a", filenames=["one.wav"]), with_folder=True)

    assert sorted(removed) == ["a/b/one.wav", "a/one.wav"]
    assert listed(store) == ["ab/one.wav", "a/b/two.wav"]


def test_a_named_folder_goes_with_its_files_and_empty_folders(store: AudioStore, upload: Any) -> None:
    upload(folder="a/b/c")
    (store.root / "a" / "empty" / "inside").mkdir(parents=True)
    upload(folder="ab")

    store.delete_matching(Selection(folder="a"), with_folder=True)

    assert sorted(path.name for path in store.root.iterdir()) == ["ab"]
    assert [folder.path for folder in store.folders()] == ["", "ab"]


def test_a_folder_that_is_a_category_stays(store: AudioStore, upload: Any) -> None:
    upload(folder="a/b")

    store.delete_matching(Selection(folder="a"), with_folder=False)

    assert [(folder.path, folder.count) for folder in store.folders()] == [("", 0), ("a", 0), ("a/b", 0)]


def test_a_folder_with_files_of_other_people_stays_and_the_empty_ones_in_it_go(store: AudioStore, upload: Any) -> None:
    upload(folder="a/b")
    upload(folder="a/c")
    drop(store.root / "a" / "c" / "notes.txt", b"keep me")

    store.delete_matching(Selection(folder="a"), with_folder=True)

    assert on_disk(store.root) == ["a/c/notes.txt"]
    assert [folder.path for folder in store.folders()] == ["", "a", "a/c"]


def test_a_named_folder_goes_with_the_broken_audio_in_it(store: AudioStore, upload: Any) -> None:
    upload(folder="a")
    drop(store.root / "a" / "broken.wav", b"")
    store.rescan()

    store.delete_matching(Selection(folder="a"), with_folder=True)

    assert not (store.root / "a").exists()


def test_the_folder_tree_counts_what_lies_directly_in_each(store: AudioStore, upload: Any) -> None:
    upload("one.wav")
    upload("one.wav", folder="a/b")
    upload("two.wav", folder="a/b")

    tree = {folder.path: (folder.count, folder.subfolders) for folder in store.folders()}

    assert tree == {"": (1, ["a"]), "a": (0, ["b"]), "a/b": (2, [])}
    assert store.totals() == (3, 3 * len(tone()))


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder beside the libraries with a recording that no client may reach."""
    folder = tmp_path / "outside"
    drop(folder / "secret.wav", tone())
    yield folder
    assert on_disk(folder) == ["secret.wav"], "something was deleted, or left, outside"


def test_links_are_neither_listed_nor_followed(store: AudioStore, outside: Path) -> None:
    (store.root / "folder").symlink_to(outside)
    (store.root / "file.wav").symlink_to(outside / "secret.wav")
    store.rescan()

    assert listed(store) == []
    assert [folder.path for folder in store.folders()] == [""]
    for name in ("folder/secret.wav", "file.wav"):
        with pytest.raises(InvalidPath):
            store.open(name)
        with pytest.raises(InvalidPath):
            store.delete(name)


def test_nothing_is_put_through_a_link(store: AudioStore, upload: Any, outside: Path) -> None:
    (store.root / "folder").symlink_to(outside)

    with pytest.raises(InvalidPath):
        upload("new.wav", folder="folder")
    with pytest.raises(InvalidPath):
        store.delete_matching(Selection(folder="folder"), with_folder=True)


def test_nothing_is_deleted_through_a_link_that_took_the_place_of_a_folder(
    store: AudioStore, upload: Any, outside: Path
) -> None:
    upload("secret.wav", folder="folder")
    (store.root / "folder").rename(store.root.parent / "before")
    (store.root / "folder").symlink_to(outside)

    store.delete_matching(Selection(search="secret"), with_folder=False)


def test_a_folder_that_became_a_link_is_not_listed_any_more(store: AudioStore, upload: Any, outside: Path) -> None:
    upload("secret.wav", folder="folder")
    (store.root / "folder").rename(store.root.parent / "before")
    (store.root / "folder").symlink_to(outside)

    store.rescan()

    assert listed(store) == []


def test_a_link_within_the_library_makes_no_second_file(store: AudioStore, upload: Any) -> None:
    upload(folder="a")
    (store.root / "b").symlink_to(store.root / "a")

    with suppress(FileMissing, InvalidPath):
        store.get("b/one.wav")
    store.rescan()

    assert listed(store) == ["a/one.wav"]


DECOMPOSED = unicodedata.normalize("NFD", "früh")


@pytest.fixture
def decomposed(store: AudioStore) -> AudioStore:
    """A library that was copied from a Mac."""
    drop(store.root / DECOMPOSED / f"{DECOMPOSED}.wav", tone())
    store.rescan()
    return store


def test_names_that_the_disk_spells_decomposed_are_found_composed(decomposed: AudioStore) -> None:
    assert decomposed.get("früh/früh.wav").path.is_file()
    assert len(listed(decomposed, search="früh")) == 1
    assert decomposed.delete("früh/früh.wav")
    assert on_disk(decomposed.root) == []


@pytest.mark.parametrize(
    "criteria", [{"folder": "früh"}, {"filenames": ["früh.wav"]}, {"filenames": ["früh/früh.wav"]}]
)
def test_criteria_find_names_that_the_disk_spells_decomposed(decomposed: AudioStore, criteria: dict[str, Any]) -> None:
    assert len(listed(decomposed, **criteria)) == 1


def test_a_name_that_the_disk_spells_decomposed_is_taken(decomposed: AudioStore, upload: Any) -> None:
    with pytest.raises(NameTaken):
        upload("früh.wav", folder="früh")


def test_files_in_use_are_known_as_such_until_the_last_user_has_gone(store: AudioStore, upload: Any) -> None:
    path = upload().path

    with store.in_use(path), store.in_use(path):
        pass
    with store.in_use(path):
        assert store.is_in_use(path)

    assert not store.is_in_use(path)
