"""One library's part of the index: its rows written, found, counted and paged."""

from __future__ import annotations

import json
import sqlite3
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from management.index import Index
from management.stored import Description, Folder, Page, Selection, StoredFile
from utils.audio.analysis import AudioFacts
from utils.text.fold import fold

FEW = 5_000  # rows that are sorted faster than a sorted index is walked in search of them
FAR = 20_000  # rows along an index, from where on it is quicker to find all that match a search first
SHORTEST_TRIGRAM = 3
COUNTS_REMEMBERED = 256
VARIABLES = 500  # of one statement; SQLite takes 999 in its oldest builds
COLUMNS = (
    "folder, filename, version, companion_version, size, duration, sample_rate, channels, format, loudness, peak, "
    "content_hash, created, name, generation_type, usage_count, last_used"
)
LISTED = (
    "SELECT f.id FROM json_each(?) n CROSS JOIN files f ON f.library = ? AND f.filename = n.value "
    "UNION ALL SELECT f.id FROM json_each(?) n CROSS JOIN files f ON f.library = ? "
    "AND f.folder = json_extract(n.value, '$[0]') AND f.filename = json_extract(n.value, '$[1]')"
)
SORTED_BY = {  # what clients sort by: the column, and its index
    "name": ("title", "by_title"),
    "created_date": ("created", "by_created"),
    "duration": ("duration", "by_duration"),
    "size": ("size", "by_size"),
    "filename": ("filename", "by_filename"),
    "usage_count": ("usage_count", "by_usage"),
    "last_used": ("last_used", "by_last_use"),
    "generation_type": ("generation_type", "by_type"),
}


