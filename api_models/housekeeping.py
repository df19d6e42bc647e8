"""Backup and restoration of voices, clean-ups, resources."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field

from api_models.bodies import lower
from api_models.fields import FolderName
from api_models.libraries import FOLDER, PROJECT, Asked, InFolder
from api_models.replies import SuccessReply
from config.settings import CleanupSettings

# Backup and restoration


class BackupQuery(InFolder):
    folder: FolderName | None = FOLDER
    project: FolderName | None = PROJECT


RestoreMode = Annotated[Literal["skip", "overwrite", "rename"], BeforeValidator(lower)]


class RestoreQuery(Asked):
    mode: RestoreMode = Field(
        "skip",
        description="where a voice of that name is there: leave it, put the one of the backup in its place, or keep "
        "both, the one of the backup with a number (unless it is the very same recording)",
    )


class RestoreReply(SuccessReply):
    """Paths are below voices/."""

    mode: RestoreMode
    restored: list[str] = Field(description="voices that were written", examples=[["narrators/anna.wav"]])
    restored_count: int
    skipped: list[str] = Field(description="voices of the backup that were left out, as they are there already")
    skipped_count: int
    renamed: dict[str, str] = Field(description="path in the backup → path now", examples=[{"anna.wav": "anna-2.wav"}])
    warnings: list[str] = Field(description="what of the backup was left out besides, and why")


# Clean-ups


class CleanupQuery(Asked):
    dry_run: bool = Field(False, description="true: tell what would be removed, and remove nothing")


class RemovalReply(BaseModel):
    library: str = Field(examples=["outputs"])
    path: str = Field(description="below the library", examples=["book/empty.wav"])
    reason: str = Field(
        description="`empty`, `not decodable`, `temporary`, `companion of nothing` or `over the limit`",
        examples=["empty"],
    )
    bytes: int


class CleanupReply(SuccessReply):
    dry_run: bool
    removed: list[RemovalReply] = Field(description="the first 1,000 of them")
    removed_count: int
    freed_bytes: int
    took_seconds: float


class LastCleanupReply(BaseModel):
    trigger: Literal["start", "schedule", "request"]
    started_at: datetime
    finished_at: datetime | None
    removed_count: int
    freed_bytes: int
    took_seconds: float


class CleanupStatusReply(SuccessReply):
    is_running: bool
    last_run: LastCleanupReply | None = Field(description="null before the first; dry runs do not count")
    next_run_at: datetime | None = Field(description="null where `cleanup.interval_h` is 0")
    settings: CleanupSettings


# Resources


class DiskReply(BaseModel):
    total_bytes: int
    free_bytes: int
    reserve_bytes: int = Field(description="`storage.min_free_mb`: saving is refused before this is touched")


class MemoryReply(BaseModel):
    total_bytes: int
    available_bytes: int
    server_bytes: int = Field(description="of the server's process")
    engine_bytes: int = Field(description="of the engine's process and what it started")


class CpuReply(BaseModel):
    count: int | None
    percent: float = Field(description="of all cores together, over 0.1 s")
    load_1m: float
    load_5m: float
    load_15m: float


class HoldingsReply(BaseModel):
    files: int
    bytes: int = Field(description="of the audio")
    folders: int
    not_listed: int = Field(description="files that are audio by name and cannot be used; the log says why")


class ResourcesReply(SuccessReply):
    disk: DiskReply
    memory: MemoryReply
    cpu: CpuReply
    libraries: dict[str, HoldingsReply]
