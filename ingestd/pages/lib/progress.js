/** Whether playback moves, stands, or is stuck. No DOM: a test drives it. */

const STANDING_MS = 300;
/** Data is there, and nothing has moved for so long: something is wrong. */
const STUCK_MS = 5000;
const ENOUGH_S = 0.3;
/** So many remedies, with no such time between two, are enough. */
const REMEDIES = 4;
const WELL_MS = 30_000;

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
  #remedies = 0;
  #remedied = 0;

  /** A jump is no movement; and after one the picture may take a moment. */
  jumped() {
    this.#at = NaN;
  }

  /**
   * @param {number} now ms
   * @param {{at: number, paused: boolean, flowing: boolean, ahead: number, blank?: boolean}} video where it is,
   *   whether a person has paused it, whether there should be more, and how much is left to play, seconds;
   *   blank: nothing can be shown though there is data
   * @returns {{stalled: boolean, stuck: boolean}} stalled: it has just begun to stand for lack of data
   */
  look(now, { at, paused, flowing, ahead, blank = false }) {
    if (!this.#looked) this.#looked = this.#moved = now;
    const since = now - this.#looked;
    this.#looked = now;
    this.moving = at > this.#at;
    const idle = paused || (!flowing && ahead < ENOUGH_S) || (!this.#played && ahead < ENOUGH_S && !blank);
    if (this.moving || idle) {
      if (this.moving) this.#played = true;
      this.#moved = now;
    }
    this.#at = at;
    const was = this.standing;
    this.standing = this.#played && !idle && now - this.#moved >= STANDING_MS;
    // Where nothing more should come that is the end, not a stall.
    const stalled = this.standing && !was && flowing;
    if (stalled) this.stalls += 1;
    if (this.standing && flowing) this.stalledMs += stalled ? now - this.#moved : since;
    const stuck = !idle && (blank || ahead >= ENOUGH_S) && now - this.#moved >= STUCK_MS;
    if (stuck) this.#moved = now;
    return { stalled, stuck };
  }

  /**
   * What to do about a video that is stuck: nudge it, and if that was of no use set everything up again. One
   * that is broken is set up again.
   * @param {number} now ms
   * @returns {"nudge" | "renew" | "give up"}
   */
  remedy(now, broken = false) {
    this.#remedies = now - this.#remedied > WELL_MS ? 1 : this.#remedies + 1;
    this.#remedied = now;
    if (this.#remedies > REMEDIES) return "give up";
    return broken || this.#remedies % 2 === 0 ? "renew" : "nudge";
  }
}
