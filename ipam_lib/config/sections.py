"""The table of settings: for each one its name, kind, default and help.

A setting is a field of a section, made with `setting`, under its name in the JSON file. To add a setting, add a field:
the reader, the documentation, the redaction of logs and the reload all work from this table. A field made with
`file_content` holds the content of the file that another setting names.
"""

# ruff: noqa: RUF009 - `setting` and `file_content` return a new `dataclasses.field` for each call.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import quote

from ipam_lib.config.setting_types import (
    ConnectionString,
    DescriptionText,
    ExistingFile,
    FieldNames,
    FieldValues,
    Hosts,
    Integer,
    KeyFile,
    Names,
    Networks,
    NewPath,
    OneOf,
    PerZone,
    Seconds,
    SecretFile,
    SettingType,
    Switch,
    Text,
    Url,
    check_collection,
    check_database,
    check_host,
)
from ipam_lib.crypto import Cipher, KeySet, Scheme, Secret
from ipam_lib.description import DEFAULT_DESCRIPTION
from ipam_lib.models import IPAddressPolicy

Reload = Literal["no", "replace", "yes"]


@dataclass(frozen=True, slots=True)
class Setting:
    """The properties of a setting, apart from its name.

    `default`: the value when the setting is absent. `required`: in words, when the setting must be present; None for
    never. `reload`: whether a reload (SIGHUP) puts a new value in force; "replace": only if there was a value before,
    and there is one afterwards.
    """

    kind: SettingType
    help: str
    default: Any = None
    required: str | None = None
    reload: Reload = "no"


ALWAYS = "always"
DEFAULT_LOG_DIRECTORY = Path("logs")


