/** How far what is shown is behind what the server receives. */

/** The server says every 2 s or so where it is, while media flows. */
const VALID_MS = 10_000;
/** What it said a while ago comes at once with what came then, to who joins. */
const BURST_MS = 300;

export class Clock {
  /** @type {{time: number, at: number} | null} */
  #told = null;
  #begun = -Infinity;

  /**
   * @param {number} time of the newest frame on the server, ms
   * @param {number} now ms
   */
  tell(time, now) {
    if (now - this.#begun >= BURST_MS) this.#told = { time, at: now };
  }

  /**
   * What was told is of another timeline, or connection.
   * @param {number} now ms
   */
  reset(now) {
    this.#told = null;
    this.#begun = now;
  }

  /**
   * ms since the server received the frame of stream time *shown*; null if it has not said for a while where
   * it is. What its word took to get here is not in it: clocks of two machines cannot be compared.
   * @param {number} shown ms
   * @param {number} now ms
   */
  behind(shown, now) {
    if (!this.#told || now - this.#told.at > VALID_MS) return null;
    return Math.max(0, Math.round(this.#told.time + (now - this.#told.at) - shown));
  }
}