class Shelf:
    """One library's part of the index."""

    def __init__(self, index: Index, library: str, root: Path) -> None:
        self._index = index
        self._library = library
        self._root = root
        self._counts: dict[Selection, tuple[int, int]] = {}
        self._about, self._texts, self._search = f"about_{library}", f"texts_{library}", f"search_{library}"

    # Writing

    def write(self, files: Sequence[StoredFile]) -> None:
        """Note the files, in the place of what was known of them."""
        with self._index.writing() as db:
            for file in files:
                self._forget(db, [file.relative])
                self._note(db, file)

    def forget(self, paths: Sequence[str]) -> None:
        with self._index.writing() as db:
            self._forget(db, paths)

    def note_folders(self, paths: Sequence[str]) -> None:
        """Folders that are there, whether anything is in them or not."""
        with self._index.writing() as db:
            db.executemany(
                "INSERT OR IGNORE INTO folders VALUES (?, ?, 0, 0)", [(self._library, path) for path in paths]
            )

    def forget_folder(self, path: str) -> None:
        """The folder and all below it."""
        with self._index.writing() as db:
            for table, column in (("files", "folder"), ("folders", "path"), ("broken", "path")):
                db.execute(
                    f"DELETE FROM {table} WHERE library = ? AND {_below(column)}",  # noqa: S608 - our own names
                    (self._library, *_range(path)),
                )

    def note_broken(self, relative: str, version: str, reason: str) -> None:
        with self._index.writing() as db:
            self._forget(db, [relative])
            db.execute("INSERT OR REPLACE INTO broken VALUES (?, ?, ?, ?)", (self._library, relative, version, reason))

    def _forget(self, db: sqlite3.Connection, paths: Sequence[str]) -> None:
        db.executemany(
            "DELETE FROM files WHERE library = ? AND folder = ? AND filename = ?",
            [(self._library, *_split(path)) for path in paths],
        )
        db.executemany("DELETE FROM broken WHERE library = ? AND path = ?", [(self._library, path) for path in paths])

    def _note(self, db: sqlite3.Connection, file: StoredFile) -> None:
        facts, said = file.facts, file.description
        row = {
            "library": self._library,
            "folder": file.folder,
            "filename": file.filename,
            "version": file.version,
            "companion_version": file.companion_version,
            "size": file.size_bytes,
            "duration": facts.duration_s,
            "sample_rate": facts.sample_rate,
            "channels": facts.channels,
            "format": facts.format,
            "loudness": facts.loudness_lufs,
            "peak": facts.peak_dbfs,
            "content_hash": file.content_hash,
            "created": said.created.timestamp(),
            "title": fold(said.name or file.stem),
            "name": said.name,
            "stem": fold(file.stem),
            "generation_type": said.generation_type,
            "usage_count": said.usage_count,
            "last_used": said.last_used.timestamp() if said.last_used else 0,
        }
        marks = ", ".join(f":{column}" for column in row)
        cursor = db.execute(f"INSERT INTO files ({', '.join(row)}) VALUES ({marks})", row)  # noqa: S608 - our own names
        searched = fold("\n".join([file.relative, said.name, *said.tags, *said.aliases, *said.searched]))
        about = json.dumps({**said.about, "tags": [*said.tags], "aliases": [*said.aliases]}, ensure_ascii=False)
        db.execute(f"INSERT INTO {self._about} VALUES (?, ?)", (cursor.lastrowid, about))  # noqa: S608
        db.execute(f"INSERT INTO {self._texts} VALUES (?, ?)", (cursor.lastrowid, searched))  # noqa: S608
        for table, values in (("tags", said.tags), ("aliases", said.aliases)):
            db.executemany(
                f"INSERT OR IGNORE INTO {table} VALUES (?, ?)",  # noqa: S608 - our own names
                [(fold(value), cursor.lastrowid) for value in values],
            )

    # Single files

    def get(self, relative: str) -> StoredFile | None:
        found = self._files("folder = ? AND filename = ?", _split(relative))
        return found[0] if found else None

    def named(self, name: str) -> list[StoredFile]:
        """The files that somebody gave this name; case and accents do not count."""
        return self._files("title = ? AND name != ''", (fold(name),))

    def called(self, alias: str) -> list[StoredFile]:
        return self._files("id IN (SELECT file FROM aliases WHERE alias = ?)", (fold(alias),))

    def hashed(self, content_hash: str) -> list[StoredFile]:
        """The files with this content."""
        return self._files("content_hash = ?", (content_hash,))

    def stemmed(self, stem: str) -> list[StoredFile]:
        """The files of this name, in any folder; the extension, case and accents do not count."""
        return self._files("stem = ?", (fold(stem),))

    def of_generation(self, folder: str, stem: str) -> list[StoredFile]:
        return [file for file in self._files("folder = ? AND stem = ?", (folder, fold(stem))) if file.stem == stem]

    def versions(self, folder: str) -> dict[str, tuple[str, str]]:
        """File name → what the file and its companion looked like, for all that is known directly in the folder."""
        with self._index.reading() as db:
            rows = db.execute(
                "SELECT filename, version, companion_version FROM files WHERE library = ? AND folder = ?",
                (self._library, folder),
            )
            return {filename: (version, companion) for filename, version, companion in rows}

    def broken(self, folder: str | None = None) -> dict[str, tuple[str, str]]:
        """Path → what the file looked like, and why it could not be read; directly in the folder, or everywhere."""
        with self._index.reading() as db:
            rows = db.execute("SELECT path, version, reason FROM broken WHERE library = ?", (self._library,)).fetchall()
        return {path: (version, reason) for path, version, reason in rows if folder in (None, _split(path)[0])}

    def broken_at(self, relative: str) -> tuple[str, str] | None:
        """As `broken`, of one path."""
        with self._index.reading() as db:
            row = db.execute(
                "SELECT version, reason FROM broken WHERE library = ? AND path = ?", (self._library, relative)
            ).fetchone()
        return (row[0], row[1]) if row else None

    def some_paths(self, like: str, most: int) -> list[str]:
        """Paths to look for near misses of a name in: all, if there are so few; else those that share three letters."""
        folded = fold(like)
        trigrams = {folded[at : at + 3] for at in range(len(folded) - 2)}
        with self._index.reading() as db:
            paths = db.execute(
                "SELECT folder, filename FROM files WHERE library = ? LIMIT ?", (self._library, most + 1)
            ).fetchall()
            if len(paths) > most and trigrams:
                paths = db.execute(
                    f"SELECT folder, filename FROM files WHERE id IN (SELECT rowid FROM {self._search} "  # noqa: S608
                    f"WHERE {self._search} MATCH ? ORDER BY rank LIMIT ?)",
                    (" OR ".join(_quoted(trigram) for trigram in trigrams), most),
                ).fetchall()
        return [_joined(folder, filename) for folder, filename in paths[:most]]

    # Many files

    def page(self, selection: Selection, *, sort_by: str, descending: bool, page: int, page_size: int) -> Page:
        """One page of the files that were selected. `sort_by` is a key of `SORTED_BY`."""
        total = self._count(selection)
        start = (page - 1) * page_size
        count = min(page_size, total - start)
        if count <= 0:
            return Page([], total)
        if is_from_the_end := start > total - start - count:  # the way there is shorter
            start, descending = total - start - count, not descending
        column, index = SORTED_BY[sort_by]
        way = "DESC" if descending else "ASC"
        tie = "created" if column == "generation_type" else "id"
        if total <= FEW and selection != Selection():  # find and sort them: a plus keeps SQLite from a sorted index
            source, order = "files", f"+{column} {way}, +{tie} {way}, +id {way}"
            where, values = self._criteria(selection)
        else:  # walk along the sorted index until the page is full
            if selection.generation_type and column == "created":
                index = "by_type"
            source, order = f"files INDEXED BY {index}", f"{column} {way}, {tie} {way}, id {way}"
            distance = (start + count) * self._totals("")[0] / total
            where, values = self._criteria(selection, walks=True, reads_texts=distance < FAR)
        with self._index.reading() as db:
            ids = [
                number
                for (number,) in db.execute(
                    f"SELECT id FROM {source} WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?",  # noqa: S608
                    (*values, count, start),
                )
            ]
        files = self._by_id(ids[::-1] if is_from_the_end else ids)
        return Page(self.with_formats(files), total)

    def select(self, selection: Selection) -> Iterator[StoredFile]:
        """All that were selected, in no order."""
        where, values = self._criteria(selection)
        with self._index.reading() as db:
            ids = [number for (number,) in db.execute(f"SELECT id FROM files WHERE {where}", values)]  # noqa: S608
        for at in range(0, len(ids), VARIABLES):
            yield from self._by_id(ids[at : at + VARIABLES])

    def oldest(self) -> Iterator[StoredFile]:
        """All, the oldest first."""
        with self._index.reading() as db:
            ids = db.execute("SELECT id FROM files WHERE library = ? ORDER BY created, id", (self._library,)).fetchall()
        for at in range(0, len(ids), VARIABLES):
            yield from self._by_id([number for (number,) in ids[at : at + VARIABLES]])

    def folders(self) -> list[Folder]:
        """The root and every folder below it, by path."""
        with self._index.reading() as db:
            rows = db.execute("SELECT path, count FROM folders WHERE library = ? ORDER BY path", (self._library,))
            counts = {"": 0, **dict(rows.fetchall())}
        inner: dict[str, list[str]] = {path: [] for path in counts}
        for path in counts:
            parent, name = _split(path)
            if path and parent in inner:
                inner[parent].append(name)
        return [Folder(path, count, inner[path]) for path, count in counts.items()]

    def totals(self) -> tuple[int, int]:
        """How many files, and their bytes."""
        return self._totals("")

    def _totals(self, folder: str) -> tuple[int, int]:
        where, *values = _in_folder("path", folder) if folder else ("1",)
        with self._index.reading() as db:
            count, size = db.execute(
                f"SELECT total(count), total(size) FROM folders WHERE library = ? AND {where}",  # noqa: S608
                (self._library, *values),
            ).fetchone()
        return int(count), int(size)

    def _count(self, selection: Selection) -> int:
        """How many files meet the criteria; remembered until anything changes."""
        if selection == Selection(folder=selection.folder):
            return self._totals(selection.folder or "")[0]
        if (remembered := self._counts.get(selection)) and remembered[0] == self._index.changes:
            return remembered[1]
        changes = self._index.changes
        match = _match(selection.search or "")
        if match and selection == Selection(search=selection.search) and not _short_words(selection.search or ""):
            sql, values = f"SELECT count(*) FROM {self._search} WHERE {self._search} MATCH ?", [match]  # noqa: S608
        else:
            where, values = self._criteria(selection)
            sql = f"SELECT count(*) FROM files WHERE {where}"  # noqa: S608 - our own names
        with self._index.reading() as db:
            count = int(db.execute(sql, values).fetchone()[0])
        if len(self._counts) >= COUNTS_REMEMBERED:
            self._counts.clear()
        self._counts[selection] = changes, count
        return count

    def _criteria(
        self, selection: Selection, *, walks: bool = False, reads_texts: bool = False
    ) -> tuple[str, list[Any]]:
        """The WHERE of a selection, and its values: to find what meets it, or to test what is met on a walk.

        A plus keeps SQLite from going by that column. `reads_texts`: each text is looked through, instead of asking
        for all that match.
        """
        is_small_folder = bool(selection.folder) and self._totals(selection.folder or "")[0] <= FEW
        reads_texts = reads_texts or is_small_folder
        is_listed = selection.filenames or selection.tag or selection.search
        clauses: list[str] = [f"{'+' if is_listed and not walks and not is_small_folder else ''}library = ?"]
        values: list[Any] = [self._library]
        plus = "+" if walks else ""

        def add(clause: str, *more: Any) -> None:
            clauses.append(clause)
            values.extend(more)

        if selection.folder:
            below, *ends = _in_folder("path", selection.folder)
            folders = f"SELECT path FROM folders WHERE library = ? AND {below}"  # noqa: S608 - our own names
            add(f"{plus}folder IN ({folders})", self._library, *ends)
        if selection.filenames:
            add(f"{plus}id IN ({LISTED})", *self._listed(selection.filenames))
        if selection.tag:
            add(f"{plus}id IN (SELECT file FROM tags WHERE tag = ?)", fold(selection.tag))  # noqa: S608
        if selection.generation_type:
            add("generation_type = ?", selection.generation_type)
        if selection.date_from:
            add("created >= ?", selection.date_from.timestamp())
        if selection.date_to:
            add("created <= ?", selection.date_to.timestamp())
        if selection.search:
            self._add_search(selection.search, add, plus, reads_texts=reads_texts)
        return " AND ".join(clauses), values

    def _add_search(self, search: str, add: Callable[..., None], plus: str, *, reads_texts: bool) -> None:
        words = dict.fromkeys(fold(search).split())
        if reads_texts:
            for word in words:
                add(f"(SELECT instr(searched, ?) FROM {self._texts} t WHERE t.id = files.id) > 0", word)  # noqa: S608
            return
        if match := _match(search):
            add(f"{plus}id IN (SELECT rowid FROM {self._search} WHERE {self._search} MATCH ?)", match)  # noqa: S608
        if short := _short_words(search):
            tests = " AND ".join(["instr(searched, ?) > 0"] * len(short))
            add(f"{plus}id IN (SELECT id FROM {self._texts} WHERE {tests})", *short)  # noqa: S608

    def _listed(self, filenames: Sequence[str]) -> tuple[str, str, str, str]:
        """The values of `LISTED`: names with a folder mean one file, names without mean every file of that name."""
        spelled = [spelling for name in filenames for spelling in _spellings(name)]
        bare = json.dumps([name for name in spelled if "/" not in name])
        whole = json.dumps([_split(name) for name in spelled if "/" in name])
        return bare, self._library, whole, self._library

    # Rows

    def _files(self, where: str, values: Sequence[Any]) -> list[StoredFile]:
        with self._index.reading() as db:
            rows = db.execute(
                f"SELECT {COLUMNS}, about FROM files JOIN {self._about} USING (id) "  # noqa: S608 - our own names
                f"WHERE library = ? AND {where} ORDER BY folder, filename",
                (self._library, *values),
            ).fetchall()
        return [self._file(row) for row in rows]

    def _by_id(self, ids: Sequence[int]) -> list[StoredFile]:
        """The files, in the order of their numbers as given."""
        with self._index.reading() as db:
            rows = db.execute(
                f"SELECT id, {COLUMNS}, about FROM files JOIN {self._about} USING (id) "  # noqa: S608 - our own names
                "WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps(ids),),
            ).fetchall()
        known = {row[0]: self._file(row[1:]) for row in rows}
        return [known[number] for number in ids if number in known]

    def with_formats(self, files: list[StoredFile]) -> list[StoredFile]:
        """The files, each knowing in which formats it is there: what differs in its extension alone."""
        with self._index.reading() as db:
            rows = db.execute(
                "SELECT folder, filename FROM files WHERE library = ? AND stem IN (SELECT value FROM json_each(?))",
                (self._library, json.dumps([fold(file.stem) for file in files])),
            ).fetchall()
        formats: dict[str, list[str]] = {}
        for folder, filename in sorted(rows):
            stem, _, extension = _joined(folder, filename).rpartition(".")
            formats.setdefault(stem, []).append(extension.lower())
        return [replace(file, formats=formats.get(file.relative.rpartition(".")[0], ())) for file in files]

    def _file(self, row: Sequence[Any]) -> StoredFile:
        (folder, filename, version, companion_version, size, duration_s, sample_rate, channels, audio_format) = row[:9]
        (loudness, peak, content_hash, created, name, generation_type, usage_count, last_used, about) = row[9:]
        said = json.loads(about)
        relative = _joined(folder, filename)
        return StoredFile(
            relative=relative,
            path=self._root / relative,
            size_bytes=size,
            version=version,
            companion_version=companion_version,
            facts=AudioFacts(duration_s, sample_rate, channels, audio_format, loudness, peak),
            content_hash=content_hash,
            description=Description(
                created=datetime.fromtimestamp(created, UTC),
                about=said,
                name=name,
                tags=said["tags"],
                aliases=said["aliases"],
                generation_type=generation_type,
                usage_count=usage_count,
                last_used=datetime.fromtimestamp(last_used, UTC) if last_used else None,
            ),
        )


