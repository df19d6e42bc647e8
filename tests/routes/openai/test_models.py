"""`/v1/models`, and the address itself."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.routes.openai.asking import failure, message

LISTED = ["embedded-espeak-world", "tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15"]


def test_models_are_listed_as_openai_lists_them(client: httpx.Client) -> None:
    body = client.get("/v1/models").json()

    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == LISTED
    for model in body["data"]:
        assert set(model) == {"id", "object", "created", "owned_by"}
        assert (model["object"], model["owned_by"]) == ("model", "embedded")
        assert 0 < time.time() - model["created"] < 3600


@pytest.mark.parametrize("path", ["/v1/audio/models", "/audio/models", "/v1/models/"])
def test_other_clients_find_the_same_list_where_they_look_for_it(client: httpx.Client, path: str) -> None:
    body = client.get(path).json()

    assert body == client.get("/v1/models").json()
    assert [model["id"] for model in body["models"]] == LISTED


@pytest.mark.parametrize("name", [*LISTED, "espeak-world", "embedded"])
def test_a_model_is_told_by_any_name_that_a_request_may_use(client: httpx.Client, name: str) -> None:
    assert client.get(f"/v1/models/{name}").json()["id"] == name


def test_the_settings_give_models_other_names(named: httpx.Client) -> None:
    listed = [model["id"] for model in named.get("/v1/models").json()["data"]]

    assert listed == [*(name for name in LISTED if name != "tts-1-hd"), "Resemble AI/small"]
    assert named.get("/v1/models/Resemble%20AI%2Fsmall").json()["id"] == "Resemble AI/small"
    for nowhere in ("lost", "tts-1-hd"):
        assert failure(named.get(f"/v1/models/{nowhere}")) == (404, "model", "model_not_found")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("name", ["fake_id", "a/b", "a%2Fb"])
def test_an_unknown_model_is_a_404_that_names_it(client: httpx.Client, method: str, name: str) -> None:
    reply = client.request(method, f"/v1/models/{name}")

    assert failure(reply) == (404, "model", "model_not_found")
    assert f"The model '{name.replace('%2F', '/')}' does not exist" in message(reply)


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/models", "/v1/models/tts-1", "/v1/audio/voices"])
def test_what_can_be_got_has_a_head(client: httpx.Client, path: str) -> None:
    body, head = client.get(path), client.head(path)

    assert (body.status_code, head.status_code) == (200, 200)
    assert head.headers["content-type"] == body.headers["content-type"] == "application/json"
    assert head.content == b""
    assert head.headers["x-request-id"]


def test_the_api_is_described_with_its_envelope(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()["paths"]

    below = {path: methods for path, methods in described.items() if path.startswith("/v1")}
    assert {"/v1/audio/speech", "/v1/models", "/v1/models/{model}", "/v1/audio/voices"} <= below.keys()
    assert not any(path.startswith("/audio") for path in described)
    names = [operation["operationId"] for methods in below.values() for operation in methods.values()]
    assert len(names) == len(set(names))
    for methods in below.values():
        for operation in methods.values():
            assert operation["tags"] == ["openai"]
            schema = operation["responses"]["4XX"]["content"]["application/json"]["schema"]
            assert schema["$ref"].endswith("/ErrorEnvelope")
            assert "422" not in operation["responses"]
