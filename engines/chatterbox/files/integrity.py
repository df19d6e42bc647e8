"""Whether a weight file is whole, as far as can be told in milliseconds.

Loading takes minutes on a slow disk; a download that broke off, or the pointer that git leaves where git-lfs is not
installed, is told from the first and last bytes.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

LARGEST_HEADER_BYTES = 100_000_000  # what the safetensors library itself accepts


def fault_of(path: Path, suffix: str | None = None) -> str | None:
    """What is wrong with a file, or None. `suffix` says what it is where its name does not (`.safetensors`)."""
    size = path.stat().st_size
    if size == 0:
        return "it is empty"
    match suffix or path.suffix:
        case ".safetensors":
            return _safetensors_fault(path, size)
        case ".pt":
            return _torch_fault(path)
        case ".json":
            return _json_fault(path)
    return None


def _safetensors_fault(path: Path, size: int) -> str | None:
    """The layout: 8 bytes n, n bytes of JSON with the place of every tensor, the tensors without a gap."""
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if not 2 <= header_bytes <= min(LARGEST_HEADER_BYTES, size - 8):
            return "it is not a safetensors file"
        try:
            header = json.loads(file.read(header_bytes))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, AttributeError, KeyError, IndexError):
            return "its header cannot be read"
    declared = 8 + header_bytes + max(ends, default=0)
    if declared != size:
        return f"its header tells of {declared} bytes and it has {size}"
    return None


def _torch_fault(path: Path) -> str | None:
    """torch.save() writes a zip archive, whose directory is its end; the older form is one pickle."""
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK":
        return None if zipfile.is_zipfile(path) else "its end is missing"
    return None if start[:1] == b"\x80" else "it is not a file of torch"


def _json_fault(path: Path) -> str | None:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return "it is not JSON"
    return None
