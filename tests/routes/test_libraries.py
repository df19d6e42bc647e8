"""What holds for voices, recordings to convert and outputs alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import pytest

from tests.libraries import LIBRARIES, OUTPUTS, VC_INPUTS, VOICES, Library, code, recording
from tests.serving import Server

NAMES = ["plain.wav", "with a blank.wav", "größe.wav", "日本語.wav", "🎙 ünï.wav", "100%25.wav", "a&b=c+d#e.wav"]
BAD_PATHS = ["../x.wav", "a/../../x.wav", "/etc/passwd", "a\\b.wav", "C:/x.wav", "con.wav", ".hidden.wav", "a//b.wav"]
each_library = pytest.mark.parametrize("library", LIBRARIES, ids=str)


# Listings


@each_library
def test_a_listing_comes_in_pages(client: httpx.Client, server: Server, folder: str, library: Library) -> None:
    for number in range(5):
        library.put(client, server, f"{folder}/{number}.wav")

    pages = [client.get(library.many_url, params={"folder": folder, "page": n, "page_size": 2}).json() for n in (1, 3)]

    assert [(page["count"], page["total_pages"], page["total_files"]) for page in pages] == [(2, 3, 5), (1, 3, 5)]
    assert [(page["has_next"], page["has_previous"]) for page in pages] == [(True, False), (False, True)]
    assert [(page["page"], page["page_size"]) for page in pages] == [(1, 2), (3, 2)]
    assert all(page["success"] is True and page["message"] and page["timestamp"] for page in pages)


@each_library
def test_a_page_past_the_end_is_empty(client: httpx.Client, folder: str, library: Library) -> None:
    reply = client.get(library.many_url, params={"folder": folder, "page": 1_000_000_000}).json()

    assert (reply["count"], reply["total_pages"], reply["has_next"], reply[library.files]) == (0, 1, False, [])


@each_library
@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("page", "0"),
        ("page_size", "0"),
        ("page_size", "101"),
        ("sort_by", "colour"),
        ("sort_order", "up"),
        ("serach", "x"),
        ("search", "a\x00b"),
    ],
)
def test_what_a_listing_does_not_take_is_a_422_that_names_it(
    client: httpx.Client, library: Library, parameter: str, value: str
) -> None:
    reply = client.get(library.many_url, params={parameter: value})

    assert code(reply) == (422, "VALIDATION_ERROR")
    assert reply.json()["detail"][0]["loc"] == ["query", parameter]


@each_library
def test_a_folder_means_what_lies_below_it_too(
    client: httpx.Client, server: Server, folder: str, library: Library
) -> None:
    for relative in ("one.wav", "inner/two.wav", "inner/most/three.wav"):
        library.put(client, server, f"{folder}/{relative}")
    library.put(client, server, f"{folder}2/four.wav")

    assert sorted(library.names(client, folder=folder)) == ["one.wav", "three.wav", "two.wav"]
    assert sorted(library.names(client, project=f"{folder}/inner")) == ["three.wav", "two.wav"]
    reply = client.get(library.many_url, params={"folder": folder, "project": "other"})
    assert code(reply) == (422, "VALIDATION_ERROR")
    assert "folder" in reply.json()["error"]


@each_library
def test_a_search_knows_no_case_and_no_accents(
    client: httpx.Client, server: Server, folder: str, library: Library
) -> None:
    library.put(client, server, f"{folder}/Größe Éins.wav")
    library.put(client, server, f"{folder}/other.wav")

    assert library.names(client, folder=folder, search="GROSSE eins") == ["Größe Éins.wav"]
    assert len(library.names(client, folder=folder, search="")) == 2
    assert library.names(client, folder=folder, search='" OR *') == []


@each_library
def test_files_sort_by_duration(client: httpx.Client, server: Server, folder: str, library: Library) -> None:
    whole = recording()
    samples = 2 * 24_000 * 4  # two seconds, of the four
    shorter = whole[: len(whole) - samples]
    library.put(client, server, f"{folder}/long.wav", whole)
    library.put(client, server, f"{folder}/short.wav", shorter)

    assert library.names(client, folder=folder, sort_by="duration", sort_order="asc") == ["short.wav", "long.wav"]
    assert library.names(client, folder=folder, sort_by="DURATION", sort_order="DESC") == ["long.wav", "short.wav"]


@pytest.mark.parametrize("library", [VC_INPUTS, OUTPUTS], ids=str)
def test_files_are_found_by_their_names_and_days(
    client: httpx.Client, server: Server, folder: str, library: Library
) -> None:
    library.put(client, server, f"{folder}/a.wav")
    library.put(client, server, f"{folder}/b/a.wav")
    library.put(client, server, f"{folder}/with, comma.wav")
    today, tomorrow = datetime.now(UTC), datetime.now(UTC) + timedelta(days=1)
    found = library.listed(client, folder=folder, filenames=f"{folder}/a.wav,nothing.wav")

    assert [file["folder_path"] for file in found] == [folder]
    assert len(library.listed(client, folder=folder, filenames="a.wav")) == 2
    assert library.names(client, folder=folder, filenames='["with, comma.wav"]') == ["with, comma.wav"]
    assert len(library.listed(client, folder=folder, date_from=f"{today - timedelta(days=1):%Y-%m-%d}")) == 3
    assert len(library.listed(client, folder=folder, date_to=f"{tomorrow:%Y-%m-%d}")) == 3
    assert library.listed(client, folder=folder, date_from=f"{tomorrow:%Y-%m-%dT%H:%M:%SZ}") == []
    assert library.listed(client, folder=folder, date_to=f"{today - timedelta(days=1):%Y-%m-%d}") == []
    refused = client.get(library.many_url, params={"date_from": "yesterday"})
    assert refused.json()["detail"][0]["loc"] == ["query", "date_from"]


@pytest.mark.parametrize("library", [VC_INPUTS, OUTPUTS], ids=str)
def test_the_newest_file_comes_first(client: httpx.Client, server: Server, folder: str, library: Library) -> None:
    for number in range(3):
        library.put(client, server, f"{folder}/{number}.wav")

    created = [file["created_date"] for file in library.listed(client, folder=folder)]

    assert created == sorted(created, reverse=True)


@each_library
def test_folders_are_listed_with_what_lies_directly_in_them(
    client: httpx.Client, server: Server, folder: str, library: Library
) -> None:
    library.put(client, server, f"{folder}/one.wav")
    library.put(client, server, f"{folder}/ïnner 日/two.wav")

    reply = client.get(f"{library.many_url}/folders").json()

    folders = {found["path"]: found for found in reply["folders"]}
    assert folder in folders["root"]["subfolders"]
    assert folders[folder] == {"path": folder, "voice_count": 1, "file_count": 1, "subfolders": ["ïnner 日"]}
    assert folders[f"{folder}/ïnner 日"]["subfolders"] == []
    assert reply["total_folders"] == len(folders)
    assert reply["total_voices"] == reply["total_files"] == sum(found["file_count"] for found in folders.values())


@each_library
def test_what_is_no_audio_breaks_no_listing(
    client: httpx.Client, server: Server, folder: str, library: Library
) -> None:
    library.put(client, server, f"{folder}/sound.wav")
    for name, content in {"empty.wav": b"", "text.mp3": b"no audio", "odd.wav.json": b"{", "odd.json": b"[]"}.items():
        (server.data_dir / library.name / folder / name).write_bytes(content)

    assert library.names(client, folder=folder) == ["sound.wav"]


@each_library
def test_a_companion_that_people_spoilt_breaks_no_listing(
    client: httpx.Client, server: Server, folder: str, library: Library
) -> None:
    path = server.data_dir / library.name / folder / "odd.wav"
    path.parent.mkdir(parents=True)
    spoilt = (
        '{"name": 5, "description": [], "tags": {"a": 1}, "aliases": 7, "quality": "fine", "default_parameters": [],'
        '"usage_count": "many", "created_date": 12, "last_used": {}, "text": 4, "request": 1, "source_files": 2,'
        '"type": 9, "upload_date": [], "audio": "loud", "files": 3}'
    )
    for companion in ("odd.wav.json", "odd.json"):
        path.with_name(companion).write_text(spoilt, encoding="utf-8")
    path.write_bytes(recording())
    library.put(client, server, f"{folder}/sound.wav")
    client.head(f"/outputs/{folder}/odd.wav") if library is OUTPUTS else client.get(f"/api/v1/voice/{folder}/odd")

    listed = library.names(client, folder=folder)

    assert "sound.wav" in listed
    assert library is VC_INPUTS or "odd.wav" in listed  # what was put among those by hand shows up a little later


# Paths


@each_library
@pytest.mark.parametrize("name", NAMES)
def test_names_of_every_script_can_be_listed_and_deleted(
    client: httpx.Client, server: Server, folder: str, library: Library, name: str
) -> None:
    relative = f"{folder}/Ünter ordner/日/{name}"
    library.put(client, server, relative)

    [listed] = library.listed(client, folder=folder)
    assert (listed["filename"], listed["folder_path"]) == (name, f"{folder}/Ünter ordner/日")
    assert listed["url"] == (f"/outputs/{quote(relative)}" if library is OUTPUTS else relative)
    reply = client.delete(library.one_url(relative), params={"confirm": True})
    assert reply.json()["deleted_files"] == [relative]
    assert library.listed(client, folder=folder) == []


@each_library
@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_leaves_the_library_is_refused(client: httpx.Client, library: Library, path: str) -> None:
    encoded = quote(path, safe="").replace(".", "%2E")  # so that no client tidies it up

    assert code(client.delete(f"/api/v1/{library.one}/{encoded}?confirm=true")) == (400, "INVALID_PATH")
    assert code(client.get(library.many_url, params={"folder": path})) == (400, "INVALID_PATH")
    bulk = client.delete(library.many_url, params={"folder": path, "confirm": True})
    assert code(bulk) == (400, "INVALID_PATH")


def test_an_encoded_slash_is_a_slash(client: httpx.Client, server: Server, folder: str) -> None:
    VOICES.put(client, server, f"{folder}/one.wav")

    assert client.get(f"/api/v1/voice/{folder}%2Fone.wav").status_code == 200
