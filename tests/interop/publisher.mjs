/**
 * A publisher that speaks `ingestd.v1`, written from docs/protocol.md alone.
 *
 * It keeps the chunks that are not acknowledged, and after a break goes on with the first that the server does
 * not have. The numbered steps in the comments are those of "How to resume" there.
 */

import { EventEmitter, once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

import { Scanner } from "./webm.mjs";
import { RefusedError, connect } from "./websocket.mjs";

export const PROTOCOL = "ingestd.v1";
const HEADER = 12;
/** The pauses before each attempt to connect, in seconds; the last one is repeated. */
const PAUSES = [0, 1, 2, 4, 8];
/** Bytes that may wait in the socket; what is beyond stays here, where it can still be dropped. */
const SOCKET_BUFFER = 1 << 20;
/** How long `hello` may take, in ms; the specification has no number for it. */
const HELLO_TIMEOUT = 30000;

/** What to do about a close code. @type {Record<number, "stop" | "resume" | "anew" | "later">} */
const CODES = {
  1000: "stop",
  1001: "resume",
  1002: "stop",
  1006: "resume",
  1007: "stop",
  1009: "stop",
  1011: "resume",
  4400: "stop",
  4401: "stop",
  4403: "anew",
  4404: "anew",
  4408: "resume",
  4409: "stop",
  4410: "resume",
  4412: "stop",
  4415: "stop",
  4429: "later",
  4500: "anew",
};

/** Answers before the upgrade that may be different the next time. */
const PASSING = new Set([408, 503]);

/**
 * @typedef {import("./websocket.mjs").Closed} Closed
 * @typedef {{number: number, recorder: Recorder, first: boolean, start: number, data: Buffer, sentAt: number,
 *   sentOn: number}} Chunk
 *   `first`: of its recorder; `start`: where in the recorder's bytes it begins; `sentAt`: ms; `sentOn`: the
 *   connection, 0: none
 * @typedef {{session: string, token: string}} Resume
 * @typedef {object} Hello
 * @property {string} stream
 * @property {string} session
 * @property {string | null} token
 * @property {number} next
 * @property {number | null} recorder
 * @property {boolean} resumed
 * @property {{max_message: number, max_text: number, window: number, ack: string,
 *   ping_interval: number, ping_timeout: number}} limits
 * @typedef {object} Options
 * @property {string} url
 * @property {string} [key] the stream key, unless the URL has it
 * @property {string} [name] `open.client`
 * @property {Resume} [resume] take this session up
 * @property {number} [bound] bytes that are kept at most
 * @property {number} [patience] seconds without a `hello` after which it gives up
 * @property {number} [fragment] send messages as frames of at most so many bytes
 * @property {number} [statsEvery] seconds; 0: never
 * @property {Cut[]} [cuts] where it breaks its own connection, each once
 * @property {boolean} [reset] break it by a TCP RST
 * @property {(event: string, fields?: object) => void} report is told all that happens
 * @typedef {{at: number | "open" | "hello" | "end", part?: number}} Cut
 *   `at`: in the chunk of that number, after so much of it; or after `open`, at `hello` (the `part`-th connection) or
 *   after `end`
 */

/** One container: its bytes go out in chunks, under one number. */
export class Recorder {
  scanner = new Scanner();
  length = 0;
  chunks = 0;
  /** The chunk that completed its headers; Infinity while they are not complete. */
  headerIn = Infinity;

  /** @param {number} number @param {string} [mime] */
  constructor(number, mime) {
    this.number = number;
    this.mime = mime;
  }
}

/**
 * Emits `anew` when a new recorder must begin (step 7 or 8; the first time, too) and `room` when less is kept.
 */
export class Publisher extends EventEmitter {
  /** The number of the next chunk. */ due = 0;
  /** @type {Hello | null} the newest */ hello = null;
  /** Chunks that were dropped, or belonged to a session that is over. */ dropped = 0;
  /** Chunks in this number range are dropped before they are sent, as if the bound was reached. */
  drop = { from: Infinity, to: -1 };
  /** @type {Chunk[]} ascending numbers, without gaps but where something was dropped */ #kept = [];
  #keptBytes = 0;
  /** @type {Recorder | null} */ #recorder = null;
  #ended = false;
  #endSent = false;
  /** @type {import("./websocket.mjs").WebSocket | null} */ #socket = null;
  /** @type {"opening" | "waiting" | "publishing" | "finishing" | "closed"} */ #state = "closed";
  /** Counts the connections. */ #connection = 0;
  /** On this connection: the number that the server waits for. */ #expected = 0;
  /** @type {Recorder | null} and the recorder that it was told of */ #announced = null;
  /** When the last message came, in ms. */ #heard = 0;
  #pressure = false;
  /** The newest `end` notice of this connection. @type {Closed | null} */ #notice = null;
  /** @type {Resume | null} */ #resume;
  #options;

  /** @param {Options} options */
  constructor(options) {
    super();
    this.#options = { bound: 32 << 20, patience: 60, fragment: 0, statsEvery: 2, reset: false, ...options };
    this.#resume = options.resume ?? null;
    this.cuts = [...(options.cuts ?? [])];
  }

  get kept() {
    return this.#kept.length;
  }

  /** Whether `end` was sent. */
  get finished() {
    return this.#endSent;
  }

  get keptBytes() {
    return this.#keptBytes;
  }

  /** Begin a recorder, with a greater number than any before. @param {string} [mime] */
  begin(mime) {
    this.#recorder = new Recorder(this.#lastRecorder() + 1, mime);
    return this.#recorder;
  }

  /** Step 1: *recorder* gives bytes. Those of one that is not the newest are dropped. @param {Recorder} recorder @param {Buffer} data */
  give(recorder, data) {
    if (recorder !== this.#recorder || !this.hello) return;
    const most = this.hello.limits.max_message - HEADER;
    for (let at = 0; at === 0 || at < data.length; at += most) this.#keep(recorder, data.subarray(at, at + most));
    this.#pump();
  }

  /** Step 9: nothing will follow. */
  end() {
    this.#ended = true;
    this.#pump();
  }

  /**
   * Connect, and again, until it is over.
   * @returns {Promise<Closed & {what: "stop" | "over" | "refused" | "gave up"}>}
   */
  async run() {
    let failures = 0;
    let heard = Date.now();
    for (;;) {
      const pause = PAUSES[Math.min(failures, PAUSES.length - 1)] * (0.75 + Math.random() / 2);
      if (pause) await sleep(pause * 1000);
      failures += 1;
      const before = this.hello;
      const closed = await this.#once();
      if (this.hello !== before) {
        failures = 0;
        heard = Date.now();
      }
      if ("status" in closed) {
        if (closed.status && !PASSING.has(closed.status)) {
          return { what: "refused", code: closed.status, reason: closed.reason };
        }
      } else {
        const todo = CODES[closed.code] ?? (closed.code < 4000 ? "resume" : "stop");
        if (todo === "stop") return { what: "stop", ...closed };
        if (todo === "anew") {
          // Step 9: with nothing more to send, the server has had it.
          if (closed.code === 4404 && this.#ended && !this.#kept.length) return { what: "over", ...closed };
          this.#resume = null;
        }
        // "After a while", "later".
        if (closed.code === 4500 || todo === "later") failures = Math.max(failures, 1);
      }
      if (Date.now() - heard > this.#options.patience * 1000) return { what: "gave up", code: 1006, reason: "" };
    }
  }

  /** One connection, from the upgrade to its end. @returns {Promise<Closed | RefusedError>} */
  async #once() {
    const { url, report } = this.#options;
    this.#connection += 1;
    this.#announced = null;
    this.#notice = null;
    this.#pressure = false;
    let socket;
    try {
      socket = await connect(url, PROTOCOL);
    } catch (error) {
      const refused = error instanceof RefusedError;
      report("refused", refused ? { status: error.status, reason: error.reason } : { error: String(error) });
      return refused ? error : { code: 1006, reason: "" };
    }
    report("connected");
    this.#socket = socket;
    this.#state = "opening";
    this.#heard = Date.now();
    socket.on("message", (message) => this.#received(message));
    socket.on("drain", () => this.#pump());
    const watch = setInterval(() => this.#watch(), 250);
    const every = this.#options.statsEvery;
    const stats = every ? setInterval(() => this.#stats(), every * 1000) : undefined;
    this.#open();
    /** @type {Closed} */
    const [end] = await once(socket, "close");
    clearInterval(watch);
    clearInterval(stats);
    this.#socket = null;
    this.#state = "closed";
    // The notice has the whole reason; and the close frame may be lost.
    const notice = /** @type {Closed | null} */ (this.#notice);
    const closed = notice && [notice.code, 1006].includes(end.code) ? notice : end;
    report("close", closed);
    return closed;
  }

  #open() {
    const { key, name: client } = this.#options;
    this.#say({ type: "open", key, client, resume: this.#resume ?? undefined });
    this.#state = "waiting";
    this.#cut("open", this.#connection);
  }

  /** @param {Buffer | string} message */
  #received(message) {
    if (this.#state === "closed") return; // late, on a connection that was given up
    this.#heard = Date.now();
    if (typeof message !== "string") return; // binary messages go the other way only
    const notice = JSON.parse(message);
    if (notice.type === "hello" && this.#state === "waiting") this.#greeted(notice);
    else if (notice.type === "ack") {
      this.#options.report("ack", { next: notice.next });
      this.#acknowledged(notice.next);
    } else if (["pressure", "state", "warning", "drain", "end"].includes(notice.type)) {
      this.#options.report("notice", { notice });
      if (notice.type === "pressure") this.#pressure = notice.active ?? this.#pressure;
      if (notice.type === "end") this.#notice = { code: notice.code, reason: notice.reason };
    }
    // Any other type is of a later version, and ignored.
  }

  /** @param {Hello} hello */
  #greeted(hello) {
    // A session that this client resumes counts as its own; it has begun no recorder in it yet, though.
    const mine = this.hello?.session === hello.session && this.#recorder !== null && this.#resume !== null;
    this.hello = hello;
    this.#resume = hello.token === null ? null : { session: hello.session, token: hello.token };
    this.#options.report("hello", { hello });
    if (this.#cut("hello", this.#connection)) return;
    this.#state = "publishing";
    this.#expected = hello.next;
    const others = mine && (hello.next > this.due || (hello.recorder ?? -1) > this.#lastNumber());
    if (!mine || others) {
      // Steps 7 and 8.
      this.#forget(this.#kept.length, true);
      this.due = hello.next;
      this.#recorder = null;
      this.#ended = this.#endSent = false;
      this.emit("anew");
    } else {
      this.#acknowledged(hello.next); // step 5
      this.#fit(hello.limits.max_message - HEADER);
    }
    this.#pump();
  }

  /** Step 2. @param {number} next */
  #acknowledged(next) {
    const left = this.#kept.findIndex(({ number }) => number >= next);
    this.#forget(left < 0 ? this.#kept.length : left);
    this.emit("room");
  }

  /** @param {Recorder} recorder @param {Buffer} data */
  #keep(recorder, data) {
    const first = recorder.chunks === 0;
    const chunk = { number: this.due, recorder, first, start: recorder.length, data, sentAt: 0, sentOn: 0 };
    this.due += 1;
    recorder.chunks += 1;
    recorder.length += data.length;
    recorder.scanner.push(data);
    if (recorder.scanner.header && recorder.headerIn === Infinity) recorder.headerIn = chunk.number;
    if (chunk.number >= this.drop.from && chunk.number <= this.drop.to) {
      this.dropped += 1;
      return;
    }
    this.#kept.push(chunk);
    this.#keptBytes += data.length;
    // Step 3; what is missing then is seen when the next one is to be sent.
    while (this.#keptBytes > this.#options.bound && this.#kept.length > 1) this.#forget(1, true);
  }

  /** @param {number} count of the oldest chunks @param {boolean} [lost] */
  #forget(count, lost = false) {
    for (const chunk of this.#kept.splice(0, count)) {
      this.#keptBytes -= chunk.data.length;
      if (lost && chunk.sentOn !== this.#connection) this.dropped += 1;
    }
  }

  /** @param {number} from index of a chunk that is kept and not sent @param {number} count */
  #drop(from, count) {
    for (const { data } of this.#kept.splice(from, count)) {
      this.#keptBytes -= data.length;
      this.dropped += 1;
    }
  }

  /** Index of the first chunk that is not sent on this connection; past the end if there is none. */
  #unsent() {
    const index = this.#kept.findIndex(({ sentOn }) => sentOn !== this.#connection);
    return index < 0 ? this.#kept.length : index;
  }

  /** A server with a smaller `max_message` than before: cut what it does not have anew. @param {number} most */
  #fit(most) {
    if (this.#kept.every(({ data }) => data.length <= most)) return;
    const old = this.#kept;
    this.#kept = [];
    let shift = 0;
    for (const chunk of old) {
      for (let at = 0; at === 0 || at < chunk.data.length; at += most, shift += 1) {
        const { number, start, data } = chunk;
        this.#kept.push({
          ...chunk,
          number: number + shift,
          first: chunk.first && at === 0,
          start: start + at,
          data: data.subarray(at, at + most),
        });
      }
      shift -= 1;
      if (chunk.recorder.headerIn === chunk.number) chunk.recorder.headerIn += shift;
    }
    this.due += shift;
  }

  /** Send what can be sent: all that is kept and not under way, then `end`. */
  #pump() {
    if (this.#state !== "publishing") return;
    const socket = /** @type {import("./websocket.mjs").WebSocket} */ (this.#socket);
    for (;;) {
      if (socket.buffered > SOCKET_BUFFER) return;
      /** @type {Chunk | undefined} */
      let chunk = this.#kept[this.#unsent()];
      if (!chunk) break;
      if (chunk.number !== this.#expected) {
        chunk = this.#skip();
        if (!chunk) break;
      }
      if (chunk.recorder !== this.#announced) {
        this.#announced = chunk.recorder;
        this.#say({ type: "recorder", number: chunk.recorder.number, mime: chunk.recorder.mime });
      }
      if (this.#send(chunk, socket)) return;
    }
    if (!this.#ended) return;
    // What was dropped at the very end, or is kept and cannot be joined: nothing follows it.
    this.#drop(this.#unsent(), this.#kept.length);
    if (this.#expected < this.due) this.#skipTo(this.due);
    this.#say({ type: "end" });
    this.#endSent = true;
    this.#state = "finishing";
    this.#cut("end");
  }

  /** @param {Chunk} chunk @param {import("./websocket.mjs").WebSocket} socket @returns {boolean} whether it was cut */
  #send(chunk, socket) {
    const { fragment, reset, report } = this.#options;
    const header = Buffer.alloc(HEADER);
    header.writeBigUInt64BE(BigInt(chunk.number));
    header.writeUInt32BE(chunk.recorder.number, 8);
    const message = Buffer.concat([header, chunk.data]);
    chunk.sentOn = this.#connection;
    chunk.sentAt = Date.now();
    this.#expected = chunk.number + 1;
    const cut = this.cuts.findIndex(({ at }) => at === chunk.number);
    if (cut < 0) {
      socket.sendBinary(message, fragment);
      return false;
    }
    const [{ part = 1 }] = this.cuts.splice(cut, 1);
    report("cut", { at: chunk.number, part });
    this.#state = "closed";
    socket.breakIn(message, fragment, part, reset);
    return true;
  }

  /**
   * Step 6: chunks from the expected one on are missing. Drop all before the first place that can be joined,
   * cut its chunk there, and say so; undefined if there is no such place yet.
   * @returns {Chunk | undefined}
   */
  #skip() {
    const first = this.#unsent();
    for (let index = first; index < this.#kept.length; index++) {
      const chunk = this.#kept[index];
      const { recorder, first: begins, start, data } = chunk;
      const inside = (/** @type {number} */ at) => at >= start && at < start + data.length;
      const point = begins ? start : recorder.scanner.points.find(inside);
      if (point === undefined) continue;
      this.#drop(first, index - first);
      // Its headers are missing, too: they go in front, and the whole is another recorder.
      const again = !begins && recorder.headerIn >= this.#expected;
      if (again) this.#renumber(recorder);
      const headers = again && recorder.scanner.header ? recorder.scanner.header : Buffer.alloc(0);
      if (again) [recorder.headerIn, chunk.first] = [chunk.number, true];
      chunk.data = Buffer.concat([headers, data.subarray(point - start)]);
      chunk.start = point;
      this.#keptBytes += chunk.data.length - data.length;
      this.#skipTo(chunk.number);
      return chunk;
    }
    return undefined;
  }

  /** @param {number} to */
  #skipTo(to) {
    this.#options.report("skip", { from: this.#expected, to });
    this.#say({ type: "skip", to, reason: "dropped by the client" });
    this.#expected = to;
  }

  /** Give *recorder* the next greater number, and those after it, too. @param {Recorder} recorder */
  #renumber(recorder) {
    let last = Math.max(this.hello?.recorder ?? -1, this.#announced?.number ?? -1, recorder.number);
    const later = [...new Set(this.#kept.map((chunk) => chunk.recorder)), this.#recorder];
    for (const each of new Set([recorder, ...later.slice(later.indexOf(recorder) + 1)])) {
      if (each) each.number = last += 1;
    }
  }

  /** Of any recorder in this session, as far as is known; -1: none. */
  #lastRecorder() {
    return Math.max(this.hello?.recorder ?? -1, this.#lastNumber());
  }

  /** Of this client's. */
  #lastNumber() {
    return this.#recorder?.number ?? -1;
  }

  #stats() {
    if (this.#state !== "publishing" && this.#state !== "finishing") return;
    this.#say({ type: "stats", buffered_bytes: this.#keptBytes, dropped_chunks: this.dropped });
  }

  /** Give up a connection that looks alive and is dead. */
  #watch() {
    const limits = this.hello?.limits;
    const greeted = this.#state === "publishing" || this.#state === "finishing";
    let patience = HELLO_TIMEOUT;
    let since = this.#heard;
    if (greeted && limits) {
      const waiting = this.#kept.find(({ sentOn }) => sentOn === this.#connection);
      if (!waiting || this.#pressure) return;
      // Counted from the sending if that was later: before it there was nothing to be answered.
      since = Math.max(since, waiting.sentAt);
      patience = (limits.ping_interval + limits.ping_timeout) * 1000;
    }
    if (Date.now() - since <= patience) return;
    this.#options.report("silence", { seconds: patience / 1000 });
    this.#state = "closed";
    this.#socket?.destroy();
  }

  /** @param {Cut["at"]} at @param {number} [part] @returns {boolean} whether the connection was broken here */
  #cut(at, part) {
    const found = this.cuts.findIndex((cut) => cut.at === at && (part === undefined || cut.part === part));
    if (found < 0) return false;
    this.cuts.splice(found, 1);
    this.#options.report("cut", { at, part });
    this.#state = "closed";
    // By breakIn, so that what was said before has left.
    this.#socket?.breakIn(Buffer.alloc(0), 0, 0, this.#options.reset);
    return true;
  }

  /** @param {object} message */
  #say(message) {
    this.#socket?.sendText(JSON.stringify(message));
  }
}
