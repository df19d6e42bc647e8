"""What listings find, in which order, and what becomes of an index that cannot be used."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from management.libraries import INDEX, Libraries
from management.store import AudioStore
from management.stored import Selection
from tests.management.sounds import drop, found, listed, on_disk, opened, tone

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


def test_what_a_listing_says_does_not_depend_on_how_many_files_it_has_to_look_through(
    libraries: Libraries, library: AudioStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers() -> list[Any]:
        return [
            (file.relative, total)
            for criteria in (
                {},
                {"folder": "a"},
                {"search": "calm"},
                {"search": "東"},
                {"tag": "calm"},
                {"search": "a"},
            )
            for sort_by in ("name", "created_date", "usage_count")
            for file, total in [
                (file, page.total)
                for page in [
                    found(library, sort_by, search=None) if not criteria else found(library, sort_by, **criteria)
                ]
                for file in page.files
            ]
        ]

    few = answers()
    monkeypatch.setattr("management.index.FEW", 0)

    assert answers() == few


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
        for table in ("files", "details_voices", "tags", "aliases", "broken"):
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
