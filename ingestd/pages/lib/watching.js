/** The connection of a viewer: made, and made again. */

import { problem } from "./advice.js";
import { Backoff } from "./backoff.js";
import { Link, nameOf } from "./link.js";

/** @typedef {import("./advice.js").Problem} Problem */

/**
 * @typedef {object} WatchingHost
 * @property {(message: {type: string} & Record<string, any>) => void} told
 * @property {(data: ArrayBuffer) => void} given
 * @property {(lost: Problem, wait: number) => void} lost and tried again after so many ms
 * @property {(why: Problem) => void} failed for good
 */

/** @type {Record<number, [then: "again" | "stop", code: string]>} */
const ENDINGS = {
  1001: ["again", "server_stopping"],
  1003: ["stop", "protocol"],
  1009: ["stop", "protocol"],
  1011: ["again", "server_fault"],
  1012: ["again", "server_stopping"],
  1013: ["again", "too_many_viewers"],
  4401: ["stop", "may_not_watch"],
  4404: ["stop", "no_such_stream"],
  4415: ["stop", "unplayable"],
  4423: ["stop", "disabled"],
  4429: ["again", "too_many_tokens"],
};

/** How long to wait at least after a code that says: later. */
const LATER_MS = new Map([[1013, 4000], [4429, 60_000]]);
/** A connection that did not last so long is not made again at once. */
const STEADY_MS = 5000;

export class Watching {
  reconnects = -1;
  #url;
  #host;
  #backoff = new Backoff();
  /** @type {Link | null} */
  #link = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #waiting = false;
  #opened = false;
  #heard = false;
  #heeded = -Infinity;

  /** @param {string} url @param {WatchingHost} host */
  constructor(url, host) {
    this.#url = url;
    this.#host = host;
    globalThis.addEventListener("online", this.#hurry);
  }

  connect() {
    this.#waiting = false;
    this.#heard = false;
    clearTimeout(this.#timer);
    try {
      this.#link = new Link(this.#url, ["ingestd.watch.v1"], {
        opened: () => {
          this.#opened = true;
          this.reconnects += 1;
        },
        told: message => {
          this.#heed();
          this.#host.told(message);
        },
        given: data => this.#host.given(data),
        closed: (code, reason) => this.#lost(code, reason),
      });
    } catch (error) {
      this.close();
      this.#host.failed(problem("bad_address", nameOf(error)));
    }
  }

  /**
   * Connect again, because nothing good comes any more.
   * @param {string} reason
   */
  renew(reason) {
    this.#link?.giveUp(reason);
  }

  /** ms since anything came; 0 without a connection. */
  get silence() {
    return this.#link ? performance.now() - this.#link.heard : 0;
  }

  close() {
    clearTimeout(this.#timer);
    globalThis.removeEventListener("online", this.#hurry);
    this.#link?.close(1000);
    this.#link = null;
    this.#waiting = false;
  }

  #hurry = () => {
    if (this.#waiting) this.connect();
  };

  #heed() {
    if (this.#heard) return;
    this.#heard = true;
    const now = performance.now();
    this.#backoff.reset(now - this.#heeded > STEADY_MS);
    this.#heeded = now;
  }

  /** @param {number} close @param {string} reason */
  #lost(close, reason) {
    this.#link = null;
    const [then, code] = ENDINGS[close] ?? [close < 4000 ? "again" : "stop", this.#common(close)];
    const why = problem(code, reason, { close });
    if (then === "stop") {
      this.close();
      return this.#host.failed(why);
    }
    const wait = this.#backoff.next(LATER_MS.get(close));
    this.#waiting = true;
    this.#timer = setTimeout(() => this.connect(), wait);
    this.#host.lost(why, wait);
  }

  /** @param {number} close */
  #common(close) {
    return close >= 4000 ? "refused" : this.#opened ? "connection_lost" : "unreachable";
  }
}

/** @param {string} url @param {string | undefined} token */
export function withToken(url, token) {
  if (typeof url !== "string") throw new TypeError(`url: expected an address as text, got ${url}`);
  if (!token || /[?&]token=/.test(url)) return url;
  return `${url}${url.includes("?") ? "&" : "?"}token=${encodeURIComponent(token)}`;
}
