"""What listings find, in which order, and what becomes of an index that cannot be used."""

from __future__ import annotations

import json
import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from management.libraries import INDEX, Libraries
from management.store import AudioStore
from management.stored import Description, Selection, StoredFile
from tests.management.sounds import drop, found, listed, on_disk, opened, tone
from utils.text.fold import fold

SOUND = tone()


def put(store: AudioStore, relative: str, **companion: Any) -> None:
    path = drop(store.root / relative, SOUND)
    drop(store.companion_path(path), json.dumps(companion).encode())


@pytest.fixture
def store(libraries: Libraries) -> AudioStore:
    return libraries.voices.store


@pytest.fixture
def library(store: AudioStore) -> AudioStore:
    put(store, "anna.wav", name="Änne Müller", description="Warm & slow", tags=["Calm", "deep"])
    put(store, "a/ben.wav", description='says "hello" 100% of the time', tags=["calm"])
    put(store, "a/b/東京の声.wav", description="東京から来た女性の声", tags=["日本語"])
    put(store, "ab/snake_case.wav", description="C:\\path * OR NEAR(x) -minus ^caret", aliases=["The Boss"])
    put(store, "straße/x.wav", description="été")
    store.rescan()
    return store


@pytest.mark.parametrize(
    ("search", "stems"),
    [
        ("anna", ["anna"]),
        ("ANNE", ["anna"]),
        ("muller", ["anna"]),
        ("MÜLLER", ["anna"]),
        ("ulle", ["anna"]),
        ("slow warm", ["anna"]),
        ("calm", ["anna", "ben"]),
        ("calm deep", ["anna"]),
        ("calm nothing", []),
        ("the boss", ["snake_case"]),
        ("東", ["東京の声"]),
        ("東京", ["東京の声"]),
        ("女性の", ["東京の声"]),
        ("日本語 東", ["東京の声"]),
        ("ＡＮＮＡ", ["anna"]),
        ('"hello"', ["ben"]),
        ('"', ["ben"]),
        ('"he', ["ben"]),
        ("100%", ["ben"]),
        ("%", ["ben"]),
        ("_", ["snake_case"]),
        ("snake_case", ["snake_case"]),
        ("e_c", ["snake_case"]),
        ("*", ["snake_case"]),
        ("OR NEAR(x)", ["snake_case"]),
        ("-minus", ["snake_case"]),
        ("^caret", ["snake_case"]),
        ("c:\\path", ["snake_case"]),
        ("&", ["anna"]),
        ("' OR 1=1 --", []),
        ("strasse", ["x"]),
        ("ete", ["x"]),
        ("ab/", ["snake_case"]),
        (".wav", ["anna", "ben", "snake_case", "x", "東京の声"]),
        ("a\0nna", ["anna"]),
    ],
)
def test_a_search_finds_parts_of_words_in_all_that_is_said_of_a_file(
    library: AudioStore, search: str, stems: list[str]
) -> None:
    page = found(library, sort_by="filename", search=search)

    assert sorted(file.stem for file in page.files) == sorted(stems)
    assert page.total == len(stems)


@pytest.mark.parametrize(
    ("folder", "stems"),
    [
        ("a", ["ben", "東京の声"]),
        ("a/b", ["東京の声"]),
        ("ab", ["snake_case"]),
        ("straße", ["x"]),
        ("b", []),
        ("A", []),
    ],
)
def test_a_folder_means_what_lies_below_it_and_no_name_that_begins_alike(
    library: AudioStore, folder: str, stems: list[str]
) -> None:
    assert sorted(file.stem for file in found(library, folder=folder).files) == sorted(stems)
    assert found(library, folder=folder).total == len(stems)


@pytest.mark.parametrize(
    ("criteria", "stems"),
    [
        ({"tag": "CALM"}, ["anna", "ben"]),
        ({"tag": "cal"}, []),
        ({"tag": "calm", "folder": "a"}, ["ben"]),
        ({"tag": "calm", "search": "slow"}, ["anna"]),
        ({"filenames": ["anna.wav", "x.wav"]}, ["anna", "x"]),
        ({"filenames": ["a/ben.wav"]}, ["ben"]),
        ({"filenames": ["b/ben.wav", "anna"]}, []),
        ({"filenames": ["ben.wav"], "folder": "ab"}, []),
        ({"folder": "a", "search": "東"}, ["東京の声"]),
    ],
)
def test_criteria_add_up(library: AudioStore, criteria: dict[str, Any], stems: list[str]) -> None:
    assert sorted(file.stem for file in found(library, **criteria).files) == sorted(stems)
    assert {file.stem for file in library.shelf.select(Selection(**criteria))} == set(stems)


