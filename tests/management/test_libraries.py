from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path

from management.libraries import Libraries
from tests.management.sounds import MAX_BYTES, comes_true, drop, listed, on_disk, opened, tone
from utils.files.atomic import TEMPORARY_PREFIX


def test_the_libraries_lie_below_the_data_folder(libraries: Libraries, tmp_path: Path) -> None:
    assert {store.root for store in libraries.stores} == {
        tmp_path / "voices",
        tmp_path / "vc_inputs",
        tmp_path / "outputs",
        tmp_path / "consents",
    }


def test_opened_again_they_are_what_they_were(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as before:
        before.open()
        before.voices.add(
            io.BytesIO(tone()), "anna.wav", folder="a", overwrite=False, details={"name": "A"}, max_bytes=MAX_BYTES
        )
        before.record_use("a/anna.wav", "")
        expected = before.voices.get("A")

    with closing(opened(tmp_path)) as after:
        after.open()
        assert after.voices.get("A") == expected
        assert expected.usage_count == 1


def test_what_a_crash_left_is_gone_once_they_are_open(tmp_path: Path) -> None:
    for library in ("voices", "vc_inputs", "outputs"):
        drop(tmp_path / library / "a" / f"{TEMPORARY_PREFIX}4194305-{'0' * 32}", tone())

    with closing(opened(tmp_path)) as libraries:
        libraries.open()
        assert comes_true(lambda: all(on_disk(store.root) == [] for store in libraries.stores))


def test_what_was_done_while_they_were_closed_shows_up(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as before:
        before.open()
        drop(tmp_path / "voices" / "gone.wav", tone())
        assert comes_true(lambda: listed(before.voices.store) == ["gone.wav"])
    (tmp_path / "voices" / "gone.wav").unlink()
    drop(tmp_path / "voices" / "new.wav", tone())

    with closing(opened(tmp_path)) as after:
        after.open()
        assert comes_true(lambda: listed(after.voices.store) == ["new.wav"])


def test_files_in_use_are_marked_in_the_library_they_lie_in(libraries: Libraries, tmp_path: Path) -> None:
    voice, elsewhere = tmp_path / "voices" / "anna.wav", tmp_path / "elsewhere.wav"

    with libraries.in_use(voice, elsewhere):
        assert [store.is_in_use(voice) for store in libraries.stores] == [True, False, False, False]

    assert not libraries.voices.store.is_in_use(voice)
