// The page. The search is in the fragment of the URL, which no server sees. The token is in the session storage of the
// tab. There is no other state.

import { Problem, fits, read } from "/assets/api.js";
import {
  degradation,
  fromNow,
  historyTable,
  make,
  nothing,
  problemBox,
  registrationsTable,
  zonesTable,
} from "/assets/view.js";

const TOKEN = "ipam-api.token";
const FILTERS = ["address", "zone", "ip_family", "service_name", "cluster_id", "namespace_id", "expiring"];
const ROWS = "50";
const SECONDS_BETWEEN_STATES = 30;

const at = (id) => document.getElementById(id);
const invalid = (field, is) => (is ? field.setAttribute("aria-invalid", "true") : field.removeAttribute("aria-invalid"));

// ---- The search

function wanted() {
  const given = new URLSearchParams(location.hash.slice(1));
  const take = (name) => given.get(name)?.trim() ?? "";
  const limits = [...at("limit").options].map((option) => option.value);
  return {
    ...Object.fromEntries(FILTERS.map((name) => [name, take(name)])),
    limit: limits.includes(take("limit")) ? take("limit") : ROWS,
    cursor: take("cursor"),
    history: take("history"),
  };
}

function fragment(state) {
  const kept = Object.entries(state).filter(([name, value]) => value && !(name === "limit" && value === ROWS));
  return `#${new URLSearchParams(kept)}`;
}

// Links within the page. A new search begins at its first page; the history of an address does not change the search.
function linkTo(changes) {
  if ("history" in changes) return fragment({ ...wanted(), ...changes });
  return fragment({ limit: wanted().limit, ...changes });
}

// `trail`: the cursors of the previous pages.
function go(state, trail = []) {
  history.pushState({ trail }, "", fragment(state) === "#" ? location.pathname : fragment(state));
  show();
}

// ---- Regions: each loads separately, shows its own problems, and ignores an answer to an earlier request

class Region {
  #waiting = null;
  #timer = null;

  constructor(name, working) {
    this.content = at(name);
    this.told = at(`${name}-told`);
    this.trouble = at(`${name}-problem`);
    this.working = working;
  }

