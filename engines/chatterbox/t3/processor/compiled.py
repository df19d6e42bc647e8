"""How functions are compiled by numba, and where what comes of it is kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
from filelock import FileLock
from numba import njit

from engines.chatterbox.t3.processor.vectors import FOUND

HERE = Path(__file__).parent
FAST = {"contract", "reassoc", "nsz", "arcp"}  # sums in any order, so that many are added at once


def _sources() -> str:
    """A name for what the sources of this folder say, and for what they found the processor to be."""
    digest = hashlib.sha256(repr(FOUND).encode())
    for path in sorted(HERE.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _folder() -> Path | None:
    """Where compiled code is kept: numba's folder if one is set, else beside the sources, else the user's.

    None if nothing can be written in any of them. numba looks whether the function's own file has changed, and what is
    inlined comes from other files too; so the folder is named after all of them.
    """
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chatterbox-tts-extended-plus"
    for base in (numba.config.CACHE_DIR, HERE / "__pycache__", user):
        if base:
            folder = Path(base) / _sources()
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError:
                continue
            if os.access(folder, os.W_OK):
                return folder
    return None


def _compiler(fastmath: set[str], *, within: bool = False) -> Callable[[Any], Any]:
    # No counting of who holds an array: the caller holds all of them, and threads that count together wait for it.
    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath, "forceinline": within, "_nrt": False}

    def compile_(function: Any) -> Any:
        """Compiled on first use, and kept for the next start; if it cannot be kept, at every start."""
        if FOLDER is None:
            return njit(**options)(function)
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(FOLDER)
        try:
            return njit(cache=True, **options)(function)
        finally:
            numba.config.CACHE_DIR = before

    return compile_


@contextmanager
def kept_for_us_alone() -> Iterator[None]:
    """While something is compiled, or what was compiled is read: numba does not expect others to do so meanwhile."""
    if FOLDER is None:
        yield
        return
    with FileLock(FOLDER / "lock"):
        yield


def forget() -> None:
    """Away with what is kept: a file of it is damaged."""
    if FOLDER is not None:
        for path in FOLDER.rglob("*.nb[ic]"):
            path.unlink(missing_ok=True)


FOLDER = _folder()
compiled = _compiler(FAST)
exactly = _compiler(set())  # in the order in which it is written: for what must not depend on its surroundings
within = _compiler(set(), within=True)  # the same, as a part of whoever calls it
