"""How functions are compiled by numba, and where what comes of it is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import njit

HERE = Path(__file__).parent
FAST = {"contract", "reassoc", "nsz", "arcp"}  # sums in any order, so that many are added at once


def _sources() -> str:
    """A name for what the sources of this folder say."""
    digest = hashlib.sha256()
    for path in sorted(HERE.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _compiler(fastmath: set[str]) -> Callable[[Any], Any]:
    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}

    def compile_(function: Any) -> Any:
        """Compiled on first use, and kept beside the source for the next start.

        numba looks whether the function's own file has changed, and what is inlined comes from other files too; so what
        is kept has a folder named after all of them. Where nothing can be written it is compiled at every start.
        """
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(HERE / "__pycache__" / SOURCES)
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # no place to keep it
            return njit(**options)(function)
        finally:
            numba.config.CACHE_DIR = before

    return compile_


SOURCES = _sources()
compiled = _compiler(FAST)
exactly = _compiler(set())  # in the order in which it is written: for what must not depend on its surroundings
