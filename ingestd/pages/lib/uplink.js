/**
 * The way of the chunks to the server: connects, resumes, sends, and connects again ("How to resume" in
 * docs/protocol.md).
 */

import { problem } from "./advice.js";
import { Backoff } from "./backoff.js";
import { Link, nameOf } from "./link.js";
import { chunkMessage, ending, pieces, SUBPROTOCOL } from "./protocol.js";

/** @typedef {import("./advice.js").Problem} Problem */
/** @typedef {import("./outbox.js").Source} Source */
/** @typedef {import("./protocol.js").Hello} Hello */

/**
 * @typedef {object} UplinkOptions
 * @property {string} url
 * @property {string} [key]
 * @property {string} [name]
 * @property {boolean} [remember] keep session and token in sessionStorage
 */

/**
 * @typedef {object} UplinkHost
 * @property {(hello: Hello) => void} connected what is kept, and what comes now, is sent
 * @property {(number: number) => void} begin a new recorder is needed, of this number or greater; what the
 *   last one still has is of no use
 * @property {(at: number | null) => void} acknowledged a chunk was, that was given at this time
 * @property {(message: {type: string} & Record<string, any>) => void} told any other message
 * @property {(lost: Problem, wait: number) => void} lost and tried again after so many ms
 * @property {(why: Problem) => void} failed for good
 * @property {(why: Problem | null) => void} ended by the server, or as asked for (null)
 */

const HELLO_MS = 30_000;
/** For how long after its last connection a publisher may find its own place taken. */
const OWN_PLACE_MS = 60_000;
/** Without pings of the server's a connection is given up after so long. */
const SILENCE_MS = 20_000;
/** The longest gap that the server takes. */
const MOST_MISSING_S = 86_400;
const LATER_MS = 5000;
const SOON_MS = 1000;

/** What this page has left last, and when: the server may still be finishing it. */
let left = { place: "", at: -Infinity };

export class Uplink {
  /** Past hello. */
  ready = false;
  /** How often a connection was made again. */
  reconnects = 0;
  /** Bytes of media sent, over all connections. */
  sentBytes = 0;
  /** @type {Hello | null} */
  hello = null;
  #outbox;
  #options;
  #host;
  #backoff = new Backoff();
  /** @type {Link | null} */
  #link = null;
  /** @type {import("./protocol.js").Resume | null} */
  #resume;
  #ending = false;
  #closed = false;
  #pressed = false;
  /** Whether something was acknowledged since the last hello. */
  #heeded = true;
  #since = 0;
  /** @type {number | null} the recorder that was announced on this connection */
  #announced = null;
  /** The number that is due on this connection. */
  #due = 0;
  /** The last recorder's number that this publisher has used. */
  #greatest = -1;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #waiting = false;

  /** @param {import("./outbox.js").Outbox} outbox @param {UplinkOptions} options @param {UplinkHost} host */
  constructor(outbox, options, host) {
    this.#outbox = outbox;
    this.#options = options;
    this.#host = host;
    this.#resume = options.remember ? recall(options.url) : null;
    globalThis.addEventListener("online", this.#hurry);
  }

  /** Bytes that the socket has not sent. */
  get buffered() {
    return this.#link?.buffered ?? 0;
  }

  /** What has not left this page: chunks, bytes, and since when (ms). */
  get waiting() {
    return this.#outbox.waiting(this.ready && this.#link ? this.#link.left : -1);
  }

  connect() {
    this.#waiting = false;
    clearTimeout(this.#timer);
    try {
      this.#link = new Link(this.#options.url, [SUBPROTOCOL], {
        opened: () => this.#open(),
        told: message => this.#told(message),
        closed: (code, reason) => this.#lost(code, reason),
      });
    } catch (error) {
      this.#fail(problem("bad_address", nameOf(error)));
    }
  }

