/** Starting a video as a browser lets us: with its sound, else without, else not. */

import { problem } from "./advice.js";

export class Autoplay {
  /** Whether it is still to be started. */
  wanted = false;
  #video;
  #warn;

  /**
   * @param {HTMLVideoElement} video
   * @param {(problem: import("./advice.js").Problem) => void} warn
   */
  constructor(video, warn) {
    this.#video = video;
    this.#warn = warn;
  }

  /** Whether a person has paused it, or has to start it. */
  get paused() {
    return this.#video.paused && !this.wanted;
  }

  /** Start it, if that is still to be done. */
  async attempt() {
    if (!this.wanted || !this.#video.paused) return;
    this.wanted = false;
    try {
      await this.#video.play();
    } catch (error) {
      const refused = error instanceof DOMException && error.name === "NotAllowedError";
      if (refused && this.#video.muted) return this.#warn(problem("autoplay_refused"));
      this.wanted = true; // without sound; or later, if another load has come between
      if (!refused) return;
      this.#video.muted = true;
      this.#warn(problem("autoplay_muted"));
      await this.attempt();
    }
  }
}
