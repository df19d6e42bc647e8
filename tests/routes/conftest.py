"""Fixtures of the tests of the libraries."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.serving import Server, serving


@pytest.fixture
def folder() -> str:
    """One that no other test uses."""
    return f"f{uuid4().hex}"


@pytest.fixture(scope="session")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own, which takes one megabyte a file."""
    environment = {"CHATTERBOX_API__MAX_UPLOAD_MB": "1"}
    with serving(tmp_path_factory.mktemp("small"), "--engine", "embedded", environment=environment) as running:
        yield running


@pytest.fixture
def small(small_server: Server) -> Iterator[httpx.Client]:
    with small_server.client() as session:
        yield session
