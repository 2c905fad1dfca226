/**
 * A publisher that speaks `ingestd.v1`, written from docs/protocol.md alone.
 *
 * It keeps the chunks that are not acknowledged, and after a break goes on with the first that the server
 * does not have. The numbered steps in the comments are those of "How to resume" there.
 */

import { EventEmitter, once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

import { Kept, Recorder } from "./kept.mjs";
import { RefusedError, connect } from "./websocket.mjs";

export const PROTOCOL = "ingestd.v1";
const HEADER = 12;
/** Bytes of a message that are not its recorder's: its header, and those that step 6 puts in front. */
const MARGIN = HEADER + 4096;
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
  1012: "resume",
  1013: "later",
  4400: "stop",
  4401: "stop",
  4403: "anew",
  4404: "anew",
  4408: "resume",
  4409: "stop",
  4410: "resume",
  4412: "stop",
  4415: "stop",
  4423: "stop",
  4429: "later",
  4500: "anew",
};

/** Answers before the upgrade that may be different the next time. */
const PASSING = new Set([408, 503]);

/**
 * @typedef {import("./websocket.mjs").Closed} Closed
 * @typedef {import("./websocket.mjs").WebSocket} WebSocket
 * @typedef {import("./kept.mjs").Chunk} Chunk
 * @typedef {{session: string, token: string}} Resume
 *
 * @typedef {object} Hello
 * @property {string} stream
 * @property {string} session
 * @property {string | null} token
 * @property {number} next
 * @property {number | null} recorder
 * @property {boolean} resumed
 * @property {Limits} limits
 *
 * @typedef {object} Limits
 * @property {number} max_message
 * @property {number} max_text
 * @property {number} window
 * @property {string} ack
 * @property {number} ping_interval
 * @property {number} ping_timeout
 *
 * @typedef {object} Options
 * @property {string} url
 * @property {string} [key] the stream key, unless the URL has it
 * @property {string} [name] `open.client`
 * @property {Resume} [resume] take this session up
 * @property {number} bound bytes that are kept at most
 * @property {number} patience seconds without a `hello` after which it gives up
 * @property {number} fragment send messages as frames of at most so many bytes; 0: whole
 * @property {number} statsEvery seconds; 0: never
 * @property {Cut[]} cuts where it breaks its own connection, each once
 * @property {boolean} reset break it by a TCP RST
 * @property {(event: string, fields?: object) => void} report is told all that happens
 */

/**
 * Where to break the connection: in the chunk of this number, after *part* of its bytes; after `open` or at
 * `hello` of the *part*-th connection; or after `end`.
 * @typedef {{at: number | "open" | "hello" | "end", part?: number}} Cut
 */

/** Emits `anew` when a recorder must begin (steps 7, 8, or the first time), `room` when less is kept. */
export class Publisher extends EventEmitter {
  /** @type {Hello | null} the newest */ hello = null;
  /** @type {Recorder | null} the newest */ #recorder = null;
  /** Nothing will follow. */ #ended = false;
  /** And the server was told so. */ finished = false;
  /** @type {Resume | null} */ #resume;
  /** @type {WebSocket | null} */ #socket = null;
  /** @type {"opening" | "waiting" | "publishing" | "finishing" | "closed"} */ #state = "closed";
  // Of this connection: the number that the server waits for, the recorder that it was told of, when the last
  // message came (ms), whether it is behind, and what its `end` says.
  #expected = 0;
  /** @type {Recorder | null} */ #announced = null;
  #heard = 0;
  #pressure = false;
  /** Whether an `ack` has come since the last `hello` but one. */
  #progress = false;
  /** How often `open` was said. */ #opened = 0;
  /** @type {Closed | null} */ #notice = null;
  #options;

  /** @param {Options} options */
  constructor(options) {
    super();
    this.#options = options;
    this.#resume = options.resume ?? null;
    this.kept = new Kept(options.bound);
    this.cuts = [...options.cuts];
  }

  /** Whether no acknowledgement will make room: what is kept waits for a place that can be joined. */
  get stuck() {
    return this.#state === "publishing" && this.kept.chunks.length > 0 && this.kept.unsent() === 0;
  }

  /** Begin a recorder, with a greater number than any before in this session. @param {string} [mime] */
  begin(mime) {
    this.#recorder = new Recorder(this.#lastNumber() + 1, mime);
    return this.#recorder;
  }

