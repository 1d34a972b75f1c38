// Build the elements of the page. Data of the service becomes text, never markup: clients choose the names.

// An element. `properties`: attributes, except null and false. `children`: elements or text, except empty ones.
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter(Boolean));
  return element;
}

const GROUPED = new Intl.NumberFormat("en");
const LONGEST_IN_FULL = 9;

// An integer of any size with all digits: 18,446,744,073,709,551,616.
export function inFull(value) {
  return GROUPED.format(BigInt(value));
}

// Mantissa and exponent of a large integer, rounded to one decimal place: ["1.8", 19].
export function rounded(value) {
  const digits = BigInt(value).toString();
  let exponent = digits.length - 1;
  let tenths = Math.round(Number(digits.slice(0, 4)) / 100);
  if (tenths === 100) {
    tenths = 10;
    exponent += 1;
  }
  return [`${Math.floor(tenths / 10)}.${tenths % 10}`, exponent];
}

// A count: short ones with all digits, long ones rounded, with the exact number as title and for screen readers.
export function count(value) {
  const full = inFull(value);
  if (BigInt(value).toString().length <= LONGEST_IN_FULL) return make("span", { class: "number" }, full);
  const [mantissa, exponent] = rounded(value);
  return make(
    "span",
    { class: "number", title: full },
    make("span", { "aria-hidden": "true" }, `${mantissa} × 10`, make("sup", {}, String(exponent))),
    make("span", { class: "spoken" }, full),
  );
}

// A share in percent, of integers of any size.
export function percent(part, whole) {
  return BigInt(whole) === 0n ? 0 : Number((BigInt(part) * 1000000n) / BigInt(whole)) / 10000;
}

function percentInWords(part, whole) {
  const share = percent(part, whole);
  if (BigInt(part) === 0n) return "0 %";
  if (share < 0.1) return "< 0.1 %";
  if (share > 99.9 && BigInt(part) < BigInt(whole)) return "> 99.9 %";
  return `${share.toFixed(share < 10 ? 1 : 0)} %`;
}

// The addresses that are not free. While it is not known what other systems take: those of this service, at least.
function taken({ used, reserved, free, size }) {
  return free === null ? BigInt(used) + BigInt(reserved) : BigInt(size) - BigInt(free);
}

// A word for a full or nearly full zone; empty otherwise.
export function fullness(use) {
  if (BigInt(use.size) === 0n) return "no prefixes";
  if (taken(use) >= BigInt(use.size)) return "full";
  return percent(taken(use), use.size) >= 90 ? "nearly full" : "";
}

export const familyName = (family) => ({ ipv4: "IPv4", ipv6: "IPv6" })[family] ?? family;

// The numbers beside the bar say the same, so screen readers skip it.
function bar(use) {
  const part = (name, value) => {
    const element = make("span", { class: name });
    // At least 3 pixels for a value above 0.
    element.style.width = BigInt(value) > 0n ? `max(3px, ${percent(value, use.size)}%)` : "0";
    return element;
  };
  const own = BigInt(use.used) + BigInt(use.reserved);
  const others = taken(use) > own ? taken(use) - own : 0n;
  return make(
    "span",
    { class: "bar", "aria-hidden": "true" },
    part("used", use.used),
    part("reserved", use.reserved),
    part("others", others),
  );
}

// Cells name their column for narrow screens, where a row is a block; the roles keep it a table for screen readers.
const cell = (label, ...children) => make("td", { role: "cell", "data-label": label }, ...children);
const numberCell = (label, value) =>
  make("td", { role: "cell", "data-label": label, class: "count" }, value === null ? unknown() : count(value));
const row = (...cells) => make("tr", { role: "row" }, ...cells);
const unknown = () => make("span", { class: "none" }, "unknown");

function table(caption, columns, bodies, kind) {
  return make(
    "table",
    { role: "table", class: kind },
    make("caption", { class: "spoken" }, caption),
    make(
      "thead",
      { role: "rowgroup" },
      row(...columns.map(([name, kind]) => make("th", { role: "columnheader", scope: "col", class: kind }, name))),
    ),
    ...bodies,
  );
}

