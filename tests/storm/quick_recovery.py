"""`python tests/storm/quick_recovery.py SECONDS serve ...`: the program, with recovery every so many seconds instead of
every minute. A storm then waits less for recovery at its end."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from ipam_lib import lifecycle

if __name__ == "__main__":
    lifecycle.SECONDS_BETWEEN_RECOVERIES = float(sys.argv.pop(1))  # type: ignore[misc]
    runpy.run_path(str(Path(__file__).parents[2] / "ipam.py"), run_name="__main__")
