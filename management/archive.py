"""A zip that came from somebody, checked as a whole before anything in it is believed.

Python's own reader makes names harmless in silence, reads as much of a directory as there is, and lets two members
share their bytes. Here each of these is a reason to refuse the archive.
"""

from __future__ import annotations

import io
import json
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO

from management.companions import COMPANION_LIMIT, is_deep, texts
from management.stored import is_audio
from resilience.errors import FileTooLarge, InvalidArchive
from utils.files.paths import relative_parts

MAX_ENTRIES = 20_000
MAX_DIRECTORY_BYTES = 16 << 20  # of the list at its end, which is read into memory
MAX_RATIO = 100  # unpacked to packed; recordings stay below 20 unless they are mostly digital silence
RATIO_MATTERS_FROM = 1 << 20  # bytes unpacked
READ_AT_ONCE = 256 << 10

END = struct.Struct("<4s4H2LH")
END64_LOCATOR = struct.Struct("<4sLQL")
END64 = struct.Struct("<4sQ2H2L4Q")
ENTRY = struct.Struct("<4s6H3L5H2L")
LOCAL = struct.Struct("<4s5H3L2H")
LONGEST_COMMENT = 0xFFFF

ENCRYPTED, STRONGLY_ENCRYPTED, HIDDEN, UTF8 = 0x1, 0x40, 0x2000, 0x800
UNREADABLE = (
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError),
    *(ValueError, OverflowError, EOFError, struct.error, zlib.error),
)
COMPANION = ".json"
PASSED_OVER = (".DS_Store", "Thumbs.db", "desktop.ini")

TEXTS = {"name": 1000, "description": 100_000, "created_date": 64, "last_used": 64}  # key → longest, in characters
LISTS = {"tags": 200, "aliases": 1000}  # key → longest text in it
MOST_LISTED = 1000
OBJECTS = ("default_parameters", "quality")
MEASURED_ANEW = "audio"


@dataclass(slots=True)
class Member:
    """A recording in the archive; `relative` is where it would lie below the library's root."""

    relative: str
    audio: zipfile.ZipInfo
    companion: zipfile.ZipInfo | None = None


@dataclass(slots=True)
class Contents:
    """What an archive holds. The warnings are sentences for a person."""

    members: list[Member] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unpacked_bytes: int = 0


