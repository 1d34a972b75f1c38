"""The configuration: one table of settings, and what reads it (`config.json`).

    Settings.load(path)                     -> (Settings, warnings); again, to read secret files anew
    inspect(path)                           -> Inspection: what can be used of it, and everything that is wrong
    Settings.from_dict({...}, base_directory=...)
    settings_table()                        the table in docs/configuration.md

Raises ConfigError with every problem at once, none of which shows a secret.
"""

from ipam_lib.config.secret_files import SYSTEM_CONFIG, read_keys, read_secret
from ipam_lib.config.sections import (
    AuthSection,
    CleanupSection,
    EncryptionSection,
    HistorySection,
    LoggingSection,
    MongoDBSection,
    NetBoxSection,
    ServerSection,
    SplunkSection,
)
from ipam_lib.config.setting_types import SQLitePath
from ipam_lib.config.settings import Inspection, Settings, inspect
from ipam_lib.config.table import Row, settings_rows, settings_table

__all__ = [
    "SYSTEM_CONFIG",
    "AuthSection",
    "CleanupSection",
    "EncryptionSection",
    "HistorySection",
    "Inspection",
    "LoggingSection",
    "MongoDBSection",
    "NetBoxSection",
    "Row",
    "SQLitePath",
    "ServerSection",
    "Settings",
    "SplunkSection",
    "inspect",
    "read_keys",
    "read_secret",
    "settings_rows",
    "settings_table",
]
