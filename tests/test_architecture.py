"""Holds docs/architecture.md's table against the code: imports point down."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent

ENGINE = {"engines", "utils", "config", "resilience", "monitoring"}  # what may be known of it beside HTTP and files
MAY_IMPORT = {
    "resilience": set(),
    "config": set(),
    "client": set(),
    "utils": {"resilience"},
    "engines": {"utils", "config", "resilience"},
    "security": {"utils", "config", "resilience"},
    "monitoring": {"config", "resilience"},
    "management": {"utils", "config", "resilience", "monitoring"},
    "mastering": {"utils", "config", "resilience"},
    "planning": ENGINE,
    "conversion": ENGINE | {"planning"},
    "making": ENGINE | {"planning", "conversion", "mastering"},
    "concatenation": {"planning", "utils", "config", "resilience"},
    "generations": ENGINE | {"planning", "conversion", "concatenation"},
    "dictation": ENGINE | {"planning", "conversion", "concatenation", "generations", "mastering"},
    "core_engine": ENGINE
    | {"planning", "conversion", "concatenation", "generations", "mastering", "making", "dictation"},
    "api_models": {"planning", "conversion", "concatenation", "generations", "engines", "utils", "config"},
    "routes": ENGINE
    | {"api_models", "core_engine", "planning", "concatenation", "dictation", "generations", "mastering"}
    | {"management", "security"},
    "main_api": ENGINE
    | {"routes", "api_models", "core_engine", "planning", "conversion", "concatenation", "management", "security"},
}
MODEL_LIBRARIES = {"torch", "torchaudio", "chatterbox", "transformers"}
MAY_IMPORT_TORCHAUDIO = PROJECT / "utils" / "audio" / "stretchers.py"  # its phase vocoder, on the CPU, where it is used


def modules() -> Iterator[tuple[str, Path]]:
    for package in MAY_IMPORT:
        single = PROJECT / f"{package}.py"
        files = [single] if single.exists() else sorted((PROJECT / package).rglob("*.py"))
        yield from ((package, path) for path in files)


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


@pytest.mark.parametrize(("package", "path"), list(modules()), ids=lambda value: str(getattr(value, "name", value)))
def test_a_module_imports_only_what_lies_below_it(package: str, path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))

    ours = {name.split(".")[0] for name in imported(tree)} & (MAY_IMPORT.keys() | {"tests", "benchmarks"})

    assert ours <= MAY_IMPORT[package] | {package}


@pytest.mark.parametrize(("package", "path"), list(modules()), ids=lambda value: str(getattr(value, "name", value)))
def test_model_libraries_are_imported_by_the_chatterbox_engine_alone(package: str, path: Path) -> None:
    names = {name.split(".")[0] for name in imported(ast.parse(path.read_text(encoding="utf-8")))}

    allowed = {"torch", "torchaudio"} if path == MAY_IMPORT_TORCHAUDIO else set()
    assert not names & MODEL_LIBRARIES - allowed or path.is_relative_to(PROJECT / "engines" / "chatterbox")


def test_importing_the_server_brings_in_no_model_library_and_does_no_work() -> None:
    script = "import sys, main_api; print(*sorted(name for name in sys.modules if '.' not in name))"

    run = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)

    loaded = set(run.stdout.split())
    assert not loaded & (MODEL_LIBRARIES | {"pyworld", "espeakng_loader", "librosa", "scipy", "uvicorn"})
    assert not run.stderr
