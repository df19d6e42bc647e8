"""`"(500ms)"`, `"(1.5s)"`: silences as they are written between files. No blanks, and small letters."""

from __future__ import annotations

import re

SHORTEST_MS, LONGEST_MS = 50, 10_000
WRITTEN = re.compile(r"\((\d{1,9}(?:\.\d{1,9})?)(ms|s)\)", re.ASCII)
MILLISECONDS = {"ms": 1.0, "s": 1000.0}


def silence_ms(written: str) -> float | None:
    """The milliseconds of a silence; None for what is not in parentheses, and so is no silence.

    Raises ValueError for anything else in parentheses, with a sentence that names it.
    """
    if not (written.startswith("(") and written.endswith(")")):
        return None
    found = WRITTEN.fullmatch(written)
    if not found:
        raise ValueError(f'{written[:80]!a} is no silence: write "(500ms)" or "(1.5s)"')
    duration_ms = float(found[1]) * MILLISECONDS[found[2]]
    if not SHORTEST_MS <= duration_ms <= LONGEST_MS:
        raise ValueError(f"{written[:80]!a}: a silence lasts from {SHORTEST_MS} ms to {LONGEST_MS // 1000} s")
    return duration_ms
