"""What is wrong with an archive."""

from __future__ import annotations


class ArchiveError(Exception):
    """The file is no archive, or not a whole one. The text says what is wrong and where, for the user."""
