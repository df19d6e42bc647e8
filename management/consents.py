"""Recordings below `consents/`, in which people say that their voice may be used: the vouchers of cloned voices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import count, dropwhile, islice
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from management.companions import Companions, modified, moment
from management.index import Index
from management.store import AudioStore, Limits, Staged
from management.stored import Description, Selection, StoredFile
from resilience.errors import FileMissing

LIBRARY = "consents"
PAGE = 500


class ConsentCompanions(Companions):
    """`cons_….wav.json` beside `cons_….wav`."""

    library = LIBRARY

    def read(self, content: Mapping[str, Any], path: Path) -> Description:
        name, language = content.get("name"), content.get("language")
        return Description(
            created=moment(content.get("created_date"), modified(path)),
            about={"language": language if isinstance(language, str) else ""},
            name=name if isinstance(name, str) else "",
        )


class Consents:
    """The library. A consent's id is its file name without extension. Everything here blocks: call it from a thread."""

    def __init__(self, index: Index, data_dir: Path, limits: Limits) -> None:
        self.store = AudioStore(index, data_dir / LIBRARY, ConsentCompanions(), limits)

    def add(self, source: BinaryIO, *, name: str, language: str, max_bytes: int) -> StoredFile:
        """Take a recording in. Raises what `AudioStore.put` raises."""

        def content(staged: Staged) -> dict[str, Any]:
            created = datetime.now(UTC).isoformat()
            return {"name": name, "language": language, "created_date": created, "audio": staged.record()}

        return self.store.put(
            source, f"cons_{uuid4().hex}", folder=None, overwrite=False, content=content, max_bytes=max_bytes
        )

    def get(self, identity: str) -> StoredFile:
        """Raises FileMissing."""
        for file in self.store.shelf.stemmed(identity):
            if file.stem == identity and file.path.is_file():
                return file
        raise FileMissing(f"there is no consent with the id {identity}")

    def rename(self, identity: str, name: str) -> StoredFile:
        """Raises FileMissing."""
        return self.store.change(self.get(identity), lambda content: {**content, "name": name})

    def remove(self, identity: str) -> None:
        """Raises FileMissing."""
        self.store.delete(self.get(identity).relative)

    def after(self, identity: str | None, most: int) -> tuple[list[StoredFile], bool]:
        """The newest consents, or those that are older than one of them, and whether there are more."""
        files = self._newest_first()
        if identity is not None:
            files = islice(dropwhile(lambda file: file.stem != identity, files), 1, None)
        found = [*islice(files, most + 1)]
        return found[:most], len(found) > most

    def _newest_first(self) -> Iterator[StoredFile]:
        for number in count(1):
            page = self.store.page(Selection(), sort_by="created_date", descending=True, page=number, page_size=PAGE)
            yield from page.files
            if len(page.files) < PAGE:
                return
