"""`/v1/audio/voices` and `/v1/audio/voice_consents`: voices listed, made and deleted, consents kept."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.libraries import recording
from tests.listen import fundamental_hz
from tests.routes.openai.asking import failure, heard, message, say
from tests.serving import Server
from tests.utils.audio.played import played

VOICES = "/v1/audio/voices"
CONSENTS = "/v1/audio/voice_consents"


def create(client: httpx.Client, name: str, content: bytes | None = None, **fields: Any) -> httpx.Response:
    files = {"audio_sample": ("sample.wav", recording() if content is None else content, "audio/wav")}
    return client.post(VOICES, files=files, data={"name": name, **fields})


def consent(client: httpx.Client, name: str = "Anna agrees", language: str = "en-US") -> httpx.Response:
    files = {"recording": ("consent.wav", recording(), "audio/wav")}
    return client.post(CONSENTS, files=files, data={"name": name, "language": language})


def made(reply: httpx.Response) -> dict[str, Any]:
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


@pytest.fixture
def name() -> str:
    """One that no other test uses."""
    return f"Anna {uuid4().hex}"


# Listing


def test_the_list_has_the_librarys_voices_the_engines_and_openais(named: httpx.Client) -> None:
    body = named.get(VOICES).json()

    by_id = {voice["id"]: voice for voice in body["data"]}
    assert set(body) == {"object", "data", "voices"}
    assert (body["object"], body["voices"]) == ("list", body["data"])
    assert {"narrators/anna.wav", "edgar", "clara", "robin", "alloy", "cedar", "boss"} <= by_id.keys()
    assert by_id["narrators/anna.wav"]["name"] == "anna"
    assert by_id["narrators/anna.wav"]["type"] == "audio_sample"
    assert by_id["alloy"]["type"] == "built_in"
    for voice in body["data"]:
        assert set(voice) == {"id", "object", "name", "created_at", "type"}
        assert voice["object"] == "audio.voice"
        assert isinstance(voice["created_at"], int)


def test_some_clients_want_the_ids_alone(client: httpx.Client) -> None:
    body = client.get(VOICES, params={"legacy": "true"}).json()

    assert body["voices"] == [voice["id"] for voice in body["data"]]


@pytest.mark.parametrize("path", ["/v1/voices", "/audio/voices"])
def test_other_clients_find_the_same_list_where_they_look_for_it(named: httpx.Client, path: str) -> None:
    assert named.get(path).json() == named.get(VOICES).json()


def test_whatever_is_listed_can_speak(named: httpx.Client) -> None:
    listed = [voice["id"] for voice in named.get(VOICES).json()["data"]]

    assert "marin" not in listed  # which the settings map to nobody
    assert {say(named, "Hi.", voice=voice).status_code for voice in listed if "noise" not in voice} == {200}


# Making


def test_a_voice_is_made_from_a_sample_and_speaks_by_its_id(client: httpx.Client, name: str) -> None:
    voice = made(create(client, name, recording(255)))

    assert set(voice) == {"id", "object", "name", "created_at", "type"}
    assert voice["id"].startswith("voice_")
    assert (voice["object"], voice["name"], voice["type"]) == ("audio.voice", name, "audio_sample")
    for asked in ({"id": voice["id"]}, voice["id"], name):
        sound = played(heard(say(client, "I have a high voice.", voice=asked, response_format="wav")), "wav")
        assert fundamental_hz(sound) == pytest.approx(255, rel=0.1)


def test_it_is_a_voice_of_the_library(client: httpx.Client, server: Server, name: str) -> None:
    agreed = made(consent(client))["id"]
    voice = made(create(client, name, consent=agreed))

    listed = client.get("/api/v1/voices", params={"search": name}).json()["voices"]
    assert [one["name"] for one in listed] == [name]
    assert voice["id"] in listed[0]["aliases"]
    companion = server.data_dir / "voices" / f"{listed[0]['url']}.json"
    said = json.loads(companion.read_text(encoding="utf-8"))
    assert (said["voice_id"], said["consent"]) == (voice["id"], agreed)


def test_it_keeps_its_id_when_it_is_moved_and_described_anew(client: httpx.Client, name: str) -> None:
    voice = made(create(client, name))

    changes = {"folder_path": "elsewhere", "aliases": None, "name": f"{name} II"}
    assert client.put(f"/api/v1/voice/{name}/metadata", json=changes).status_code == 200

    assert heard(say(client, "Hi.", voice={"id": voice["id"]}))
    assert made(client.delete(f"{VOICES}/{voice['id']}"))["deleted"] is True


@pytest.mark.parametrize("name", ["Анна", "花子", "?!"])
def test_a_name_that_no_file_could_have_will_do(client: httpx.Client, name: str) -> None:
    voice = made(create(client, name))

    assert heard(say(client, "Hi.", voice=name))
    made(client.delete(f"{VOICES}/{voice['id']}"))


def test_a_name_that_means_a_voice_already_is_refused(client: httpx.Client, name: str) -> None:
    made(create(client, name))

    for again in (name, name.upper()):
        assert failure(create(client, again)) == (400, "name", "name_taken")


@pytest.mark.parametrize(
    "taken", ["alloy", "Cedar", "edgar", "CLARA", "boss", "anna", "anna.wav", "narrators/anna", "narrators/anna.wav"]
)
def test_a_name_that_means_a_voice_of_another_kind_is_refused(named: httpx.Client, taken: str) -> None:
    assert failure(create(named, taken)) == (400, "name", "name_taken")


def test_a_file_does_not_get_a_name_that_means_another_voice(named: httpx.Client) -> None:
    before = heard(say(named, "Hi.", voice="cedar", response_format="wav", seed=5))

    voice = made(create(named, "Cedar!", recording(255)))

    assert heard(say(named, "Hi.", voice="cedar", response_format="wav", seed=5)) == before
    made(named.delete(f"{VOICES}/{voice['id']}"))


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"name": "A"}, "audio_sample", "missing_required_parameter"),
        ({"name": "A", "type": "prompt", "prompt": "warm and slow"}, "type", "invalid_value"),
    ],
)
def test_without_a_sample_no_voice_is_made(client: httpx.Client, fields: dict[str, str], param: str, code: str) -> None:
    form = {key: (None, value) for key, value in fields.items()}

    assert failure(client.post(VOICES, files=form)) == (400, param, code)


def test_a_prompt_in_json_makes_none_either(client: httpx.Client) -> None:
    reply = client.post(VOICES, json={"type": "prompt", "name": "A", "prompt": "warm and slow"})

    assert failure(reply) == (400, "type", "invalid_value")
    assert "audio sample" in message(reply)


def test_a_sample_needs_a_name(client: httpx.Client) -> None:
    assert failure(client.post(VOICES, files={"audio_sample": ("a.wav", recording())})) == (
        400,
        "name",
        "missing_required_parameter",
    )
    for unusable, what, code in (
        ("  ", "at least 1 character", "short"),
        ("a" * 201, "at most 200 characters", "long"),
    ):
        reply = create(client, unusable)
        assert failure(reply) == (400, "name", f"string_too_{code}")
        assert what in message(reply)


def test_what_is_no_audio_makes_no_voice(client: httpx.Client, name: str) -> None:
    assert failure(create(client, name, b"a text called wav")) == (400, "audio_sample", "invalid_audio")
    assert failure(say(client, voice=name)) == (400, "voice", "voice_not_found")


def test_a_consent_that_nobody_gave_is_refused(client: httpx.Client, name: str) -> None:
    assert failure(create(client, name, consent="cons_0")) == (400, "consent", "invalid_value")


def test_a_sample_of_more_than_ten_megabytes_is_refused(client: httpx.Client, name: str) -> None:
    for size in (10 * 1024 * 1024 + 1, 12_000_000):
        assert failure(create(client, name, bytes(size))) == (413, None, "request_too_large")


# Deleting


def test_a_voice_that_was_made_goes_once(client: httpx.Client, server: Server, name: str) -> None:
    voice = made(create(client, name))["id"]

    assert made(client.delete(f"{VOICES}/{voice}")) == {"id": voice, "object": "audio.voice.deleted", "deleted": True}
    assert failure(client.delete(f"{VOICES}/{voice}")) == (404, None, "not_found")
    assert failure(say(client, voice={"id": voice})) == (400, "voice", "voice_not_found")
    assert not list((server.data_dir / "voices").glob(f"{name.replace(' ', '-')}*"))


@pytest.mark.parametrize("voice", ["alloy", "edgar", "narrators/anna.wav", "narrators%2Fanna.wav", "anna", "voice_0"])
def test_other_voices_are_not_deleted_here(named: httpx.Client, voice: str) -> None:
    assert failure(named.delete(f"{VOICES}/{voice}")) == (404, None, "not_found")
    assert heard(say(named, "Hi.", voice="anna"))


# Consents


def test_a_consent_is_kept_told_renamed_and_deleted(client: httpx.Client, server: Server) -> None:
    given = made(consent(client))

    assert set(given) == {"id", "object", "name", "language", "created_at"}
    assert given["id"].startswith("cons_")
    assert (given["object"], given["name"], given["language"]) == ("audio.voice_consent", "Anna agrees", "en-US")
    assert (server.data_dir / "consents" / f"{given['id']}.wav").read_bytes() == recording()
    address = f"{CONSENTS}/{given['id']}"
    assert made(client.get(address)) == given
    assert made(client.post(address, json={"name": "Anna"})) == {**given, "name": "Anna"}
    assert made(client.get(address))["name"] == "Anna"
    assert made(client.delete(address)) == {"id": given["id"], "object": "audio.voice_consent", "deleted": True}
    for method in ("GET", "DELETE"):
        assert failure(client.request(method, address)) == (404, None, "not_found")
    assert failure(client.post(address, json={"name": "Anna"})) == (404, None, "not_found")


def test_a_consent_that_is_no_audio_names_its_recording(client: httpx.Client) -> None:
    files = {"recording": ("consent.wav", b"a text called wav", "audio/wav")}

    reply = client.post(CONSENTS, files=files, data={"name": "Anna", "language": "en"})

    assert failure(reply) == (400, "recording", "invalid_audio")


def test_consents_are_listed_page_by_page_the_newest_first(named: httpx.Client) -> None:
    assert named.get(CONSENTS).json() == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
    given = [made(consent(named, f"number {number}"))["id"] for number in range(5)]

    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = named.get(CONSENTS, params={"limit": 2, **after}).json()
        ids = [one["id"] for one in page["data"]]
        assert (page["first_id"], page["last_id"]) == (ids[0], ids[-1])
        seen += ids
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert seen == given[::-1]


@pytest.mark.parametrize("limit", ["0", "101", "x"])
def test_a_page_has_one_to_a_hundred_consents(client: httpx.Client, limit: str) -> None:
    assert failure(client.get(CONSENTS, params={"limit": limit})) == (400, "limit", "invalid_value")


@pytest.mark.parametrize("language", ["", "english please", "e", "en_US"])
def test_a_consent_names_its_language(client: httpx.Client, language: str) -> None:
    status, param, _ = failure(consent(client, language=language))

    assert (status, param) == (400, "language")
