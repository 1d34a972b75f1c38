"""What the recordings do not show of the simulator's API, or show only in part: rights, filters, odd input."""

from __future__ import annotations

from typing import Any

import pytest

from netbox_simulator import NetBoxModel, Response, sample_model

TOKEN = "nbt_ABCDEFGHIJKL.0123456789abcdef0123456789abcdef01234567"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
PREFIXES = "/api/ipam/prefixes/"
SERVICE = "a" * 40


@pytest.fixture
def model() -> NetBoxModel:
    model = sample_model(tokens=[TOKEN])
    for address, fields in (
        ("83.118.168.1/32", {"k8s_uuid": "65f0c0ffee0000000000000a", "k8s_zone": "inet"}),
        ("83.118.168.2/32", {"k8s_uuid": "65f0c0ffee0000000000000b", "k8s_zone": "inet"}),
        ("2a0d:a00::1/128", {"k8s_uuid": "65F0C0FFEE0000000000000C", "k8s_zone": "inet"}),
    ):
        body = {"prefix": address, "vrf": 1, "tenant": 1, "role": 1, "tags": [1], "custom_fields": fields}
        assert send(model, "POST", PREFIXES, body).status == 201
    return model


def send(model: NetBoxModel, method: str, path: str, body: Any = None, **headers: str) -> Response:
    return model.handle(method, path, headers=HEADERS | headers, body=body)


def found(model: NetBoxModel, query: str) -> list[str]:
    answer = send(model, "GET", f"{PREFIXES}?{query}")
    assert answer.status == 200, answer.body
    return [each["prefix"] for each in answer.json()["results"]]


ONE, TWO, SIX = "83.118.168.1/32", "83.118.168.2/32", "2a0d:a00::1/128"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("cf_k8s_uuid=65f0c0ffee0000000000000a", [ONE]),
        ("cf_k8s_uuid=65f0c0ffee0000000000000a&cf_k8s_uuid=65f0c0ffee0000000000000b", [ONE, TWO]),
        ("cf_k8s_uuid=65f0c0ffee0000000000000c", [SIX]),
        ("cf_k8s_uuid=c0ffee", [ONE, TWO, SIX]),
        ("cf_k8s_uuid=65f0c0ffee0000000000000a0", []),
        ("id=9&id=10&id=99999", [ONE, TWO]),
        ("id=9&cf_k8s_uuid=65f0c0ffee0000000000000b", []),
        ("status=active&status=reserved", [ONE, TWO, SIX]),
        ("within=83.118.168.0/24&vrf_id=1", [ONE, TWO]),
        ("within=83.118.168.0/24&vrf_id=null", []),
        ("within=2a0d:a00::/32&status=active&start=0", [SIX]),
        ("contains=83.118.168.1&status=container&vrf_id=1", ["83.118.168.0/24"]),
        ("contains=83.118.168.1/32&vrf_id=1", ["83.118.168.0/24", ONE]),
        ("tenant_id=1&status=active&family=6", [SIX]),
        ("tenant=nhn&role=kubernetes-lb&mask_length=32", [ONE, TWO]),
        ("tag=vitistack&ordering=-prefix", [SIX, TWO, ONE]),
        ("tag_id=1&ordering=bogus,-id&limit=1", [SIX]),
        ("tag__n=vitistack&cf_k8s_zone=hnet-private&family=4", ["10.10.0.0/22"]),
        ("is_pool=true", []),
        ("mark_utilized=false&role_id=1&family=6&status=active", [SIX]),
        ("description=nothing", []),
        ("q=83.118.168.2", ["83.118.168.0/24", TWO]),
        ("created__gte=2000-01-01T00:00:00Z&created__lt=2001-01-01T00:00:00Z", []),
        ("last_updated__gt=2000-01-01&status=active&family=6", [SIX]),
        ("cf_k8s_zone__n=inet&status=active", []),
        ("cf_k8s_zone__empty=false&status=active&family=6", [SIX]),
        ("cf_k8s_zone__ie=INET&status=active&family=6", [SIX]),
        ("cf_k8s_zone__isw=hnet-pu&family=4", ["100.64.0.0/24"]),
        ("cf_k8s_zone__iew=private&family=4", ["10.10.0.0/22"]),
        ("vrf=65000:1&status=active&family=6", [SIX]),
    ],
)
def test_filters(model: NetBoxModel, query: str, expected: list[str]) -> None:
    assert found(model, query) == expected