def _split(relative: str) -> tuple[str, str]:
    folder, _, filename = relative.rpartition("/")
    return folder, filename


def _joined(folder: str, filename: str) -> str:
    return f"{folder}/{filename}" if folder else filename


def _below(column: str) -> str:
    """The folder itself or anything below it, as a range of an index: `0` comes after the slash."""
    return f"({column} = ? OR ({column} > ? AND {column} < ?))"


def _in_folder(column: str, folder: str) -> tuple[str, ...]:
    """The clause and its values, for the folder in either spelling: macOS writes accents decomposed."""
    spellings = _spellings(folder)
    return f"({' OR '.join([_below(column)] * len(spellings))})", *(end for name in spellings for end in _range(name))


def _spellings(name: str) -> list[str]:
    return list(dict.fromkeys(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))


def _range(folder: str) -> tuple[str, str, str]:
    return folder, f"{folder}/", f"{folder}0"


def _quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'


def _match(search: str) -> str:
    """The words of a search that trigrams can find, for FTS5; empty if there is none."""
    words = dict.fromkeys(fold(search).split())
    return " AND ".join(_quoted(word) for word in words if len(word) >= SHORTEST_TRIGRAM)


def _short_words(search: str) -> list[str]:
    return [word for word in dict.fromkeys(fold(search).split()) if len(word) < SHORTEST_TRIGRAM]
