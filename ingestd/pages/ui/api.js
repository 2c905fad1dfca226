// The daemon's API as pages use it: where it is, who is signed in, what went wrong in words.

/** Where the daemon is: pages may be below a prefix of a proxy's. */
export const base = new URL("../", import.meta.url);

/** @typedef {{ version: string, publish: string, tokens: boolean, signed_in: boolean, playback: "open" | "signed" | "ask" }} About */
/** @typedef {{ name: string, scopes: string[], via: string, expires: string | null, csrf: string | null }} Who */
/** @typedef {{ state: string, since: string, attempts: number, restarts: number, last_error: string | null, fps?: number | null, speed?: number | null }} Health */
/** @typedef {Health & { behind: number, frames: number, dropped: number }} Encoder */
/** @typedef {Health & { name: string, type: string, sent_frames: number, sent_bytes: number, dropped_frames: number, behind_frames: number, last_segment?: string | null, file?: string | null }} Sink */
/** @typedef {{ kind: "video" | "audio", codec: string, width: number | null, height: number | null }} Track */
/** @typedef {{ at: number, began: string, seconds: number, reason: string, chunks: number | null }} Gap */
/**
 * @typedef {object} Stream
 * @property {string} name
 * @property {string} title
 * @property {boolean} enabled
 * @property {boolean} declared
 * @property {"idle" | "connecting" | "live" | "interrupted" | "ended" | "failed"} state
 * @property {string | null} since
 * @property {string} created
 * @property {string} pipeline
 * @property {{ remote: string, client: string | null, mime: string | null, bitrate: number | null } | null} publisher
 * @property {number} viewers
 * @property {number} bytes
 * @property {Encoder | null} encoder
 * @property {Sink[]} sinks
 * @property {{ provider: string, policy: string, url: string | null }[]} playback
 * @property {string} [session]
 * @property {string} [started]
 * @property {string | null} [cause]
 * @property {number} [cuts]
 * @property {number} [gap_count]
 * @property {Gap[]} [gaps]
 * @property {{ tracks: Track[], frames: number, video_frames?: number } | null} [source]
 */
/** @typedef {Stream & { key: string, ingest_url: string }} CreatedStream */
/** @typedef {{ number: number, at: string, type: string, stream: string, data: Record<string, any> }} Happening */
/** @typedef {{ stream: string, title: string, state: string, watch: string, hls: string | null, page: string, viewers: number, poster: string | null, live_since: number | null }} Playback */
/** @typedef {{ id: string, stream: string, session: string | null, file: string, size: number, changed: string, finished: boolean }} Recording */

/** What the API refused; `message` is its own word for why. Status 0: there was no answer. */
export class Problem extends Error {
  /** @param {number} status @param {string} detail @param {{ field: string, expected: string }[]} errors */
  constructor(status, detail, errors = []) {
    super(detail);
    this.status = status;
    this.errors = errors;
  }
}

const RETRY = 3000;
/** How far this device's clock is behind the daemon's, in milliseconds: either may be wrong by hours. */
let skew = 0;
export const daemonNow = () => Date.now() + skew;
/** @type {string | null} */
let csrf = null;
/** Ended when this page is on its way to the sign-in: what it asks for then is no longer of use. */
const stay = new AbortController();
addEventListener("pageshow", (event) => {
  // Who goes back to it gets it as it was left, and it would ask for nothing.
  if (event.persisted && stay.signal.aborted) location.reload();
});

/**
 * The answer to a request, as JSON; a `Problem` is thrown for any other than 2xx.
 * @param {string} method
 * @param {string} path without a slash before it
 * @param {{ body?: unknown, headers?: Record<string, string>, login?: boolean }} more *login*: whoever is not
 *   signed in is led there, and no request of a page that is being left for it is ever settled
 * @returns {Promise<any>}
 */
export async function call(method, path, { body, headers = {}, login = true } = {}) {
  const signal = login ? stay.signal : null;
  if (signal?.aborted) return new Promise(() => {});
  const sent = { ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  if (method !== "GET" && csrf !== null) sent["X-CSRF-Token"] = csrf;
  let answer;
  let text;
  try {
    answer = await fetch(new URL(path, base), {
      method, headers: sent, signal, cache: "no-store", body: body === undefined ? undefined : JSON.stringify(body),
    });
    text = await answer.text();
  } catch {
    if (signal?.aborted) return new Promise(() => {});
    throw new Problem(0, "The daemon does not answer.");
  }
  const date = Date.parse(answer.headers.get("Date") ?? "");
  // It tells whole seconds, and took its time to come here.
  skew = Math.abs(date - Date.now()) > 5000 ? date - Date.now() : 0;
  if (answer.status === 401 && login) {
    toLogin();
    return new Promise(() => {});
  }
  if (answer.status === 403 && text.includes("X-CSRF-Token")) {
    // Somebody has signed in anew, in another tab.
    const before = csrf;
    await who();
    if (csrf !== before) return call(method, path, { body, headers, login });
  }
  let told = null;
  try {
    told = text ? JSON.parse(text) : null;
  } catch {
    throw new Problem(answer.status, "What answered is not the daemon: look at the proxy between.");
  }
  if (!answer.ok) throw new Problem(answer.status, told?.detail ?? answer.statusText, told?.errors);
  return told;
}

/**
 * What *act* gives as soon as the daemon answers it; *trouble* hears why it has not.
 * @template Given
 * @param {() => Promise<Given>} act
 * @param {(problem: Problem) => void} trouble
 * @returns {Promise<Given>}
 */
export async function insist(act, trouble) {
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      trouble(error);
    }
    await new Promise((done) => { setTimeout(done, RETRY); });
  }
}