  // Load and show. `ask(signal)` returns the data for `show`; `refused(problem)` returns true if it handled a problem.
  async load(ask, show, refused = () => false) {
    this.stop();
    const mine = new AbortController();
    this.#waiting = mine;
    const again = () => this.load(ask, show, refused);
    this.content.setAttribute("aria-busy", "true");
    this.told.textContent = this.working;
    try {
      const found = await ask(mine.signal);
      if (this.#waiting !== mine) return;
      this.trouble.replaceChildren();
      this.told.textContent = "";
      show(found);
    } catch (error) {
      if (this.#waiting !== mine) return;
      if (!(error instanceof Problem)) throw error;
      this.told.textContent = "";
      if (refused(error)) return;
      this.trouble.replaceChildren(problemBox(error, again));
      if (error.retryAfter !== null) this.#timer = setTimeout(again, error.retryAfter * 1000);
    } finally {
      if (this.#waiting === mine) this.content.removeAttribute("aria-busy");
    }
  }

  // Cancel the request in progress.
  stop() {
    clearTimeout(this.#timer);
    this.#waiting?.abort();
    this.#waiting = null;
    this.content.removeAttribute("aria-busy");
  }

  empty() {
    this.stop();
    for (const each of [this.content, this.told, this.trouble]) each.replaceChildren();
  }
}

const regions = {
  zones: new Region("zones", "Loading the zones…"),
  registrations: new Region("registrations", "Loading registrations…"),
  history: new Region("history-entries", "Loading the history…"),
};

// ---- The token

const token = () => sessionStorage.getItem(TOKEN) ?? "";

function lock(problem = null) {
  sessionStorage.removeItem(TOKEN);
  for (const region of Object.values(regions)) region.empty();
  shown = null;
  offer([]);
  at("history").close();
  at("token").value = "";
  present();
  at("token-problem").replaceChildren(problem ? problemBox(problem) : "");
  invalid(at("token"), problem !== null);
  at("token").focus();
}

function present() {
  const open = token() !== "";
  at("within").hidden = !open;
  at("token-form").hidden = open;
  at("token-kept").hidden = !open;
}

// Handle a wrong token, or a server without a token.
function barred(problem) {
  if (problem.status === 401) {
    lock(problem);
    return true;
  }
  if (problem.status === 404) {
    lock(
      new Problem("This server does not offer zones and registrations.", {
        more: "No token is configured: auth.token_path in its config.json must name a file with one.",
      }),
    );
    return true;
  }
  return false;
}

at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = at("token").value.trim();
  if (!given) return;
  sessionStorage.setItem(TOKEN, given);
  at("token").value = "";
  invalid(at("token"), false);
  at("token-problem").replaceChildren();
  present();
  at("zones-title").focus({ preventScroll: true });
  show();
});
at("forget").addEventListener("click", () => lock());

// ---- Zones

function loadZones() {
  return regions.zones.load(
    (signal) => read("/v2/zones", { token: token(), signal }),
    ({ zones }) => {
      const open = new Set([...at("zones").querySelectorAll("details")].map((each, i) => (each.open ? i : -1)));
      at("zones").replaceChildren(
        zones.length ? zonesTable(zones, linkTo) : nothing("NetBox has no zones: its choice set is empty."),
      );
      at("zones").querySelectorAll("details").forEach((each, i) => (each.open = open.has(i)));
      at("zones-told").textContent = zones.length
        ? `${many(zones.length, "zone")}, as of ${clock()}${readingOf(zones)}`
        : "";
      offer(zones.map((one) => one.zone));
    },
    barred,
  );
}

at("refresh").addEventListener("click", () => {
  loadZones();
  loadState();
});

// The choices of the zone field; the chosen zone stays, even if it does not exist.
function offer(names = [...at("f-zone").options].map((option) => option.value)) {
  const select = at("f-zone");
  const chosen = wanted().zone;
  const options = [...new Set([...names, chosen])].filter(Boolean).map((name) => new Option(name, name));
  select.replaceChildren(new Option("any", ""), ...options);
  select.value = chosen;
}

// How old the oldest reading of NetBox is.
function readingOf(zones) {
  const times = zones.flatMap(({ families }) => families.map((use) => use.as_of)).filter(Boolean);
  if (!times.length) return "";
  const seconds = (Math.min(...times.map(Date.parse)) - Date.now()) / 1000;
  return `; NetBox read ${fromNow(Math.min(seconds, 0))}`;
}

const clock = () => new Date().toLocaleTimeString("sv");
const many = (number, one, several = `${one}s`) => `${number} ${number === 1 ? one : several}`;

// ---- Registrations

let next = null;

async function ask(state, signal) {
  const { address, limit, cursor, history: _, ...filters } = state;
  if (!address) return read("/v2/addresses", { token: token(), query: { ...filters, limit, cursor }, signal });
  const path = `/v2/addresses/${encodeURIComponent(address)}`;
  try {
    const { addresses } = await read(path, { token: token(), query: { zone: filters.zone }, signal });
    return { addresses: addresses.filter((one) => fits(one, filters)), cursor: null };
  } catch (error) {
    if (error instanceof Problem && error.status === 404) return { addresses: [], cursor: null };
    throw error;
  }
}

function loadRegistrations(state) {
  return regions.registrations.load(
    (signal) => ask(state, signal),
    (page) => {
      mark({});
      next = page.cursor;
      const found = page.addresses.length;
      at("registrations").replaceChildren(found ? registrationsTable(page.addresses, linkTo) : emptiness(state));
      const before = trail().length;
      const where = before || next ? `, page ${before ? before + 1 : state.cursor ? "further on" : 1}` : "";
      at("registrations-told").textContent = found ? many(found, "registration") + where : "";
      turnable(state);
    },
    (problem) => {
      mark(problem.fields);
      // 404 for an address means no registration; 404 for a path means that the server does not offer it.
      return barred(problem);
    },
  );
}

function emptiness(state) {
  if (state.address) {
    return nothing(
      `${state.address} is not registered here. `,
      anchor("History of this address", linkTo({ history: state.address })),
    );
  }
  if (state.cursor) return nothing("No more registrations. ", anchor("To the first page", linkTo(filtersOf(state))));
  if (FILTERS.some((name) => state[name])) return nothing("No registration matches. ", anchor("Show all", linkTo({})));
  return nothing("Nothing is registered yet. ", anchor("Register an address in Swagger UI", "/swagger/index.html"));
}

const anchor = (text, href) => make("a", { href }, text);

// Mark the fields that have problems.
function mark(fields) {
  for (const name of FILTERS) invalid(at("search").elements[name], name in fields);
}

const trail = () => history.state?.trail ?? [];
const filtersOf = (state) => Object.fromEntries(FILTERS.map((name) => [name, state[name]]));

function turnable(state) {
  const focused = document.activeElement;
  at("pager").hidden = Boolean(state.address);
  at("first").disabled = !state.cursor;
  at("previous").disabled = !state.cursor || !trail().length;
  at("next").disabled = next === null;
  // A disabled button loses the focus: move it to the list.
  if (focused?.disabled) at("registrations-title").focus({ preventScroll: true });
}

at("next").addEventListener("click", () => {
  const state = wanted();
  if (next !== null) go({ ...state, cursor: next }, [...trail(), state.cursor]);
});
at("previous").addEventListener("click", () => {
  const before = [...trail()];
  const cursor = before.pop() ?? "";
  go({ ...wanted(), cursor }, before);
});
at("first").addEventListener("click", () => go({ ...wanted(), cursor: "" }));
at("limit").addEventListener("change", () => go({ ...wanted(), cursor: "", limit: at("limit").value }));
at("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = Object.fromEntries(new FormData(at("search")));
  go({ ...wanted(), ...given, cursor: "" });
});
at("clear").addEventListener("click", () => {
  go({ limit: wanted().limit });
  at("f-address").focus();
});
// A link to other registrations moves the focus too, for screen readers.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.('a[href^="#"]');
  if (!link || link.classList.contains("skip") || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const before = wanted();
  history.pushState({ trail: link.hash.includes("history=") ? trail() : [] }, "", link.getAttribute("href"));
  show();
  if (!wanted().history && !before.history) {
    at("registrations-title").focus({ preventScroll: true });
    at("registrations-title").scrollIntoView({ block: "start" });
  }
});

