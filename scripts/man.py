"""The man page, made from the parser (by argparse-manpage), the table of settings, and the sections below.

python -m scripts.man    writes man/ipam.1 again
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from argparse_manpage.manpage import Manpage

from ipam_lib.cli.parser import build_parser
from ipam_lib.config import settings_rows
from ipam_lib.version import __version__

PAGE: Final = Path(__file__).parents[1] / "man" / "ipam.1"
# The day of the version, not that of the build: the same sources give the same page.
DATE: Final = "November 24, 2026"

DESCRIPTION = """\
IPAM-API gives IP addresses to services in Kubernetes clusters. It keeps one registration for each address and one
prefix for each registration in NetBox. Clients ask for an address over HTTP. IPAM-API answers with the next free
address of a zone, or with the address that the request names. When the last service on an address has expired,
IPAM-API releases the address.

One file contains the service and all commands of its administrator. The build calls it *ipam.pyz*; a link or copy with
another name, such as *ipam* or *ipam-cli*, does the same. Results go to standard output, and nothing else does.
Questions, warnings and progress go to standard error. With *--format json* the output is for scripts.
"""

ENVIRONMENT = {
    "IPAM_CONFIG": "The configuration file, if *--config* is not given.",
    "CREDENTIALS_DIRECTORY": "Set by systemd. If the program cannot read the file of a *_path setting, it looks here "
    "for a file of the same name.",
    "SHIV_ROOT": "The directory into which *ipam.pyz* unpacks itself, once for each version.",
    "CACHE_DIRECTORY": "The same, set by systemd.",
    "XDG_CACHE_HOME": "The same for users, in its subdirectory ipam-api; without it, ~/.cache/ipam-api.",
    "TMPDIR": "The directory into which it unpacks itself if none of these is writable, before /var/tmp and /tmp.",
    "NOTIFY_SOCKET": "Set by systemd. *serve* reports there that it is ready, reloading, stopping and alive.",
    "WATCHDOG_USEC": "Set by systemd: how often *serve* must report that it is alive.",
    "LISTEN_FDS": "Set by systemd. *serve* accepts connections from the sockets that systemd passed.",
    "JOURNAL_STREAM": "Set by systemd. If standard error is the journal, lines have their priority and no time.",
    "NO_COLOR": "If set, the output has no colours.",
}

FILES = {
    "/etc/ipam-api/config.json": "The configuration, if neither *--config* nor $IPAM_CONFIG names one and the "
    "working directory has no config.json.",
    "/var/log/ipam-api/ipam-api.log, /var/log/ipam-api/http.log": "Under systemd, the logs of the service and of its "
    "requests: one JSON object on each line, rotated. Elsewhere they are in logging.directory.",
    "/var/lib/ipam-api": "Under systemd, the working directory, and the place for the file of the embedded database.",
    "/etc/ipam-api/*.secret, /etc/ipam-api/secrets.json": "The tokens, the password and the keys that the *_path "
    "settings name. They may be readable for root only: the unit passes them on with LoadCredential=.",
    "/etc/systemd/system/ipam-api.service, ipam-api.socket, ipam-api-backup.service, ipam-api-backup.timer": "The "
    "units.",
    "/var/lib/ipam-api-backup": "Under systemd, the backups of every night. The last 14 are kept.",
    "/var/cache/ipam-api": "Under systemd, the unpacked program.",
}

SIGNALS = {
    "SIGTERM, SIGINT": "*serve* accepts no new connections, completes the running requests (within 15 seconds), and "
    "ends. A second signal ends it immediately. Other commands end and leave a consistent state.",
    "SIGHUP": "*serve* reads the NetBox token, the bearer token, the keys, the certificate, and the zones from NetBox "
    "again. If one file is wrong, all old values stay in use, and the log gives the reason. The log names changed "
    "settings that need a restart. Files that systemd passed with LoadCredential= are copies from the start of the "
    "service: they need a restart too.",
}

EXIT_STATUS = {
    "0": "Done.",
    "1": "Failed or not found. Standard error has the reason and what to do.",
    "2": "Wrong usage.",
    "78": "*serve* only: the configuration must be corrected first. systemd does not restart the service then.",
}

EXAMPLES = {
    "Run a demo that needs no configuration:": "ipam demo",
    "Install it on a machine with systemd, or upgrade it:": "sudo ./ipam.pyz install",
    "Check the configuration and everything that it names:": "ipam check-config --config /etc/ipam-api/config.json",
    "Create what NetBox lacks, with an administrator's token:": "ipam netbox-setup --zone inet --zone hnet "
    "--token-file admin.secret",
    "Run the service:": "ipam serve --config /etc/ipam-api/config.json",
    "List the registrations of a zone, as text and for scripts:": "ipam list-addresses --zone inet\n"
    "ipam list-addresses --zone inet --format json",
    "Show how full the zones are:": "ipam list-zones",
    "Replace a secret without showing it in the process list:": "ipam replace-secret --yes --zone inet "
    "--address 192.0.2.10 < new.secret",
    "Expire all services of a deleted cluster:": "ipam delete-cluster "
    "--cluster-id 0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878 --dry-run\n"
    "ipam delete-cluster --cluster-id 0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878 --yes",
    "Compare with NetBox, and repair:": "ipam reconcile\nipam reconcile --fix --rounds 3",
    "Back up and restore, also from one kind of database to the other:": "ipam mongo-backup --out backup.archive.gz\n"
    "ipam mongo-restore --in backup.archive.gz --drop",
    "Encrypt every secret with the new keys, which encryption_secrets.path names already:": "ipam "
    "rotate-key --new-secrets /etc/ipam-api/secrets.json --dry-run\n"
    "ipam rotate-key --new-secrets /etc/ipam-api/secrets.json",
    "Completion, in ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish:": "source <(ipam completion bash)\n"
    "source <(ipam completion zsh)\nipam completion fish | source",
}

SEE_ALSO = (
    "systemctl(1), journalctl(1), openssl-rand(1), mongodump(1), mongorestore(1), systemd.exec(5), systemd.socket(5)"
)


def escaped(text: str) -> str:
    """Text as roff takes it: `*word*` and Markdown's backticks become bold, and no line looks like a request."""
    text = (
        text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("^", "\\(ha").replace("~", "\\(ti")
    )
    text = re.sub(r"\*([^*\s][^*]*)\*|`([^`]+)`", lambda found: rf"\fB{found[1] or found[2]}\fR", text)
    return re.sub(r"^\.", r"\\&.", text, flags=re.MULTILINE)


