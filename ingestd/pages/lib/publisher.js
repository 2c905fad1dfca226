/** Publish a MediaStream to ingestd: docs/browser.md. */

import { IngestdError, problem } from "./advice.js";
import { Bitrate } from "./bitrate.js";
import { captureProblem, watchSource } from "./devices.js";
import { Emitter } from "./emitter.js";
import { checkOptions } from "./options.js";
import { Recording } from "./recording.js";
import { Run } from "./run.js";
import { recordingTypes } from "./types.js";
import { Uplink } from "./uplink.js";

/** @typedef {import("./advice.js").Problem} Problem */
/** @typedef {import("./options.js").PublisherOptions} PublisherOptions */

/**
 * @typedef {"idle" | "connecting" | "starting" | "live" | "reconnecting" | "paused" | "ending" | "ended"
 *   | "failed"} PublisherState
 */

/**
 * @typedef {object} PublisherStatistics
 * @property {PublisherState} state
 * @property {number} since when the state began, Unix ms
 * @property {number} bitrate what the recorder is set to, bits per second
 * @property {number} sentBitrate what was sent in the last seconds, bits per second
 * @property {number} sentBytes
 * @property {number} bufferedBytes what has not left this page
 * @property {number} waitingChunks the same, in chunks
 * @property {number} waitingMs how long the oldest of them has waited
 * @property {number} lagMs from the recorder to the journal
 * @property {string} recorderType
 * @property {number} width
 * @property {number} height
 * @property {number} keyframeInterval ms, as asked for
 * @property {number} reconnects
 * @property {number} droppedChunks
 * @property {number} acknowledged how many chunks are in the journal
 */

/**
 * @typedef {object} PublisherEvents
 * @property {{state: PublisherState, cause: Problem | null, retryIn: number | null}} statechange
 * @property {PublisherStatistics} statistics
 * @property {Problem} warning
 * @property {Problem} error
 * @property {{type: string} & Record<string, any>} server
 * @property {{stream: string, session: string, resumed: boolean}} hello
 */

const TICK_MS = 250;
const STATISTICS_MS = 1000;
const STATS_MS = 5000;
const FAREWELL_MS = 15_000;
/** Two pauses within so long say that the network is too slow. */
const AGAIN_MS = 30_000;
/** A recorder that ends by itself so often within so long does not work. */
const FAILURES = 3;
const FAILURES_MS = 10_000;
const EMPTY = 3;

/** @extends {Emitter<PublisherEvents>} */
export class Publisher extends Emitter {
  /** @type {PublisherState} */
  #state = "idle";
  /** @type {Problem | null} */
  #cause = null;
  #since = Date.now();
  #options;
  #bitrate;
  #stream;
  /** @type {Run | null} */
  #run = null;

  /** @param {PublisherOptions} options */
  constructor(options) {
    super();
    checkOptions(options);
    const { lowLatency = false, adapt = true, bitrate = 2_500_000, audioBitrate = 128_000 } = options;
    const { slice = lowLatency ? 100 : 250, keyframeInterval = 2000 } = options;
    this.#options = { ...options, adapt, audioBitrate, slice, keyframeInterval };
    this.#stream = options.stream;
    this.#bitrate = new Bitrate(bitrate);
  }

  /**
   * The types that this browser can record, best first.
   * @param {{codec?: import("./types.js").Codec, video?: boolean, audio?: boolean}} [options]
   */
  static types(options) {
    return recordingTypes(options);
  }

  /**
   * What keeps this page from publishing.
   * @returns {Problem[]}
   */
  static check() {
    const found = [captureProblem()];
    if (typeof WebSocket !== "function") found.push(problem("no_websocket"));
    if (typeof MediaRecorder !== "function") found.push(problem("no_recorder"));
    else if (!recordingTypes().length) found.push(problem("no_type"));
    return found.flatMap(each => each ?? []);
  }

  get state() {
    return this.#state;
  }

  /** What the state has come from, if it was a problem. */
  get cause() {
    return this.#cause;
  }

  get stream() {
    return this.#stream;
  }

