/** Where a live player should be, and how fast it should run to get there. No DOM: a test drives it. */

/** @typedef {readonly [start: number, end: number]} Range seconds */

/** What a player does not notice between two ranges, and what a rounded timestamp may be off. */
const TOUCH_S = 0.05;
/** So close to the end of a range playback stands, though data comes after a gap. */
const BRINK_S = 0.15;
/** Further behind than this it jumps: to catch up would take longer than anybody waits. */
const FAR_S = 4;
/** With more the buffer would be cut before it is played. */
const MOST_LATENCY_S = 20;
/** So long after a start or a gap what came at once is there: who is then late by that much jumps, too. */
const SETTLED_MS = 300;
const LATE_S = 0.4;
/** Less than that is a delay that somebody asked for. */
const CLOSE_S = 0.5;
const FASTEST = 1.2;
const SLOWEST = 0.95;
const STEP = 0.05;
/** How much faster it runs for each second that it is late; more for who wants less than half a second. */
const PULL = 0.4;
/** How far off the target it may be, and what a stall adds; less for who wants less than half a second. */
const SLACK_S = 0.12;
/** The mean of when media comes follows in about so many seconds. */
const MEAN_S = 1.5;
/** What has come may not be decoded yet. */
const RESERVE_S = 0.12;
const STALL_S = 0.3;
const MOST_PENALTY_S = 3;
const FORGIVEN_MS = 30_000;
/** While a stream begins there is next to nothing in the buffer: to run dry says nothing of the network. */
const STARTING_MS = 3000;

/**
 * @typedef {object} Course
 * @property {number} rate
 * @property {number | null} seek where to, seconds
 * @property {"gap" | "far" | "start" | "join" | null} why
 */

export class LiveEdge {
  #latency;
  #penalty = 0;
  #forgiven = 0;
  /** ms between arrivals: the longest of late. */
  #interval = 0;
  #arrived = 0;
  /**
   * By how much media is ahead of the clock of this page when it comes, on average.
   * @type {number | null}
   */
  #lead = null;
  #begun = 0;
  #steered = 0;
  #rate = 1;
  /** When to look whether it began in the past: the server sends from the newest keyframe on. */
  #joins = Infinity;
  #started = -Infinity;

  /** @param {number} latency seconds that should be buffered, on average */
  constructor(latency) {
    if (typeof latency !== "number" || !(latency >= 0 && latency <= MOST_LATENCY_S)) {
      throw new RangeError(`latency: expected seconds from 0 to ${MOST_LATENCY_S}, got ${latency}`);
    }
    this.#latency = latency;
  }

  /**
   * Seconds that should be buffered: as wished, but more than comes at once, and more after each stall.
   */
  get target() {
    return Math.max(this.#latency, (0.75 * this.#interval) / 1000 + RESERVE_S) + this.#penalty;
  }

  /**
   * Data has arrived.
   * @param {number} now ms
   */
  arrived(now) {
    const since = this.#arrived ? now - this.#arrived : 0;
    this.#arrived = now;
    if (since < 5000) this.#interval = Math.max(since, this.#interval * 0.98);
  }

  /**
   * Playback stood still for lack of data.
   * @param {number} now ms
   */
  stalled(now) {
    // Who wants little delay would rather miss something; after a stall a browser also waits for more data
    // than before, until a seek makes it forget that.
    if (this.#latency < CLOSE_S) this.#joins = now + SETTLED_MS;
    if (now - this.#started < STARTING_MS) return;
    this.#penalty = Math.min(this.#penalty + this.#share(STALL_S), MOST_PENALTY_S);
    this.#forgiven = now + FORGIVEN_MS;
  }

  /** Begin anew: after a jump, or when something else is played. */
  reset() {
    this.#lead = null;
    this.#rate = 1;
  }

  /**
   * @param {number} now ms
   * @param {number} at where playback is, seconds
   * @param {readonly Range[]} ranges what is buffered
   * @returns {Course}
   */
  steer(now, at, ranges) {
    const last = ranges.at(-1);
    if (!last) return { rate: 1, seek: null, why: null };
    const target = this.#decayed(now);
    const place = ranges.find(([start, end]) => at >= start - TOUCH_S && at <= end);
    const next = ranges.find(([start]) => start > at);
    const begins = place ? null : at < ranges[0][0] ? "start" : "gap";
    if (last[1] - at > target + FAR_S && begins !== "start") {
      return this.#jump(Math.max(last[0], last[1] - target), "far");
    }
    if (!place || (next && place[1] - at < BRINK_S)) {
      this.#joins = now + SETTLED_MS;
      if (begins === "start") this.#started = now;
      return this.#jump(next ? next[0] : Math.max(last[0], last[1] - target), begins ?? "gap");
    }
    if (now >= this.#joins) {
      this.#joins = Infinity;
      if (last[1] - at > target + this.#share(LATE_S)) return this.#jump(Math.max(last[0], last[1] - target), "join");
    }
    return { rate: this.#pace(now, at, last[1], target), seek: null, why: null };
  }

  /**
   * @param {number} seek
   * @param {Course["why"]} why
   * @returns {Course}
   */
  #jump(seek, why) {
    this.reset();
    return { rate: 1, seek, why };
  }

  /**
   * Of what is right for half a second and more.
   * @param {number} seconds
   */
  #share(seconds) {
    return seconds * Math.min(1, this.#latency / CLOSE_S);
  }

  /** @param {number} now */
  #decayed(now) {
    if (this.#penalty && now >= this.#forgiven) {
      this.#penalty = Math.max(0, this.#penalty - this.#share(STALL_S));
      this.#forgiven = now + FORGIVEN_MS;
    }
    return this.target;
  }

  /** @param {number} now @param {number} at @param {number} end @param {number} target */
  #pace(now, at, end, target) {
    const lead = end - now / 1000;
    const before = this.#lead ?? lead;
    if (this.#lead === null) this.#begun = now;
    // At first what is there comes at once: there is no mean yet.
    const span = Math.min(MEAN_S, (now - this.#begun) / 2000);
    const weight = span > 0 ? Math.min(1, (now - this.#steered) / 1000 / span) : 1;
    this.#steered = now;
    this.#lead = before + weight * (lead - before);
    // The mean is of when media comes. Where playback is counts at once: what is done here is no surprise.
    const mean = this.#lead + now / 1000 - at;
    const [late, early] = [mean - target, 0.75 * target - mean];
    // Once it has begun it goes on until the target is reached: no to and fro. In steps: each change of the
    // rate costs the browser something, and the ear as well.
    if (late > this.#share(SLACK_S) || (this.#rate > 1 && late > 0)) {
      this.#rate = Math.min(FASTEST, 1 + STEP * Math.max(1, Math.round((PULL * late) / this.#share(STEP))));
    } else if (early > 0 || (this.#rate < 1 && mean < 0.9 * target)) {
      this.#rate = SLOWEST;
    } else {
      this.#rate = 1;
    }
    return this.#rate;
  }
}

/**
 * What to remove of a buffer, so that it stays small: what was played long ago, and of a long pause the
 * beginning.
 * @param {number} at where playback is, seconds
 * @param {readonly Range[]} ranges
 * @param {{behind?: number, whole?: number}} most seconds
 * @returns {Range | null}
 */
export function excess(at, ranges, { behind = 30, whole = 60 } = {}) {
  if (!ranges.length) return null;
  const [start, end] = [ranges[0][0], ranges[ranges.length - 1][1]];
  if (end - start > whole && end - at > whole / 2) return [start, end - whole / 2];
  return at - start > behind ? [start, at - behind / 3] : null;
}
