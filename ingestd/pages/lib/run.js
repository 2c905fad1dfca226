/** What lives from a start of a publisher to its end. */

import { Outbox } from "./outbox.js";
import { Pressure } from "./pressure.js";

/** @typedef {import("./advice.js").IngestdError} IngestdError */

export class Run {
  outbox;
  /** @type {import("./recording.js").Recording | null} */
  recording = null;
  /** @type {import("./uplink.js").Uplink | null} */
  uplink = null;
  pressure;
  /** @type {ReturnType<typeof setInterval>[]} */
  timers = [];
  unwatch = () => {};
  acknowledged = 0;
  lag = 0;
  /** Dropped chunks that the page was told of. */
  told = 0;
  slow = false;
  pausedAt = -Infinity;
  /**
   * Since when the network keeps the page from recording, ms.
   * @type {number | null}
   */
  silent = null;
  /** @type {number[]} */
  failures = [];
  /** @type {import("./outbox.js").Source | null} */
  #source = null;
  #empty = 0;
  /** @type {[at: number, bytes: number][]} */
  #sent = [];
  /** @type {() => void} */
  isLive = () => {};
  /** @type {(why: IngestdError) => void} */
  isOver = () => {};

  /** @param {number} slice */
  constructor(slice) {
    this.pressure = new Pressure({ slice });
    this.outbox = new Outbox({ most: 2 * this.pressure.limit });
    /** @type {Promise<void>} */
    this.begun = new Promise((begun, failed) => {
      this.isLive = begun;
      this.isOver = failed;
    });
    this.begun.catch(() => {}); // who does not wait for it has the events
    /** @type {Promise<void>} */
    this.over = new Promise(over => {
      const failed = this.isOver;
      this.isOver = why => {
        failed(why);
        over();
      };
    });
  }

  /**
   * How many chunks in a row were empty, of one recorder: one that ends may have nothing left.
   * @param {import("./outbox.js").Source} source
   * @param {Uint8Array} data
   */
  gave(source, data) {
    const before = source === this.#source ? this.#empty : 0;
    this.#source = source;
    return (this.#empty = data.byteLength ? 0 : before + 1);
  }

  /** @param {number} at */
  acked(at) {
    this.acknowledged = this.outbox.acknowledged;
    this.lag = performance.now() - at;
  }

  /** @param {number} bitrate */
  stats(bitrate) {
    return { type: "stats", buffered_bytes: this.outbox.bytes, bitrate, dropped_chunks: this.outbox.dropped };
  }

  figures() {
    const now = performance.now();
    const { chunks, bytes, since } = this.uplink?.waiting ?? { chunks: 0, bytes: 0, since: null };
    const [oldest] = this.outbox.kept;
    const sentBytes = this.uplink?.sentBytes ?? 0;
    this.#sent = [...this.#sent.filter(([at]) => now - at < 5000), [now, sentBytes]];
    const [from, before] = this.#sent[0];
    return {
      sentBitrate: now > from ? Math.round((8000 * (sentBytes - before)) / (now - from)) : 0,
      sentBytes,
      bufferedBytes: bytes,
      waitingChunks: chunks,
      waitingMs: since === null ? 0 : Math.round(now - since),
      lagMs: Math.round(Math.max(this.lag, oldest ? now - oldest.at : 0)),
      recorderType: this.recording?.type ?? "",
      reconnects: this.uplink?.reconnects ?? 0,
      droppedChunks: this.outbox.dropped,
      acknowledged: this.acknowledged,
    };
  }
}
