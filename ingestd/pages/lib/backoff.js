/** When to try again: at once, then after longer and longer waits, each with some jitter. */

const STEPS = [1000, 2000, 4000, 8000];
const JITTER = 0.25;

export class Backoff {
  #random;
  #failures = 0;
  #hasty = true;

  /** @param {() => number} [random] from 0 to 1 */
  constructor(random = Math.random) {
    this.#random = random;
  }

  /** How many attempts in a row have failed. */
  get failures() {
    return this.#failures;
  }

  /**
   * Milliseconds to wait before the next attempt. Jitter only shortens, so that a step is the longest wait.
   * @param {number} [least] wait at least about so long
   */
  next(least = 0) {
    const step = this.#failures - (this.#hasty ? 1 : 0);
    this.#failures += 1;
    const wait = step < 0 ? 0 : STEPS[Math.min(step, STEPS.length - 1)];
    return Math.max(wait, least) * (1 - JITTER * this.#random());
  }

  /**
   * An attempt has succeeded.
   * @param {boolean} [hasty] whether the next one may begin at once, or waits for a second
   */
  reset(hasty = true) {
    this.#failures = 0;
    this.#hasty = hasty;
  }
}
