from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from management.libraries import Libraries
from tests.management.sounds import opened


@pytest.fixture
def libraries(tmp_path: Path) -> Iterator[Libraries]:
    """Empty libraries that nobody watches."""
    made = opened(tmp_path)
    yield made
    made.close()