def test_outputs_are_found_by_type_and_time(libraries: Libraries) -> None:
    store = libraries.outputs.store
    for number, kind in enumerate(("tts", "vc", "concat", "odd")):
        put(store, f"{number}.wav", type=kind, created_date=f"2026-01-0{number + 1}T12:00:00+00:00")
    store.rescan()

    def at(day: int) -> datetime:
        return datetime(2026, 1, day, 12, tzinfo=UTC)

    assert listed(store, generation_type="vc") == ["1.wav"]
    assert listed(store, date_from=at(2), date_to=at(3)) == ["1.wav", "2.wav"]
    assert listed(store, date_from=at(3)) == ["2.wav", "3.wav"]
    assert [file.generation_type for file in found(store).files] == ["tts", "vc", "concat", None]
    assert [file.relative for file in store.oldest()] == ["0.wav", "1.wav", "2.wav", "3.wav"]


def test_each_sort_has_its_order_and_the_other_way_round(library: AudioStore) -> None:
    drop(library.root / "long.wav", tone(duration_s=1))
    put(library, "used.wav", usage_count=3, last_used="2026-01-01", created_date="2020-01-01")
    library.rescan()

    first = {"name": "anna", "filename": "anna", "created_date": "used"}
    last = {"name": "東京の声", "duration": "long", "size": "long", "usage_count": "used", "last_used": "used"}
    for sort_by in ("name", "filename", "created_date", "duration", "size", "usage_count", "last_used"):
        rising = [file.stem for file in found(library, sort_by=sort_by).files]
        falling = [file.stem for file in found(library, sort_by=sort_by, descending=True).files]
        assert falling == rising[::-1]
        assert rising[0] == first.get(sort_by, rising[0])
        assert rising[-1] == last.get(sort_by, rising[-1])


def test_names_are_sorted_as_people_read_them(store: AudioStore) -> None:
    for number, name in enumerate(("Zoë", "änne", "Anna", "bela", "Ömer")):
        put(store, f"{number}.wav", name=name)
    store.rescan()

    assert [file.description.name for file in found(store).files] == ["Anna", "änne", "bela", "Ömer", "Zoë"]


def test_pages_hold_every_file_once_and_end(store: AudioStore) -> None:
    for number in range(7):
        put(store, f"{number}.wav", name="same", created_date="2026-01-01")
    store.rescan()

    for sort_by in ("name", "created_date", "duration", "generation_type"):
        pages = [
            store.page(Selection(search=search), sort_by=sort_by, descending=True, page=number, page_size=3)
            for search in (None, "same")
            for number in (1, 2, 3, 4, 10**30)
        ]
        assert [len(page.files) for page in pages] == [3, 3, 1, 0, 0] * 2
        assert {page.total for page in pages} == {7}
        assert len({file.relative for page in pages[:3] for file in page.files}) == 7


WORDS = ("harbour", "東京", "été", "to be", "ox")


def many(store: AudioStore, count: int) -> list[StoredFile]:
    """So many that listings take other ways to find them, written down without being there."""
    one = store.get(drop(store.root / "one.wav", SOUND).name)
    lots = random.Random(count)
    folders = ["", "a", "a/b", "ab", *(f"c/{number}" for number in range(20))]
    files = []
    for number in range(count):
        said = Description(
            created=datetime.fromtimestamp(lots.randrange(10**9), UTC),
            name=f"{lots.choice(WORDS)} {number}",
            tags=[lots.choice(WORDS)],
            searched=[lots.choice(WORDS)],
            usage_count=lots.randrange(5),
            generation_type=lots.choice(("tts", "vc", None)),
        )
        relative = f"{lots.choice(folders)}/{number:05}.wav".lstrip("/")
        files.append(replace(one, relative=relative, path=store.root / relative, description=said))
    store.delete("one.wav")
    store.shelf.note_folders([folder for folder in [*folders, "c"] if folder])
    store.shelf.write(files)
    return files


CRITERIA: list[tuple[dict[str, Any], Callable[[StoredFile], bool]]] = [
    ({}, lambda file: True),
    ({"folder": "a"}, lambda file: file.folder in ("a", "a/b")),
    ({"folder": "c"}, lambda file: file.folder.startswith("c/")),
    ({"tag": "ETE"}, lambda file: file.description.tags == ["été"]),
    ({"generation_type": "vc"}, lambda file: file.generation_type == "vc"),
    ({"date_from": datetime(1990, 1, 1, tzinfo=UTC)}, lambda file: file.created.year >= 1990),
    ({"search": "harbour"}, lambda file: "harbour" in text_of(file)),
    ({"search": "arb ete"}, lambda file: "harbour" in text_of(file) and "été" in text_of(file)),
    ({"search": "東"}, lambda file: "東京" in text_of(file)),
    ({"search": "ox harbour"}, lambda file: "ox" in text_of(file) and "harbour" in text_of(file)),
    ({"search": "harbour", "folder": "ab"}, lambda file: "harbour" in text_of(file) and file.folder == "ab"),
    (
        {"search": "be", "generation_type": "tts"},
        lambda file: "to be" in text_of(file) and file.generation_type == "tts",
    ),
    ({"search": "00017"}, lambda file: "00017" in text_of(file)),
    ({"filenames": ["00003.wav", "00004.wav"]}, lambda file: file.filename in ("00003.wav", "00004.wav")),
]


