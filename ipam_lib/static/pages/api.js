// Asking this service, and putting into words what can go wrong with that.

const SECONDS_TO_WAIT = 30;

// What failed: a sentence, and where there is more to say about it, a second one. `retryAfter`: seconds after which the
// service wants to be asked again. `fields`: what is wrong with which parameter.
export class Problem extends Error {
  constructor(text, { more = "", status = 0, retryAfter = null, requestId = "", fields = {} } = {}) {
    super(text);
    Object.assign(this, { more, status, retryAfter, requestId, fields });
  }
}

// A string, or a number: strings are matched so that digits inside them are left alone.
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const EXACT = "exact integer";

// JSON whose integers come out exactly: as numbers where those can hold them, else as BigInt.
//
// A /64 has 2^64 addresses, and a number holds integers up to 2^53. Such an integer is first written as an object, which
// no string in the text can pass for.
export function parse(text) {
  const marked = text.replace(TOKENS, (token) =>
    /^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token)) ? `{"${EXACT}":"${token}"}` : token,
  );
  return JSON.parse(marked, (_, value) =>
    value !== null && typeof value === "object" && Object.hasOwn(value, EXACT) ? BigInt(value[EXACT]) : value,
  );
}

// What a path of this service answers to a GET, parsed. `query`: parameters; those without a value are left out.
//
// Throws Problem; and AbortError when `signal` says that nobody waits any more. `accept`: statuses beside 200 whose
// answer is wanted too.
export async function read(path, { token = "", query = {}, signal = null, accept = [] } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null);
  const url = given.length ? `${path}?${new URLSearchParams(given)}` : path;
  const headers = { Accept: "application/json" };
  if (token) {
    if (!/^[\x21-\x7e]+$/.test(token)) {
      throw new Problem("That cannot be the token.", { more: "It has a character that no token has.", status: 401 });
    }
    headers.Authorization = `Bearer ${token}`;
  }
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), SECONDS_TO_WAIT * 1000);
  const giveUp = () => patience.abort();
  signal?.addEventListener("abort", giveUp);
  try {
    const answer = await fetch(url, { headers, signal: patience.signal, cache: "no-store", credentials: "omit" });
    const content = understood(await answer.text());
    if (answer.status === 200 || accept.includes(answer.status)) {
      if (content === null) {
        throw new Problem("The service answered something that is not JSON.", {
          more: "Does something else stand in front of it?",
        });
      }
      return content;
    }
    throw refusal(answer, content ?? {});
  } catch (error) {
    if (error instanceof Problem) throw error;
    if (signal?.aborted) throw new DOMException("nobody waits for this any more", "AbortError");
    if (patience.signal.aborted) {
      throw new Problem(`The service did not answer within ${SECONDS_TO_WAIT} seconds.`, { more: "Try again." });
    }
    throw new Problem("The service cannot be reached.", {
      more: "It may be down, or the network may be. What is shown is what was read last.",
    });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", giveUp);
  }
}

function understood(text) {
  try {
    const content = parse(text);
    return content !== null && typeof content === "object" ? content : null;
  } catch {
    return null;
  }
}

const IN_WORDS = {
  400: ["The service does not understand what is asked for.", null],
  401: ["The service refuses the token.", "It is not the one that this service was given. Enter it again."],
  404: ["There is nothing here.", null],
  429: ["The service was asked too often.", null],
  500: ["The service failed because of a bug.", "The log has more under the id of the request."],
  503: ["The service cannot answer now.", null],
};

function refusal(answer, content) {
  const [text, more] = IN_WORDS[answer.status] ?? [`The service answered with status ${answer.status}.`, null];
  const fields = content.errors ?? {};
  // What is said about the fields says it all.
  const message = typeof content.message === "string" && !Object.keys(fields).length ? content.message : "";
  const seconds = Number.parseInt(answer.headers.get("Retry-After") ?? "", 10);
  return new Problem(text, {
    more: more ?? sentence(message),
    status: answer.status,
    retryAfter: Number.isInteger(seconds) ? Math.max(1, seconds) : null,
    requestId: answer.headers.get("X-Request-ID") ?? "",
    fields,
  });
}

function sentence(text) {
  return text && `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}

// Whether a registration fits filters, as the path of many judges it; that of one address knows only the zone. Those about
// a service must all fit one and the same.
export function fits(one, { ip_family, service_name, cluster_id, namespace_id, expiring }) {
  const same = (given, value) => !given || given.toLowerCase() === value.toLowerCase();
  const service = (each) =>
    (!service_name || service_name === each.service_name) &&
    same(cluster_id, each.cluster_id) &&
    same(namespace_id, each.namespace_id);
  const expires = one.services.some((each) => each.expires_at !== null);
  return (
    (!ip_family || ip_family === one.ip_family) &&
    (!(service_name || cluster_id || namespace_id) || one.services.some(service)) &&
    (!expiring || expiring === String(expires))
  );
}
