"""The index of the libraries: one SQLite file beside them. It can be deleted: the files say all that it says."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)

VERSION = 5  # of the tables below; an index of another version is made anew
KEPT_OPEN = 4  # connections that nobody reads with; each holds up to CACHE_KB
CACHE_KB = 4000
LIBRARIES = ("voices", "vc_inputs", "outputs", "consents")

TABLES = """
CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    library TEXT NOT NULL, folder TEXT NOT NULL, filename TEXT NOT NULL,
    version TEXT NOT NULL, companion_version TEXT NOT NULL,
    size INTEGER NOT NULL, duration REAL NOT NULL, sample_rate INTEGER NOT NULL, channels INTEGER NOT NULL,
    format TEXT NOT NULL, loudness REAL, peak REAL, content_hash TEXT NOT NULL,
    created REAL NOT NULL, title TEXT NOT NULL, name TEXT NOT NULL, stem TEXT NOT NULL,
    generation_type TEXT, usage_count INTEGER NOT NULL, last_used REAL NOT NULL,
    UNIQUE (library, folder, filename)
);
CREATE INDEX by_created ON files (library, created, id);
CREATE INDEX by_title ON files (library, title, id);
CREATE INDEX by_filename ON files (library, filename, id);
CREATE INDEX by_duration ON files (library, duration, id);
CREATE INDEX by_size ON files (library, size, id);
CREATE INDEX by_type ON files (library, generation_type, created);
CREATE INDEX by_usage ON files (library, usage_count, id);
CREATE INDEX by_last_use ON files (library, last_used, id);
CREATE INDEX by_name ON files (library, name);
CREATE INDEX by_stem ON files (library, stem);
CREATE INDEX by_hash ON files (library, content_hash);
CREATE INDEX by_folder ON files (library, folder, created);

CREATE TABLE folders (
    library TEXT, path TEXT, count INTEGER NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (library, path)
) WITHOUT ROWID;
CREATE TRIGGER file_in AFTER INSERT ON files BEGIN
    INSERT INTO folders VALUES (new.library, new.folder, 1, new.size)
    ON CONFLICT DO UPDATE SET count = count + 1, size = size + new.size;
END;
CREATE TRIGGER file_out AFTER DELETE ON files BEGIN
    UPDATE folders SET count = count - 1, size = size - old.size WHERE library = old.library AND path = old.folder;
END;

CREATE TABLE tags (tag TEXT, file INTEGER REFERENCES files ON DELETE CASCADE, PRIMARY KEY (tag, file)) WITHOUT ROWID;
CREATE INDEX tags_of_file ON tags (file);
CREATE TABLE aliases (
    alias TEXT, file INTEGER REFERENCES files ON DELETE CASCADE, PRIMARY KEY (alias, file)
) WITHOUT ROWID;
CREATE INDEX aliases_of_file ON aliases (file);

CREATE TABLE broken (
    library TEXT, path TEXT, version TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (library, path)
) WITHOUT ROWID;
"""
# What is long, and what is searched, stands apart for each library: the other tables stay narrow and a search sees no
# rows of its neighbours. Trigrams find parts of words in every script.
TABLES_OF_EACH = """
CREATE TABLE about_{0} (id INTEGER PRIMARY KEY REFERENCES files ON DELETE CASCADE, about TEXT);
CREATE TABLE texts_{0} (id INTEGER PRIMARY KEY REFERENCES files ON DELETE CASCADE, searched TEXT);
CREATE VIRTUAL TABLE search_{0} USING fts5 (
    searched, tokenize = 'trigram case_sensitive 1', content = 'texts_{0}', content_rowid = 'id'
);
CREATE TRIGGER text_in_{0} AFTER INSERT ON texts_{0} BEGIN
    INSERT INTO search_{0} (rowid, searched) VALUES (new.id, new.searched);
END;
CREATE TRIGGER text_out_{0} AFTER DELETE ON texts_{0} BEGIN
    INSERT INTO search_{0} (search_{0}, rowid, searched) VALUES ('delete', old.id, old.searched);
END;
"""


class Index:
    """The database: one connection that writes, and as many as are needed to read meanwhile (WAL)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self.changes = 0  # how often anything was written
        self._idle: list[sqlite3.Connection] = []
        self._age = 0  # how often the database was made anew
        self._writer = self._opened()

    def close(self) -> None:
        with self._lock:
            for connection in (self._writer, *self._idle):
                connection.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            connection, age = self._idle.pop() if self._idle else None, self._age
        connection = connection or self._connect()
        try:
            yield connection
        finally:
            with self._lock:
                if age == self._age and len(self._idle) < KEPT_OPEN:
                    self._idle.append(connection)
                else:
                    connection.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is written, or nothing."""
        with self._lock, self._writer:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
            finally:
                self.changes += 1

    def renew(self) -> None:
        """An empty database in the place of one that turned out to be damaged; it is to be filled again."""
        with self._lock:
            self._age += 1
            self.changes += 1
            for connection in (self._writer, *self._idle):
                connection.close()
            self._idle.clear()
            self._remove()
            self._writer = self._opened()

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _opened(self) -> sqlite3.Connection:
        """The database as it is, or an empty one in the place of what is of another version or none at all."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(sqlite3.DatabaseError):
            connection = self._connect()
            if connection.execute("PRAGMA user_version").fetchone()[0] == VERSION:
                return connection
            connection.close()
        self._remove()
        logger.info("index made anew")
        connection = self._connect()
        each = "".join(TABLES_OF_EACH.format(library) for library in LIBRARIES)
        connection.executescript(f"BEGIN; {TABLES} {each} PRAGMA user_version = {VERSION}; COMMIT;")
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # what power loss takes is read from the files again
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KB}")
        return connection
