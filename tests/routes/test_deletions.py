from __future__ import annotations

import httpx
import pytest

from tests.libraries import LIBRARIES, OUTPUTS, VOICES, Library, code, faults
from tests.serving import Server

each_library = pytest.mark.parametrize("library", LIBRARIES, ids=str)


@each_library
def test_a_deletion_needs_to_be_confirmed(client: httpx.Client, server: Server, folder: str, library: Library) -> None:
    library.put(client, server, f"{folder}/one.wav")
    url = library.one_url(f"{folder}/one.wav")

    assert code(client.delete(url)) == (400, "CONFIRMATION_REQUIRED")
    assert code(client.delete(url, params={"confirm": False})) == (400, "CONFIRMATION_REQUIRED")
    assert code(client.delete(library.many_url, params={"folder": folder})) == (400, "CONFIRMATION_REQUIRED")
    assert library.names(client, folder=folder) == ["one.wav"]


@each_library
def test_a_deleted_file_is_gone_and_its_companion_too(
    client: httpx.Client, server: Server, folder: str, library: Library
) -> None:
    library.put(client, server, f"{folder}/one.wav")
    url = library.one_url(f"{folder}/one.wav")

    reply = client.delete(url, params={"confirm": True})

    assert reply.status_code == 200
    assert reply.json() | {"timestamp": None} == {
        "success": True,
        "message": "1 file deleted",
        "timestamp": None,
        "deleted_files": [f"{folder}/one.wav"],
        "deleted_count": 1,
    }
    assert not list((server.data_dir / library.name / folder).iterdir())
    expected = "VOICE_NOT_FOUND" if library is VOICES else "FILE_NOT_FOUND"
    assert code(client.delete(url, params={"confirm": True})) == (404, expected)


@each_library
@pytest.mark.parametrize("criteria", [{}, {"folder": ""}, {"search": " "}, {"project": "", "all": "false"}])
def test_a_deletion_without_criteria_is_refused(
    client: httpx.Client, library: Library, criteria: dict[str, str]
) -> None:
    reply = client.delete(library.many_url, params={**criteria, "confirm": "true"})

    assert code(reply) == (400, "CRITERIA_REQUIRED")


@each_library
@pytest.mark.parametrize(
    "criteria",
    [
        {"filenames": ""},
        {"filenames": ","},
        {"filenames": "[]"},
        {"search": "\u0301"},
        {"fodler": "x"},
        {"date_to": ""},
        {"search": ""},
        {"search": " "},
        {"project": ""},
    ],
)
def test_a_criterion_that_says_nothing_never_widens_a_deletion(
    client: httpx.Client, library: Library, folder: str, criteria: dict[str, str]
) -> None:
    reply = client.delete(library.many_url, params={**criteria, "folder": folder, "confirm": "true"})

    assert code(reply) == (422, "VALIDATION_ERROR")
    assert reply.json()["detail"][0]["loc"] == ["query", *criteria]


@pytest.mark.parametrize(
    ("library", "criterion"), [(VOICES, {"tag": ""}), (VOICES, {"tag": " "}), (OUTPUTS, {"generation_type": ""})]
)
@pytest.mark.parametrize("beside", [{"folder": ""}, {"all": "true"}])
def test_an_empty_criterion_of_one_library_deletes_nothing(
    client: httpx.Client,
    server: Server,
    folder: str,
    library: Library,
    criterion: dict[str, str],
    beside: dict[str, str],
) -> None:
    library.put(client, server, f"{folder}/one.wav")
    beside = {"folder": folder} if "folder" in beside else beside

    reply = client.delete(library.many_url, params={**beside, **criterion, "confirm": "true"})

    assert faults(reply) == [["query", *criterion]]
    assert library.names(client, folder=folder) == ["one.wav"]


@each_library
@pytest.mark.parametrize("beside", [{"search": "x"}, {"filenames": "x.wav"}, {"all": "true"}])
def test_an_empty_folder_beside_other_criteria_is_a_mistake(
    client: httpx.Client, library: Library, beside: dict[str, str]
) -> None:
    reply = client.delete(library.many_url, params={**beside, "folder": "", "confirm": "true"})

    assert faults(reply) == [["query", "folder"]]


@each_library
def test_criteria_of_a_deletion_must_all_be_met(
    client: httpx.Client, server: Server, folder: str, library: Library
) -> None:
    for relative in ("red.wav", "blue.wav", "inner/red.wav"):
        library.put(client, server, f"{folder}/{relative}")

    reply = client.delete(
        library.many_url, params={"folder": folder, "search": "red", "filenames": "red.wav,blue.wav", "confirm": True}
    )

    assert reply.json()["deleted_count"] == 2
    assert library.names(client, folder=folder) == ["blue.wav"]


@each_library
def test_nothing_to_delete_is_no_failure(client: httpx.Client, folder: str, library: Library) -> None:
    reply = client.delete(library.many_url, params={"folder": folder, "confirm": True})

    assert reply.status_code == 200
    assert (reply.json()["deleted_count"], reply.json()["deleted_files"]) == (0, [])


@each_library
def test_a_folder_goes_with_its_files_unless_it_is_a_category_of_voices(
    client: httpx.Client, server: Server, folder: str, library: Library
) -> None:
    library.put(client, server, f"{folder}/inner/one.wav")

    client.delete(library.many_url, params={"folder": folder, "confirm": True})

    there = {found["path"] for found in client.get(f"{library.many_url}/folders").json()["folders"]}
    assert (folder in there) is (library is VOICES)
    assert (server.data_dir / library.name / folder).exists() is (library is VOICES)


@each_library
def test_all_of_a_library_goes_only_when_that_is_said(
    small: httpx.Client, small_server: Server, library: Library
) -> None:
    small.delete(library.many_url, params={"all": True, "confirm": True})  # of what other tests left there
    library.put(small, small_server, "a.wav")
    library.put(small, small_server, "folder/b.wav")

    limited = small.delete(library.many_url, params={"all": True, "search": "b", "confirm": True}).json()
    rest = small.delete(library.many_url, params={"all": True, "confirm": True}).json()

    assert limited["deleted_files"] == ["folder/b.wav"]
    assert rest["deleted_files"] == ["a.wav"]
