"""Runs the examples of README and docs as they stand, and holds what they print against what is written there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.sdk import installed
from tests.listen import read
from tests.recordings import vowels_wav
from tests.serving import Server

PROJECT = Path(__file__).resolve().parent.parent
PAGES = [
    PROJECT / "README.md",
    *sorted((PROJECT / "docs" / "api").rglob("*.md")),
    *sorted((PROJECT / "docs" / "guides").rglob("*.md")),
]
HOST = "127.0.0.1:7860"
DEFAULT_URL = f"http://{HOST}"
LINK = re.compile(r"\]\(([^)#:]*)(?:#([^)]*))?\)")  # within the repository
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    page: Path
    line: int
    command: str
    printed: str | None

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def examples() -> list[Example]:
    """Every bash block with a curl in it; a json block that comes next is what it prints."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = list(BLOCK.finditer(text))
        for block, following in zip(blocks, [*blocks[1:], None], strict=False):
            if block[1] == "bash" and "curl" in block[2]:
                line = text[: block.start()].count("\n") + 1
                printed = following[2] if following and following[1] == "json" else None
                found.append(Example(page, line, block[2], printed))
    return found


@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("bash") is None, reason="the examples use curl")
@pytest.mark.parametrize("example", examples(), ids=str)
def test_an_example_does_what_its_page_says(example: Example, server: Server, tmp_path: Path) -> None:
    (server.data_dir / "voices" / "anna.wav").write_bytes(vowels_wav(200))
    (server.data_dir / "vc_inputs" / "interview.wav").write_bytes(vowels_wav(110))
    for name, fundamental_hz in {"intro.wav": 180, "part1.wav": 120, "part2.wav": 130, "part3.wav": 140}.items():
        (server.data_dir / "outputs" / name).write_bytes(vowels_wav(fundamental_hz))
    (server.data_dir / "outputs" / "music.wav").write_bytes(vowels_wav(220))
    for name, fundamental_hz in {"me.wav": 160, "interview.wav": 110}.items():  # the reader's own, to upload
        (tmp_path / name).write_bytes(vowels_wav(fundamental_hz))

    run = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", example.command.replace(DEFAULT_URL, server.url)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    if example.printed is not None:
        assert same_shape(json.loads(run.stdout), json.loads(example.printed))
    for path in tmp_path.iterdir():
        assert read(path).duration_s > 0.5


def programs() -> list[Example]:
    """Every python block that talks to the server."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in BLOCK.finditer(text):
            if block[1] == "python" and HOST in block[2]:
                found.append(Example(page, text[: block.start()].count("\n") + 1, block[2], None))
    return found


@pytest.mark.parametrize("program", programs(), ids=str)
def test_a_program_does_what_its_page_says(program: Example, server: Server, tmp_path: Path) -> None:
    libraries = str(installed("openai-3")) if "openai" in program.command else ""

    run = subprocess.run(
        [sys.executable, "-c", program.command.replace(HOST, server.url.removeprefix("http://"))],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": libraries},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    for path in tmp_path.iterdir():
        assert read(path).duration_s > 0.5


def same_shape(real: Any, written: Any) -> bool:
    """True if both have the same keys all the way down, and the same kinds of values."""
    if isinstance(real, dict) and isinstance(written, dict):
        return real.keys() == written.keys() and all(same_shape(real[key], written[key]) for key in real)
    if isinstance(real, list) and isinstance(written, list):
        return len(real) == len(written) and all(map(same_shape, real, written))
    return type(real) is type(written)


def test_every_link_between_the_pages_leads_somewhere() -> None:
    pages = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
    for page in pages:
        for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
            aim = page.parent / target if target else page
            assert aim.exists(), f"{page.name} links to {target}"
            assert not anchor or anchor in anchors(aim), f"{page.name} links to {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """What the headings of a page are linked by, as GitHub makes it of them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
