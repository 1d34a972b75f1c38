"""A NetBox to try IPAM-API against: it answers as NetBox 4.6.8 was observed to, its races included.

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
from netbox_simulator.wire import Request, Response, make_request

__all__ = [
    "SAMPLE_ZONES",
    "SIMULATOR",
    "Costs",
    "FileJournal",
    "NetBoxModel",
    "Request",
    "Response",
    "Simulator",
    "Staged",
    "StateInUseError",
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
