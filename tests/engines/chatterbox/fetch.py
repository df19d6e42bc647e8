"""`python -m tests.engines.chatterbox.fetch VARIANT STALL_S HUB_TIMEOUT_S CANCEL_AFTER OFFLINE`: one download.

A process of its own, because huggingface_hub reads HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE when it is imported. It
prints one JSON document: the progress that was told, and the files or the failure.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from engines.base import Cancelled, LoadProgress
from engines.chatterbox.files import hub, weights
from engines.chatterbox.files.transfer import Patience
from engines.chatterbox.variants import VARIANTS
from resilience.errors import ModelUnavailable


def main(variant: str, stall_s: str, hub_timeout_s: str, cancel_after: str, offline: str) -> None:
    progress: list[LoadProgress] = []
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks == int(cancel_after):
            raise Cancelled

    source = weights.Source(offline=offline == "offline", hub_timeout_s=float(hub_timeout_s))
    outcome: dict[str, Any] = {}
    try:
        found = hub.download(
            VARIANTS[variant], source, progress.append, check, Patience(stall_s=float(stall_s), pause_s=0)
        )
        outcome = {"files": {name: str(path) for name, path in found.files.items()}, "revision": found.revision}
    except ModelUnavailable as error:
        outcome = {"failure": error.message}
    except Cancelled:
        outcome = {"failure": "cancelled"}
    located = weights.locate(VARIANTS[variant], source)
    outcome["located"] = located.revision if isinstance(located, weights.Located) else None
    outcome["progress"] = [(step.doing, step.bytes_done, step.bytes_total) for step in progress]
    json.dump(outcome, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
