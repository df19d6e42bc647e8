"""The only place where a name that came from a client becomes a path."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from resilience.errors import InvalidPath

MAX_PART_BYTES = 200  # leaves room for a suffix below the 255 of common file systems
MAX_PARTS = 16
FORBIDDEN = frozenset('\\:*?"<>|')
INVISIBLE = ("Cc", "Cf", "Cn", "Cs", "Zl", "Zp")
JOINERS = "\u200c\u200d"  # inside emoji, and in the spelling of some languages
RESERVED_STEMS = frozenset(
    [
        "con",
        "prn",
        "aux",
        "nul",
        "conin$",
        "conout$",
        *(f"com{n}" for n in range(1, 10)),
        *(f"lpt{n}" for n in range(1, 10)),
    ]
)


def relative_parts(name: str) -> tuple[str, ...]:
    """The parts of a relative path below some root, in Unicode's composed form (NFC).

    Refused rather than cleaned: absolute paths, `.` and `..` (their full-width twins too), hidden names, backslashes,
    drive letters, control characters, and names that Windows cannot store. Raises InvalidPath.
    """
    parts = tuple(unicodedata.normalize("NFC", name).split("/"))
    if len(parts) > MAX_PARTS:
        raise InvalidPath(f"a path may have {MAX_PARTS} parts at most")
    for part in parts:
        if fault := _fault(part):
            raise InvalidPath(f"{_shown(name)} is not a usable path: {fault}")
    return parts


def inside(root: Path, name: str) -> Path:
    """The path of `name` below `root`, which need not exist. Raises InvalidPath if it would lie elsewhere.

    Symbolic links are followed to see where they lead. Touches the disk: call it from a thread.
    """
    path = root.joinpath(*relative_parts(name))
    if not lies_in(root, path):
        raise InvalidPath(f"{_shown(name)} leads out of its folder")
    return path


def lies_in(root: Path, path: Path) -> bool:
    """True if the path, its links followed, is below the root, or is the root. Touches the disk."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # links in a circle
        return False


def _fault(part: str) -> str | None:
    compatible = unicodedata.normalize("NFKC", part)
    stem = compatible.split(".")[0].strip().lower()
    faults = {
        "it has an empty part, or starts or ends with a slash": not part,
        "`.` and `..` are not allowed": compatible in (".", ".."),
        "hidden names are not allowed": compatible.startswith((".", "~")),
        "it has a character that some systems cannot store": bool(FORBIDDEN & set(part)) or "/" in compatible,
        "it has a control or invisible character": any(
            unicodedata.category(c) in INVISIBLE and c not in JOINERS for c in part
        ),
        "a part has nothing that can be seen": not any(unicodedata.category(c)[0] in "LNPS" for c in part),
        "a part starts or ends with a blank, or ends with a dot": part != part.strip() or part.endswith("."),
        "it has a name that Windows reserves": stem in RESERVED_STEMS,
        f"a part is longer than {MAX_PART_BYTES} bytes": len(part.encode("utf-8", "replace")) > MAX_PART_BYTES,
    }
    return next((sentence for sentence, holds in faults.items() if holds), None)


def _shown(name: str) -> str:
    return ascii(name[:80])
