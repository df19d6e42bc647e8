"""A server whose voices and models have other names, and whose libraries nobody else has a part in."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.libraries import upload_voice
from tests.recordings import vowels_wav
from tests.serving import Server, serving


@pytest.fixture(scope="session")
def named_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environment = {
        "CHATTERBOX_OPENAI__VOICES": "{alloy: narrators/anna, marin: nobody, boss: narrators/anna}",
        "CHATTERBOX_OPENAI__MODELS": "{Resemble AI/small: espeak-world, tts-1-hd: turbo, lost: turbo}",
    }
    data_dir = tmp_path_factory.mktemp("openai")
    ready = ("serving on", "engine ready", "openai.voices maps marin to nobody, which is no voice")
    with serving(data_dir, "--engine", "embedded", environment=environment, ready=ready) as running:
        with running.client() as client:
            assert upload_voice(client, "anna.wav", vowels_wav(255), folder_path="narrators").status_code == 200
        yield running


@pytest.fixture
def named(named_server: Server) -> Iterator[httpx.Client]:
    with named_server.client() as client:
        yield client