class Archive:
    """A zip file of recordings and companions. Nothing of it is written anywhere by this class."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        """Check the whole list of contents. Raises InvalidArchive, InvalidPath, FileTooLarge."""
        directory_at = _check_directory(file)
        with _unreadable_told():
            self._zip = zipfile.ZipFile(file)
        entries = self._zip.infolist()
        for entry in entries:
            _check_entry(entry)
        _check_places(file, entries, directory_at)
        self.contents = _sorted_out(entries)
        if self.contents.unpacked_bytes > max_bytes:
            raise FileTooLarge(f"the archive holds more than {max_bytes // 1_000_000} MB of files")
        for member in self.contents.members:
            self.companion(member)  # or InvalidArchive, before anything is unpacked

    @contextmanager
    def audio(self, member: Member) -> Iterator[BinaryIO]:
        """The recording, as a stream that ends in InvalidArchive unless it is what the list of contents says."""
        with _unreadable_told(member.relative):
            packed = self._zip.open(member.audio)
        with packed, io.BufferedReader(_Checked(packed, member), READ_AT_ONCE) as audio:
            yield audio

    def companion(self, member: Member) -> dict[str, Any]:
        """What the companion of a recording says. Raises InvalidArchive."""
        if member.companion is None:
            return {}
        with _unreadable_told(f"{member.relative}{COMPANION}"), self._zip.open(member.companion) as packed:
            return _checked_companion(packed.read(COMPANION_LIMIT + 1), f"{member.relative}{COMPANION}")


class _Checked(io.RawIOBase):
    """The bytes of a member, neither fewer nor more than were announced."""

    def __init__(self, packed: Any, member: Member) -> None:
        self._packed = packed
        self._member = member
        self._read = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """To where it stands already: who copies a file rewinds it first."""
        if (offset, whence) not in ((self._read, io.SEEK_SET), (0, io.SEEK_CUR)):
            raise io.UnsupportedOperation("a packed file is read once")
        return self._read

    def tell(self) -> int:
        return self._read

    def readinto(self, buffer: Any) -> int:
        with _unreadable_told(self._member.relative):
            piece: bytes = self._packed.read(len(buffer))
        buffer[: len(piece)] = piece
        self._read += len(piece)
        if not piece and self._read != self._member.audio.file_size:
            raise InvalidArchive(f"{self._member.relative!a} is shorter than the archive says")
        return len(piece)


@contextmanager
def _unreadable_told(name: str | None = None) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        what = f"{name!a} in the archive" if name else "the file"
        raise InvalidArchive(f"{what} cannot be read: it is damaged, or no zip of the usual kind") from error


def _check_directory(file: BinaryIO) -> int:
    """Where the list of contents begins, after a look at its size: before anybody reads it into memory."""
    size = file.seek(0, io.SEEK_END)
    tail_at = max(0, size - END.size - LONGEST_COMMENT)
    file.seek(tail_at)
    tail = file.read(END.size + LONGEST_COMMENT)
    found = tail.rfind(b"PK\5\6")
    if found < 0 or len(tail) - found < END.size:
        raise InvalidArchive("the file is no zip archive, or its end is missing")
    end_at = tail_at + found
    _, disk, first_disk, _, count, length, start, comment = END.unpack_from(tail, found)
    if end_at + END.size + comment != size:
        raise InvalidArchive("something follows the archive's end")
    if 0xFFFF in (disk, count) or 0xFFFFFFFF in (length, start):
        file.seek(max(0, end_at - END64_LOCATOR.size))
        locator = file.read(END64_LOCATOR.size)
        if len(locator) == END64_LOCATOR.size and locator.startswith(b"PK\6\7"):
            _, _, end_at, _ = END64_LOCATOR.unpack(locator)
            file.seek(min(end_at, size))
            end64 = file.read(END64.size)
            if len(end64) < END64.size or not end64.startswith(b"PK\6\6"):
                raise InvalidArchive("the archive's end is damaged")
            _, _, _, _, disk, first_disk, _, count, length, start = END64.unpack(end64)
    if disk or first_disk:
        raise InvalidArchive("the archive is one part of several")
    if start + length != end_at:
        raise InvalidArchive("the archive's list of contents is not where it should be")
    if count > MAX_ENTRIES or length > MAX_DIRECTORY_BYTES:
        raise InvalidArchive(f"the archive has {count:,} entries; {MAX_ENTRIES:,} can be restored at once")
    file.seek(start)
    if _count(file.read(length)) != count:
        raise InvalidArchive("the archive's list of contents is not as long as it says")
    file.seek(0)
    return int(start)


def _count(directory: bytes) -> int:
    """How many entries a list of contents really has; -1 if it is none."""
    at = count = 0
    while at < len(directory):
        if at + ENTRY.size > len(directory) or not directory.startswith(b"PK\1\2", at):
            return -1
        at += ENTRY.size + sum(ENTRY.unpack_from(directory, at)[10:13])
        count += 1
    return count if at == len(directory) else -1


def _check_entry(entry: zipfile.ZipInfo) -> None:
    """Raise InvalidArchive for an entry that no backup has: encrypted, a link, unpacking out of all proportion."""
    name = ascii(entry.orig_filename[:80])
    kind = stat.S_IFMT(entry.external_attr >> 16)
    packed, unpacked = entry.compress_size, entry.file_size
    faults = {
        "is encrypted": entry.flag_bits & (ENCRYPTED | STRONGLY_ENCRYPTED | HIDDEN),
        "is packed in a way that is not supported": entry.compress_type
        not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
        "is a link or a device": kind not in (0, stat.S_IFREG, stat.S_IFDIR),
        "is a folder with content": entry.orig_filename.endswith("/") and unpacked,
        "has two sizes": entry.compress_type == zipfile.ZIP_STORED and packed != unpacked,
        "would unpack to far more than it is": unpacked > RATIO_MATTERS_FROM and unpacked > packed * MAX_RATIO,
    }
    for fault, holds in faults.items():
        if holds:
            raise InvalidArchive(f"{name} in the archive {fault}")


def _check_places(file: BinaryIO, entries: list[zipfile.ZipInfo], directory_at: int) -> None:
    """Raise InvalidArchive unless every member has bytes of its own, under the same name as in the list of contents."""
    free_from = 0
    for entry in sorted(entries, key=lambda one: one.header_offset):
        if entry.header_offset > directory_at:
            raise InvalidArchive(f"{entry.orig_filename[:80]!a} in the archive reaches beyond its end")
        file.seek(entry.header_offset)
        header = file.read(LOCAL.size)
        if entry.header_offset < free_from or len(header) < LOCAL.size or not header.startswith(b"PK\3\4"):
            raise InvalidArchive(f"{entry.orig_filename[:80]!a} in the archive shares its bytes with another")
        _, _, flags, method, _, _, _, _, _, name_length, extra_length = LOCAL.unpack(header)
        encoding = "utf-8" if flags & UTF8 else "cp437"
        if (
            method != entry.compress_type
            or flags & (ENCRYPTED | STRONGLY_ENCRYPTED)
            or file.read(name_length).decode(encoding, "replace") != entry.orig_filename
        ):
            raise InvalidArchive(f"{entry.orig_filename[:80]!a} in the archive is described in two ways")
        free_from = entry.header_offset + LOCAL.size + name_length + extra_length + entry.compress_size
        if free_from > directory_at:
            raise InvalidArchive(f"{entry.orig_filename[:80]!a} in the archive reaches beyond its end")


def _sorted_out(entries: list[zipfile.ZipInfo]) -> Contents:
    """Recordings with their companions, and folders. Raises InvalidPath, InvalidArchive."""
    audio: dict[str, zipfile.ZipInfo] = {}
    companions: dict[str, zipfile.ZipInfo] = {}
    contents = Contents()
    seen: set[str] = set()
    for entry in entries:
        name = _name(entry)
        if _is_passed_over(name):
            continue
        relative = "/".join(relative_parts(name.removesuffix("/")))
        key = unicodedata.normalize("NFC", relative.casefold())
        if key in seen:
            raise InvalidArchive(f"{relative!a} is in the archive twice, or differs from another name in case alone")
        seen.add(key)
        described = relative.removesuffix(COMPANION)
        if name.endswith("/"):
            contents.folders.append(relative)
            continue
        if is_audio(relative.rpartition("/")[2]):
            audio[relative] = entry
        elif described != relative and is_audio(described.rpartition("/")[2]):
            companions[described] = entry
            if entry.file_size > COMPANION_LIMIT:
                raise InvalidArchive(f"{relative!a} in the archive is larger than {COMPANION_LIMIT // 1024} kB")
        else:
            raise InvalidArchive(f"{relative!a} in the archive is neither audio nor the companion of audio")
        contents.unpacked_bytes += entry.file_size
    files = {unicodedata.normalize("NFC", relative.casefold()) for relative in (*audio, *companions)}
    for relative in (*audio, *companions, *contents.folders):
        parts = unicodedata.normalize("NFC", relative.casefold()).split("/")
        above = {"/".join(parts[:count]) for count in range(1, len(parts))}
        if above & files:
            raise InvalidArchive(f"a part of {relative!a} is a file in the archive, so it can be no folder")
    contents.members = [Member(relative, entry, companions.pop(relative, None)) for relative, entry in audio.items()]
    contents.warnings = [f"{name}{COMPANION}: left out, for there is no {name} with it" for name in companions]
    return contents


def _name(entry: zipfile.ZipInfo) -> str:
    """The name as it was meant: some write UTF-8 and do not say so."""
    if not entry.flag_bits & UTF8:
        try:
            return entry.orig_filename.encode("cp437").decode()
        except UnicodeError:
            pass
    return entry.orig_filename


def _is_passed_over(name: str) -> bool:
    """What systems put into archives of their own accord."""
    return name.startswith("__MACOSX/") or name.rpartition("/")[2] in PASSED_OVER


def restorable(said: dict[str, Any]) -> dict[str, Any]:
    """A companion as `Archive` takes it, whatever people have written into it by hand."""
    listed = {key: texts(said[key]) for key in LISTS if said.get(key)}
    return {key: value for key, value in {**said, **listed}.items() if _is_sane(key, value)}


def _checked_companion(content: bytes, name: str) -> dict[str, Any]:
    """What it says, but for what was heard, which is measured anew. Raises InvalidArchive."""
    try:
        said = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidArchive(f"{name!a} in the archive is no JSON") from error
    if not isinstance(said, dict):
        raise InvalidArchive(f"{name!a} in the archive is no JSON object")
    kept = {key: value for key, value in said.items() if value is not None and key != MEASURED_ANEW}
    for key, value in kept.items():
        if not _is_sane(key, value):
            raise InvalidArchive(f"{key[:40]!a} of {name!a} in the archive is not what it should be")
    return kept


def _is_sane(key: str, value: Any) -> bool:
    """True for what a library can keep under the key; what it does not know is the owner's, and stays as it is."""
    try:
        if is_deep(value):
            return False
        json.dumps({key: value}, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):  # an infinity, or half of a character: no file of JSON can hold them
        return False
    if key in OBJECTS:
        return isinstance(value, dict)
    if key in LISTS:
        return (
            isinstance(value, list)
            and len(value) <= MOST_LISTED
            and all(isinstance(text, str) and len(text) <= LISTS[key] for text in value)
        )
    if key in TEXTS:
        is_text = isinstance(value, str) and len(value) <= TEXTS[key]
        return is_text and (key not in ("created_date", "last_used") or _is_moment(value))
    if key == "usage_count":
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
    return True


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
