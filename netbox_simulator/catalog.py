"""The kinds of objects that the simulator knows besides prefixes, with their fields, defaults and choices.

A table rather than a class for each: most of them are only ever looked up by name.
"""

from __future__ import annotations

from netbox_simulator.hosts import ends, range_display, range_size
from netbox_simulator.kinds import (
    ADDRESS,
    ADDRESS_STATUSES,
    CHOICE_SET,
    CUSTOM_FIELD,
    EVENT_RULE,
    PERMISSION,
    RANGE,
    RANGE_STATUSES,
    ROLE,
    TAG,
    TENANT,
    TOKEN,
    USER,
    VRF,
    WEBHOOK,
    Computed,
    Field,
    Kind,
)
from netbox_simulator.state import State
from netbox_simulator.wire import Row

_FILTER_LOGIC = {"disabled": "Disabled", "loose": "Loose", "exact": "Exact"}
_TYPES = {
    "text": "Text",
    "longtext": "Text (long)",
    "integer": "Integer",
    "boolean": "Boolean (true/false)",
    "select": "Selection",
}
ADDRESS_ROLES = {
    **{name: name.capitalize() for name in ("loopback", "secondary", "anycast")},
    **{name: name.upper() for name in ("vip", "vrrp", "hsrp", "glbp", "carp")},
}
_ACTION_TYPES = {"webhook": "Webhook", "script": "Script", "notification": "Notification"}
_DATA_TYPES = {"integer": "integer", "boolean": "boolean"}


def _count_prefixes(attribute: str) -> Computed:
    def count(state: State, row: Row, base: str) -> int:
        if attribute == "vrf":
            return sum(len(state.prefixes.space(row["id"], family).keys) for family in (4, 6))
        if attribute == "tags":
            return sum(row["id"] in prefix.tags for prefix in state.prefixes.rows.values())
        return sum(getattr(prefix, attribute) == row["id"] for prefix in state.prefixes.rows.values())

    return count


def _zero(name: str) -> Field:
    return Field(name, computed=lambda state, row, base: 0)


def _family(state: State, row: Row, base: str) -> Row:
    return {"value": ends(row)[0], "label": f"IPv{ends(row)[0]}"}


def _webhook(state: State, row: Row, base: str) -> Row | None:
    """The action of an event rule, in its short form."""
    hook = state.rows(WEBHOOK).get(row["action_object_id"])
    if hook is None:
        return None
    short = {name: hook[name] for name in ("name", "description")}
    shown = {"id": hook["id"], "url": f"{base}/api/extras/webhooks/{hook['id']}/", "display": hook["name"], **short}
    return state.version.nested(shown)


_OWNER = Field("owner", None)
_DESCRIPTION = Field("description")
_COMMENTS = Field("comments")
_COMMON = (_DESCRIPTION, _OWNER, _COMMENTS)
_TAGGED = (Field("tags", [], ref=TAG, many=True), Field("custom_fields", computed=lambda state, row, base: {}))
_STAMPS = (Field("created"), Field("last_updated"))