@pytest.mark.parametrize(
    "query", ["nonsense=1", "cf_nosuch=1", "cf_k8s_uuid__ie=x", "created__about=1", "cf_k8s_uuid=", "cf_k8s_zone__re=x"]
)
def test_what_is_not_a_filter_returns_everything(model: NetBoxModel, query: str) -> None:
    assert len(found(model, query)) == len(model.state.prefixes.rows)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("vrf_id=77", {"vrf_id": ["Select a valid choice. 77 is not one of the available choices."]}),
        ("vrf_id=x", {"vrf_id": ["“x” is not a valid value."]}),
        ("role=none", {"role": ["Select a valid choice. none is not one of the available choices."]}),
        ("id=x&family=y", {"id": ["Enter a number."], "family": ["Enter a number."]}),
        ("created__gte=yesterday", {"created__gte": ["Enter a valid date/time."]}),
    ],
)
def test_filters_with_wrong_values(model: NetBoxModel, query: str, error: Any) -> None:
    answer = send(model, "GET", f"{PREFIXES}?{query}")
    assert (answer.status, answer.json()) == (400, error)


def test_paging_by_id_gives_every_prefix_once(model: NetBoxModel) -> None:
    path, seen = f"{PREFIXES}?start=0&limit=4&fields=id", []
    while path:
        answer = send(model, "GET", path.removeprefix("http://netbox.invalid")).json()
        seen += [each["id"] for each in answer["results"]]
        path = answer["next"]
    assert seen == sorted(model.state.prefixes.rows)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"prefix": "9.9.9.9/32", "description": "x" * 201}, {"description": "more than 200 characters"}),
        ({"prefix": "9.9.9.9/32", "description": None}, {"description": "may not be null"}),
        ({"prefix": "9.9.9.9/32", "description": []}, {"description": "Not a valid string"}),
        ({"prefix": "9.9.9.9/32", "is_pool": "maybe"}, {"is_pool": "valid boolean"}),
        ({"prefix": "9.9.9.9/32", "status": None}, {"status": "may not be null"}),
        ({"prefix": "9.9.9.9/32", "tags": 1}, {"tags": "Expected a list"}),
        ({"prefix": "fe80::1%eth0", "vrf": [1]}, {"prefix": "Invalid IP prefix format", "vrf": "unrecognized value"}),
        ({"prefix": 5}, {"prefix": "Invalid IP prefix format"}),
        ("text", {"non_field_errors": "Expected a dictionary"}),
    ],
)
def test_payloads_that_do_not_validate(model: NetBoxModel, body: Any, error: dict[str, str]) -> None:
    count = len(model.state.prefixes.rows)
    answer = send(model, "POST", PREFIXES, body)
    assert answer.status == 400
    assert set(answer.json()) == set(error)
    for name, part in error.items():
        assert part in answer.json()[name][0]
    assert len(model.state.prefixes.rows) == count


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [("integer", 5, "5"), ("boolean", True, 1), ("longtext", "a", 1), ("select", "inet", "moon")],
)
def test_types_of_custom_fields(model: NetBoxModel, kind: str, good: Any, bad: Any) -> None:
    field = {"name": "extra", "type": kind, "object_types": ["ipam.prefix"], "choice_set": 1, "required": True}
    assert send(model, "POST", "/api/extras/custom-fields/", field).status == 201
    for value, status in ((good, 201), (bad, 400), (None, 400)):
        body = {"prefix": "83.118.168.9/32", "vrf": 1, "custom_fields": {"extra": value}}
        answer = send(model, "POST", PREFIXES, body)
        assert answer.status == status, answer.body
    assert found(model, f"cf_extra={str(good).lower()}") == ["83.118.168.9/32"]
    missing = send(model, "POST", PREFIXES, {"prefix": "83.118.168.10/32", "custom_fields": {}})
    assert missing.json() == {"__all__": ["Missing required custom field 'extra'."]}


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"\xff\xfe", 400), (b'{"prefix": NaN}', 400), (b"[1,]", 400), (b"{}", 400), (b"", 400)],
)
def test_bodies_that_are_not_json(model: NetBoxModel, body: bytes, status: int) -> None:
    assert send(model, "POST", PREFIXES, body).status == status


def test_a_body_without_a_content_type(model: NetBoxModel) -> None:
    answer = model.handle("POST", PREFIXES, headers=HEADERS | {"Content-Type": ""}, body=b"{}")
    assert answer.status == 415


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/api/ipam/", 404),
        ("GET", "/api/ipam/prefixes/1/nothing/", 404),
        ("GET", "/api/ipam/prefixes/x/available-prefixes/", 404),
        ("GET", "/api/extras/tags/1/nothing/", 404),
        ("GET", "/api/extras/tags/abc/", 404),
        ("GET", "/api/ipam/prefixes", 301),
        ("HEAD", "/api/ipam/prefixes", 301),
        ("DELETE", "/api/ipam/prefixes", 404),
        ("POST", "/api/status/", 405),
        ("PUT", "/api/extras/tags/", 405),
        ("OPTIONS", "/api/extras/tags/", 200),
    ],
)
def test_paths_and_methods(model: NetBoxModel, method: str, path: str, status: int) -> None:
    assert send(model, method, path).status == status