/** @returns {Promise<About>} */
export const about = () => call("GET", "v1/about");

/** Who is signed in; it also gets what later requests have to show. @returns {Promise<Who>} */
export async function who() {
  const found = await call("GET", "v1/session");
  csrf = found.csrf;
  return found;
}

/** @param {string} token @returns {Promise<Who>} */
export async function signIn(token) {
  const found = await call("POST", "v1/session", { body: { token }, login: false });
  csrf = found.csrf;
  return found;
}

/** Sign out, and go where one signs in. What the page still asks for would be refused: it asks no more. */
export async function signOut() {
  stay.abort();
  await call("DELETE", "v1/session", { login: false }).catch(() => {});
  location.assign(new URL("login", base));
}

/** Go and sign in, and come back here. What is behind a `#` is never sent to a server. */
export function toLogin() {
  if (stay.signal.aborted) return;
  stay.abort();
  const here = location.href.slice(location.origin.length);
  location.assign(new URL(`login#next=${encodeURIComponent(here)}`, base));
}

/**
 * Where to go after the sign-in: a page of this daemon, whatever an address says.
 * @param {string} fragment
 */
export function afterLogin(fragment) {
  const next = new URLSearchParams(fragment.replace(/^#/, "")).get("next") ?? "";
  try {
    const wanted = new URL(next, base);
    if (wanted.origin === base.origin && wanted.pathname.startsWith(base.pathname)) return wanted;
  } catch { /* no address at all */ }
  return base;
}

const TYPES = [
  ...["created", "updated", "deleted", "connecting", "live", "interrupted", "resumed", "ended", "failed"].map((what) => `stream.${what}`),
  ...["sink", "encoder"].flatMap((noun) =>
    ["starting", "running", "backing_off", "recovered", "failed", "stopped"].map((what) => `${noun}.${what}`)),
  "recording.ready", "recording.removed",
];

/** A page that nobody sees for so long lets go of its connection: browsers allow six a host, for all tabs. */
const UNSEEN = 10_000;

/**
 * Follow what happens, until the page is left: the last *last* events, then each as it comes. While nobody
 * sees the page it may be let go of; what was missed comes when it is looked at again.
 * @param {number} last
 * @param {(event: Happening) => void} happened
 * @param {(state: "open" | "lost" | "reset") => void} stands *reset*: events were lost, look at everything again
 */
export function follow(last, happened, stands) {
  /** @type {EventSource | undefined} */
  let source;
  let place = "";
  /** @type {number | undefined} */
  let timer;
  /** @type {number | undefined} */
  let unseen;
  const begin = () => {
    clearTimeout(timer);
    source?.close();
    source = new EventSource(new URL(`v1/events?${place ? `after=${place}` : `last=${last}`}`, base));
    source.onopen = () => stands("open");
    source.onerror = () => {
      stands("lost");
      // A browser comes again by itself after a lost connection, but not after a refusal.
      if (source?.readyState === EventSource.CLOSED) timer = setTimeout(again, RETRY);
    };
    source.addEventListener("reset", (event) => { place = event.lastEventId; stands("reset"); });
    for (const type of TYPES) {
      source.addEventListener(type, (event) => {
        place = event.lastEventId;
        happened(JSON.parse(event.data));
      });
    }
  };
  const again = async () => {
    try {
      await who();
    } catch { /* it is not there yet, or leads to the sign-in */ }
    begin();
  };
  const leave = () => { clearTimeout(timer); source?.close(); };
  begin();
  const seen = () => {
    clearTimeout(unseen);
    if (document.hidden) unseen = setTimeout(leave, UNSEEN);
    else if (source?.readyState === EventSource.CLOSED) begin();
  };
  document.addEventListener("visibilitychange", seen, { signal: stay.signal });
  stay.signal.addEventListener("abort", () => { clearTimeout(unseen); leave(); });
}
