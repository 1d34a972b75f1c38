"""The owner of files that a command creates as root for the service."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def chown_to_parent(path: Path) -> None:
    """Give a file that root created to the owner of its directory: the service, which is not root, must be able to use
    it. Does nothing for other users."""
    if os.geteuid() == 0:
        above = path.parent.stat()
        with suppress(OSError):
            os.chown(path, above.st_uid, above.st_gid, follow_symlinks=False)
