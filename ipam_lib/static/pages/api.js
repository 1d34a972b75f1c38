// Requests to this service, and texts for their failures.

const SECONDS_TO_WAIT = 30;

// A failure: a sentence, and `more`, a second one with advice. `retryAfter`: seconds until the next try. `fields`: the
// problems by parameter.
export class Problem extends Error {
  constructor(text, { more = "", status = 0, retryAfter = null, requestId = "", fields = {} } = {}) {
    super(text);
    Object.assign(this, { more, status, retryAfter, requestId, fields });
  }
}

// A string or a number. Strings are matched so that digits inside them do not count as numbers.
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const EXACT = "exact integer";

// Parse JSON with exact integers: numbers up to 2^53, BigInt above.
//
// A /64 has 2^64 addresses. A large integer is first replaced by an object, which no string in the text can imitate.
export function parse(text) {
  const marked = text.replace(TOKENS, (token) =>
    /^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token)) ? `{"${EXACT}":"${token}"}` : token,
  );
  return JSON.parse(marked, (_, value) =>
    value !== null && typeof value === "object" && Object.hasOwn(value, EXACT) ? BigInt(value[EXACT]) : value,
  );
}

// GET a path of this service, and parse the answer. `query`: parameters; those without a value are left out. `accept`:
// statuses other than 200 whose body is returned too.
//
// Throws Problem, and AbortError after `signal`.
export async function read(path, { token = "", query = {}, signal = null, accept = [] } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null);
  const url = given.length ? `${path}?${new URLSearchParams(given)}` : path;
  const headers = { Accept: "application/json" };
  if (token) {
    if (!/^[\x21-\x7e]+$/.test(token)) {
      throw new Problem("This is not a valid token.", { more: "It has a character that tokens cannot have.", status: 401 });
    }
    headers.Authorization = `Bearer ${token}`;
  }
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), SECONDS_TO_WAIT * 1000);
  const giveUp = () => limit.abort();
  signal?.addEventListener("abort", giveUp);
  try {
    const answer = await fetch(url, { headers, signal: limit.signal, cache: "no-store", credentials: "omit" });
    const content = understood(await answer.text());
    if (answer.status === 200 || accept.includes(answer.status)) {
      if (content === null) {
        throw new Problem("The answer is not JSON.", {
          more: "Does a proxy in front of the service answer?",
        });
      }
      return content;
    }
    throw refusal(answer, content ?? {});
  } catch (error) {
    if (error instanceof Problem) throw error;
    if (signal?.aborted) throw new DOMException("the request was replaced by another one", "AbortError");
    if (limit.signal.aborted) {
      throw new Problem(`The service did not answer within ${SECONDS_TO_WAIT} seconds.`, { more: "Try again." });
    }
    throw new Problem("The service cannot be reached.", {
      more: "The service or the network may be down. The page shows the data that it read last.",
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
  400: ["The request is not valid.", null],
  401: ["The service rejects the token.", "It is not the token of this service. Enter it again."],
  404: ["Not found.", null],
  429: ["Too many requests.", null],
  500: ["The request failed because of a bug.", "The log has the details under the request id."],
  503: ["The service is unavailable.", null],
};

function refusal(answer, content) {
  const [text, more] = IN_WORDS[answer.status] ?? [`The service answered with status ${answer.status}.`, null];
  const fields = content.errors ?? {};
  // The problems of the fields repeat the message.
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

// Whether a registration matches the filters, by the rules of /v2/addresses: the path of one address filters by zone only.
// All filters of services must match the same service.
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
