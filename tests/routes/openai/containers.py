"""Coded audio taken apart byte by byte, frame by frame: whatever is left over is a fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MPEG2_KBPS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # layer III
MPEG2_HZ = (22_050, 24_000, 16_000)
MPEG2_SAMPLES = 576
ADTS_HZ = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)


@dataclass(frozen=True)
class Mp3Frame:
    version: int
    layer: int
    kbps: int
    sample_rate: int
    is_mono: bool


def mp3_frames(content: bytes) -> Iterator[Mp3Frame]:
    """Frames of MPEG-2 layer III (ISO/IEC 13818-3)."""
    at = 0
    while at < len(content):
        head = int.from_bytes(content[at : at + 4], "big")
        assert head >> 21 == 0x7FF, f"no frame at {at}"
        assert head >> 19 & 3 == 2, "not MPEG-2"
        kbps, sample_rate = MPEG2_KBPS[head >> 12 & 15], MPEG2_HZ[head >> 10 & 3]
        yield Mp3Frame(2, 4 - (head >> 17 & 3), kbps, sample_rate, head >> 6 & 3 == 3)
        at += MPEG2_SAMPLES // 8 * kbps * 1000 // sample_rate + (head >> 9 & 1)
    assert at == len(content)


@dataclass(frozen=True)
class AacFrame:
    profile: str
    sample_rate: int
    channels: int


def aac_frames(content: bytes) -> Iterator[AacFrame]:
    """Frames of ADTS (ISO/IEC 13818-7)."""
    at = 0
    while at < len(content):
        head = int.from_bytes(content[at : at + 7], "big")
        assert head >> 44 == 0xFFF, f"no frame at {at}"
        profile = ("Main", "LC", "SSR", "LTP")[head >> 38 & 3]
        yield AacFrame(profile, ADTS_HZ[head >> 34 & 15], head >> 30 & 7)
        at += head >> 13 & 0x1FFF
    assert at == len(content)


@dataclass(frozen=True)
class OggPage:
    stream: int
    number: int
    is_first: bool
    is_last: bool
    content: bytes


def ogg_pages(content: bytes) -> Iterator[OggPage]:
    """Pages of Ogg (RFC 3533)."""
    at = 0
    while at < len(content):
        assert content[at : at + 4] == b"OggS", f"no page at {at}"
        kind, count = content[at + 5], content[at + 26]
        begin = at + 27 + count
        end = begin + sum(content[at + 27 : begin])
        stream, number = (int.from_bytes(content[at + place : at + place + 4], "little") for place in (14, 18))
        yield OggPage(stream, number, bool(kind & 2), bool(kind & 4), content[begin:end])
        at = end
    assert at == len(content)
