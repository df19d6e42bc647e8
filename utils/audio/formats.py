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


FORMATS = {
    audio_format.name: audio_format
    for audio_format in (
        AudioFormat("wav", "audio/wav"),
        AudioFormat("mp3", "audio/mpeg"),
        AudioFormat("flac", "audio/flac"),
    )
}
