from __future__ import annotations

import re

import pytest

from config.settings import ServerSettings
from security.origins import is_welcome

ALLOWED = ServerSettings().cors_origin_regex


@pytest.mark.parametrize(
    ("origin", "host", "welcome"),
    [
        (None, "127.0.0.1:7860", True),  # no browser
        ("http://localhost:3000", "127.0.0.1:7860", True),
        ("http://192.168.1.5:7860", "192.168.1.5:7860", True),  # a page of the server's own
        ("https://speech.example", "Speech.example", True),
        ("https://evil.example", "127.0.0.1:7860", False),
        ("http://localhost.evil.example", "127.0.0.1:7860", False),
        ("http://192.168.1.5:8000", "192.168.1.5:7860", False),
        ("null", "127.0.0.1:7860", False),  # a file, or a frame in a sandbox
        ("", "", False),
        ("http://[::1", "127.0.0.1:7860", False),
        ("https://evil.example", None, False),
    ],
)
def test_only_pages_of_the_server_and_of_the_settings_are_welcome(
    origin: str | None, host: str | None, welcome: bool
) -> None:
    assert is_welcome(origin, host, ALLOWED) is welcome


def test_the_settings_may_name_other_pages() -> None:
    assert is_welcome("https://friend.example", "127.0.0.1:7860", re.compile(r"https://friend\.example"))
