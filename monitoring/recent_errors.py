"""The latest errors that clients met, kept in memory for `/health`."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

KEPT = 500


@dataclass(frozen=True, slots=True)
class RecentError:
    moment: datetime
    error_code: str
    status: int
    endpoint: str
    request_id: str


class RecentErrors:
    def __init__(self) -> None:
        self._errors: deque[RecentError] = deque(maxlen=KEPT)

    def add(self, error_code: str, status: int, endpoint: str, request_id: str) -> None:
        self._errors.append(RecentError(datetime.now(UTC), error_code, status, endpoint, request_id))

    def summary(self, hours: float = 24) -> dict[str, Any]:
        """How many of each code in the last hours, of the latest 500 errors."""
        since = datetime.now(UTC) - timedelta(hours=hours)
        counted = Counter(error.error_code for error in self._errors if error.moment >= since)
        return {"hours": hours, "total": counted.total(), "by_code": dict(counted.most_common())}
