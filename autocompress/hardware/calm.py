"""What a calm moment of this machine is, as processes that measure have seen it: each passes it on to the next."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from autocompress.facts import write_whole

_KEPT_S = 12 * 3600.0  # a machine that got slower for good, on battery or in the sun, is measured as it is by then


def known_calm() -> dict[str, float]:
    """The fastest readings of ``runner.Senses`` lately, in microseconds; empty where nothing was measured lately."""
    try:
        kept = json.loads(_file().read_text())
        is_valid = kept["python"] == sys.version and 0 <= time.time() - kept["at"] < _KEPT_S
        return {str(name): float(us) for name, us in kept["fastest"].items() if us > 0} if is_valid else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def remember_calm(fastest: Mapping[str, float]) -> None:
    """Keep readings for those who measure next, where they are the fastest."""
    known = known_calm()
    new = known | {name: us for name, us in fastest.items() if us < known.get(name, float("inf"))}
    if new != known:
        content = {"python": sys.version, "at": time.time(), "fastest": new}
        write_whole(_file(), json.dumps(content))


def _file() -> Path:
    return Path(tempfile.gettempdir()) / f"autocompress-calm-{os.getuid()}.json"