def paragraphs(text: str) -> str:
    """Text in paragraphs."""
    return "\n.PP\n".join(" ".join(escaped(one).split()) for one in text.split("\n\n"))


def definitions(entries: Iterable[tuple[str, str]]) -> str:
    """A list of terms and what they mean."""
    return "\n".join(f".TP\n\\fB{escaped(term)}\\fR\n{escaped(text)}" for term, text in entries)


def examples(entries: Iterable[tuple[str, str]]) -> str:
    """Commands, each below what it is for."""
    shown = (f"{escaped(what)}\n.PP\n.RS 4\n.nf\n{escaped(command)}\n.fi\n.RE" for what, command in entries)
    return "\n.PP\n".join(shown)


def configuration() -> str:
    """The settings, from their one table."""
    head = (
        "The configuration is one JSON object, whose sections hold the settings below: netbox.url is "
        '{"netbox": {"url": ...}}. A relative path is relative to the file. An unknown name is a warning. A missing or '
        "wrong setting is an error; all errors are listed at once."
    )
    entries = []
    for row in settings_rows():
        default = f"default {row.default}" if row.default else ""
        required = f"required {row.required}".replace("required always", "required") if row.required else ""
        kind = "; ".join(filter(None, (row.kind, default, required)))
        entries.append((row.name, f"({kind}) {row.help}"))
    return f"{paragraphs(head)}\n{definitions(entries)}"


class _OneLine(argparse.HelpFormatter):
    """Usage on one line, however wide the terminal is, and nothing but the usage."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=100_000)

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, prefix or "")


def page() -> str:
    """The page. Raises ValueError when a text of the parser would be taken for a request of roff."""
    parser = build_parser("ipam", formatter=_OneLine, summaries=False)  # the description of a command says it again
    parser.epilog = None
    parser.description = None
    made = Manpage(parser, format="single-commands-section")
    made.section, made.date, made.manual = 1, DATE, "IPAM-API"
    made.source = f"ipam-api {__version__}"
    made.description = "give IP addresses to services in Kubernetes clusters, recorded in NetBox"
    for heading, content in (
        ("description", paragraphs(DESCRIPTION)),
        ("configuration", configuration()),
        ("signals", definitions(SIGNALS.items())),
        ("environment", definitions(ENVIRONMENT.items())),
        ("files", definitions(FILES.items())),
        ("exit status", definitions(EXIT_STATUS.items())),
        ("examples", examples(EXAMPLES.items())),
        ("see also", escaped(SEE_ALSO)),
    ):
        made.add_section(heading, "=", content)
    text = str(made)
    for line in text.splitlines():
        if line.startswith("'") or re.match(r"\.(?!(TH|SH|SS|B|TP|PP|RS|RE|nf|fi)\b)", line):
            raise ValueError(f"a help text begins like a request of roff: {line!r}")
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