  /**
   * Keep what a recorder gave, and send it as soon as may be.
   * @param {Source} source
   * @param {Uint8Array} data
   */
  give(source, data) {
    if (this.#ending || this.#closed) return;
    const largest = this.hello?.limits?.max_message ?? 2 ** 20;
    for (const piece of pieces(data, largest)) this.#outbox.add(source, piece, performance.now());
    this.#greatest = Math.max(this.#greatest, source.number);
    if (this.ready) this.#flush();
  }

  /** All is given: send it, and end the session. */
  end() {
    this.#ending = true;
    if (this.ready) this.say({ type: "end" });
  }

  /** @param {object} message */
  say(message) {
    if (this.ready) this.#link?.say(message);
  }

  /** Give it all up. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.ready = false;
    if (this.hello) left = { place: this.#place, at: performance.now() };
    clearTimeout(this.#timer);
    globalThis.removeEventListener("online", this.#hurry);
    this.#link?.close(1000);
  }

  /** Look whether the connection is alive. */
  look() {
    const [oldest] = this.#outbox.kept;
    if (!this.ready || !this.#link || this.#pressed || !oldest || oldest.end === Infinity) return;
    const { ping_interval = 0, ping_timeout = 0 } = this.hello?.limits ?? {};
    const patience = ping_interval ? (ping_interval + ping_timeout) * 1000 : SILENCE_MS;
    const silent = performance.now() - Math.max(oldest.at, this.#since, this.#link.heard);
    if (silent > patience) this.#link.giveUp("nothing came back for too long");
  }

  #hurry = () => {
    if (this.#waiting) this.connect();
  };

  #open() {
    const { key, name } = this.#options;
    this.#link?.say({ type: "open", key, client: name, resume: this.#resume ?? undefined });
    this.#timer = setTimeout(() => this.#link?.giveUp("no answer came"), HELLO_MS);
  }

  /** @param {{type: string} & Record<string, any>} message */
  #told(message) {
    if (message.type === "hello") return this.#greet(/** @type {any} */ (message));
    if (message.type === "ack") {
      this.#heeded = true;
      return this.#host.acknowledged(this.#outbox.acknowledge(message.next));
    }
    if (message.type === "pressure") this.#pressed = message.active === true;
    this.#host.told(message);
  }

  /** @param {Hello} hello */
  #greet(hello) {
    clearTimeout(this.#timer);
    const outbox = this.#outbox;
    const same = this.hello !== null && hello.session === this.#resume?.session;
    const token = hello.token ?? this.#resume?.token;
    this.#resume = token ? { session: hello.session, token } : null;
    this.#save();
    if (this.hello) this.reconnects += 1;
    this.hello = hello;
    this.#backoff.reset(this.#heeded);
    this.#heeded = false;
    this.#pressed = false;
    this.#announced = null;
    this.#due = hello.next;
    this.#since = performance.now();
    this.ready = true;
    const due = outbox.due;
    let whole = same ? outbox.resume(hello.next) : "ahead";
    if ((hello.recorder ?? -1) > this.#greatest) whole = "ahead";
    this.#host.connected(hello);
    if (whole === "missing" && due !== null) {
      outbox.begin(due);
      this.#skip({ to: due, reason: "what was kept was not enough" });
      this.#host.begin(this.#greatest + 1);
    } else if (whole === "ahead") {
      outbox.begin(hello.next);
      this.#greatest = hello.recorder ?? -1;
      this.#host.begin(this.#greatest + 1);
    }
    this.#flush();
    if (this.#ending) this.say({ type: "end" });
  }

  #flush() {
    const link = /** @type {Link} */ (this.#link);
    for (const chunk of this.#outbox.kept) {
      if (chunk.end < Infinity) continue;
      if (chunk.number !== this.#due) {
        const seconds = Math.min(Math.round(chunk.missing * 1000) / 1000, MOST_MISSING_S);
        this.#skip({ to: chunk.number, reason: "nothing was recorded while too much waited", seconds });
      }
      const { number, mime, follows } = chunk.source;
      if (number !== this.#announced) link.say({ type: "recorder", number, mime, follows });
      this.#announced = number;
      link.give(chunkMessage(chunk.number, number, chunk.data));
      this.#due = chunk.number + 1;
      chunk.end = link.sent;
      this.sentBytes += chunk.data.byteLength;
    }
  }

  /** @param {{to: number, reason: string, seconds?: number}} what */
  #skip(what) {
    this.say({ type: "skip", ...what });
    this.#due = what.to;
  }

  /** @param {number} close @param {string} reason */
  #lost(close, reason) {
    clearTimeout(this.#timer);
    this.#link = null;
    const was = this.ready;
    this.ready = false;
    const last = this.hello ? this.#since : left.place === this.#place ? left.at : -Infinity;
    const ours = performance.now() - last < OWN_PLACE_MS;
    if (was) this.#since = performance.now();
    let { then, code } = ending(close);
    if (this.#ending && (close === 1000 || then === "anew")) return this.#end(null);
    if (close === 1006 && !was && !this.hello) code = "unreachable";
    // Its own last connection, or session, may still be there.
    if (close === 4409 && (ours || this.#resume)) then = "later";
    const why = problem(code, reason, { close });
    if (close === 1000) return this.#end(why);
    if (then === "stop") return this.#fail(why);
    if (then === "anew") {
      // It has answered: the next attempt is another one, and what happens until then is lost.
      if (this.#resume && close !== 4500) this.#backoff.reset();
      this.#resume = null;
      this.#save();
    }
    const least = then === "later" ? (close === 4429 ? LATER_MS : SOON_MS) : close === 4500 ? SOON_MS : 0;
    const wait = this.#backoff.next(least);
    this.#waiting = true;
    this.#timer = setTimeout(() => this.connect(), wait);
    this.#host.lost(why, wait);
  }

  get #place() {
    return `${this.#options.url} ${this.#options.key}`;
  }

  /** @param {Problem | null} why */
  #end(why) {
    this.#forget();
    this.#host.ended(why);
  }

  /** @param {Problem} why */
  #fail(why) {
    this.#forget();
    if (left.place === this.#place) left.at = -Infinity;
    this.#host.failed(why);
  }

  #forget() {
    this.#resume = null;
    this.#save();
    this.close();
  }

  #save() {
    if (this.#options.remember) remember(this.#options.url, this.#resume);
  }
}

/**
 * Where a URL's session is kept. The URL may have the key in it, so it is not itself the name (FNV-1a).
 * @param {string} url
 */
function placeOf(url) {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(url)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return `ingestd.resume:${hash.toString(16)}`;
}

/** @param {string} url @returns {import("./protocol.js").Resume | null} */
function recall(url) {
  try {
    return JSON.parse(sessionStorage.getItem(placeOf(url)) ?? "null");
  } catch {
    return null; // a page without storage, or somebody else's words
  }
}

/** @param {string} url @param {import("./protocol.js").Resume | null} resume */
function remember(url, resume) {
  try {
    if (resume) sessionStorage.setItem(placeOf(url), JSON.stringify(resume));
    else sessionStorage.removeItem(placeOf(url));
  } catch {
    // a page without storage: a reload begins anew
  }
}