  /**
   * Step 1: *recorder* gives bytes; those of one that is not the newest are dropped.
   * @param {Recorder} recorder @param {Buffer} data
   */
  give(recorder, data) {
    if (recorder !== this.#recorder || !this.hello) return;
    this.kept.add(recorder, data, this.hello.limits.max_message - MARGIN);
    this.#pump();
  }

  /** Step 9: nothing will follow. */
  end() {
    this.#ended = true;
    this.#pump();
  }

  /**
   * Connect, and again, until it is over. `code` is that of the close frame, or a refused upgrade's status.
   * @returns {Promise<Closed & {what: "stop" | "over" | "refused" | "gave up"}>}
   */
  async run() {
    let failures = 0;
    let greeted = Date.now();
    for (;;) {
      const pause = PAUSES[Math.min(failures, PAUSES.length - 1)] * (0.75 + Math.random() / 2);
      if (pause) await sleep(pause * 1000);
      failures += 1;
      const before = this.hello;
      const closed = await this.#once();
      if (this.hello !== before) {
        // At once the first time; not without an end, though, if a connection brings nothing but its hello.
        failures = this.#progress ? 0 : 1;
        this.#progress = false;
        greeted = Date.now();
      }
      if (closed instanceof RefusedError) {
        const { status, reason } = closed;
        if (status && !PASSING.has(status)) return { what: "refused", code: status, reason };
      } else {
        let todo = CODES[closed.code] ?? (closed.code < 4000 ? "resume" : "stop");
        // To a client that was here before: that is not noticed yet, or its session is still being finished.
        if (closed.code === 4409 && this.#opened > 1) todo = "later";
        if (todo === "stop") return { what: "stop", ...closed };
        // Step 9: the server has had it.
        if (closed.code === 4404 && this.finished) return { what: "over", ...closed };
        if (todo === "anew") this.#resume = null;
        // "After a while", "later": at least the first real pause.
        if (closed.code === 4500 || todo === "later") failures = Math.max(failures, 1);
      }
      const away = (Date.now() - greeted) / 1000;
      if (away > this.#options.patience) return { what: "gave up", code: 1006, reason: "" };
    }
  }

  /** One connection, from the upgrade to its end. @returns {Promise<Closed | RefusedError>} */
  async #once() {
    const { url, report, statsEvery } = this.#options;
    this.kept.connection += 1;
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
    const stats = statsEvery ? setInterval(() => this.#stats(), statsEvery * 1000) : undefined;
    this.#open();
    const [end] = /** @type {Closed[]} */ (await once(socket, "close"));
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
    this.#opened += 1;
    this.#state = "waiting";
    this.#cut("open", this.kept.connection);
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
      this.#progress = true;
      this.#acknowledged(notice.next);
      this.#pump();
    } else if (["pressure", "state", "warning", "drain", "end"].includes(notice.type)) {
      this.#options.report("notice", { notice });
      if (notice.type === "pressure") this.#pressure = notice.active ?? this.#pressure;
      if (notice.type === "end") this.#notice = { code: notice.code, reason: notice.reason };
    }
    // Any other type is of a later version, and ignored.
  }

  /** @param {Hello} hello */
  #greeted(hello) {
    const last = this.#recorder?.number ?? -1;
    // Ours if we resumed it, and have begun a recorder in it; else this is the first time.
    const mine = this.hello?.session === hello.session && this.#resume !== null && this.#recorder !== null;
    this.hello = hello;
    // Without a new token the one that it was resumed with stays good.
    if (hello.token !== null) this.#resume = { session: hello.session, token: hello.token };
    this.#options.report("hello", { hello });
    if (this.#cut("hello", this.kept.connection)) return;
    this.#state = "publishing";
    this.#expected = hello.next;
    const another = hello.next > this.kept.due || (hello.recorder ?? -1) > last;
    if (mine && !another) {
      // Step 5.
      this.#acknowledged(hello.next);
      this.kept.fit(hello.limits.max_message - MARGIN);
    } else {
      // Steps 7 and 8.
      this.kept.reset(hello.next);
      this.#recorder = null;
      this.#ended = this.finished = false;
      this.emit("anew");
      this.emit("room");
    }
    this.#pump();
  }

  /** Step 2. @param {number} next */
  #acknowledged(next) {
    this.kept.acknowledged(next);
    this.emit("room");
  }

  /** Send what can be sent: all that is kept and not under way, then `end`. */
  #pump() {
    const socket = this.#socket;
    while (socket && this.#state === "publishing") {
      if (socket.buffered > SOCKET_BUFFER) return;
      /** @type {Chunk | undefined} */
      let chunk = this.kept.chunks[this.kept.unsent()];
      if (chunk && this.#cutTooEarly(chunk.number)) return;
      if (chunk && chunk.number !== this.#expected) {
        // Steps 3 and 6.
        chunk = this.kept.join(this.#expected, (recorder) => this.#renumber(recorder));
        if (chunk) this.#skip(chunk.number);
      }
      if (chunk) this.#send(chunk, socket);
      else if (this.#ended) this.#finish();
      else return;
    }
  }

  /** @param {Chunk} chunk @param {WebSocket} socket */
  #send(chunk, socket) {
    const { fragment, reset, report } = this.#options;
    const { number, recorder, data } = chunk;
    if (recorder !== this.#announced) {
      this.#announced = recorder;
      this.#say({ type: "recorder", number: recorder.number, mime: recorder.mime });
    }
    const header = Buffer.alloc(HEADER);
    header.writeBigUInt64BE(BigInt(number));
    header.writeUInt32BE(recorder.number, 8);
    const message = Buffer.concat([header, data]);
    chunk.sentOn = this.kept.connection;
    chunk.sentAt = Date.now();
    this.#expected = number + 1;
    const cut = this.cuts.findIndex(({ at }) => at === number);
    if (cut < 0) {
      socket.sendBinary(message, fragment);
      return;
    }
    const [{ part = 1 }] = this.cuts.splice(cut, 1);
    report("cut", { at: number, part });
    this.#state = "closed";
    socket.breakIn(message, fragment, part, reset);
  }

  /**
   * A session that has no chunk yet is not waited for: later ones are cut once the first is acknowledged.
   * @param {number} number
   */
  #cutTooEarly(number) {
    const cut = this.cuts.some(({ at }) => at === number);
    return cut && number > 0 && this.kept.chunks[0].number === 0;
  }

  #finish() {
    // What was dropped at the very end, or cannot be joined: nothing follows it.
    this.kept.dropUnsent();
    if (this.#expected < this.kept.due) this.#skip(this.kept.due);
    this.#say({ type: "end" });
    this.finished = true;
    this.#state = "finishing";
    this.#cut("end");
  }

  /** @param {number} to */
  #skip(to) {
    const reason = "dropped by the client";
    this.#options.report("skip", { from: this.#expected, to, reason });
    this.#say({ type: "skip", to, reason });
    this.#expected = to;
  }

