"""`show-secret` and `replace-secret`. Each writes a line to the log: which user ran it, and never the secret."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from ipam_lib.addresses import spellings
from ipam_lib.cli import audit, output, terminal
from ipam_lib.cli.exit_codes import DONE, FAILED, CommandError, UsageError
from ipam_lib.cli.runtime import found_on, load_settings, opened_registry, run
from ipam_lib.config import Settings
from ipam_lib.crypto import SIV_MARK, Cipher, SecretUnreadable
from ipam_lib.models import SECRET_LENGTHS, Registration, State
from ipam_lib.serializers import registration_head_json, registration_json
from ipam_lib.text import plural, printable


def show(arguments: argparse.Namespace) -> int:
    """Print the secret of an address; one for each registration if the address is registered more than once.

    Raises CommandError if the address is not registered or the log cannot be written; ConfigError.
    """
    settings = load_settings(arguments)
    found = run(found_on(settings, arguments.zone, arguments.address))
    cipher = settings.encryption_secrets.cipher()
    with audit.trail(settings) as trail:
        secrets = [_read(cipher, one) for one in found]
        for one in found:
            trail.record("show-secret: the secret of an address was shown", **audit.place(one))
        if arguments.format == "json":
            shown = [_json(one, secret) for one, secret in zip(found, secrets, strict=True)]
            terminal.print_json({"registrations": shown})
        else:
            _print(found, secrets)
    return FAILED if None in secrets else DONE


def _read(cipher: Cipher, registration: Registration) -> str | None:
    """The secret in the clear. If it cannot be read, prints a warning and returns None."""
    place = f"{registration.address} (id {registration.id})"
    if not registration.secret:
        terminal.warn(f"{place} has no secret")
        return None
    try:
        return cipher.unseal(registration.secret)
    except SecretUnreadable as error:
        terminal.warn(f"{place}: {error.message}; is encryption_secrets the one that it was stored under?")
        return None


def _print(found: Sequence[Registration], secrets: Sequence[str | None]) -> None:
    # A terminal obeys control characters. A file must get the exact secret.
    clean = printable if terminal.terminal_width() else str
    if len(found) == 1:
        if secrets[0] is not None:
            print(clean(secrets[0]))
        return
    rows = [
        (clean(secret or ""), one.id, "duplicate" if one.duplicate else one.state.value)
        for one, secret in zip(found, secrets, strict=True)
    ]
    terminal.print_table(("SECRET", "ID", "STATE"), rows)


def _json(registration: Registration, secret: str | None) -> dict[str, Any]:
    scheme = "aes-siv" if registration.secret.startswith(SIV_MARK) else "legacy-ctr"
    return {
        **registration_head_json(registration),
        "secret": secret,
        "scheme": scheme if registration.secret else None,
    }


def replace(arguments: argparse.Namespace) -> int:
    """Replace the secret of an address for every service on it. On a terminal, show these services and ask.

    Raises CommandError if the address is not registered or the log cannot be written; UsageError for an invalid secret;
    ConfigError.
    """
    new = None if arguments.new is None else _new_secret(arguments.new)
    settings = load_settings(arguments)
    found = run(found_on(settings, arguments.zone, arguments.address))
    live = next((one for one in found if one.state is State.LIVE), None)
    if live is None:
        raise CommandError(f"{found[0].address} is being released: it has no secret any more")
    if not arguments.dry_run:
        if terminal.can_ask() and not arguments.yes:
            _preview(live)
            if new is not None:  # without --new, typing the secret twice confirms it
                terminal.confirm("Replace its secret?")
        new = new or _new_secret(None)
        with audit.trail(settings) as trail:
            live = run(_replace(settings, arguments, new))
            trail.record("replace-secret: the secret of an address was replaced", **audit.place(live))
    return _replaced(live, found, arguments)


async def _replace(settings: Settings, arguments: argparse.Namespace, new: str) -> Registration:
    async with opened_registry(settings) as registry:
        return await registry.replace_secret(
            zone=arguments.zone, addresses=spellings(arguments.address), new_secret=new
        )


def _replaced(live: Registration, found: Sequence[Registration], arguments: argparse.Namespace) -> int:
    for other in found:
        if other.id != live.id:
            terminal.warn(f"{other.address} is registered more than once; the secret of {other.id} was left as it is")
    if arguments.format == "json":
        terminal.print_json({"dry_run": arguments.dry_run, "registration": registration_json(live)})
    what = "would be replaced" if arguments.dry_run else "was replaced"
    place = f"{printable(live.address)} in zone {printable(live.zone)}"
    text = f"the secret of {place} {what}, for {plural(len(live.services), 'service')}"
    terminal.print_result(text, arguments)
    return DONE


def _preview(live: Registration) -> None:
    terminal.say(output.heading(live, sys.stderr))
    terminal.say(f"Its clients need the new secret from then on ({plural(len(live.services), 'service')}):")
    for service in live.services:
        terminal.say(f"  {output.service_line(service)}")


def _new_secret(given: str | None) -> str:
    """The new secret. Raises UsageError if its length is not allowed."""
    new = terminal.read_secret(given, "new secret", twice=True)
    shortest, longest = SECRET_LENGTHS
    if not shortest <= len(new) <= longest:
        raise UsageError(f"the new secret must be {shortest} to {longest} characters long; it has {len(new)}")
    return new
