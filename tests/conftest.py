"""Fixtures for every test."""

pytest_plugins = [
    "pytester",
    "tests.support.not_run",
    "tests.support.parallel",
    "tests.support.no_cover",
    "tests.support.soak",
    "tests.support.mongo",
    "tests.support.zipapp",
    "tests.support.loop_guard",
]