class TestRights:
    """A user of the service, with the rights that netbox.constraint_tag is for."""

    @pytest.fixture
    def model(self, model: NetBoxModel) -> NetBoxModel:
        assert send(model, "POST", "/api/users/users/", {"username": "ipam", "password": "x"}).json()["id"] == 2
        send(model, "POST", "/api/users/tokens/", {"user": 2, "version": 1, "token": SERVICE})
        return model

    def permit(self, model: NetBoxModel, constraints: Any, *actions: str) -> Response:
        body = {"name": "p", "object_types": ["ipam.prefix"], "users": [2], "constraints": constraints}
        return send(model, "POST", "/api/users/permissions/", body | {"actions": actions})

    def as_service(self, model: NetBoxModel, method: str, path: str, body: Any = None) -> Response:
        return model.handle(method, path, headers={"Authorization": f"Token {SERVICE}"}, body=body)

    def test_nothing_is_permitted_by_default(self, model: NetBoxModel) -> None:
        for method, path in (("GET", PREFIXES), ("POST", PREFIXES), ("DELETE", f"{PREFIXES}1/"), ("PATCH", PREFIXES)):
            assert self.as_service(model, method, path).status == 403
        assert self.as_service(model, "GET", "/api/status/").status == 200

    def test_a_list_of_constraints_means_any_of_them(self, model: NetBoxModel) -> None:
        self.permit(model, [{"tags__name": "vitistack"}, {"status": "container"}], "view", "add", "change", "delete")
        listed = self.as_service(model, "GET", f"{PREFIXES}?limit=0").json()
        assert listed["count"] == len(model.state.prefixes.rows), "containers by their status, the others by their tag"
        untagged = send(model, "POST", PREFIXES, {"prefix": "83.118.168.9/32", "vrf": 1}).json()["id"]
        assert self.as_service(model, "GET", f"{PREFIXES}{untagged}/").status == 404
        assert self.as_service(model, "GET", f"{PREFIXES}?id={untagged}").json()["count"] == 0
        path = f"{PREFIXES}1/available-prefixes/"
        assert self.as_service(model, "POST", path, {"prefix_length": 32}).status == 403
        assert self.as_service(model, "POST", path, {"prefix_length": 32, "tags": [1]}).status == 201

    def test_a_bulk_request_skips_prefixes_outside_the_rights(self, model: NetBoxModel) -> None:
        self.permit(model, {"tags__slug": "vitistack"}, "view", "change", "delete")
        untagged = send(model, "POST", PREFIXES, {"prefix": "83.118.168.9/32", "vrf": 1}).json()["id"]
        both = [{"id": 9, "status": "reserved"}, {"id": untagged, "status": "reserved"}]
        changed = self.as_service(model, "PATCH", PREFIXES, both)
        assert (changed.status, [row["id"] for row in changed.json()]) == (200, [9])
        assert self.as_service(model, "DELETE", PREFIXES, [{"id": untagged}]).status == 204
        assert untagged in model.state.prefixes.rows
        assert self.as_service(model, "PATCH", f"{PREFIXES}9/", {"tags": []}).status == 403, "it would get out of reach"
        assert self.as_service(model, "DELETE", PREFIXES, [{"id": 9}]).status == 204

    def test_constraints_on_fields(self, model: NetBoxModel) -> None:
        self.permit(model, {"custom_field_data__k8s_zone": "inet", "vrf_id": 1, "tenant": 1}, "view")
        assert self.as_service(model, "GET", f"{PREFIXES}?limit=0").json()["count"] == 7

    def test_constraints_that_the_simulator_cannot_hold_are_refused(self, model: NetBoxModel) -> None:
        answer = self.permit(model, {"vrf__name": "nhc"}, "view")
        assert answer.status == 400
        assert "vrf__name" in answer.json()["constraints"][0]

    def test_a_disabled_permission_gives_nothing(self, model: NetBoxModel) -> None:
        row = self.permit(model, None, "view").json()
        assert self.as_service(model, "GET", PREFIXES).status == 200
        assert send(model, "PATCH", f"/api/users/permissions/{row['id']}/", {"enabled": False}).status == 200
        assert self.as_service(model, "GET", PREFIXES).status == 403

    def test_looking_up_by_attributes_sees_what_the_user_may_view(self, model: NetBoxModel) -> None:
        self.permit(model, None, "view", "add")
        body = {"prefix": "83.118.168.9/32", "vrf": {"name": "nhc"}}
        assert self.as_service(model, "POST", PREFIXES, body).status == 400
        rights = {"name": "v", "object_types": ["ipam.vrf"], "actions": ["view"], "users": [2]}
        send(model, "POST", "/api/users/permissions/", rights)
        assert self.as_service(model, "POST", PREFIXES, body).status == 201