  /** Give *recorder* the next greater number, and those after it theirs. @param {Recorder} recorder */
  #renumber(recorder) {
    let last = this.#lastNumber([this.#announced, recorder]);
    const all = [...new Set([...this.kept.chunks.map((chunk) => chunk.recorder), this.#recorder])];
    for (const each of all.slice(all.indexOf(recorder))) if (each) each.number = last += 1;
  }

  /** The greatest of a recorder in this session so far; -1: none. @param {(Recorder | null)[]} [of] */
  #lastNumber(of = [this.#recorder]) {
    return Math.max(this.hello?.recorder ?? -1, ...of.map((recorder) => recorder?.number ?? -1));
  }

  #stats() {
    if (this.#state !== "publishing" && this.#state !== "finishing") return;
    this.#say({ type: "stats", buffered_bytes: this.kept.bytes, dropped_chunks: this.kept.dropped });
  }

  /** Give up a connection that looks alive and is dead. */
  #watch() {
    let patience = HELLO_TIMEOUT;
    let since = this.#heard;
    if (this.hello && (this.#state === "publishing" || this.#state === "finishing")) {
      const [oldest] = this.kept.chunks;
      if (!oldest || !this.kept.sent(oldest) || this.#pressure) return;
      // Counted from the sending if that was later: before it there was nothing to be answered.
      since = Math.max(since, oldest.sentAt);
      patience = (this.hello.limits.ping_interval + this.hello.limits.ping_timeout) * 1000;
    }
    if (Date.now() - since <= patience) return;
    this.#options.report("silence", { seconds: patience / 1000 });
    this.#state = "closed";
    this.#socket?.destroy();
  }

  /** @param {Cut["at"]} at @param {number} [part] @returns {boolean} whether it was broken here */
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
