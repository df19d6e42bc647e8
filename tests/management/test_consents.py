from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path

import pytest

from management.consents import Consents
from management.libraries import Libraries
from management.stored import StoredFile
from resilience.errors import FileMissing, InvalidAudio
from tests.management.sounds import MAX_BYTES, on_disk, opened, tone


@pytest.fixture
def consents(libraries: Libraries) -> Consents:
    return libraries.consents


def add(consents: Consents, name: str = "Anna", content: bytes | None = None) -> StoredFile:
    return consents.add(io.BytesIO(content or tone()), name=name, language="en", max_bytes=MAX_BYTES)


def test_a_consent_is_known_by_its_id_also_after_a_restart(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as before:
        given = add(before.consents)

    with closing(opened(tmp_path)) as after:
        found = after.consents.get(given.stem)
        assert (found.relative, found.content_hash, found.created) == (
            given.relative,
            given.content_hash,
            given.created,
        )
        assert (found.description.name, found.about["language"]) == ("Anna", "en")


def test_renamed_it_is_the_same_recording(consents: Consents) -> None:
    given = add(consents)

    renamed = consents.rename(given.stem, "Anna Maria")

    assert renamed.description.name == "Anna Maria"
    assert (renamed.stem, renamed.created, renamed.about["language"]) == (given.stem, given.created, "en")


def test_removed_nothing_of_it_is_left(consents: Consents) -> None:
    given = add(consents)

    consents.remove(given.stem)

    assert on_disk(consents.store.root) == []
    for call in (consents.get, consents.remove):
        with pytest.raises(FileMissing):
            call(given.stem)


def test_what_is_no_audio_is_not_kept(consents: Consents) -> None:
    with pytest.raises(InvalidAudio):
        add(consents, content=b"no audio at all")

    assert on_disk(consents.store.root) == []


def test_they_are_paged_from_the_newest(consents: Consents) -> None:
    given = [add(consents, str(number)).stem for number in range(4)][::-1]

    def after(identity: str | None, most: int) -> tuple[list[str], bool]:
        files, has_more = consents.after(identity, most)
        return [file.stem for file in files], has_more

    assert after(None, 3) == (given[:3], True)
    assert after(given[2], 3) == (given[3:], False)
    assert after(None, 4) == (given, False)
    assert after("cons_0", 3) == ([], False)
