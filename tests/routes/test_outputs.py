from __future__ import annotations

import httpx
import pytest

from tests.serving import Server


@pytest.fixture(scope="module")
def url(client: httpx.Client) -> str:
    body = {"text": "A file to fetch.", "response_mode": "url", "project": "größe 日本 🎙"}
    return str(client.post("/api/v1/tts", json=body).json()["output_files"][0]["url"])


def test_a_part_of_a_file_can_be_fetched(client: httpx.Client, url: str) -> None:
    whole = client.get(url)
    part = client.get(url, headers={"Range": "bytes=100-199"})

    assert whole.headers["accept-ranges"] == "bytes"
    assert part.status_code == 206
    assert part.content == whole.content[100:200]
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole.content)}"
    assert client.get(url, headers={"Range": "bytes=-100"}).content == whole.content[-100:]


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=9-5", "bytes=-0", "bytes=", "bytes=a-b", "chars=1-2"])
def test_a_range_that_is_not_there_is_a_416(client: httpx.Client, url: str, asked: str) -> None:
    reply = client.get(url, headers={"Range": asked})

    assert reply.status_code == 416
    assert reply.json()["error_code"] == "RANGE_NOT_SATISFIABLE"


def test_a_file_that_has_not_changed_is_not_sent_again(client: httpx.Client, url: str) -> None:
    etag = client.get(url).headers["etag"]

    again = client.get(url, headers={"If-None-Match": etag})

    assert again.status_code == 304
    assert not again.content
    assert client.get(url, headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_head_of_a_file_can_be_asked_for(client: httpx.Client, url: str) -> None:
    head = client.head(url)

    assert head.status_code == 200
    assert int(head.headers["content-length"]) == len(client.get(url).content)
    assert not head.content


def test_companions_are_not_served(client: httpx.Client, server: Server, url: str) -> None:
    companion = url.rsplit(".", 1)[0] + ".json"

    assert list(server.data_dir.rglob("*.json"))
    assert client.get(companion).status_code == 404


def test_nothing_is_left_of_a_file_half_written(client: httpx.Client, server: Server, url: str) -> None:
    assert client.get(url).status_code == 200
    assert not [path for path in server.data_dir.rglob("*") if path.name.startswith(".tmp")]
