/** The bitrate that the network seems to carry: lowered when it does not, raised again by and by. */

const FACTOR = 0.6;
const FLOOR = 150_000;
const HOLD_MS = 60_000;
const LONGEST_HOLD_MS = 16 * HOLD_MS;

export class Bitrate {
  #wished;
  #value;
  #hold = HOLD_MS;
  #changed = 0;
  #raised = false;

  /** @param {number} wished bits per second */
  constructor(wished) {
    this.#wished = this.#value = wished;
  }

  /** Bits per second to record with now. */
  get value() {
    return this.#value;
  }

  /** What it is to be when the network carries it. */
  get wished() {
    return this.#wished;
  }

  /** @param {number} wished bits per second */
  set(wished) {
    this.#wished = this.#value = wished;
    this.#hold = HOLD_MS;
  }

  /**
   * The network does not carry it. A raise that did not last makes the next one wait twice as long.
   * @param {number} now ms
   * @returns {boolean} whether the value has changed
   */
  lower(now) {
    if (this.#raised && now - this.#changed < this.#hold) {
      this.#hold = Math.min(2 * this.#hold, LONGEST_HOLD_MS);
    }
    const before = this.#value;
    this.#value = Math.max(Math.min(before, FLOOR), Math.round(before * FACTOR));
    this.#changed = now;
    this.#raised = false;
    return this.#value < before;
  }

  /**
   * All is well: go one step up, if it has been well for long enough.
   * @param {number} now ms
   * @returns {boolean} whether the value has changed
   */
  raise(now) {
    if (this.#value >= this.#wished || now - this.#changed < this.#hold) return false;
    this.#value = Math.min(this.#wished, Math.round(this.#value / FACTOR));
    this.#changed = now;
    this.#raised = true;
    return true;
  }
}
