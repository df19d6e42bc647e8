from __future__ import annotations

from pathlib import Path

import pytest

from resilience.errors import InvalidPath
from utils.files.paths import inside


@pytest.mark.parametrize(
    "name",
    [
        "anna.wav",
        "book one/chapter 2/anna.wav",
        "größe/ünïcode.mp3",
        "日本語/声.flac",
        "emoji 🎙️ 👩‍🎤.wav",
        "dots.in.the.name.wav",
        "(2024) [take 1] 100% & more.wav",
    ],
)
def test_a_plain_relative_name_stays_below_its_root(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../secret.wav",
        "a/../../secret.wav",
        "a/./b",
        "a//b",
        "/etc/passwd",
        "a/",
        "C:\\windows\\x",
        "C:x.wav",
        "a\\..\\b",
        "nul",
        "COM1.wav",
        "a\0b",
        "line\nbreak",
        ".hidden",
        "a/.tmp-1",
        "~root",
        "．．/secret",
        "a／b",
        "trailing.",
        "trailing ",
        " leading",
        "what?.wav",
        "star*.wav",
        "\ud800.wav",
        "\u2028.wav",
        "\u200b",
        "\u202egpj.wav",
        "\ufffe.wav",
        "CONIN$",
        "x" * 300,
        "/".join("a" * 40),
    ],
)
def test_a_name_that_could_leave_its_root_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidPath):
        inside(tmp_path, name)


def test_a_link_that_leads_out_of_the_root_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "door").symlink_to(tmp_path)

    with pytest.raises(InvalidPath):
        inside(root, "door/secret.wav")


def test_both_spellings_of_an_umlaut_are_one_file(tmp_path: Path) -> None:
    assert inside(tmp_path, "o\u0308l.wav") == inside(tmp_path, "\u00f6l.wav")
