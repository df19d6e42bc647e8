"""How long to wait before something outside is asked again."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

SECONDS = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double after each failure in a row, each cut by chance so that many do not come back at once."""

    first_s: float = 0.5
    longest_s: float = 8.0

    def pause_s(self, failures: int) -> float:
        """Seconds to wait after that many failures: between half of the pause and all of it."""
        whole = min(self.first_s * 2.0 ** min(failures - 1, 60), self.longest_s)
        return whole * random.uniform(0.5, 1.0)


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """What a Retry-After header asks for, in seconds from now; None if it says nothing that can be understood.

    RFC 9110 § 10.2.3: a number of seconds, or a date.
    """
    if value is None:
        return None
    if SECONDS.fullmatch(value.strip()):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - (now or datetime.now(UTC))).total_seconds(), 0.0)