// The use of the zones. `linkTo({zone, ip_family})`: the link to their registrations.
export function zonesTable(zones, linkTo) {
  const bodies = zones.map(({ zone, families, quotas }) => {
    const link = make("a", { href: linkTo({ zone }) }, zone);
    const name = (rows) =>
      make("th", { role: "rowheader", scope: "rowgroup", rowspan: rows > 1 && String(rows), class: "zone" }, link);
    const rows = families.length
      ? families.map((use, at) => row(at === 0 ? name(families.length) : null, ...familyCells(zone, use, linkTo)))
      : [row(name(1), make("td", { role: "cell", colspan: "7", class: "none" }, "no container prefixes"))];
    return make("tbody", { role: "rowgroup" }, ...rows, ...quotas.map(quotaRow));
  });
  const columns = [
    ["Zone"],
    ["Family"],
    ["Use"],
    ["Used", "count"],
    ["Reserved", "count"],
    ["Others", "count"],
    ["Free", "count"],
    ["Size", "count"],
  ];
  return table("Use of the zones, in addresses of each family", columns, bodies, "zones");
}

// The quota of each cluster or namespace in the zone, and the highest use of it.
function quotaRow({ owner, limit, highest, nearly_used: nearly }) {
  const text = `Quota of each ${owner}: ${limit} addresses; highest use: ${highest}`;
  const badge = nearly > 0 && make("strong", { class: "badge warn" }, `${nearly} with 90 % or more`);
  return row(make("td", { role: "cell", colspan: "8", class: "none" }, text, " ", badge));
}

function familyCells(zone, use, linkTo) {
  const state = fullness(use);
  const share = `${use.free === null ? "at least " : ""}${percentInWords(taken(use), use.size)} taken`;
  return [
    make(
      "td",
      { role: "cell", class: "family" },
      make(
        "a",
        { href: linkTo({ zone, ip_family: use.ip_family }), "aria-label": `${familyName(use.ip_family)} of ${zone}` },
        familyName(use.ip_family),
      ),
      prefixes(use),
    ),
    make(
      "td",
      { role: "cell", "data-label": "Use", class: "use" },
      bar(use),
      make("span", { class: "share" }, share),
      state && make("strong", { class: `badge ${state === "full" ? "bad" : "warn"}` }, state),
    ),
    numberCell("Used", use.used),
    numberCell("Reserved", use.reserved),
    numberCell("Others", others(use)),
    numberCell("Free", use.free),
    numberCell("Size", use.size),
  ];
}

// The addresses that other systems take; null while that is not known.
function others({ other_prefixes: inPrefixes, other_addresses: hosts }) {
  return inPrefixes === null ? null : BigInt(inPrefixes) + BigInt(hosts ?? 0);
}

// The use of a container prefix in words.
function containerUse(use) {
  if (use.free === null) return "what is taken in NetBox is not known";
  const some = (value, words) => value !== null && BigInt(value) > 0n && `${inFull(value)} ${words}`;
  return [
    use.utilized && "marked as utilized",
    some(use.own, "own"),
    some(use.other_prefixes, "in other prefixes"),
    some(use.other_addresses, "by IP addresses"),
    use.other_addresses === null && "IP addresses not known",
    `${inFull(use.free)} free`,
  ]
    .filter(Boolean)
    .join(", ");
}

function prefixes({ containers }) {
  if (!containers.length) return null;
  const many = containers.length > 1 ? `${containers.length} prefixes` : "1 prefix";
  return make(
    "details",
    {},
    make("summary", {}, many),
    make(
      "ul",
      {},
      containers.map((one) =>
        make(
          "li",
          { title: `${inFull(one.size)} addresses` },
          make("code", {}, one.prefix),
          one.vrf_id === null ? " global table" : ` VRF ${one.vrf_id}`,
          make("span", { class: "under" }, containerUse(one)),
          one.as_of !== null && make("span", { class: "under" }, "as of ", moment(one.as_of)),
        ),
      ),
    ),
  );
}

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const UNITS = [
  ["year", 31557600],
  ["month", 2629800],
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
];

// A number of seconds from now, in words: "in 3 days", "2 hours ago".
export function fromNow(seconds) {
  const [unit, length] = UNITS.find(([, each]) => Math.abs(seconds) >= each) ?? UNITS.at(-1);
  return RELATIVE.format(Math.round(seconds / length), unit);
}

// A time of the service in the time zone of the browser, to the minute. The title has the exact time.
function moment(text) {
  const date = new Date(text);
  const two = (value) => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const shown = `${day} ${two(date.getHours())}:${two(date.getMinutes())}`;
  return make("time", { datetime: text, title: text }, shown);
}

// A page of registrations: a group of rows for each, with one row for each service.
export function registrationsTable(registrations, linkTo) {
  const bodies = registrations.map((one) => {
    const services = one.services.length ? one.services : [null];
    const rows = services.map((service, at) =>
      row(...(at === 0 ? addressCells(one, services.length, linkTo) : []), ...serviceCells(service, linkTo)),
    );
    return make("tbody", { role: "rowgroup" }, ...rows);
  });
  const columns = [["Address"], ["Zone"], ["Service"], ["Cluster and namespace"], ["Expires"]];
  return table("Registrations and the services on them", columns, bodies, "registrations");
}