def test_setting_a_netbox_up(model: NetBoxModel) -> None:
    """What `netbox-setup` needs: choices added to a set, custom fields and tags made."""
    sets = "/api/extras/custom-field-choice-sets/"
    choices = send(model, "GET", f"{sets}1/").json()["extra_choices"]
    changed = send(model, "PATCH", f"{sets}1/", {"extra_choices": [*choices, ["dmz", "DMZ"]]})
    assert changed.json()["choices_count"] == 4
    body = {"prefix": "10.200.0.0/24", "vrf": 1, "status": "container", "custom_fields": {"k8s_zone": "dmz"}}
    assert send(model, "POST", PREFIXES, body).status == 201
    wrong = send(model, "POST", "/api/extras/custom-fields/", {"name": "k8s_zone", "type": "colour"})
    assert wrong.json() == {
        "object_types": ["This field is required."],
        "name": ["custom field with this name already exists."],
        "type": ["colour is not a valid choice."],
    }
    tags = [{"name": "one", "slug": "one"}, {"name": "vitistack", "slug": "two"}]
    assert send(model, "POST", "/api/extras/tags/", tags).json() == [
        {},
        {"name": ["tag with this name already exists."]},
    ]
    tags[1]["name"] = "two"
    assert [each["id"] for each in send(model, "POST", "/api/extras/tags/", tags).json()] == [2, 3]
    assert send(model, "PUT", "/api/extras/tags/2/", {"name": "uno"}).json() == {"slug": ["This field is required."]}
    assert send(model, "POST", "/api/extras/tags/", "x").status == 400


def test_deleting_what_prefixes_refer_to(model: NetBoxModel) -> None:
    assert send(model, "DELETE", "/api/ipam/vrfs/1/").status == 409
    assert send(model, "DELETE", "/api/tenancy/tenants/1/").status == 409
    assert send(model, "DELETE", "/api/extras/tags/1/").status == 204
    assert send(model, "GET", f"{PREFIXES}9/").json()["tags"] == []
    assert send(model, "DELETE", "/api/extras/custom-fields/2/").status == 204
    assert "k8s_uuid" not in send(model, "GET", f"{PREFIXES}9/").json()["custom_fields"]
    assert len(found(model, "cf_k8s_uuid=c0ffee")) == len(model.state.prefixes.rows), "the filter is unknown now"


def test_looking_objects_up(model: NetBoxModel) -> None:
    def names(path: str) -> list[str]:
        return [each["name"] for each in send(model, "GET", path).json()["results"]]

    assert names("/api/extras/custom-fields/?name__ic=K8S") == ["k8s_uuid", "k8s_zone"]
    assert names("/api/extras/custom-fields/?name__isw=k8s_z&ordering=-id") == ["k8s_zone"]
    assert names("/api/extras/custom-fields/?name__n=k8s_zone&q=o") == ["domain", "purpose"]
    assert names("/api/extras/custom-fields/?object_type=dcim.site") == []
    assert names("/api/extras/custom-fields/?ordering=-id&limit=2") == ["purpose", "env"]
    assert names("/api/extras/custom-fields/?ordering=-name&limit=1") == ["purpose"]
    assert names("/api/tenancy/tenants/?slug=nhn&rd=65000:1") == ["NHN"]
    assert send(model, "GET", "/api/ipam/vrfs/1/?fields=name,enforce_unique").json() == {
        "name": "nhc",
        "enforce_unique": True,
    }
    assert send(model, "GET", "/api/extras/tags/1/?brief=1").json()["slug"] == "vitistack"


def test_calls_are_counted_by_operation() -> None:
    model = sample_model(tokens=[TOKEN])
    for method, path in (
        ("GET", PREFIXES),
        ("HEAD", PREFIXES),
        ("GET", f"{PREFIXES}1/"),
        ("DELETE", PREFIXES),
        ("GET", "/nothing/"),
    ):
        send(model, method, path)
    assert model.calls == {"prefixes.list": 2, "prefixes.get": 1, "prefixes.delete_many": 1, "unknown": 1}


def test_the_latest_changes_are_kept(model: NetBoxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netbox_simulator.changelog.KEPT", 3)
    for number in range(5):
        send(model, "PATCH", f"{PREFIXES}9/", {"description": f"{number}"})
    changes = send(model, "GET", "/api/core/object-changes/?action=update").json()
    assert [each["postchange_data"]["description"] for each in changes["results"]] == ["4", "3", "2"]
    assert changes["results"][0]["changed_object"]["prefix"] == ONE
    assert send(model, "GET", "/api/core/object-changes/?action=create").json()["count"] == 0
