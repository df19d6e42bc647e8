"""The libraries of a data folder, on one index, and the eye that is kept on them."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from config.settings import StorageSettings
from management.consents import Consents
from management.index import Index
from management.outputs import Outputs
from management.recordings import Recordings
from management.store import AudioStore, Limits
from management.vc_inputs import VcInputs
from management.voices import Voices
from management.watch import Watcher

INDEX = "library.sqlite"


class Libraries:
    """`voices/`, `vc_inputs/`, `outputs/` and `consents/` below one folder."""

    def __init__(self, settings: StorageSettings, data_dir: Path) -> None:
        limits = Limits(reserve_bytes=settings.min_free_mb * 1_000_000, longest_s=settings.longest_audio_h * 3600)
        self._index = Index(data_dir / INDEX)
        self.voices = Voices(self._index, data_dir, limits)
        self.vc_inputs = VcInputs(self._index, data_dir, limits)
        self.outputs = Outputs(self._index, data_dir, limits)
        self.consents = Consents(self._index, data_dir, limits)
        self.recordings = Recordings(self.vc_inputs.store, self.outputs.store)
        self._watcher = Watcher(self.stores, settings.rescan_s, self._index.renew)

    @property
    def stores(self) -> tuple[AudioStore, ...]:
        return self.voices.store, self.vc_inputs.store, self.outputs.store, self.consents.store

    def open(self) -> None:
        """Finish or undo what a crash interrupted, then begin to read what was changed by hand, in another thread."""
        for store in self.stores:
            store.recover()
        self._watcher.start()

    @property
    def is_read(self) -> bool:
        """True once everything on the disk has been looked at since the start."""
        return self._watcher.has_looked

    def close(self) -> None:
        self._watcher.stop()
        self.outputs.close()
        self._index.close()

    def record_use(self, voice: str, content_hash: str) -> None:
        """Count a generation with the voice at this path below `voices/`, of this content."""
        self.voices.record_use(voice, content_hash)

    def in_use(self, *paths: Path) -> AbstractContextManager[ExitStack]:
        """Housekeeping leaves these files alone meanwhile."""
        uses = ExitStack()
        for path in paths:
            for store in self.stores:
                if path.is_relative_to(store.root):
                    uses.enter_context(store.in_use(path))
        return uses
