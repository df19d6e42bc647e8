from __future__ import annotations

import os
import time
from pathlib import Path

import httpx
import pytest

from tests.serving import Server


@pytest.fixture(autouse=True)
def the_clean_up_of_the_start_is_over(client: httpx.Client) -> None:
    while client.get("/api/v1/cleanup/status").json()["next_run_at"] is None:
        pass


@pytest.fixture
def rubbish(server: Server) -> Path:
    """A file that nobody can hear, left long ago."""
    path = server.data_dir / "outputs" / "left" / ".tmp-old"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"half")
    os.utime(path, (time.time() - 200_000,) * 2)
    return path


def test_a_dry_run_tells_what_would_go_and_a_clean_up_removes_it(client: httpx.Client, rubbish: Path) -> None:
    told = client.post("/api/v1/cleanup", params={"dry_run": "true"})

    assert told.status_code == 200
    assert told.json()["dry_run"] is True
    found = {"library": "outputs", "path": "left/.tmp-old", "reason": "temporary", "bytes": 4}
    assert found in told.json()["removed"]
    assert rubbish.exists()

    done = client.post("/api/v1/cleanup").json()

    assert done["success"] is True
    assert found in done["removed"]
    assert done["removed_count"] == len(done["removed"])
    assert done["freed_bytes"] >= 4
    assert not rubbish.exists()


def test_a_misspelt_dry_run_removes_nothing(client: httpx.Client, rubbish: Path) -> None:
    for query in ("dryrun=true", "dry_run=perhaps"):
        assert client.post(f"/api/v1/cleanup?{query}").status_code == 422

    assert rubbish.exists()
    client.post("/api/v1/cleanup")


def test_the_status_tells_the_last_clean_up_and_the_next_one(client: httpx.Client) -> None:
    client.post("/api/v1/cleanup")

    status = client.get("/api/v1/cleanup/status").json()

    assert status["is_running"] is False
    assert status["last_run"]["trigger"] == "request"
    assert status["last_run"]["started_at"] <= status["last_run"]["finished_at"] <= status["next_run_at"]
    assert "removed" not in status["last_run"]
    assert status["settings"]["interval_h"] == 4.0


def test_a_dry_run_is_no_clean_up_that_the_status_would_tell_of(client: httpx.Client) -> None:
    client.post("/api/v1/cleanup")
    before = client.get("/api/v1/cleanup/status").json()["last_run"]

    client.post("/api/v1/cleanup?dry_run=true")

    assert client.get("/api/v1/cleanup/status").json()["last_run"] == before


def test_the_resources_are_those_of_machine_and_libraries(client: httpx.Client) -> None:
    found = client.get("/api/v1/resources").json()

    assert found["success"] is True
    assert 0 < found["disk"]["free_bytes"] < found["disk"]["total_bytes"]
    assert found["disk"]["reserve_bytes"] == 256_000_000
    assert found["memory"]["server_bytes"] > 10_000_000
    assert found["memory"]["engine_bytes"] > 10_000_000
    assert found["cpu"]["count"] == os.cpu_count()
    assert set(found["libraries"]) == {"voices", "vc_inputs", "outputs", "consents"}
    assert set(found["libraries"]["outputs"]) == {"files", "bytes", "folders", "not_listed"}
