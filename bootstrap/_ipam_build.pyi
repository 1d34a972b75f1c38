"""Types of the module that build_zipapp.py generates (see `describe` there)."""

ID: str
VERSIONS: list[str]
PLATFORM: str
MACHINES: list[str]
SUFFIXES: list[str]
GLIBC: tuple[int, int]
