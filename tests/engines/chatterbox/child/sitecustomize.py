"""Python runs this at start where this folder is on PYTHONPATH: Chatterbox is small there from its first import on.

Nothing heavy is imported before that. The machine's own `sitecustomize`, if there is one, runs as well.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
KEPT = ExitStack()  # a context manager that nobody holds would end at once


class SmallChatterbox(MetaPathFinder):
    """Finds `chatterbox` as Python does, and patches it once its package has been run."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "chatterbox":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_shrink(module: ModuleType) -> None:
                run(module)
                KEPT.enter_context(_loaded("small_chatterbox", HERE.parent / "architecture.py").architecture())

            spec.loader.exec_module = run_and_shrink  # type: ignore[method-assign]
        return spec


def _loaded(name: str, path: Path) -> ModuleType:
    spec = spec_from_file_location(name, path)
    assert spec is not None
    return _run(spec)


def _run(spec: ModuleSpec) -> ModuleType:
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sys.meta_path.insert(0, SmallChatterbox())
overshadowed = PathFinder.find_spec("sitecustomize", [entry for entry in sys.path if Path(entry).resolve() != HERE])
if overshadowed is not None:
    _run(overshadowed)