// An address with possible line breaks after its colons.
function breakable(address) {
  return address.split(/(?<=:)/).flatMap((part, at) => (at ? [make("wbr"), part] : [part]));
}

function addressCells(one, rows, linkTo) {
  const span = rows > 1 && String(rows);
  return [
    make(
      "th",
      { role: "rowheader", scope: "rowgroup", rowspan: span, class: "address" },
      make("code", {}, breakable(one.address)),
      make(
        "span",
        { class: "under" },
        make("a", { href: linkTo({ history: one.address }), "aria-label": `History of ${one.address}` }, "History"),
        one.state === "releasing" && make("strong", { class: "badge warn" }, "being released"),
      ),
    ),
    make(
      "td",
      { role: "cell", "data-label": "Zone", rowspan: span },
      make("span", {}, one.zone, make("span", { class: "under" }, familyName(one.ip_family))),
    ),
  ];
}

function serviceCells(service, linkTo) {
  if (service === null) return [make("td", { role: "cell", colspan: "3", class: "none" }, "no services")];
  const notes = [
    service.retention_period_days > 0 && `keeps the address for ${service.retention_period_days} d after its expiration is set`,
    service.deny_external_cleanup && "denies external cleanup",
  ].filter(Boolean);
  return [
    make(
      "td",
      { role: "cell", "data-label": "Service", class: "service" },
      make(
        "span",
        {},
        make("a", { href: linkTo({ service_name: service.service_name }) }, service.service_name),
        notes.length > 0 && make("span", { class: "under" }, notes.join("; ")),
      ),
    ),
    identityCell(service, linkTo),
    cell("Expires", expiration(service.expires_at)),
  ];
}

function identityCell(service, linkTo) {
  const one = (name, key) =>
    make(
      "span",
      { class: "identity" },
      make("span", { class: "name" }, name),
      make("a", { href: linkTo({ [key]: service[key] }) }, make("code", {}, service[key])),
    );
  return make(
    "td",
    { role: "cell", "data-label": "Cluster and namespace", class: "identities" },
    one("cluster", "cluster_id"),
    one("namespace", "namespace_id"),
  );
}

function expiration(text) {
  if (text === null) return make("span", { class: "none" }, "not set");
  const seconds = (Date.parse(text) - Date.now()) / 1000;
  return make("span", {}, moment(text), make("span", { class: "under" }, fromNow(seconds)));
}

// The history of an address, the latest first.
export function historyTable(address, entries, linkTo) {
  const rows = entries.map((one) =>
    row(
      cell("From", one.from === null ? make("span", { class: "none" }, "before records") : moment(one.from)),
      cell("Until", one.until === null ? make("strong", { class: "badge good" }, "still held") : moment(one.until)),
      cell("Service", make("span", { class: "service" }, one.service_name, make("span", { class: "under" }, one.zone))),
      identityCell(one, linkTo),
    ),
  );
  const columns = [["From"], ["Until"], ["Service"], ["Cluster and namespace"]];
  const body = make("tbody", { role: "rowgroup" }, ...rows);
  return table(`History of ${address}, the latest first`, columns, [body], "history");
}

const PARTS = { netbox: "NetBox", zones: "Zones", background: "Background" };

// A problem of a part of the service, "netbox: away", with the part emphasized.
export function degradation(text) {
  const [part, ...rest] = text.split(": ");
  return PARTS[part] ? make("li", {}, make("strong", {}, PARTS[part]), `: ${rest.join(": ")}`) : make("li", {}, text);
}

// A problem. `again`: the function of the button to try again; null for no button.
export function problemBox(problem, again = null) {
  const button = again && make("button", { type: "button" }, "Try again");
  button?.addEventListener("click", again);
  const fields = Object.entries(problem.fields ?? {}).map(([name, texts]) =>
    make("li", {}, `${name.replaceAll("_", " ")}: ${[texts].flat().join("; ")}`),
  );
  const soon =
    problem.retryAfter && again ? ` The page tries again in ${problem.retryAfter} s.` : "";
  return make(
    "div",
    { class: "problem" },
    make("p", {}, make("strong", {}, problem.message), ` ${problem.more ?? ""}${soon}`),
    fields.length > 0 && make("ul", {}, fields),
    problem.requestId && make("p", { class: "hint" }, "Request id: ", make("code", {}, problem.requestId)),
    button,
  );
}

// The reason why a region is empty.
export function nothing(text, ...more) {
  return make("p", { class: "nothing" }, text, ...more);
}
