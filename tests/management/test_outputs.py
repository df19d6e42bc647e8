from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from management.libraries import Libraries
from management.outputs import OutputFile, Outputs
from management.stored import Selection
from resilience.errors import FileMissing, InvalidPath
from tests.management.sounds import drop, found, listed, on_disk, tone
from utils.audio.formats import Bitrates
from utils.audio.waveform import Waveform

SOUND = Waveform((0.1 * np.sin(np.arange(12_000) / 10)).astype(np.float32), 24_000)


@pytest.fixture
def outputs(libraries: Libraries) -> Outputs:
    return libraries.outputs


def save(outputs: Outputs, **changes: Any) -> list[OutputFile]:
    asked: dict[str, Any] = {
        "generation_type": "tts",
        "name_parameters": ["temp0.75"],
        "folder": None,
        "formats": ["wav", "mp3"],
        "bitrates": Bitrates(),
        "companion": {"type": "tts", "text": "Hello there", "request": {"seed": 7}},
    }
    return outputs.save(SOUND, **{**asked, **changes})


def suffixes(root: Path) -> list[str]:
    return sorted(path.suffix for path in root.rglob("*") if path.is_file())


def test_a_generation_is_its_formats_and_one_companion_that_names_them(outputs: Outputs) -> None:
    saved = save(outputs, folder="a/b", formats=["wav", "mp3", "flac"])

    assert suffixes(outputs.store.root) == [".flac", ".json", ".mp3", ".wav"]
    companion = json.loads(saved[0].path.with_suffix(".json").read_text())
    assert [file["filename"] for file in companion["files"]] == [file.path.name for file in saved]
    assert [file.relative for file in saved] == [f"a/b/{file.path.name}" for file in saved]
    for file in saved:
        assert outputs.store.get(file.relative).size_bytes == file.size_bytes == file.path.stat().st_size


def test_a_generation_is_listed_with_what_was_asked_for_and_its_formats_know_each_other(outputs: Outputs) -> None:
    save(outputs)
    save(outputs, formats=["flac"], generation_type="vc", companion={"type": "vc", "source_files": ["x.wav"]})

    listing = found(outputs.store, sort_by="created_date")

    assert [file.facts.format for file in listing.files] == ["wav", "mp3", "flac"]
    assert [list(file.formats) for file in listing.files] == [["mp3", "wav"], ["mp3", "wav"], ["flac"]]
    assert {file.facts.duration_s for file in listing.files} == {0.5}
    assert listing.files[0].about["parameters"] == {"seed": 7}
    assert listing.files[2].about["source_files"] == ["x.wav"]
    assert found(outputs.store, search="hello").total == found(outputs.store, generation_type="tts").total == 2
    assert found(outputs.store, search="x.wav").files == listing.files[2:]


def test_what_is_listed_of_a_generation_is_what_the_files_say_after_the_index_is_gone(outputs: Outputs) -> None:
    save(outputs, folder="a")
    before = found(outputs.store, sort_by="filename").files

    outputs.store.shelf.forget([file.relative for file in before])
    outputs.store.rescan()

    assert found(outputs.store, sort_by="filename").files == before


def test_formats_in_other_folders_are_of_other_generations(outputs: Outputs) -> None:
    for relative in ("a/x.wav", "b/x.mp3", "a/X.flac"):
        drop(outputs.store.root / relative, tone())
    outputs.store.rescan()

    for file in found(outputs.store).files:
        assert list(file.formats) == [file.path.suffix[1:]]


def test_the_type_of_a_file_that_says_none_is_in_its_name(outputs: Outputs) -> None:
    for name in ("concat_one.wav", "holiday.wav"):
        drop(outputs.store.root / name, tone())
    outputs.store.rescan()

    assert [file.generation_type for file in found(outputs.store, sort_by="filename").files] == ["concat", None]


def test_work_that_is_left_before_writing_leaves_nothing(outputs: Outputs) -> None:
    def leave() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        save(outputs, folder="new", check=leave)

    assert list(outputs.store.root.iterdir()) == []


def test_work_that_is_left_while_its_files_are_written_leaves_nothing(outputs: Outputs) -> None:
    calls = iter([None])

    def leave_at_the_second() -> None:
        if next(calls, InterruptedError) is InterruptedError:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        save(outputs, check=leave_at_the_second)

    assert on_disk(outputs.store.root) == []
    assert listed(outputs.store) == []


def test_a_format_that_cannot_be_made_leaves_nothing_of_the_others(outputs: Outputs) -> None:
    with pytest.raises((KeyError, ValueError)):
        save(outputs, formats=["wav", "nonsense"])

    assert on_disk(outputs.store.root) == []
    assert listed(outputs.store) == []


def test_only_audio_below_the_library_is_found(outputs: Outputs) -> None:
    saved = save(outputs)

    with pytest.raises(FileMissing):
        outputs.store.get(saved[0].path.with_suffix(".json").name)
    with pytest.raises(InvalidPath):
        outputs.store.get("../outside.wav")


def test_the_companion_goes_with_the_last_format(outputs: Outputs) -> None:
    wav, mp3 = save(outputs, folder="a")

    assert outputs.store.delete(wav.relative) == [wav.relative]
    assert suffixes(outputs.store.root) == [".json", ".mp3"]
    assert [list(file.formats) for file in found(outputs.store).files] == [["mp3"]]

    assert outputs.store.delete(mp3.relative) == [mp3.relative]
    assert on_disk(outputs.store.root) == []


def test_a_format_that_a_person_added_keeps_the_companion(outputs: Outputs) -> None:
    [wav] = save(outputs, formats=["wav"])
    drop(wav.path.with_suffix(".flac"), tone(container="FLAC"))
    outputs.store.rescan()

    outputs.store.delete(wav.relative)

    assert suffixes(outputs.store.root) == [".flac", ".json"]
    assert found(outputs.store, search="hello").total == 1


def test_a_folder_that_is_deleted_takes_its_generations_along(outputs: Outputs) -> None:
    for folder in ("p", "p/a", "p/a/b", "pq", None):
        save(outputs, folder=folder)
    (outputs.store.root / "p" / "empty").mkdir()

    removed = outputs.store.delete_matching(Selection(folder="p"), with_folder=True)

    assert len(removed) == 6
    assert not (outputs.store.root / "p").exists()
    assert [folder.path for folder in outputs.store.folders()] == ["", "pq"]
    assert len(listed(outputs.store)) == 4


def test_a_folder_is_not_deleted_with_what_was_selected_in_it(outputs: Outputs) -> None:
    save(outputs, folder="p")

    outputs.store.delete_matching(Selection(folder="p", search="nothing like it"), with_folder=True)
    outputs.store.delete_matching(Selection(folder="p", generation_type="tts"), with_folder=True)

    assert (outputs.store.root / "p").is_dir()
    assert [folder.path for folder in outputs.store.folders()] == ["", "p"]


def test_generations_of_one_moment_have_names_of_their_own(outputs: Outputs) -> None:
    names = {file.relative for _ in range(5) for file in save(outputs, formats=["wav"])}

    assert len(names) == 5
