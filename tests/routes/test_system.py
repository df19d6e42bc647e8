from __future__ import annotations

import re
from datetime import datetime, timedelta

import httpx

from config.settings import Settings
from config.version import VERSION


def test_the_root_names_the_server_and_where_to_read_on(client: httpx.Client) -> None:
    body = client.get("/").json()

    assert body["success"] is True
    assert body["version"] == VERSION
    assert all(client.get(path).status_code == 200 for path in body["links"].values())


def test_health_says_which_engine_speaks(client: httpx.Client) -> None:
    body = client.get("/api/v1/health").json()

    assert body["status"] == "healthy"
    assert body["engine"] == "embedded"
    assert body["models_loaded"] == {"tts": True, "vc": True}
    assert body["models"] == [{"name": "espeak-world", "loaded": True, "problem": None}]
    assert body["loading"] is None
    assert body["uptime_seconds"] > 0
    assert body["resource_status"]["disk_free_bytes"] > 0
    assert body["system_info"]["cpu_count"] >= 1
    assert datetime.fromisoformat(body["timestamp"]).utcoffset() == timedelta(0)


def test_health_counts_what_happened(client: httpx.Client) -> None:
    before = client.get("/api/v1/health").json()
    client.post("/api/v1/tts", json={"text": "Count me."})
    client.post("/api/v1/tts", json={"text": ""})
    after = client.get("/api/v1/health").json()

    assert after["metrics"]["generations_total"] == before["metrics"]["generations_total"] + 1
    assert after["metrics"]["audio_seconds_total"] > before["metrics"]["audio_seconds_total"]
    assert after["error_summary"]["by_code"]["VALIDATION_ERROR"] >= 1


def test_live_and_ready_answer_once_the_engine_speaks(client: httpx.Client) -> None:
    assert client.get("/api/v1/health/live").json()["status"] == "alive"
    assert client.get("/api/v1/health/ready").json()["engine"] == "embedded"


def test_the_configuration_shown_is_the_one_in_force(client: httpx.Client) -> None:
    body = client.get("/api/v1/config").json()

    assert body["tts_defaults"] == Settings().speech.model_dump(mode="json")
    assert body["api_limits"]["max_text_length"] == 10_000
    assert body["supported_formats"] == ["wav", "mp3", "flac", "opus", "aac", "pcm"]
    assert body["vc_defaults"] == Settings().conversion.model_dump(mode="json")
    (model,) = body["engine"]["models"]
    assert model["name"] == "espeak-world"
    assert "en" in model["languages"]
    assert len(model["voices"]) >= 2
    assert "transcriber" in body["engine"]


def test_a_page_from_this_machine_may_read_the_audio_headers(client: httpx.Client) -> None:
    reply = client.get("/", headers={"Origin": "http://localhost:3000"})
    foreign = client.get("/", headers={"Origin": "https://elsewhere.example"})

    assert reply.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "X-Generation-Seed" in reply.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in foreign.headers


def test_the_description_of_the_api_is_whole(client: httpx.Client) -> None:
    spec = client.get("/openapi.json").json()

    for path, operations in spec["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["tags"], path
            assert operation["responses"]["500"]["content"]["application/json"]["schema"], path
    speech = spec["paths"]["/api/v1/tts"]["post"]
    audio = {f"audio/{kind}" for kind in ("wav", "mpeg", "flac", "ogg", "aac", "pcm")}
    assert set(speech["responses"]["200"]["content"]) == {*audio, "application/json"}
    assert {"400", "404", "413", "415", "422", "500", "503", "504", "507"} <= speech["responses"].keys()
    body = spec["components"]["schemas"]["SpeechBody"]
    assert all("description" in field for field in body["properties"].values())
    assert body["examples"]


def test_the_groups_of_addresses_are_those_that_are_described(client: httpx.Client) -> None:
    spec = client.get("/openapi.json").json()
    used = {
        tag for operations in spec["paths"].values() for operation in operations.values() for tag in operation["tags"]
    }

    assert used == {tag["name"] for tag in spec["tags"]}
    assert all(tag["description"] for tag in spec["tags"])


def test_the_documentation_pages_ask_nothing_of_the_internet(client: httpx.Client) -> None:
    for page in ("/docs", "/redoc"):
        reply = client.get(page)
        assert "https://" not in reply.text
        assert "default-src 'self'" in reply.headers["content-security-policy"]
        assets = re.findall(r'(?:src|href)="(/[^"]+)"', reply.text)
        assert len(assets) >= 2
        assert all(client.get(asset).status_code == 200 for asset in assets)