_ALL = (
    Kind(
        CHOICE_SET,
        "extras/custom-field-choice-sets",
        "CustomFieldChoiceSet",
        "custom field choice set",
        "extras.customfieldchoiceset",
        (
            Field("name", required=True, unique=True),
            _DESCRIPTION,
            Field("base_choices", None),
            Field("extra_choices", [], required=True),
            Field("choice_colors", computed=lambda state, row, base: {}),
            Field("order_alphabetically", default=False),
            Field("choices_count", computed=lambda state, row, base: len(row["extra_choices"])),
            _OWNER,
            *_STAMPS,
        ),
        ui="extras/custom-field-choices",
        nested=("name", "description", "choices_count"),
    ),
    Kind(
        CUSTOM_FIELD,
        "extras/custom-fields",
        "CustomField",
        "custom field",
        "extras.customfield",
        (
            Field("object_types", [], required=True),
            Field("type", "text", choices=_TYPES),
            Field("related_object_type", None),
            Field("data_type", computed=lambda state, row, base: _DATA_TYPES.get(row["type"], "string")),
            Field("name", required=True, unique=True),
            Field("label"),
            Field("group_name"),
            _DESCRIPTION,
            Field("required", default=False),
            Field("unique", default=False),
            Field("search_weight", 1000),
            Field("filter_logic", "loose", choices=_FILTER_LOGIC),
            Field("ui_visible", "always", choices={"always": "Always", "if-set": "If set", "hidden": "Hidden"}),
            Field("ui_editable", "yes", choices={"yes": "Yes", "no": "No", "hidden": "Hidden"}),
            Field("is_cloneable", default=False),
            Field("default", None),
            Field("related_object_filter", None),
            Field("weight", 100),
            Field("validation_minimum", None),
            Field("validation_maximum", None),
            Field("validation_regex"),
            Field("validation_schema", None),
            Field("choice_set", None, ref=CHOICE_SET),
            _OWNER,
            _COMMENTS,
            *_STAMPS,
        ),
        display=lambda row: str(row["label"] or row["name"].replace("_", " ").capitalize()),
        order=("group_name", "weight", "name"),
    ),
    Kind(
        TENANT,
        "tenancy/tenants",
        "Tenant",
        "tenant",
        "tenancy.tenant",
        (
            Field("name", required=True, unique=True),
            Field("slug", required=True, unique=True),
            Field("group", None),
            *_COMMON,
            *_TAGGED,
            *_STAMPS,
            *(_zero(f"{name}_count") for name in ("circuit", "device", "ipaddress")),
            Field("prefix_count", computed=_count_prefixes("tenant")),
            *(_zero(f"{name}_count") for name in ("rack", "site", "virtualmachine", "vlan", "vrf", "cluster")),
        ),
        nested=("name", "slug", "description"),
    ),
    Kind(
        ROLE,
        "ipam/roles",
        "Role",
        "role",
        "ipam.role",
        (
            Field("name", required=True, unique=True),
            Field("slug", required=True, unique=True),
            Field("weight", 1000),
            *_COMMON,
            *_TAGGED,
            *_STAMPS,
            Field("prefix_count", computed=_count_prefixes("role")),
            _zero("vlan_count"),
            _zero("asn_count"),
        ),
        nested=("name", "slug", "description"),
        order=("weight", "name"),
    ),
    Kind(
        VRF,
        "ipam/vrfs",
        "VRF",
        "VRF",
        "ipam.vrf",
        (
            Field("name", required=True),
            Field("rd", None, unique=True),
            Field("tenant", None, ref=TENANT),
            Field("enforce_unique", default=True),
            *_COMMON,
            Field("import_targets", []),
            Field("export_targets", []),
            *_TAGGED,
            *_STAMPS,
            _zero("ipaddress_count"),
            Field("prefix_count", computed=_count_prefixes("vrf")),
        ),
        display=lambda row: f"{row['name']} ({row['rd']})" if row["rd"] else str(row["name"]),
        nested=("name", "rd", "description"),
        order=("name", "rd"),
    ),
    Kind(
        TAG,
        "extras/tags",
        "Tag",
        "tag",
        "extras.tag",
        (
            Field("name", required=True, unique=True),
            Field("slug", required=True, unique=True),
            Field("color", "9e9e9e"),
            _DESCRIPTION,
            Field("weight", 1000),
            Field("object_types", []),
            Field("tagged_items", computed=_count_prefixes("tags")),
            *_STAMPS,
        ),
        nested=("name", "slug", "color"),
        order=("weight", "name"),
    ),
    Kind(
        ADDRESS,
        "ipam/ip-addresses",
        "IPAddress",
        "IP address",
        "ipam.ipaddress",
        (
            Field("family", computed=_family),
            Field("address", required=True),
            Field("vrf", None, ref=VRF),
            Field("tenant", None, ref=TENANT),
            Field("status", "active", choices=ADDRESS_STATUSES),
            Field("role", None, choices=ADDRESS_ROLES),
            Field("assigned_object_type", None),
            Field("assigned_object_id", None),
            Field("assigned_object", computed=lambda state, row, base: None),
            Field("nat_inside", None),
            Field("nat_outside", computed=lambda state, row, base: []),
            Field("dns_name"),
            *_COMMON,
            *_TAGGED,
            *_STAMPS,
        ),
        display=lambda row: str(row["address"]),
        nested=("address", "description"),
        order=("address",),
        search=("address", "description"),
    ),
    Kind(
        RANGE,
        "ipam/ip-ranges",
        "IPRange",
        "IP range",
        "ipam.iprange",
        (
            Field("family", computed=_family),
            Field("start_address", required=True),
            Field("end_address", required=True),
            Field("size", computed=lambda state, row, base: range_size(row)),
            Field("vrf", None, ref=VRF),
            Field("tenant", None, ref=TENANT),
            Field("status", "active", choices=RANGE_STATUSES),
            Field("role", None),
            *_COMMON,
            *_TAGGED,
            *_STAMPS,
            Field("mark_populated", default=False),
            Field("mark_utilized", default=False),
        ),
        display=range_display,
        nested=("start_address", "end_address", "description"),
        order=("start_address", "end_address"),
        search=("start_address", "end_address", "description"),
    ),
    Kind(
        WEBHOOK,
        "extras/webhooks",
        "Webhook",
        "webhook",
        "extras.webhook",
        (
            Field("name", required=True, unique=True),
            _DESCRIPTION,
            Field("payload_url", required=True),
            Field("http_method", "POST"),
            Field("http_content_type", "application/json"),
            Field("additional_headers"),
            Field("body_template"),
            Field("secret"),
            Field("ssl_verification", default=True),
            Field("ca_file_path", None),
            Field("custom_fields", computed=lambda state, row, base: {}),
            _OWNER,
            Field("tags", [], ref=TAG, many=True),
            *_STAMPS,
        ),
    ),
    Kind(
        EVENT_RULE,
        "extras/event-rules",
        "EventRule",
        "event rule",
        "extras.eventrule",
        (
            Field("object_types", [], required=True),
            Field("name", required=True, unique=True),
            Field("enabled", default=True),
            Field("event_types", [], required=True),
            Field("conditions", None),
            Field("action_type", "webhook", required=True, choices=_ACTION_TYPES),
            Field("action_object_type", required=True),
            Field("action_object_id", None),
            Field("action_object", computed=_webhook),
            _DESCRIPTION,
            Field("custom_fields", computed=lambda state, row, base: {}),
            _OWNER,
            Field("tags", [], ref=TAG, many=True),
            *_STAMPS,
        ),
    ),
    Kind(
        USER,
        "users/users",
        "User",
        "user",
        "users.user",
        (
            Field("username", required=True, unique=True),
            Field("first_name"),
            Field("last_name"),
            Field("email"),
            Field("is_active", default=True),
            Field("date_joined"),
            Field("last_login", None),
            Field("groups", []),
            Field("permissions", computed=lambda state, row, base: []),
            Field("password", required=True, write_only=True),
            Field("is_superuser", default=False, write_only=True),
        ),
        display=lambda row: str(row["username"]),
        nested=("username",),
        order=("username",),
        search=("username",),
        stamped=False,
    ),
    Kind(
        PERMISSION,
        "users/permissions",
        "ObjectPermission",
        "permission",
        "users.objectpermission",
        (
            Field("name", required=True),
            _DESCRIPTION,
            Field("enabled", default=True),
            Field("object_types", [], required=True),
            Field("actions", [], required=True),
            Field("constraints", None),
            Field("groups", []),
            Field("users", [], ref=USER, many=True),
        ),
        stamped=False,
    ),
    Kind(
        TOKEN,
        "users/tokens",
        "Token",
        "token",
        "users.token",
        (
            Field("version", 2),
            Field("key", None),
            Field("user", None, ref=USER, required=True),
            _DESCRIPTION,
            Field("created"),
            Field("expires", None),
            Field("last_used", None),
            Field("enabled", default=True),
            Field("write_enabled", default=True),
            Field("pepper_id", None),
            Field("allowed_ips", []),
            Field("token", None),
        ),
        display=lambda row: str(row["key"] if row["version"] == 2 else "*" * 34 + row["token"][-6:]),
        nested=("version", "key"),
        order=("id",),
        search=("description",),
    ),
)

KINDS = {kind.name: kind for kind in _ALL}
BY_PATH = {kind.path: kind for kind in _ALL}
