/** Whether playback moves, stands, or is stuck. No DOM: a test drives it. */

const STANDING_MS = 300;
/** Data is there, and nothing has moved for so long: something is wrong. */
const STUCK_MS = 5000;
const ENOUGH_S = 0.3;

export class Progress {
  stalls = 0;
  stalledMs = 0;
  moving = false;
  /** It played, and stands. */
  standing = false;
  #at = NaN;
  #moved = 0;
  #looked = 0;
  #played = false;

  /** A jump is no movement; and after one the picture may take a moment. */
  jumped() {
    this.#at = NaN;
  }

  /**
   * @param {number} now ms
   * @param {{at: number, paused: boolean, flowing: boolean, ahead: number}} video where it is, whether a person
   *   has paused it, whether there should be more, and how much is left to play; seconds
   * @returns {{stalled: boolean, stuck: boolean}} stalled: it has just begun to stand for lack of data
   */
  look(now, { at, paused, flowing, ahead }) {
    if (!this.#looked) this.#looked = this.#moved = now;
    const since = now - this.#looked;
    this.#looked = now;
    this.moving = at > this.#at;
    const idle = paused || (!flowing && ahead < ENOUGH_S) || (!this.#played && ahead < ENOUGH_S);
    if (this.moving || idle) {
      if (this.moving) this.#played = true;
      this.#moved = now;
    }
    this.#at = at;
    const was = this.standing;
    this.standing = this.#played && !idle && now - this.#moved >= STANDING_MS;
    const stalled = this.standing && !was;
    if (stalled) this.stalls += 1;
    if (this.standing) this.stalledMs += stalled ? now - this.#moved : since;
    const stuck = !idle && ahead >= ENOUGH_S && now - this.#moved >= STUCK_MS;
    if (stuck) this.#moved = now;
    return { stalled, stuck };
  }
}
