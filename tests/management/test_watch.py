"""What people do to the files by hand, as it shows up while the libraries are open."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from config.settings import StorageSettings
from management.libraries import Libraries
from management.store import AudioStore
from management.watch import Watcher
from tests.management.sounds import comes_true, drop, found, listed, opened, tone


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Libraries]:
    libraries = opened(tmp_path)
    drop(tmp_path / "voices" / "first.wav", tone())
    libraries.open()
    assert comes_true(lambda: listed(libraries.voices.store) == ["first.wav"])
    yield libraries
    libraries.close()


@pytest.fixture
def store(watched: Libraries) -> AudioStore:
    return watched.voices.store


def test_what_is_done_by_hand_shows_up(store: AudioStore) -> None:
    path = drop(store.root / "a" / "anna.wav", tone())
    assert comes_true(lambda: listed(store, folder="a") == ["a/anna.wav"])

    drop(path.with_name("anna.wav.json"), b'{"description": "calm"}')
    assert comes_true(lambda: listed(store, search="calm") == ["a/anna.wav"])

    path.write_bytes(tone(duration_s=1))
    assert comes_true(lambda: found(store, folder="a").files[0].facts.duration_s == 1)

    path.parent.rename(store.root / "b")
    assert comes_true(lambda: listed(store) == ["b/anna.wav", "first.wav"])
    assert comes_true(lambda: [folder.path for folder in store.folders()] == ["", "b"])

    shutil.rmtree(store.root / "b")
    assert comes_true(lambda: listed(store) == ["first.wav"])


def is_listed(store: AudioStore) -> bool:
    return "deep/down/new.wav" in listed(store)


def test_every_library_is_watched(watched: Libraries) -> None:
    for store in watched.stores:
        drop(store.root / "deep" / "down" / "new.wav", tone())

    for store in watched.stores:
        assert comes_true(partial(is_listed, store))


@pytest.mark.skipif(os.name != "posix", reason="names of bytes, links, permissions")
def test_nothing_that_lies_in_a_library_ends_the_watch(store: AudioStore) -> None:
    drop(store.root / "broken.wav", b"")
    (store.root / "loop.wav").symlink_to(store.root / "loop.wav")
    (store.root / "loop").symlink_to(store.root)
    (store.root / "folder.wav").mkdir()
    os.mkfifo(store.root / "pipe.wav")
    drop(Path(os.fsdecode(os.fsencode(store.root) + b"/\xff.wav")), tone())
    drop(
        store.root / "first.wav.json", b'{"name": "\\ud800", "usage_count": 1e999, "created_date": "0001-01-01T00+10"}'
    )
    assert comes_true(lambda: "broken.wav" in dict(store.broken()))

    drop(store.root / "last.wav", tone())

    assert comes_true(lambda: listed(store) == ["first.wav", "last.wav"])


def test_the_whole_library_may_go_and_come_back(store: AudioStore) -> None:
    shutil.rmtree(store.root)
    assert comes_true(lambda: listed(store) == [])

    drop(store.root / "again.wav", tone())

    assert comes_true(lambda: listed(store) == ["again.wav"])


def test_where_the_system_reports_nothing_the_folders_are_looked_through(
    watched: Libraries, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise OSError("no more watches")

    watcher = Watcher([watched.vc_inputs.store], 60, lambda: None)
    monkeypatch.setattr(watcher, "_watch", refuse)
    caplog.set_level(logging.WARNING)
    watcher.start()

    drop(watched.vc_inputs.store.root / "new.wav", tone())

    assert comes_true(lambda: "new.wav" in listed(watched.vc_inputs.store))
    assert "looking through" in caplog.text
    watcher.stop()


def test_the_watch_ends_with_the_libraries(tmp_path: Path) -> None:
    libraries = Libraries(StorageSettings(min_free_mb=0), tmp_path)
    libraries.open()
    libraries.close()

    assert not libraries._watcher._thread.is_alive()
