"""Chapter marks, as players find them in files: ID3v2.3's CHAP and CTOC, and the CHAPTER comments of Ogg and FLAC."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MOST_COMMENTS = 1000
MOST_OF_A_TABLE = 255  # its count is a byte
NOWHERE = 0xFFFFFFFF  # of an offset in bytes: go by the time
TOP, ORDERED = 0b10, 0b01
UTF_16 = b"\x01"
COMMENT_BLOCK, PADDING_BLOCK, LAST_BLOCK = 4, 1, 0x80  # of FLAC


@dataclass(frozen=True, slots=True)
class Chapter:
    """A stretch of a recording with a title, in seconds."""

    title: str
    start_s: float
    end_s: float


def id3_tag(chapters: Sequence[Chapter]) -> bytes:
    """The tag that comes before the frames of an MP3 file (ID3v2.3, with its addendum on chapters)."""
    names = [f"chp{index}" for index in range(len(chapters))]
    tables = [names[start : start + MOST_OF_A_TABLE] for start in range(0, len(names), MOST_OF_A_TABLE)]
    frames = []
    if len(tables) > 1:  # a table of tables
        inner = [f"toc{index}" for index in range(1, len(tables) + 1)]
        frames = [_table("toc", inner, TOP | ORDERED), *map(_table, inner, tables, [ORDERED] * len(inner))]
    else:
        frames = [_table("toc", names, TOP | ORDERED)]
    frames += [_chapter(name, chapter) for name, chapter in zip(names, chapters, strict=True)]
    content = b"".join(frames)
    size = bytes(len(content) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + size + content


def comments(chapters: Sequence[Chapter]) -> Iterator[tuple[str, str]]:
    """The names and values of the comments that Ogg and FLAC carry. Their numbers have three digits, so more than
    `MOST_COMMENTS` chapters cannot be told, and none is."""
    for number, chapter in enumerate(chapters if len(chapters) <= MOST_COMMENTS else ()):
        minutes, seconds = divmod(round(chapter.start_s * 1000) / 1000, 60)
        name = f"CHAPTER{number:03}"
        yield name, f"{int(minutes) // 60:02}:{int(minutes) % 60:02}:{seconds:06.3f}"
        yield f"{name}NAME", chapter.title


def comment_block(chapters: Sequence[Chapter], vendor: bytes) -> bytes:
    """The comments as a metadata block of FLAC, which is not the last; `vendor` is the encoder's name."""
    fields = [f"{name}={value}".encode("utf-8", "replace") for name, value in comments(chapters)]
    content = struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", len(fields))
    return _block(COMMENT_BLOCK, content + b"".join(struct.pack("<I", len(field)) + field for field in fields))


def padding_block(size: int, *, is_last: bool) -> bytes:
    """A metadata block of FLAC of `size` bytes in all, at least four, that says nothing."""
    return _block(PADDING_BLOCK | (LAST_BLOCK if is_last else 0), bytes(size - 4))


def _block(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + len(content).to_bytes(3, "big") + content


def _table(name: str, members: Sequence[str], flags: int) -> bytes:
    listed = b"".join(_identifier(member) for member in members)
    return _frame(b"CTOC", _identifier(name) + bytes([flags, len(members)]) + listed)


def _chapter(name: str, chapter: Chapter) -> bytes:
    start_ms, end_ms = round(chapter.start_s * 1000), round(chapter.end_s * 1000)
    title = _frame(b"TIT2", UTF_16 + chapter.title.encode("utf-16", "replace"))
    return _frame(b"CHAP", _identifier(name) + struct.pack(">IIII", start_ms, end_ms, NOWHERE, NOWHERE) + title)


def _frame(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack(">IH", len(content), 0) + content


def _identifier(name: str) -> bytes:
    return name.encode("ascii") + b"\0"
