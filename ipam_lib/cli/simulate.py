"""`simulate-netbox`: run the NetBox simulator as a process."""

from __future__ import annotations

import argparse
import asyncio
import secrets
from contextlib import ExitStack

from aiohttp import web

import netbox_simulator
from ipam_lib.cli.exit_codes import DONE, CommandError
from ipam_lib.telemetry import logs
from ipam_lib.web.signals import stop_signals


def run(arguments: argparse.Namespace) -> int:
    """Serve the simulator until SIGTERM or SIGINT. Prints its URL and its token.

    Raises CommandError if the zones or the state cannot be used, or the port is taken.
    """
    logs.set_up("INFO")
    token = arguments.token or secrets.token_hex(20)
    with ExitStack() as stack:
        model = build_model(arguments, stack)
        costs = netbox_simulator.Costs(model, arguments.time_scale) if arguments.cost_model else None
        app = netbox_simulator.create_app(model, tokens=[token], latency_ms=arguments.latency_ms, costs=costs)
        try:
            asyncio.run(_serve(app, arguments.host, arguments.port, token))
        except OSError as error:
            reason = error.strerror or error
            raise CommandError(f"cannot listen on {arguments.host} port {arguments.port}: {reason}") from None
    return DONE


def build_model(arguments: argparse.Namespace, stack: ExitStack) -> netbox_simulator.NetBoxModel:
    """The model with the chosen zones and version, and with its state file if there is one; `stack` closes that.

    Raises CommandError if a file cannot be used.
    """
    zones: netbox_simulator.Zones | None = None if arguments.empty else netbox_simulator.SAMPLE_ZONES
    if arguments.zones is not None:
        try:
            zones = netbox_simulator.read_zones(arguments.zones)
        except (OSError, ValueError) as error:
            raise CommandError(f"cannot use the zones in {arguments.zones}: {error}") from None
    version = netbox_simulator.VERSIONS.get(arguments.netbox_version or "")
    if arguments.state is None:
        version = version or netbox_simulator.NEWEST
        if zones is None:
            return netbox_simulator.NetBoxModel(version=version)
        return netbox_simulator.sample_model(zones, version=version)
    try:
        model, journal = netbox_simulator.open_sample(arguments.state, zones, version=version)
    except (OSError, ValueError, netbox_simulator.StateInUseError) as error:
        raise CommandError(f"cannot use the state in {arguments.state}: {error}") from None
    stack.callback(journal.close)
    return model


async def _serve(app: web.Application, host: str, port: int, token: str) -> None:
    with stop_signals() as stop:
        async with netbox_simulator.serve(app, host=host, port=port) as url:
            print(f"NetBox simulator on {url}\ntoken: {token}", flush=True)
            await stop.wait()
