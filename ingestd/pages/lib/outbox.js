/** The chunks that are not acknowledged: kept to be sent again, and counted. */

/**
 * @typedef {object} Source what a chunk comes from
 * @property {number} number of the recorder
 * @property {string} mime
 * @property {boolean} follows it began when the one before it ended
 * @property {number} missing for how long nothing was recorded before it, s
 */

/**
 * @typedef {object} Chunk
 * @property {number} number
 * @property {Source} source
 * @property {number} missing for how long nothing was recorded before it, s; then the number before is left out
 * @property {Uint8Array} data
 * @property {number} at when the recorder gave it, ms
 * @property {number} end where it ends among the bytes sent on this connection; Infinity: not sent
 */

const MOST_BYTES = 32 * 2 ** 20;

export class Outbox {
  /**
   * The number of the next chunk; null before the first hello.
   * @type {number | null}
   */
  due = null;
  /** Bytes that are kept. */
  bytes = 0;
  /** Chunks that were dropped unsent, or whose arrival is unknown. */
  dropped = 0;
  /** The first number that is not acknowledged. */
  acknowledged = 0;
  /** @type {Chunk[]} */
  #kept = [];
  /** @type {Source | null} the last chunk's */
  #source = null;
  #most;
  #mostBytes;

  /** @param {{most?: number, mostBytes?: number}} bounds chunks, bytes */
  constructor({ most = 120, mostBytes = MOST_BYTES } = {}) {
    this.#most = most;
    this.#mostBytes = mostBytes;
  }

  /** @returns {readonly Chunk[]} oldest first */
  get kept() {
    return this.#kept;
  }

  /** Whether nothing more should be recorded until something was acknowledged. */
  get full() {
    return this.bytes > this.#mostBytes && this.#kept[0].end === Infinity;
  }

  /**
   * Keep what a recorder gave; one number is left out for what was not recorded before it. Beyond the bound the
   * oldest are forgotten, if they were sent: most likely they arrive.
   * @param {Source} source
   * @param {Uint8Array} data
   * @param {number} now ms
   * @returns {Chunk}
   */
  add(source, data, now) {
    if (this.due === null) throw new Error("no number is due before the first hello");
    const missing = source === this.#source ? 0 : source.missing;
    this.#source = source;
    const number = this.due + (missing ? 1 : 0);
    const chunk = { number, source, missing, data, at: now, end: Infinity };
    this.due = number + 1;
    this.#kept.push(chunk);
    this.bytes += data.byteLength;
    const over = () => this.#kept.length > this.#most || this.bytes > this.#mostBytes;
    while (this.#kept.length > 1 && over() && this.#kept[0].end < Infinity) this.#forget();
    return chunk;
  }

  /**
   * @param {number} next all below it are in the journal
   * @returns {number | null} when the newest of them was given, ms
   */
  acknowledge(next) {
    let at = null;
    while (this.#kept.length && this.#kept[0].number < next) at = this.#forget().at;
    this.acknowledged = Math.max(this.acknowledged, next);
    return at;
  }

  /**
   * A connection goes on with chunk *next*.
   * @param {number} next
   * @returns {"whole" | "missing" | "ahead"} all that is due is kept; something is not; somebody else has sent
   */
  resume(next) {
    if (this.due === null || next > this.due) return "ahead";
    this.acknowledge(next);
    for (const chunk of this.#kept) chunk.end = Infinity;
    const { number, missing } = this.#kept[0] ?? { number: this.due, missing: 0 };
    // The number before what is missing may be due: it was not said yet, or that was not heard.
    return number === next || (missing && number - 1 === next) ? "whole" : "missing";
  }

  /**
   * Forget everything; number *next* is due.
   * @param {number} next
   */
  begin(next) {
    this.dropped += this.#kept.length;
    this.#kept = [];
    this.bytes = 0;
    this.due = next;
    this.acknowledged = next;
  }

  /**
   * How many chunks, and bytes, have not left this page.
   * @param {number} left bytes of this connection that have
   */
  waiting(left) {
    let chunks = 0;
    let bytes = 0;
    let since = null;
    for (let at = this.#kept.length - 1; at >= 0 && this.#kept[at].end > left; at--) {
      chunks += 1;
      bytes += this.#kept[at].data.byteLength;
      since = this.#kept[at].at;
    }
    return { chunks, bytes, since };
  }

  #forget() {
    const chunk = /** @type {Chunk} */ (this.#kept.shift());
    this.bytes -= chunk.data.byteLength;
    return chunk;
  }
}