def text_of(file: StoredFile) -> str:
    said = file.description
    return "\n".join([file.relative, said.name, *said.tags, *said.searched])


def test_listings_are_right_however_many_files_there_are(store: AudioStore) -> None:
    files = many(store, 4500)
    keys: dict[str, Callable[[StoredFile], Any]] = {
        "created_date": lambda file: file.created,
        "name": lambda file: fold(file.description.name),
        "filename": lambda file: file.filename,
        "usage_count": lambda file: file.usage_count,
    }

    for criteria, meets in CRITERIA:
        wanted = [file for file in files if meets(file)]
        assert {file.relative for file in store.shelf.select(Selection(**criteria))} == {
            file.relative for file in wanted
        }, criteria
        for sort_by, key in keys.items():
            ordered = sorted(wanted, key=key, reverse=True)
            last = max(1, -(-len(wanted) // 50))
            for page in {1, 2, last // 2 + 1, last, last + 1}:
                found_page = store.page(
                    Selection(**criteria), sort_by=sort_by, descending=True, page=page, page_size=50
                )
                expected = ordered[(page - 1) * 50 : page * 50]
                assert found_page.total == len(wanted), criteria
                assert [key(file) for file in found_page.files] == [key(file) for file in expected], (criteria, sort_by)


# The database


def deleted(path: Path) -> None:
    path.unlink()


def deleted_but_for_its_log(path: Path) -> None:
    # Only what was checkpointed was in the file; SQLite must not play the log of another into the new one.
    path.with_name(f"{INDEX}-wal").write_bytes(path.read_bytes()[:9000])
    path.unlink()


def of_another_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")


def of_another_program(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE files (a)")


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(20_000))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:6000])


def half_overwritten(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + os.urandom(len(content) - 4096))


@pytest.mark.parametrize(
    "harm",
    [
        deleted,
        deleted_but_for_its_log,
        of_another_version,
        of_another_program,
        garbage,
        emptied,
        cut_off,
        half_overwritten,
    ],
    ids=lambda harm: harm.__name__,
)
def test_an_index_that_cannot_be_used_is_made_anew_from_the_files(tmp_path: Path, harm: Any) -> None:
    with closing(opened(tmp_path)) as before:
        put(before.voices.store, "a/anna.wav", description="calm", usage_count=7)
        put(before.voices.store, "ben.wav", tags=["x"])
        before.voices.store.rescan()
        expected = [(file.relative, file.description, file.facts) for file in found(before.voices.store).files]
    harm(tmp_path / INDEX)

    with closing(opened(tmp_path)) as after:
        after.voices.store.rescan()
        assert [(file.relative, file.description, file.facts) for file in found(after.voices.store).files] == expected
        assert listed(after.voices.store, search="calm") == ["a/anna.wav"]
        assert [(folder.path, folder.count) for folder in after.voices.store.folders()] == [("", 1), ("a", 1)]


def test_an_index_that_is_good_is_kept(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as before:
        put(before.voices.store, "anna.wav", description="calm")
        before.voices.store.rescan()

    with closing(opened(tmp_path)) as after:
        assert listed(after.voices.store, search="calm") == ["anna.wav"]


def test_the_index_forgets_all_that_it_knew_of_a_file(libraries: Libraries, library: AudioStore) -> None:
    library.delete_matching(Selection(), with_folder=False)

    assert on_disk(library.root) == []
    with libraries.voices.store.shelf._index.reading() as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in (name for name in tables if not name.startswith(("search_", "sqlite_", "folders"))):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM search_voices WHERE search_voices MATCH '\"wav\"'").fetchone() == (0,)
        assert db.execute("SELECT total(count), total(size) FROM folders").fetchone() == (0, 0)
    assert library.totals() == (0, 0)


def test_libraries_do_not_see_the_files_of_each_other(libraries: Libraries) -> None:
    put(libraries.voices.store, "a/same.wav", description="hello", tags=["x"])
    put(libraries.vc_inputs.store, "a/same.wav", text="hello")
    for store in libraries.stores:
        store.rescan()

    for store in (libraries.voices.store, libraries.vc_inputs.store):
        for criteria in ({}, {"search": "hello"}, {"folder": "a"}, {"filenames": ["same.wav"]}):
            assert found(store, **criteria).total == 1
    assert found(libraries.vc_inputs.store, tag="x").total == 0
    assert found(libraries.outputs.store, search="hello").total == 0

    libraries.voices.store.delete("a/same.wav")

    assert listed(libraries.vc_inputs.store, search="hello") == ["a/same.wav"]