  /** @returns {PublisherStatistics} */
  get statistics() {
    const { slice, keyframeInterval } = this.#options;
    const picture = this.#stream.getVideoTracks()[0]?.getSettings() ?? {};
    return {
      state: this.#state,
      since: this.#since,
      bitrate: this.#bitrate.value,
      width: picture.width ?? 0,
      height: picture.height ?? 0,
      keyframeInterval,
      ...(this.#run ?? new Run(slice)).figures(),
    };
  }

  /**
   * Connect and publish.
   * @returns {Promise<void>} when the first chunk is in the journal; or IngestdError
   */
  async start() {
    if (!["idle", "ended", "failed"].includes(this.#state)) throw new Error("it was started already");
    const run = (this.#run = new Run(this.#options.slice));
    const { url, key, name, remember } = this.#options;
    run.recording = new Recording(this.#stream, this.#options, {
      give: (source, data) => this.#give(run, source, data),
      ended: error => this.#recorderEnded(run, error),
    });
    run.uplink = new Uplink(run.outbox, { url, key, name, remember }, {
      connected: ({ stream, session, resumed }) => {
        if (run.uplink?.reconnects) this.emit("warning", problem("reconnected"));
        this.emit("hello", { stream, session, resumed });
        // With nothing to send no acknowledgement comes that would tell how things stand.
        if (run.uplink?.reconnects && !run.recording?.active) this.#settle(run);
      },
      begin: number => this.#anew(run, number),
      acknowledged: at => this.#acknowledged(run, at),
      told: message => this.#told(message),
      lost: (why, wait) => this.#lost(run, why, wait),
      failed: why => this.#finish(run, "failed", why),
      ended: why => this.#finish(run, "ended", why),
    });
    run.unwatch = this.#watch();
    run.timers = [
      setInterval(() => this.#look(run), TICK_MS),
      setInterval(() => this.emit("statistics", this.statistics), STATISTICS_MS),
      setInterval(() => run.uplink?.say(run.stats(this.#bitrate.value)), STATS_MS),
    ];
    this.#turn("connecting");
    run.uplink.connect();
    await run.begun;
  }

  /** Send what is left, and end the session. Resolves when the server has all of it, or after 15 s. */
  async stop() {
    const run = this.#run;
    if (!run || ["ended", "failed"].includes(this.#state)) return;
    if (this.#state === "ending") return run.over;
    this.#turn("ending");
    await run.recording?.end();
    if (!run.uplink?.hello) return this.#finish(run, "ended", null);
    run.uplink.end();
    const timer = setTimeout(() => this.#finish(run, "ended", problem("unacknowledged")), FAREWELL_MS);
    await run.over;
    clearTimeout(timer);
  }

  /**
   * Publish another stream from here on, in the same session: a new recorder, after the last data of the old.
   * @param {MediaStream} stream
   */
  async replace(stream) {
    checkOptions({ stream }, ["stream"]);
    this.#stream = stream;
    const run = this.#run;
    if (!run?.recording || this.#over) return;
    run.recording.stream = stream;
    run.unwatch();
    run.unwatch = this.#watch();
    this.#renew(run);
    await run.recording.before;
  }

  /**
   * Record with another bitrate from here on: a new recorder.
   * @param {number} bitrate of the picture, bits per second
   */
  async setBitrate(bitrate) {
    checkOptions({ bitrate }, ["bitrate"]);
    this.#bitrate.set(bitrate);
    if (this.#run) this.#renew(this.#run);
    await this.#run?.recording?.before;
  }

  #watch() {
    return watchSource(this.#stream, found => this.emit("warning", found));
  }

  /**
   * A new recorder, if one may run now.
   * @param {Run} run
   * @param {{discard?: boolean}} [options]
   */
  #renew(run, options) {
    const { recording, uplink } = run;
    if (!recording || !uplink?.hello || this.#over || run.pressure.state === "full") return;
    const before = run.pressure.state === "paused";
    const missing = run.silent === null ? 0 : (performance.now() - run.silent) / 1000;
    try {
      const begun = recording.begin(this.#bitrate.value, { ...options, missing });
      if (!begun) this.emit("warning", problem("source_ended"));
      else if (before) recording.pause();
      else run.silent = null;
    } catch (error) {
      const why = error instanceof IngestdError ? error : problem("recorder_failed", String(error));
      return this.#finish(run, "failed", asProblem(why));
    }
    this.#settle(run);
  }

  /** @param {Run} run @param {number} number */
  #anew(run, number) {
    const lost = run.recording?.active || run.outbox.dropped > run.told;
    if (lost) this.emit("warning", problem("chunks_lost"));
    run.told = run.outbox.dropped;
    if (run.recording) run.recording.next = number;
    if (run.pressure.state === "full") run.pressure.reset();
    run.silent = null; // the server has been told, or it is another session
    run.acknowledged = 0; // nothing of what begins here
    this.#renew(run, { discard: true });
  }

  /** @param {Run} run @param {import("./outbox.js").Source} source @param {Uint8Array} data */
  #give(run, source, data) {
    if (run.gave(source, data) === EMPTY) this.emit("warning", problem("empty_chunks"));
    if (!data.byteLength) return;
    run.uplink?.give(source, data);
    this.#look(run);
  }

  /** @param {Run} run @param {number | null} at */
  #acknowledged(run, at) {
    if (at !== null) run.acked(at);
    this.#settle(run);
  }

  /** @param {{type: string} & Record<string, any>} message */
  #told(message) {
    if (message.type === "warning") this.emit("warning", problem(message.code, message.text));
    if (message.type === "pressure" && message.active) this.emit("warning", problem("server_behind"));
    if (message.type === "drain") this.emit("warning", problem("server_stopping", message.reason));
    this.emit("server", message);
  }

  /** @param {Run} run @param {Problem} why @param {number} wait */
  #lost(run, why, wait) {
    this.emit("warning", why);
    if (this.#state !== "ending") this.#turn(run.uplink?.hello ? "reconnecting" : "connecting", why, wait);
  }

  /**
   * A recorder has ended that was not told to.
   * @param {Run} run
   * @param {unknown} error
   */
  #recorderEnded(run, error) {
    if (this.#over) return;
    // A source that ends is no failure of the recorder.
    if (this.#stream.getTracks().some(track => track.readyState === "live")) {
      const now = performance.now();
      run.failures = [...run.failures.filter(at => now - at < FAILURES_MS), now];
      const said = error ? String(error) : undefined;
      if (run.failures.length >= FAILURES) {
        return this.#finish(run, "failed", problem("recorder_failed", said));
      }
      this.emit("warning", problem("recorder_stopped", said));
    }
    this.#renew(run);
  }

  /**
   * Hold what is waiting within its bounds.
   * @param {Run} run
   */
  #look(run) {
    const { uplink, recording, pressure } = run;
    if (!uplink || !recording || this.#over || run !== this.#run) return;
    uplink.look();
    const now = performance.now();
    const { chunks } = uplink.waiting;
    const waiting = run.outbox.full ? Infinity : chunks;
    const order = pressure.judge({ buffered: uplink.buffered, waiting });
    if (order === "pause") {
      run.slow ||= now - run.pausedAt < AGAIN_MS;
      run.pausedAt = run.silent = now;
      recording.pause();
      this.emit("warning", problem("buffer_full"));
    } else if (order === "end") {
      run.slow = true;
      run.silent ??= now;
      recording.end();
      this.emit("warning", problem("queue_full"));
    } else if (order && run.slow && this.#options.adapt) {
      run.slow = false;
      if (this.#bitrate.lower(now)) this.#tellBitrate("bitrate_lowered");
      this.#renew(run);
    } else if (order === "begin") {
      this.#renew(run);
    } else if (order === "resume") {
      run.silent = null; // the recorder's own timeline has no hole there
      recording.resume();
    } else if (this.#options.adapt && this.#state === "live" && this.#bitrate.raise(now)) {
      this.#tellBitrate("bitrate_raised");
      this.#renew(run);
    }
    if (order) this.#settle(run);
  }

  /** @param {string} code */
  #tellBitrate(code) {
    this.emit("warning", problem(code, `${Math.round(this.#bitrate.value / 1000)} kbit/s`));
  }

  /**
   * The state that follows from how things stand.
   * @param {Run} run
   */
  #settle(run) {
    if (this.#over || !run.uplink?.ready || run !== this.#run) return;
    if (run.pressure.state !== "flowing") {
      this.#turn("paused", problem(run.pressure.state === "full" ? "queue_full" : "buffer_full"));
    } else if (!run.recording?.active) {
      this.#turn("paused", problem("source_ended"));
    } else if (run.acknowledged) {
      this.#turn("live");
      run.isLive();
    } else {
      this.#turn("starting");
    }
  }

  get #over() {
    return ["ending", "ended", "failed"].includes(this.#state);
  }

  /** @param {Run} run @param {"ended" | "failed"} state @param {Problem | null} why */
  #finish(run, state, why) {
    if (["ended", "failed"].includes(this.#state)) return;
    for (const timer of run.timers) clearInterval(timer);
    run.unwatch();
    run.uplink?.close();
    run.recording?.end();
    if (why && state === "failed") this.emit("error", why);
    else if (why) this.emit("warning", why);
    this.#turn(state, why);
    this.emit("statistics", this.statistics);
    run.isOver(new IngestdError(why ?? problem("stopped")));
  }

  /** @param {PublisherState} state @param {Problem | null} [cause] @param {number | null} [retryIn] ms */
  #turn(state, cause = null, retryIn = null) {
    if (state === this.#state && cause?.code === this.#cause?.code && retryIn === null) return;
    if (state !== this.#state) this.#since = Date.now();
    this.#state = state;
    this.#cause = cause;
    this.emit("statechange", { state, cause, retryIn });
  }
}

/** @param {Problem} from @returns {Problem} */
function asProblem({ code, text, advice, close }) {
  return close === undefined ? { code, text, advice } : { code, text, advice, close };
}
