/** When a recorder has to wait for the network, and when it may go on. */

export const HIGH = 5_000_000;
export const LOW = 1_000_000;

/** How long what waits locally may be, in ms of media. */
const MOST_MS = 15_000;
/** What is left of the waiting chunks when a recorder that was ended for them is followed by another. */
const REST = 1 / 4;

/** @typedef {"pause" | "resume" | "end" | "begin"} Order */

export class Pressure {
  /** @type {"flowing" | "paused" | "full"} */
  state = "flowing";
  #high;
  #low;
  /** How many chunks may wait. */
  limit;

  /** @param {{slice?: number, high?: number, low?: number}} options ms of a chunk; bytes */
  constructor({ slice = 250, high = HIGH, low = LOW } = {}) {
    this.limit = Math.max(4, Math.ceil(MOST_MS / slice));
    this.#high = high;
    this.#low = low;
  }

  /**
   * What the recorder has to do now, if anything: pause or resume; end, because no more may wait, or begin
   * again. A recorder that ends still gives its last data, so there is room for two chunks.
   * @param {{buffered: number, waiting: number}} now bytes in the socket, chunks that have not left this page
   * @returns {Order | null}
   */
  judge({ buffered, waiting }) {
    if (this.state === "full") {
      return buffered < this.#low && waiting <= this.limit * REST ? this.#turn("flowing", "begin") : null;
    }
    if (waiting >= this.limit - 2) return this.#turn("full", "end");
    if (this.state === "flowing" && buffered > this.#high) return this.#turn("paused", "pause");
    if (this.state === "paused" && buffered < this.#low) return this.#turn("flowing", "resume");
    return null;
  }

  /** Another recorder has begun for another reason: it flows. */
  reset() {
    this.state = "flowing";
  }

  /** @param {"flowing" | "paused" | "full"} state @param {Order} order @returns {Order} */
  #turn(state, order) {
    this.state = state;
    return order;
  }
}
