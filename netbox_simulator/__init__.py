"""A NetBox to try IPAM-API against: it answers as NetBox 3.7, 4.2, 4.4, 4.5 or 4.6 was observed to, races included.

`NetBoxModel` is the whole of it as one synchronous object, `create_app` puts it behind HTTP, `sample_model` fills it.
"""

from netbox_simulator.app import SIMULATOR, Simulator, create_app, serve
from netbox_simulator.costs import Costs
from netbox_simulator.journal import FileJournal, StateInUseError, attach
from netbox_simulator.model import NetBoxModel, Staged
from netbox_simulator.sample import (
    SAMPLE_ZONES,
    Zones,
    checked_zones,
    open_sample,
    populate,
    read_zones,
    sample_model,
)
from netbox_simulator.versions import NEWEST, VERSIONS, Version
from netbox_simulator.wire import Request, Response, make_request

__all__ = [
    "NEWEST",
    "SAMPLE_ZONES",
    "SIMULATOR",
    "VERSIONS",
    "Costs",
    "FileJournal",
    "NetBoxModel",
    "Request",
    "Response",
    "Simulator",
    "Staged",
    "StateInUseError",
    "Version",
    "Zones",
    "attach",
    "checked_zones",
    "create_app",
    "make_request",
    "open_sample",
    "populate",
    "read_zones",
    "sample_model",
    "serve",
]
