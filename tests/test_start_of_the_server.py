"""What a person sees when the server cannot start, or starts with something missing."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

import main_api
from config.settings import ServerSettings
from tests.serving import PROJECT, serving


def refused(*arguments: str) -> str:
    """What the server prints when it does not start."""
    run = subprocess.run(
        [sys.executable, "main_api.py", *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=60
    )
    assert run.returncode != 0
    assert "Traceback" not in run.stderr
    return run.stderr


def test_a_wrong_setting_stops_the_start_with_file_and_line(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("server:\n  prot: 80\n")

    said = refused("--config", str(config))

    assert f"{config}, line 2: server.prot: no such setting; did you mean port?" in said


def test_a_settings_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "nowhere.yaml" in refused("--config", str(tmp_path / "nowhere.yaml"))


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    assert str(tmp_path / "file") in refused("--data-dir", str(tmp_path / "file" / "data"))
    assert str(tmp_path / "file") in refused("--data-dir", str(tmp_path / "file"))
    assert "empty" in refused("--data-dir", "")


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        said = refused("--port", str(port), "--data-dir", str(tmp_path), "--engine", "embedded")

    assert str(port) in said
    assert "in use" in said


def test_small_answers_are_sent_at_once() -> None:
    with main_api.listen(ServerSettings(port=0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.proto == socket.IPPROTO_TCP  # what asyncio sets TCP_NODELAY by


def test_without_chatterbox_the_fallback_is_said_aloud(tmp_path: Path) -> None:
    with serving(tmp_path, "--engine", "auto") as server, server.client() as client:
        health = client.get("/api/v1/health").json()
        spoken = client.post("/api/v1/tts", json={"text": "Hi."})

    assert health["engine"] == "embedded"
    assert any("in place of Chatterbox" in warning for warning in health["warnings"])
    assert any("fallback to=embedded" in line for line in server.log)
    assert spoken.headers["x-engine"] == "embedded"


def test_where_no_fallback_is_wanted_the_server_stays_up_and_says_503(tmp_path: Path) -> None:
    environment = {"CHATTERBOX_ENGINE__FALLBACK": "none", "CHATTERBOX_ENGINE__HUB_TIMEOUT_S": "0.5"}
    ready = ("serving on", "engine unavailable")
    with (
        serving(tmp_path, "--engine", "auto", environment=environment, ready=ready) as server,
        server.client() as client,
    ):
        spoken = client.post("/api/v1/tts", json={"text": "Hi."})
        health = client.get("/api/v1/health").json()

    assert spoken.status_code == 503
    assert spoken.json()["error_code"] == "MODEL_UNAVAILABLE"
    assert "Chatterbox" in spoken.json()["error"]
    assert int(spoken.headers["retry-after"]) >= 1
    assert health["status"] == "degraded"


def test_a_disk_kept_free_is_a_507_and_nothing_is_written(tmp_path: Path) -> None:
    environment = {"CHATTERBOX_STORAGE__MIN_FREE_MB": "1000000000"}
    with serving(tmp_path, "--engine", "embedded", environment=environment) as server, server.client() as client:
        reply = client.post("/api/v1/tts", json={"text": "Hi."})

    assert reply.status_code == 507
    assert reply.json()["error_code"] == "STORAGE_FULL"
    written = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert not [name for name in written if not name.startswith("library.sqlite")]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_what_clients_send_stays_out_of_the_log(tmp_path: Path, log_format: str) -> None:
    environment = {"CHATTERBOX_LOGGING__FORMAT": log_format}
    with serving(tmp_path, "--engine", "embedded", environment=environment) as server, server.client() as client:
        body = {"text": "a private sentence", "project": "private-project", "reference_audio_filename": "private-voice"}
        client.post("/api/v1/tts", json=body, headers={"X-Request-ID": "my-id"})
        client.get("/outputs/private-file.wav?key=private")
        server.wait_for_log("my-id")

    assert not [line for line in server.log if "private" in line]
