"""The page, as a user uses it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import product
from typing import Any
from urllib.parse import urlencode

import pytest
from selenium.webdriver import Chrome, Keys

from ipam_lib.errors import StorageUnavailable
from ipam_lib.models import Tenure
from ipam_lib.netbox.zones import LoadFailure
from ipam_lib.version import __version__
from tests.browser.page_view import PageView
from tests.browser.site import Site, site
from tests.storage.samples import DAY, NOW, key, object_id, registration, service
from tests.support.browser import resize
from tests.support.processes import call
from tests.support.soak import amount
from tests.web.service import SERVICE, TOKEN

CLUSTER, NAMESPACE = SERVICE["cluster_id"], SERVICE["namespace_id"]
OTHER_CLUSTER = "11111111-2222-4333-8444-555555555555"
ADDRESSES = ".registrations .address code"


def sample(number: int, **fields: Any) -> Any:
    values = {
        "address": f"83.118.168.{number}/32",
        "services": (service("web", cluster=CLUSTER, namespace=NAMESPACE),),
    }
    return registration(number, **values | fields)


def opened(look: PageView, path: str = "/") -> PageView:
    """The page, with the token, once everything is there."""
    look.open(path, token=TOKEN)
    look.find("#within")
    look.settled()
    return look


def test_anybody_sees_what_this_is_and_how_it_does(look: PageView) -> None:
    look.open()
    assert look.text("h1")
    assert look.text("#version") == __version__
    look.wait_for("#verdict", "Ready")
    assert look.texts("#parts dd") == ["ok", "from NetBox, 42 seconds ago", "ok"]
    assert look.all('a[href="/swagger/index.html"]')
    assert not look.script("return document.getElementById('within').checkVisibility()")
    assert look.find("#token").get_attribute("type") == "password"


def test_with_the_token_typed_in_zones_and_registrations_are_shown(look: PageView, place: Site) -> None:
    place.add(*(sample(number) for number in range(3)))
    look.open()
    look.fill("#token", TOKEN + Keys.ENTER)
    look.find(".registrations")
    assert look.texts(ADDRESSES) == ["83.118.168.0/32", "83.118.168.1/32", "83.118.168.2/32"]
    assert look.text("#registrations-told") == "3 registrations"
    assert look.focused() == "zones-title"
    # It is in this tab, and nowhere else.
    assert look.script("return sessionStorage.length") == 1
    assert look.script("return [document.cookie, localStorage.length]") == ["", 0]
    assert TOKEN not in look.chrome.current_url
    assert TOKEN not in look.chrome.page_source
    look.chrome.refresh()
    look.find(".registrations")


def test_forgotten_is_forgotten(look: PageView, place: Site) -> None:
    place.add(sample(77))
    opened(look).click("#forget")
    look.find("#token-form")
    assert look.focused() == "token"
    assert look.script("return sessionStorage.length") == 0
    assert "83.118.168.77" not in look.chrome.page_source
    assert "inet" not in look.chrome.page_source
    look.chrome.refresh()
    look.find("#token-form")
    assert not look.all(".registrations")


def test_zones_as_bars_with_their_numbers(look: PageView, place: Site) -> None:
    v6 = {"ip_family": "ipv6"}
    place.add(*(sample(number) for number in range(64)), sample(200, address="2001:db8::1/128", **v6))
    place.add(*(sample(300 + n, address=f"10.0.0.{n}/32", zone="lab") for n in range(4)))
    opened(look)
    rows = look.texts(".zones tbody tr")
    assert len(rows) == 3
    assert [row.split()[0] for row in rows] == ["inet", "IPv6", "lab"]
    # A quarter of the first is used, of the last all, of the /64 next to nothing: that is there all the same.
    widths = look.script(
        "return [...document.querySelectorAll('.bar')].map((bar) => "
        "bar.querySelector('.used').getBoundingClientRect().width / bar.getBoundingClientRect().width)"
    )
    assert widths[0] == pytest.approx(0.25, abs=0.01)
    assert 0 < widths[1] < 0.02
    assert widths[2] == pytest.approx(1)
    assert "25 % taken" in rows[0]
    assert "< 0.1 % taken" in rows[1]
    assert "full" in rows[2]
    counts = look.texts(".zones tbody .count")
    assert (counts[:5], counts[10:]) == (["64", "0", "0", "192", "256"], ["4", "0", "0", "0", "4"])


def test_what_other_systems_take_is_not_free(look: PageView, place: Site) -> None:
    place.add(*(sample(number) for number in range(64)))
    place.netbox.others = {1: (150, 22), 2: (2**62, None), 3: (1, 1)}
    place.netbox.utilized = {3}
    opened(look)
    widths = look.script(
        "return [...document.querySelectorAll('.bar')].map((bar) => [...bar.children].map((part) =>"
        " part.getBoundingClientRect().width / bar.getBoundingClientRect().width))"
    )
    assert widths == [pytest.approx(one, abs=0.01) for one in ([0.25, 0, 172 / 256], [0, 0, 0.25], [0, 0, 1])]
    rows = look.texts(".zones tbody tr")
    assert "92 % taken" in rows[0]
    assert "nearly full" in rows[0]
    assert "25 % taken" in rows[1]
    assert "100 % taken" in rows[2]
    counts = look.texts(".zones tbody .count")
    assert (counts[:5], counts[10:]) == (["64", "0", "172", "20", "256"], ["0", "0", "2", "0", "4"])
    for details in look.all(".zones summary"):
        details.click()
    assert [one.splitlines()[1] for one in look.texts(".zones details li")] == [
        "64 own, 150 in other prefixes, 22 by IP addresses, 20 free",
        f"{2**62:,} in other prefixes, IP addresses not known, {2**64 - 2**62:,} free",
        "marked as utilized, 1 in other prefixes, 1 by IP addresses, 0 free",
    ]
    assert re.search(r"as of \d{4}-\d\d-\d\d \d\d:\d\d", look.text(".zones details li"))
    assert re.fullmatch(r"2 zones, as of [\d:]{8}; NetBox read (.+ ago|now|last .+)", look.text("#zones-told"))


def test_what_is_not_known_is_not_called_free(look: PageView, place: Site) -> None:
    place.add(*(sample(number) for number in range(64)))
    place.add(*(sample(300 + n, address=f"10.0.0.{n}/32", zone="lab") for n in range(4)))
    place.netbox.unread = {1, 2, 3}
    opened(look)
    rows = look.texts(".zones tbody tr")
    assert "at least 25 % taken" in rows[0]
    assert "full" not in rows[0]
    assert "full" in rows[2]
    counts = look.texts(".zones tbody .count")
    assert (counts[:5], counts[10:]) == (
        ["64", "0", "unknown", "unknown", "256"],
        ["4", "0", "unknown", "unknown", "4"],
    )
    look.click(".zones summary")
    assert "what is taken in NetBox is not known" in look.text(".zones details li")
    assert re.fullmatch(r"2 zones, as of [\d:]{8}", look.text("#zones-told"))


def test_a_64_is_shown_to_the_last_address(look: PageView, place: Site) -> None:
    place.add(sample(1, address="2001:db8::1/128", ip_family="ipv6"))
    opened(look)
    free, size = look.all(".zones .number[title]")
    assert free.get_attribute("title") == f"{2**64 - 1:,}"
    assert size.get_attribute("title") == f"{2**64:,}"
    assert (
        look.script("return arguments[0].querySelector('[aria-hidden]').textContent", size)
        == "1.8 \N{MULTIPLICATION SIGN} 1019"
    )
    assert look.script("return arguments[0].querySelector('sup').textContent", size) == "19"
    # What is read aloud is the exact number.
    assert look.script("return arguments[0].querySelector('.spoken').textContent", free) == f"{2**64 - 1:,}"


def test_integers_of_any_size_are_read_exactly(look: PageView) -> None:
    texts = [
        "0",
        "-7",
        "9007199254740991",
        "9007199254740993",
        "-9007199254740993",
        "18446744073709551615",
        str(2**128),
        "1.5",
        "1e3",
        "1e400",
        '"18446744073709551615"',
        '"\\"18446744073709551615"',
        '"\\\\"',
        '"{\\"exact integer\\":\\"18446744073709551615\\"}"',
        '{"a": [18446744073709551615, "18446744073709551615", null, true, {"9007199254740993": 9007199254740993}]}',
        "[]",
        "{}",
        "null",
    ]
    script = (
        "const plain = (value) => typeof value === 'bigint' ? `BIG ${value}` : Array.isArray(value) ? value.map(plain)"
        " : value && typeof value === 'object' ?"
        " Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)])) : value;"
        "return given[0].map((text) => plain(api.parse(text)))"
    )
    expected = [json.loads(text, parse_int=_as_read) for text in texts]
    assert [_finite(value) for value in look.module(script, texts)] == [_finite(value) for value in expected]


def _as_read(text: str) -> int | str:
    return int(text) if abs(int(text)) < 2**53 else f"BIG {text}"


def _finite(value: Any) -> Any:
    return None if value == float("inf") else value


def test_large_counts_are_rounded_as_one_would(look: PageView) -> None:
    values = [
        10**e + d for e in range(9, 40) for d in (-1, 0, 1, 10**e // 20, 5 * 10 ** (e - 1), 9 * 10**e - 10 ** (e - 2))
    ]
    script = "return given[0].map((text) => view.rounded(BigInt(text)))"
    for value, (mantissa, exponent) in zip(values, look.module(script, [str(value) for value in values]), strict=True):
        assert re.fullmatch(r"[1-9]\.\d", mantissa)
        shown = int(mantissa.replace(".", "")) * 10**exponent
        assert abs(shown - value * 10) * 100 <= value * 10 * 6, value


def test_a_search_is_found_again_by_its_address(look: PageView, place: Site) -> None:
    place.add(
        sample(1),
        sample(2, services=(service("db", cluster=OTHER_CLUSTER, namespace=NAMESPACE),)),
        sample(3, services=(service("web", cluster=CLUSTER, namespace=NAMESPACE, expires_at=NOW + DAY),)),
        sample(4, zone="lab", address="10.0.0.1/32"),
        sample(5, ip_family="ipv6", address="2001:db8::5/128"),
    )
    opened(look)
    for fields, found in (
        ({"f-zone": "lab"}, ["10.0.0.1/32"]),
        ({"f-family": "IPv6"}, ["2001:db8::5/128"]),
        ({"f-service": "db"}, ["83.118.168.2/32"]),
        ({"f-cluster": OTHER_CLUSTER.upper()}, ["83.118.168.2/32"]),
        ({"f-namespace": NAMESPACE, "f-service": "db"}, ["83.118.168.2/32"]),
        ({"f-expiring": "is set"}, ["83.118.168.3/32"]),
        ({"f-address": "83.118.168.1"}, ["83.118.168.1/32"]),
        ({"f-address": "2001:DB8:0::5/128", "f-zone": "inet"}, ["2001:db8::5/128"]),
    ):
        look.click("#clear")
        look.until(lambda: len(look.texts(ADDRESSES)) == 5)
        for name, text in fields.items():
            look.find(f"#{name}").send_keys(text)
        look.click('#search [type="submit"]')
        look.until(lambda found=found: look.texts(ADDRESSES) == found, f"{fields}: {found}")
        assert TOKEN not in look.chrome.current_url
        look.chrome.refresh()
        look.until(lambda found=found: look.texts(ADDRESSES) == found, f"{fields} again: {found}")
        for name, text in fields.items():
            field = look.find(f"#{name}")
            assert look.script("const e = arguments[0]; return e.selectedOptions?.[0]?.text ?? e.value", field) == text


def test_the_filters_of_one_address_are_those_of_many(look: PageView, place: Site) -> None:
    web, db = service("web", cluster=CLUSTER, namespace=NAMESPACE), service("db", cluster=OTHER_CLUSTER)
    going = service("web", cluster=OTHER_CLUSTER, namespace=NAMESPACE, expires_at=NOW + DAY)
    for number, services in enumerate(((), (web,), (db,), (web, db), (going,), (db, going), (web, going))):
        place.add(sample(number, services=services))
        place.add(
            sample(100 + number, services=services, ip_family="ipv6", address=f"2001:db8::{number}/128"),
        )
    headers = {"Authorization": f"Bearer {TOKEN}"}
    choices = {
        "ip_family": ("", "ipv4"),
        "service_name": ("", "web", "db"),
        "cluster_id": ("", CLUSTER, OTHER_CLUSTER.upper()),
        "namespace_id": ("", NAMESPACE),
        "expiring": ("", "true", "false"),
    }
    filters = [dict(zip(choices, chosen, strict=True)) for chosen in product(*choices.values())]

    def listed(query: dict[str, str]) -> list[dict[str, Any]]:
        status, content = call("GET", f"{place.url}/v2/addresses?{urlencode(query)}", headers=headers)
        assert status == 200
        return list(content["addresses"])

    everything = listed({})
    assert len(everything) == 14
    look.open()
    script = "return given[1].map((each) => given[0].filter((one) => api.fits(one, each)))"
    assert look.module(script, everything, filters) == [listed(each) for each in filters]


def test_an_address_is_filtered_too(look: PageView, place: Site) -> None:
    place.add(sample(1))
    for query, shown in (("service_name=web", True), ("service_name=db", False), ("zone=lab", False)):
        opened(look, f"/#address=83.118.168.1&{query}")
        look.find(".registrations" if shown else "#registrations .nothing")


def test_who_does_not_hold_an_address_leads_to_who_held_it(look: PageView) -> None:
    opened(look, "/#address=83.118.168.9")
    assert look.text("#registrations .nothing") == "83.118.168.9 is not registered here. History of this address"


def test_pages_forth_and_back(look: PageView, place: Site) -> None:
    place.add(*(sample(number) for number in range(25)))
    opened(look, "/#limit=10")
    pages = [[f"83.118.168.{n}/32" for n in range(start, min(start + 10, 25))] for start in (0, 10, 20)]

    def there(number: int) -> None:
        look.until(lambda: look.texts(ADDRESSES) == pages[number], f"page {number + 1}")
        look.wait_for("#registrations-told", f"page {number + 1}")

    there(0)
    assert look.find("#previous").get_attribute("disabled")
    look.click("#next")
    there(1)
    look.click("#next")
    there(2)
    assert look.find("#next").get_attribute("disabled")
    # The button that was pressed takes no presses any more: the focus goes where one can go on from.
    assert look.focused() == "registrations-title"
    look.click("#previous")
    there(1)
    look.chrome.back()
    there(2)
    look.chrome.refresh()
    there(2)
    look.click("#previous")
    there(1)
    look.click("#first")
    there(0)
    look.find("#limit").send_keys("25")
    look.until(lambda: len(look.texts(ADDRESSES)) == 25)
    assert look.all("#next[disabled]")


def test_a_cluster_in_the_table_leads_to_all_of_it(look: PageView, place: Site) -> None:
    place.add(sample(1), sample(2, services=(service("db", cluster=OTHER_CLUSTER),)))
    opened(look).click('.identities a[href*="11111111"]')
    look.until(lambda: look.texts(ADDRESSES) == ["83.118.168.2/32"])
    assert look.find("#f-cluster").get_property("value") == OTHER_CLUSTER
    assert look.focused() == "registrations-title"
    look.click(".zones .zone a")
    look.until(lambda: look.find("#f-zone").get_property("value") == "inet")
    assert look.find("#f-cluster").get_property("value") == ""


def test_a_service_tells_what_becomes_of_it(look: PageView, place: Site) -> None:
    services = (
        service("stays"),
        service("goes", expires_at=NOW + DAY, retention_period_days=7, deny_external_cleanup=True),
    )
    place.add(sample(1, services=services))
    opened(look)
    stays, goes = look.texts(".registrations tbody tr")
    assert "not set" in stays
    assert "keeps the address for 7 d" in goes
    assert "denies external cleanup" in goes
    title = look.find(".registrations time").get_attribute("title")
    assert title is not None
    assert datetime.fromisoformat(title) == NOW + DAY


def test_nothing_registered_says_so(look: PageView) -> None:
    opened(look)
    assert "Nothing is registered yet" in look.text("#registrations")
    opened(look, "/#zone=lab")
    assert "No registration matches" in look.wait_for("#registrations", "Show all")


# ---- The history of an address


def held(number: int, **fields: Any) -> Tenure:
    values: dict[str, Any] = {
        "id": object_id(900 + number),
        "registration_id": object_id(800 + number),
        "zone": "inet",
        "ip_family": "ipv4",
        "address": "83.118.168.1/32",
        "key": key(f"web-{number}", cluster=CLUSTER, namespace=NAMESPACE),
        "since": NOW - (number + 1) * DAY,
        "until": NOW - number * DAY,
    }
    return Tenure(**values | fields)


def keep(place: Site, *tenures: Tenure) -> None:
    place.do(place.store.history_insert(tenures))


ENTRIES = "dialog .history tbody tr"


def test_who_holds_an_address_and_who_held_it(look: PageView, place: Site) -> None:
    place.add(sample(1, services=(service("now", cluster=CLUSTER, namespace=NAMESPACE, since=NOW),)))
    keep(place, held(1), held(2, since=None))
    opened(look)
    link = look.find('.address a[href*="history="]')
    look.script("arguments[0].focus()", link)
    link.send_keys(Keys.ENTER)
    look.find(ENTRIES)
    assert look.text("#history-title") == "History of 83.118.168.1/32"
    assert look.text("#history-entries-told") == "3 entries"
    now, before, first = look.texts(ENTRIES)
    assert "still held" in now
    assert "web-1" in before
    assert look.script("return arguments[0].querySelectorAll('time').length", look.all(ENTRIES)[1]) == 2
    assert "before records" in first
    # It can be kept and passed on, and Escape leads back to where one was.
    assert "history=83.118.168.1" in look.chrome.current_url
    look.chrome.refresh()
    look.until(lambda: len(look.texts(ENTRIES)) == 3)
    look.press(Keys.ESCAPE)
    look.until(lambda: not look.script("return document.getElementById('history').open"))
    look.until(lambda: "history=" not in look.chrome.current_url)
    look.chrome.back()
    look.until(lambda: len(look.texts(ENTRIES)) == 3)
    look.chrome.back()
    look.chrome.back()
    look.until(lambda: not look.script("return document.getElementById('history').open"))


def test_closed_the_focus_and_the_page_are_where_they_were(look: PageView, place: Site) -> None:
    place.add(*(sample(number) for number in range(25)))
    opened(look, "/#limit=10").click("#next")
    look.wait_for("#registrations-told", "page 2")
    link = look.find('.address a[href*="83.118.168.15"]')
    look.script("arguments[0].focus()", link)
    look.press(Keys.ENTER)
    look.until(lambda: look.script("return document.getElementById('history').open"))
    look.settled()
    look.click("#history-close")
    look.until(lambda: "history=" not in look.chrome.current_url)
    assert look.script("return document.activeElement.getAttribute('aria-label')") == "History of 83.118.168.15/32"
    assert "page 2" in look.text("#registrations-told")
    look.click("#previous")
    look.wait_for("#registrations-told", "page 1")


def test_a_long_history_goes_on_when_asked(look: PageView, place: Site) -> None:
    keep(place, *(held(number) for number in range(120)))
    opened(look, "/#history=83.118.168.1")
    look.until(lambda: len(look.texts(ENTRIES)) == 50)
    look.click("#history-older")
    look.until(lambda: len(look.texts(ENTRIES)) == 100)
    look.click("#history-older")
    look.until(lambda: len(look.texts(ENTRIES)) == 120)
    assert not look.find("#history").find_elements("css selector", "#history-older:not([hidden])")
    assert len(set(look.texts(ENTRIES))) == 120


def test_of_an_address_that_nobody_held(look: PageView) -> None:
    opened(look, "/#history=83.118.168.200")
    look.wait_for("#history-entries", "There is no history of 83.118.168.200")
    opened(look, "/#history=nonsense")
    look.wait_for("#history-entries-problem", "request is not valid")


# ---- What goes wrong


def test_a_wrong_token_is_told_and_forgotten(look: PageView) -> None:
    for wrong in ("wrong", "härlig"):
        look.open()
        look.fill("#token", wrong + Keys.ENTER)
        look.wait_for("#token-problem", "token")
        assert look.focused() == "token"
        assert look.script("return sessionStorage.length") == 0
        assert wrong not in look.text("body")
        assert not look.script("return document.getElementById('within').checkVisibility()")
    assert look.find("#token-problem [role=alert], #token-problem").get_attribute("role") == "alert"
    look.fill("#token", TOKEN + Keys.ENTER)
    look.find(".zones")
    assert look.text("#token-problem") == ""


@pytest.fixture
def without_token(chrome: Chrome) -> Iterator[PageView]:
    with site(bearer=False) as made:
        yield PageView(chrome, made.url)


def test_a_server_without_a_token_says_what_to_configure(look: PageView, without_token: PageView) -> None:
    without_token.open()
    without_token.fill("#token", TOKEN + Keys.ENTER)
    assert "auth.token_path" in without_token.wait_for("#token-problem", "No token is configured")
    assert without_token.complaints() == []


def test_storage_that_is_away_is_told_and_asked_again(
    look: PageView, place: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.add(sample(1))

    async def fail(*args: Any, **options: Any) -> Any:
        raise StorageUnavailable()

    with monkeypatch.context() as patch:
        patch.setattr(place.store, "page", fail)
        opened(look)
        words = look.wait_for("#registrations-problem", "service is unavailable")
        assert re.search(r"The page tries again in \d+ s", words)
        assert "Request id: " in words
        assert look.text("#registrations-told") == ""
        assert look.all(".zones"), "the zones are there"
    look.find(".registrations")
    assert look.text("#registrations-problem") == ""


def test_a_network_that_is_away_is_told_and_one_can_try_again(look: PageView, place: Site) -> None:
    place.add(sample(1))
    opened(look)
    look.chrome.set_network_conditions(offline=True, latency=0, throughput=-1)
    look.click("#refresh")
    look.wait_for("#zones-problem", "cannot be reached")
    look.wait_for("#verdict", "cannot be reached")
    assert look.texts(ADDRESSES) == ["83.118.168.1/32"], "what was read stays"
    look.chrome.set_network_conditions(offline=False, latency=0, throughput=-1)
    look.click("#zones-problem button")
    look.until(lambda: look.text("#zones-problem") == "")
    look.click("#refresh")
    look.wait_for("#verdict", "Ready")


def test_a_wrong_field_is_named(look: PageView) -> None:
    opened(look)
    look.fill("#f-cluster", "mine" + Keys.ENTER)
    assert "cluster id" in look.wait_for("#registrations-problem", "request is not valid")
    assert look.find("#f-cluster").get_attribute("aria-invalid") is not None
    look.click("#clear")
    look.until(lambda: look.text("#registrations-problem") == "")
    assert look.find("#f-cluster").get_attribute("aria-invalid") is None


def test_a_bug_is_told_with_the_id_that_the_log_has(
    look: PageView, place: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*args: Any, **options: Any) -> Any:
        raise ValueError("odd")

    with monkeypatch.context() as patch:
        patch.setattr(place.store, "page", fail)
        opened(look)
        assert re.search(r"Request id: [0-9a-f]{16}", look.wait_for("#registrations-problem", "because of a bug"))
    look.click("#registrations-problem button")
    look.wait_for("#registrations", "Nothing is registered yet")


def test_the_state_of_a_degraded_service_and_of_one_that_is_not_ready(look: PageView, place: Site) -> None:
    place.running.netbox.away = True
    place.running.zones.source, place.running.zones.trouble = "storage", LoadFailure("away", "no answer within 10 s")
    look.open()
    look.wait_for("#verdict", "Ready, but degraded")
    assert look.texts("#parts dd") == ["ok", "kept in storage, 42 seconds ago", "away"]
    netbox, zones = look.texts("#degraded li")
    assert "what is registered is served" in netbox
    assert "NetBox does not answer properly (no answer within 10 s)" in zones
    place.running.store.trouble = StorageUnavailable()
    look.chrome.refresh()
    look.wait_for("#verdict", "Not ready")
    assert look.texts("#parts dd")[0] == "does not answer"


HOSTILE = (
    '<img src=x onerror="window.hit=1">',
    "</code></td><script>window.hit=1</script>",
    "<svg/onload=window.hit=1>",
    "javascript:window.hit=1//",
    "{{constructor.constructor('window.hit=1')()}}",
    "<style>*{display:none}</style>",
    "&lt;b&gt;",
    "a#history=1&zone=x",
)


def test_hostile_names_are_text(look: PageView, place: Site) -> None:
    place.add(
        sample(1, services=tuple(service(name, cluster=name, namespace=name) for name in HOSTILE), zone=HOSTILE[0]),
        sample(2, services=tuple(service(name) for name in HOSTILE)),
    )
    opened(look)
    assert look.texts(".registrations .service a") == [*HOSTILE, *HOSTILE]
    assert HOSTILE[0] in look.texts(".zones .zone a")
    assert HOSTILE[0] in look.texts("#f-zone option")
    for number, name in enumerate(HOSTILE):
        link = look.all(".registrations .service a")[number + len(HOSTILE)]
        look.script("arguments[0].click()", link)
        look.until(lambda name=name: look.find("#f-service").get_property("value") == name)
        look.settled()
        assert look.texts(ADDRESSES) == ["83.118.168.1/32", "83.118.168.2/32"]
        look.chrome.back()
        look.settled()
    assert look.script("return window.hit") is None
    # Its address bar is no way in either.
    opened(look, "/#zone=%3Cimg%20src=x%20onerror=window.hit=1%3E&history=%3Cscript%3Ewindow.hit=1%3C/script%3E")
    assert look.script("return window.hit") is None


def test_the_policy_stops_what_would_be_executed(look: PageView) -> None:
    look.open()
    assert (
        look.script("try { document.body.innerHTML = '<b>x</b>'; return 'done' } catch { return 'stopped' }")
        == "stopped"
    )
    look.script(
        "const s = document.createElement('div'); s.setAttribute('style', 'color: red'); document.body.append(s)"
    )
    look.script("fetch('http://127.0.0.1:1/').catch(() => {})")
    complaints = look.until(lambda: look.complaints())
    assert complaints
    look.complaints()


# ---- Without a mouse, in the dark, on a narrow screen


def test_the_keyboard_leads_everywhere(look: PageView, place: Site) -> None:
    place.add(sample(1))
    opened(look)
    look.chrome.refresh()
    look.settled()
    look.script("document.activeElement.blur()")
    walked = look.walk()
    assert walked[0] == "Skip to the content"
    order = ["Swagger UI", "forget", "refresh", "inet", "f-address", "f-zone", "f-service", "History", "web", "limit"]
    assert [name for name in walked if name in order] == order
    # Nothing is a trap, and it leads back the same way.
    assert look.walk(3, back=True)
    look.script("document.querySelector('.skip').focus()")
    look.press(Keys.ENTER)
    look.until(lambda: look.focused() == "main")
    assert look.texts(ADDRESSES) == ["83.118.168.1/32"], "skipping asks for nothing else"
    for element in look.all("a, button:enabled, input, select, summary"):
        if element.is_displayed():
            look.script("arguments[0].focus({focusVisible: true})", element)
            style = look.script(
                "const s = getComputedStyle(arguments[0]); return [s.outlineStyle, s.outlineWidth]", element
            )
            assert style[0] != "none", element.get_attribute("outerHTML")


@pytest.mark.parametrize("width", [320, 360, 390, 768, 900, 1280])
@pytest.mark.parametrize("path", ["/", "/#address=1.2.3.4.5", "/#history=2001:db8::5"])
def test_nothing_is_wider_than_the_screen(look: PageView, place: Site, width: int, path: str) -> None:
    long = "2001:db8::ffff:ffff:ffff:ffff/128"
    names = (service("x" * 253, cluster=CLUSTER, namespace=NAMESPACE, expires_at=NOW + DAY), service("a b " * 60))
    place.add(sample(1), sample(2, address=long, ip_family="ipv6", services=names))
    keep(place, held(1, address="2001:db8::5/128", key=key("x" * 253, cluster=CLUSTER, namespace=NAMESPACE)))
    resize(look.chrome, width)
    opened(look, path)
    assert look.script("return document.documentElement.scrollWidth") <= width
    inside = "return [...document.querySelectorAll('main *')].filter((e) => e.checkVisibility()"
    inside += " && !e.closest('.spoken') && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML)"
    assert look.script(inside) == []
    resize(look.chrome, 1280)


def test_it_is_dark_where_that_is_preferred(look: PageView) -> None:
    background = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    look.open()
    assert min(look.script(background)) > 200
    resize(look.chrome, 1280, dark=True)
    assert max(look.script(background)) < 60
    resize(look.chrome, 1280)


def test_nothing_moves_for_whoever_wants_that(look: PageView) -> None:
    opened(look)
    moving = "return [...document.querySelectorAll('*')].some((e) => getComputedStyle(e).transitionDuration !== '0s')"
    assert look.script(moving)
    features = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    look.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    assert not look.script(moving)
    resize(look.chrome, 1280)


@pytest.mark.soak
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False), *amount((), ((390, False), (1280, True)))])
def test_axe_finds_nothing(look: PageView, place: Site, axe: str, width: int, dark: bool) -> None:
    services = (service("web", expires_at=NOW + DAY, retention_period_days=1), service("db"))
    place.add(*(sample(number, services=services) for number in range(250)))
    place.running.netbox.away = True
    keep(place, held(1), held(2, since=None))
    resize(look.chrome, width, dark=dark)
    for path in ("locked", "/", "/#cluster_id=wrong", "/#address=83.118.168.255", "/#history=83.118.168.1"):
        if path == "locked":
            look.open()
            look.wait_for("#verdict", "Ready")
        else:
            opened(look, f"/{'?' if '#' in path else ''}{path[1:]}")
        look.complaints()
        look.script(axe)
        found = look.chrome.execute_async_script(
            "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']})"
            ".then((all) => done(all.violations.map((one) => "
            "`${one.id}: ${one.nodes.map((node) => node.html + ' ' + node.failureSummary).join(' | ')}`)))"
        )
        assert found == [], path
    resize(look.chrome, 1280)
