"""The configuration (`config.json`): one table of settings, and its reader.

    Settings.load(path)              -> (Settings, warnings)
    inspect(path)                    -> Inspection: the sections without problems, and the problems
    Settings.from_dict({...}, base_directory=...)
    changed_settings(old, new)       -> what a reload has to put in force or to report
    settings_table()                 -> the table in the documentation

ConfigError lists every problem at once; none shows a secret.
"""

from ipam_lib.config.secret_files import SYSTEM_CONFIG, read_keys, read_secret
from ipam_lib.config.sections import (
    DEFAULT_LOG_DIRECTORY,
    AuthSection,
    CleanupSection,
    EncryptionSection,
    HistorySection,
    LimitsSection,
    LoggingSection,
    MongoDBSection,
    NetBoxSection,
    ServerSection,
    SplunkSection,
)
from ipam_lib.config.setting_types import SQLitePath
from ipam_lib.config.settings import Inspection, Settings, changed_settings, inspect
from ipam_lib.config.table import Row, settings_rows, settings_table

__all__ = [
    "DEFAULT_LOG_DIRECTORY",
    "SYSTEM_CONFIG",
    "AuthSection",
    "CleanupSection",
    "EncryptionSection",
    "HistorySection",
    "Inspection",
    "LimitsSection",
    "LoggingSection",
    "MongoDBSection",
    "NetBoxSection",
    "Row",
    "SQLitePath",
    "ServerSection",
    "Settings",
    "SplunkSection",
    "changed_settings",
    "inspect",
    "read_keys",
    "read_secret",
    "settings_rows",
    "settings_table",
]