def setting(
    kind: SettingType,
    help: str,  # noqa: A002 - as argparse calls it
    *,
    default: Any = None,
    required: str | None = None,
    reload: Reload = "no",
) -> Any:
    """A field of a section that is a setting."""
    metadata = {"setting": Setting(kind, help, default, required, reload)}
    if required == ALWAYS:
        return field(metadata=metadata)
    if isinstance(default, Mapping):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def file_content(*, required: bool = False) -> Any:
    """A field of a section that holds the content of a file."""
    return field() if required else field(default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSection:
    """The listening sockets, and the time limit of a request."""

    host: str | tuple[str, ...] = setting(
        Hosts(),
        'Address to listen on, or a list, such as `["127.0.0.1", "::1"]`. `::` means all addresses, IPv4 too.',
        default="0.0.0.0",
    )
    port: int = setting(Integer(0, 65535), "Port to listen on; 0 lets the system choose.", default=3000)
    reuse_port: bool = setting(
        Switch(), "Several processes may listen on the port and share the connections.", default=False
    )
    request_timeout_seconds: float = setting(
        Seconds(1, 300),
        "Time limit of every request. Admission webhooks give up after 30 seconds at most.",
        default=25.0,
    )
    tls_cert: Path | None = setting(
        ExistingFile(),
        "Certificate chain (PEM); with `server.tls_key`, the service speaks HTTPS only.",
        reload="replace",
    )
    tls_key: Path | None = setting(
        ExistingFile(secret=True),
        "Private key (PEM) of `server.tls_cert`, without a passphrase.",
        reload="replace",
    )
    tls_client_ca: Path | None = setting(
        ExistingFile(),
        "Authorities (PEM) of client certificates. With it, a request without a certificate of them gets 403, except"
        " for `/healthz` and `/readyz`.",
        reload="replace",
    )
    tls_client_names: tuple[str, ...] = setting(
        Names(),
        'Allowed subject alternative names of client certificates, such as `["operator.example.com"]`. Without it,'
        " every certificate of `server.tls_client_ca` is allowed.",
        default=(),
        reload="yes",
    )
    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = setting(
        Networks(),
        'Networks of the clients, such as `["10.0.0.0/8"]`. A request from elsewhere gets 403, except for `/healthz`'
        " and `/readyz`. Without it, all clients are allowed.",
        default=(),
        reload="yes",
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = setting(
        Networks(),
        "Networks of reverse proxies. For a request from them, the client is the address that they wrote to the header"
        " `server.forwarded_header`.",
        default=(),
        reload="yes",
    )
    forwarded_header: str = setting(
        OneOf("x-forwarded-for", "forwarded"),
        "Header to which `server.trusted_proxies` append the address of their client. The other one is ignored.",
        default="x-forwarded-for",
        reload="yes",
    )
    refusals_per_second: int = setting(
        Integer(0, 100_000),
        "Errors (4xx) a second that one source gets in the long run. The answers to further ones wait up to 5 seconds."
        " Other answers never wait. 0 for no limit.",
        default=50,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MongoDBSection:
    """The MongoDB server, database and collection."""

    uri: Secret | None = setting(
        ConnectionString(),
        "Connection string, for replica sets and TLS; replaces host and port. User and password may be in it, or in "
        "the next two settings.",
    )
    username: str | None = setting(Text(), "User in the database `admin`. Without it there is no authentication.")
    password_path: Path | None = setting(
        SecretFile("password", token=False), "File with the user's password.", required="with `mongodb.username`"
    )
    host: str | None = setting(Text(check_host), "Host of the server.", required="unless `mongodb.uri` is given")
    port: int = setting(Integer(1, 65535), "Port of the server.", default=27017)
    database: str = setting(Text(check_database), "Name of the database.", default="vitistack-ipam-api")
    collection: str = setting(Text(check_collection), "Name of the collection of registrations.", default="addresses")
    password: Secret | None = file_content()

    def connection_string(self) -> Secret:
        """The connection string: `uri`, with user and password added if it has none; without `uri`, made of the parts.

        The server looks the user up in the database `admin` (as for the earlier service), unless `uri` names another.
        """
        user = ""
        if self.username is not None and self.password is not None:
            user = f"{quote(self.username, safe='')}:{quote(self.password.reveal(), safe='')}@"
        if self.uri is not None:
            if self.uri_has_user():
                return self.uri
            scheme, _, rest = self.uri.reveal().partition("://")
            return Secret(f"{scheme}://{user}{rest}")
        host = self.host or "localhost"
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        return Secret(f"mongodb://{user}{host}:{self.port}/" + ("?authSource=admin" if user else ""))

    def uri_has_user(self) -> bool:
        """Whether `uri` itself names a user."""
        if self.uri is None:
            return False
        servers = self.uri.reveal().partition("://")[2].partition("/")[0].partition("?")[0]
        return "@" in servers


@dataclass(frozen=True, slots=True, kw_only=True)
class NetBoxSection:
    """NetBox, and the fields of the prefixes that the service creates."""

    url: str = setting(Url("/api/", "https://netbox.example.com"), "Address of NetBox.", required=ALWAYS)
    token_path: Path = setting(
        SecretFile("token"), "File with the API token (v1 or v2).", required=ALWAYS, reload="yes"
    )
    constraint_tag: str | None = setting(
        Text(), "Name of a tag for every created prefix. The rights of the token may be limited to this tag."
    )
    timeout_seconds: float = setting(
        Seconds(0.1, 120),
        "Time limit of one call to NetBox; less than half of `server.request_timeout_seconds`.",
        default=10.0,
    )
    ca_file: Path | None = setting(
        ExistingFile(), "Certificates (PEM) to trust for NetBox, instead of the system's certificates."
    )
    refresh_seconds: float = setting(
        Seconds(1, 86400),
        "Interval at which zones and containers, and what is taken inside the containers, are read from NetBox. A"
        " container that takes more than 5 % of this time to read is read less often.",
        default=600.0,
    )
    ip_addresses: IPAddressPolicy = setting(
        OneOf("avoid", "refuse", "ignore"),
        "What IP addresses and IP ranges in NetBox count for, except deprecated ones. `avoid`: never the next free"
        " address; a request that names one gets it, with a warning in the log. `refuse`: that request gets a 409."
        " `ignore`: as the earlier service. The token needs the right to view `ipam.ipaddress` and `ipam.iprange`.",
        default="avoid",
    )
    custom_fields: Mapping[str, Any] | None = setting(
        FieldValues(),
        'Custom fields to set on every created prefix, such as `{"domain": "na"}`; `{}` for none. Without this setting'
        " and the next one, prefixes get the custom fields of the earlier service, if NetBox has them on prefixes:"
        " `domain`, `env` and `purpose` with the value `na`, and `infra` of the container.",
    )
    inherit_custom_fields: tuple[str, ...] | None = setting(
        FieldNames(),
        'Custom fields to copy from the container to every created prefix, such as `["infra"]`; `[]` for none.',
    )
    description: str = setting(
        DescriptionText(),
        "Description of each prefix: which services have the address. It may have the fields `{service_name}`,"
        " `{namespace_id}` and `{cluster_id}` of the first service; more services are counted, as in ` and 3 more`."
        ' `""`: descriptions are left alone. What somebody else writes there stays. Use the same value on all'
        " instances.",
        default=DEFAULT_DESCRIPTION,
    )
    warm_addresses: int | Mapping[str, int] = setting(
        PerZone(10_000),
        "Number of addresses of each zone and family that are created in NetBox in advance, with the status"
        " `reserved`. A new registration then needs no call to NetBox. A number for all zones, or an object such as"
        ' `{"inet": 50}`. Use the same value on all instances.',
        default=0,
    )
    webhook_secret_path: Path | None = setting(
        SecretFile("webhook_secret"),
        "File with the secret of the webhook that tells the service of changes in NetBox (`POST /netbox/webhook`)."
        " Without it this path answers 404.",
        reload="replace",
    )
    token: Secret = file_content(required=True)
    webhook_secret: Secret | None = file_content()


@dataclass(frozen=True, slots=True, kw_only=True)
class SplunkSection:
    """Splunk as a destination of the logs. The rest of the section is read only if `enable` is true."""

    enable: bool = setting(Switch(), "Send the logs to the HTTP Event Collector of Splunk too.", default=False)
    url: str | None = setting(
        Url("/services/collector/", "https://splunk-hec.example.com"),
        "Address of the collector.",
        required="with `splunk.enable`",
    )
    token_path: Path | None = setting(
        SecretFile("token"), "File with the token of the collector.", required="with `splunk.enable`"
    )
    index: str | None = setting(Text(), "Index. Default: the index of the token.")
    source: str = setting(Text(), "Source of the events.", default="vitistack:ipam-api")
    sourcetype_app: str = setting(Text(), "Source type of the application log.", default="ipam-api:app")
    sourcetype_http: str = setting(Text(), "Source type of the HTTP log.", default="ipam-api:http")
    token: Secret | None = file_content()


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionSection:
    """Encryption of the stored secrets of registrations."""

    path: Path = setting(
        KeyFile("keys"),
        'File with the keys: `{"enc_key": "...", "enc_iv": "..."}`. `enc_key` has 16, 24 or 32 bytes, `enc_iv` has 16.',
        required=ALWAYS,
        reload="yes",
    )
    scheme: Scheme = setting(
        OneOf("aes-siv", "legacy-ctr"),
        "Encryption of written secrets; both are always readable. Use `legacy-ctr` only while the earlier service runs"
        " too.",
        default="aes-siv",
    )
    previous_path: Path | None = setting(
        KeyFile("previous"), "File with the old keys, during a rotation of the keys.", reload="yes"
    )
    keys: KeySet = file_content(required=True)
    previous: KeySet | None = file_content()

    def cipher(self) -> Cipher:
        """The cipher for the stored secrets. Build it once: it derives keys."""
        return Cipher(self.keys, scheme=self.scheme, previous=self.previous)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSection:
    """The bearer token of the read paths and of cluster deletion."""

    token_path: Path | None = setting(
        SecretFile("token"),
        "File with the bearer token of the read paths and of `DELETE /v2/cluster`. Without it these paths answer 404.",
        reload="replace",
    )
    token: Secret | None = file_content()


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupSection:
    """The worker that removes expired services and releases their addresses."""

    interval_seconds: float = setting(
        Seconds(1, 86400), "Interval at which expired services and addresses are removed.", default=30.0
    )
    cooldown_minutes: int = setting(
        Integer(0, 43_200),
        "Time for which a released address is not registered again, because DNS and ARP caches may still point to it."
        " Until then it is `reserved` in NetBox. Use the same value on all instances.",
        default=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySection:
    """The history of addresses: which services held them, and when."""

    retention_days: int = setting(
        Integer(0, 36_500),
        "Time for which the history of an address is kept; 0 keeps none. Use the same value on all instances.",
        default=365,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSection:
    """Quotas of addresses."""

    addresses_per_cluster: int | Mapping[str, int] = setting(
        PerZone(1_000_000),
        "Largest number of addresses of one cluster in a zone, both families together; 0 for no limit. A number for"
        ' each zone, or an object such as `{"inet": 50}`. A request for one more address is answered with 409.',
        default=0,
    )
    addresses_per_namespace: int | Mapping[str, int] = setting(
        PerZone(1_000_000), "The same for one namespace.", default=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingSection:
    """The log files."""

    directory: Path = setting(
        NewPath(),
        "Directory of the log files. The default is relative to the working directory.",
        default=DEFAULT_LOG_DIRECTORY,
    )
    level: str = setting(
        OneOf("debug", "info", "warning", "error", "critical"),
        "Least important level of messages that are logged.",
        default="info",
    )


# By name in the file, in the order of the documentation.
SECTIONS: dict[str, type[Any]] = {
    "mongodb": MongoDBSection,
    "netbox": NetBoxSection,
    "encryption_secrets": EncryptionSection,
    "server": ServerSection,
    "auth": AuthSection,
    "cleanup": CleanupSection,
    "history": HistorySection,
    "limits": LimitsSection,
    "logging": LoggingSection,
    "splunk": SplunkSection,
}


def settings_of(section: type[Any]) -> dict[str, Setting]:
    """The settings of a section, by name."""
    fields = cast(Any, section).__dataclass_fields__.values()
    return {entry.name: entry.metadata["setting"] for entry in fields if "setting" in entry.metadata}
