from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from management.libraries import Libraries
from management.outputs import OutputFile, Outputs
from management.stored import Selection
from resilience.errors import FileMissing, InvalidAudio, InvalidPath, NameTaken
from tests.management.sounds import at_once, drop, found, listed, on_disk, opened, tone
from utils.audio.formats import Bitrates
from utils.audio.waveform import Extent, Waveform

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
        save(outputs, folder="a/b", check=leave_at_the_second)

    assert list(outputs.store.root.iterdir()) == []
    assert listed(outputs.store) == []


def test_work_that_is_left_takes_only_the_folders_along_that_it_made(outputs: Outputs) -> None:
    root = outputs.store.root
    (root / "before").mkdir()

    def left() -> Iterator[Any]:
        yield SOUND.samples[:, np.newaxis]
        drop(root / "kept" / "by somebody.wav", tone())
        raise InterruptedError

    for folder in ("before/new", "kept/new"):
        with pytest.raises(InterruptedError):
            save_stream(outputs, left(), folder=folder)

    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*")) == [
        "before",
        "kept",
        "kept/by somebody.wav",
    ]


def test_who_leaves_a_new_folder_disturbs_nobody_who_stays(outputs: Outputs) -> None:
    def work(number: int) -> Any:
        def blocks() -> Iterator[Any]:
            yield SOUND.samples[:, np.newaxis]
            if number % 2:
                raise InterruptedError

        return save_stream(outputs, blocks(), folder=f"new/{number // 8}", stem=f"take {number}")

    done = at_once(24, work)

    assert [type(one) for one in done] == [list, InterruptedError] * 12
    assert len(listed(outputs.store)) == 24  # two formats each


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


# What comes in blocks, and measures


def save_stream(outputs: Outputs, blocks: Any = None, **changes: Any) -> list[OutputFile]:
    samples = SOUND.samples[:, np.newaxis]
    asked: dict[str, Any] = {
        "stem": "joined",
        "folder": None,
        "formats": ["wav", "mp3"],
        "bitrates": Bitrates(),
        "chapters": [],
        "companion": lambda: {"type": "concat"},
        "overwrite": False,
        "check": lambda: None,
    }
    extent = Extent(len(samples), SOUND.sample_rate)
    return outputs.save_stream(np.array_split(samples, 5) if blocks is None else blocks, extent, **{**asked, **changes})


def test_what_comes_in_blocks_is_kept_as_what_is_there_at_once(outputs: Outputs) -> None:
    at_once, stream = save(outputs, formats=["wav", "flac"]), save_stream(outputs, formats=["wav", "flac"])

    for one, other in zip(at_once, stream, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
        facts = outputs.store.get(other.relative).facts
        assert facts == outputs.store.get(one.relative).facts
    assert [file.relative for file in stream] == ["joined.wav", "joined.flac"]


def test_a_stream_that_breaks_off_leaves_nothing(outputs: Outputs) -> None:
    def breaks_off() -> Iterator[Any]:
        yield SOUND.samples[:100, np.newaxis]
        raise FileMissing("gone")

    with pytest.raises(FileMissing):
        save_stream(outputs, breaks_off(), formats=["wav", "mp3", "flac", "opus", "aac"])

    assert on_disk(outputs.store.root) == []


def test_a_name_that_is_taken_is_taken_in_every_format(outputs: Outputs) -> None:
    save_stream(outputs, formats=["wav", "mp3"])

    with pytest.raises(NameTaken):
        save_stream(outputs, formats=["flac"])
    with pytest.raises(NameTaken):
        outputs.refuse_taken(None, "Joined", overwrite=True)
    replaced = save_stream(outputs, formats=["flac", "wav"], overwrite=True)

    assert on_disk(outputs.store.root) == ["joined.flac", "joined.json", "joined.wav"]
    assert listed(outputs.store) == ["joined.flac", "joined.wav"]
    assert {file.format.name for file in replaced} == {"flac", "wav"}


def test_a_clip_is_measured_once_whatever_it_is_called(outputs: Outputs, tmp_path: Path) -> None:
    path = drop(tmp_path / "clip.wav", tone(duration_s=1))

    measured = outputs.measured(path, "hash of it")
    path.unlink()

    assert outputs.measured(path, "hash of it") == measured
    with pytest.raises(FileMissing):
        outputs.measured(path, "another")


def test_measures_of_what_is_gone_are_forgotten_at_the_next_start(tmp_path: Path) -> None:
    first = opened(tmp_path)
    kept = first.outputs.find(save_stream(first.outputs, formats=["wav"])[0].relative)
    measured = first.outputs.measured(kept.path, kept.content_hash)
    passing = drop(tmp_path / "upload.wav", tone(duration_s=1))
    first.outputs.measured(passing, "an upload's")
    first.close()
    passing.unlink()

    second = opened(tmp_path)
    kept.path.rename(tmp_path / "away.wav")
    again = second.outputs.measured(kept.path, kept.content_hash)
    with pytest.raises(FileMissing):
        second.outputs.measured(passing, "an upload's")
    second.close()

    assert again == measured


def test_what_is_there_but_no_audio_is_told_from_what_is_not_there(outputs: Outputs) -> None:
    drop(outputs.store.root / "notes.txt", b"words")
    drop(outputs.store.root / "bare.pcm", b"\0\0" * 8000)
    drop(outputs.store.root / "broken.wav", b"RIFF")

    for name in ("notes.txt", "bare.pcm", "broken.wav"):
        with pytest.raises(InvalidAudio):
            outputs.find(name)
    for name in ("other.txt", "other.wav"):
        with pytest.raises(FileMissing):
            outputs.find(name)
    with pytest.raises(InvalidPath):
        outputs.find("../outputs/notes.txt")
