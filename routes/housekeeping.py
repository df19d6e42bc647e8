"""`/api/v1/cleanup` and `/api/v1/resources`: what the server uses, and making room."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query, Request

from api_models.housekeeping import (
    CleanupQuery,
    CleanupReply,
    CleanupStatusReply,
    LastCleanupReply,
    RemovalReply,
    ResourcesReply,
)
from management.cleanup import Cleanup
from management.resources import resources
from resilience import errors
from routes.deps import LibrariesDep, SettingsDep, in_heavy_thread
from routes.errors import documented
from routes.library import counted

router = APIRouter(prefix="/api/v1", tags=["housekeeping"])


def _cleanup(request: Request) -> Cleanup:
    return request.app.state.cleanup  # type: ignore[no-any-return]


CleanupDep = Annotated[Cleanup, Depends(_cleanup)]


@router.post(
    "/cleanup",
    summary="Clean up now",
    responses=documented(errors.InvalidRequest, errors.FileTooLarge, errors.ServiceOverloaded),
)
async def clean_up(
    request: Request,
    asked: Annotated[CleanupQuery, Query()],
    cleanup: CleanupDep,
    body: Annotated[CleanupQuery | None, Body(description="the same option, as JSON")] = None,
) -> CleanupReply:
    """Remove what is broken, left over, or too much by the settings; with `dry_run=true` tell what would go.

    A file in use, or younger than a minute, stays. 503 while another clean-up runs.
    """
    dry_run = asked.dry_run or (body is not None and body.dry_run)
    report = await in_heavy_thread(request, cleanup.run, dry_run=dry_run)
    files = counted(report.removed_count, "file")
    message = f"{files} would be removed" if dry_run else f"{files} removed"
    if report.removed_count > len(report.removed):
        message += f"; the first {len(report.removed):,} are listed"
    return CleanupReply(
        message=message,
        dry_run=report.dry_run,
        removed=[RemovalReply.model_validate(asdict(removal)) for removal in report.removed],
        removed_count=report.removed_count,
        freed_bytes=report.freed_bytes,
        took_seconds=round(report.took_s, 3),
    )


@router.get("/cleanup/status", summary="When was cleaned up, and when will be", responses=documented())
async def cleanup_status(cleanup: CleanupDep) -> CleanupStatusReply:
    status = cleanup.status()
    last = status.last_run
    return CleanupStatusReply(
        message="a clean-up is running" if status.is_running else "no clean-up is running",
        is_running=status.is_running,
        last_run=last
        and LastCleanupReply(
            trigger=last.trigger,
            started_at=last.started_at,
            finished_at=last.finished_at,
            removed_count=last.removed_count,
            freed_bytes=last.freed_bytes,
            took_seconds=round(last.took_s, 3),
        ),
        next_run_at=status.next_run_at,
        settings=cleanup.settings,
    )


@router.get("/resources", summary="Disk, memory, processor, libraries", responses=documented())
async def get_resources(libraries: LibrariesDep, settings: SettingsDep) -> ResourcesReply:
    """What is used and what is left, in bytes, and what each library holds."""
    found = await asyncio.to_thread(resources, libraries.stores, settings.storage.min_free_mb * 1_000_000)
    return ResourcesReply.model_validate({"message": "as of now", **found})
