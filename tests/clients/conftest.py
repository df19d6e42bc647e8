"""The SDKs as fixtures, and the servers that they talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients import sdk as sdks
from tests.clients.sdk import Sdk
from tests.serving import Server, serving

SHORT = {"CHATTERBOX_ENGINE__MAX_WAITING": "2"}


@pytest.fixture(scope="session", params=[*sdks.PYTHON, *sdks.JAVASCRIPT])
def sdk(request: pytest.FixtureRequest) -> Iterator[Sdk]:
    """Each version of the SDK in each language in turn."""
    with sdks.running(request.param) as running:
        yield running


@pytest.fixture(scope="session")
def newest() -> Iterator[Sdk]:
    """The one that knows OpenAI's calls for voices, and has LiteLLM beside it."""
    with sdks.running("openai-3") as running:
        yield running


@pytest.fixture(scope="session")
def short_line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes two requests at a time, and sends the others away for a second."""
    with serving(tmp_path_factory.mktemp("line"), "--engine", "embedded", environment=SHORT) as running:
        yield running