// ---- History of an address

let older = null;
let entries = [];

function loadHistory(address, cursor = "") {
  if (!cursor) {
    entries = [];
    regions.history.empty();
  }
  at("history-older").hidden = true;
  at("history-title").textContent = `History of ${address}`;
  return regions.history.load(
    (signal) =>
      read(`/v2/addresses/${encodeURIComponent(address)}/history`, { token: token(), query: { cursor }, signal }),
    (page) => {
      entries = [...entries, ...page.history];
      older = page.cursor;
      at("history-entries").replaceChildren(
        entries.length ? historyTable(address, entries, linkTo) : nothing(`There is no history of ${address}.`),
      );
      at("history-entries-told").textContent = entries.length ? many(entries.length, "entry", "entries") : "";
      at("history-older").hidden = older === null;
    },
    barred,
  );
}

at("history-older").addEventListener("click", () => loadHistory(wanted().history, older));
at("history-close").addEventListener("click", () => at("history").close());
at("history").addEventListener("close", () => {
  regions.history.stop();
  if (token() && wanted().history) go({ ...wanted(), history: "" }, trail());
});
// A click outside closes the dialog, as Escape does.
at("history").addEventListener("click", (event) => {
  if (event.target === at("history")) at("history").close();
});

// ---- The state of the service

async function loadState() {
  let verdict;
  let words;
  let report = {};
  try {
    report = await read("/readyz", { accept: [503] });
    const well = report.status === "ready";
    const degraded = report.degraded ?? [];
    verdict = !well ? "bad" : degraded.length ? "warn" : "good";
    words = !well ? "Not ready" : degraded.length ? "Ready, but degraded" : "Ready";
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    verdict = "bad";
    words = error.message;
  }
  const said = at("verdict");
  // Set only after a change: screen readers read it aloud.
  if (said.textContent !== words) said.textContent = words;
  said.className = `verdict ${verdict}`;
  at("parts").replaceChildren(...parts(report));
  at("degraded").replaceChildren(...(report.degraded ?? []).map(degradation));
}

function parts({ storage, zones, zones_age_seconds: age, netbox }) {
  if (storage === undefined) return [];
  const from = { netbox: "from NetBox", storage: "kept in storage" }[zones] ?? zones;
  const old = Number.isFinite(age) ? `, ${age < 1 ? "just now" : fromNow(-age)}` : "";
  const told = { Storage: storage, Zones: `${from}${old}`, NetBox: netbox };
  return Object.entries(told).flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]);
}

// ---- The whole page

let shown = null;

// Show the search of the URL.
function show() {
  const state = wanted();
  offer();
  for (const name of FILTERS) at("search").elements[name].value = state[name];
  at("limit").value = state.limit;
  if (!token()) return;
  const first = shown === null;
  const { history: address, ...listing } = state;
  const key = JSON.stringify(listing);
  if (first) loadZones();
  if (first || shown.key !== key) loadRegistrations(state);
  if (address && (first || shown.address !== address)) loadHistory(address);
  shown = { key, address };
  if (address && !at("history").open) at("history").showModal();
  if (!address && at("history").open) at("history").close();
}

addEventListener("popstate", () => {
  // The fragment of the link to the content is not a search.
  if (!location.hash || location.hash.includes("=")) show();
});
setInterval(() => document.hidden || loadState(), SECONDS_BETWEEN_STATES * 1000);

present();
loadState();
show();
