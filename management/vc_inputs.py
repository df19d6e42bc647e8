"""Recordings to convert, below `vc_inputs/`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from management.companions import Companions, modified, moment
from management.index import Index
from management.store import AudioStore, Limits, Staged
from management.stored import Description, StoredFile

LIBRARY = "vc_inputs"


class VcInputCompanions(Companions):
    """`interview.wav.json` beside `interview.wav`."""

    library = LIBRARY

    def read(self, content: Mapping[str, Any], path: Path) -> Description:
        text = content.get("text")
        text = text if isinstance(text, str) else ""
        created = moment(content.get("created_date"), modified(path))
        return Description(
            created=created,
            about={"text": text, "upload_date": moment(content.get("upload_date"), created).isoformat()},
            searched=[text] if text else [],
        )


class VcInputs:
    """The library. Everything here blocks: call it from a thread."""

    def __init__(self, index: Index, data_dir: Path, limits: Limits) -> None:
        self.store = AudioStore(index, data_dir / LIBRARY, VcInputCompanions(), limits)

    def add(
        self, source: BinaryIO, filename: str, *, folder: str | None, overwrite: bool, text: str, max_bytes: int
    ) -> StoredFile:
        """Take a recording in, with the words that are said in it. Raises what `AudioStore.put` raises."""

        def content(staged: Staged) -> dict[str, Any]:
            now = datetime.now(UTC).isoformat()
            return {"text": text, "created_date": now, "upload_date": now, "audio": staged.record()}

        return self.store.put(
            source, filename, folder=folder, overwrite=overwrite, content=content, max_bytes=max_bytes
        )
