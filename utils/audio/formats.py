"""The audio formats the server writes: their names, extensions and media types."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AudioFormat:
    name: str
    media_type: str

    @property
    def extension(self) -> str:
        return f".{self.name}"


@dataclass(frozen=True, slots=True)
class Bitrates:
    """In kilobits per second, of the formats that lose something."""

    mp3: int = 128
    opus: int = 64
    aac: int = 96


FORMATS = {
    audio_format.name: audio_format
    for audio_format in (
        AudioFormat("wav", "audio/wav"),
        AudioFormat("mp3", "audio/mpeg"),
        AudioFormat("flac", "audio/flac"),
        AudioFormat("opus", "audio/ogg"),
        AudioFormat("aac", "audio/aac"),
        AudioFormat("pcm", "audio/pcm"),
    )
}
