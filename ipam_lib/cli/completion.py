"""`completion`: print the script that completes the command line in a shell.

`./scripts/generate` makes the scripts from the parser, so printing one is as fast as `version`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from ipam_lib.cli.exit_codes import DONE

SHELLS: Final = ("bash", "zsh", "fish")
DIRECTORY: Final = Path(__file__).parents[1] / "static" / "completions"


def script(shell: str) -> Path:
    """The file with the script for one of `SHELLS`."""
    return DIRECTORY / f"ipam.{shell}"


def run(arguments: argparse.Namespace) -> int:
    """Print the script for a shell."""
    sys.stdout.write(script(arguments.shell).read_text("utf-8"))
    return DONE
