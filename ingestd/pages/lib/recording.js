/** The recorders of a publisher, one after the other: each ends before the data of the next is given. */

import { IngestdError, problem } from "./advice.js";
import { Recorder } from "./recorder.js";
import { recordingTypes } from "./types.js";

/** @typedef {import("./outbox.js").Source} Source */

/**
 * @typedef {object} RecordingOptions
 * @property {string} [type] the exact type to ask for
 * @property {import("./types.js").Codec} [codec] or what to try first
 * @property {number} audioBitrate
 * @property {number} slice
 * @property {number} keyframeInterval
 */

/**
 * @typedef {object} RecordingHost
 * @property {(source: Source, data: Uint8Array) => void} give
 * @property {(error: unknown) => void} ended a recorder has ended that was not told to
 */

export class Recording {
  /** What is recorded, or was last. */
  type = "";
  /** The number of the next recorder. */
  next = 0;
  paused = false;
  #options;
  #host;
  /** @type {{recorder: Recorder, source: Source} | null} */
  #current = null;
  /**
   * Sources whose data is not wanted any more.
   * @type {WeakSet<Source>}
   */
  #void = new WeakSet();
  /**
   * The end of the last recorder's data.
   * @type {Promise<unknown>}
   */
  before = Promise.resolve(null);

  /** @param {MediaStream} stream @param {RecordingOptions} options @param {RecordingHost} host */
  constructor(stream, options, host) {
    this.stream = stream;
    this.#options = options;
    this.#host = host;
  }

  /** Whether there is a recorder. */
  get active() {
    return this.#current !== null;
  }

  /**
   * Begin a recorder, at *bitrate*, and end the one that there is, which gives its last data first.
   * @param {number} bitrate
   * @param {{discard?: boolean, missing?: number}} options discard: drop what the one that there is still has;
   *   missing: for how long nothing was recorded, s
   * @returns {boolean} false if there is nothing to record
   */
  begin(bitrate, { discard = false, missing = 0 } = {}) {
    const old = this.#current;
    const tracks = this.stream.getTracks().filter(track => track.readyState === "live");
    const type = tracks.length ? this.#type(tracks) : "";
    if (old && discard) this.#void.add(old.source);
    this.end();
    if (!type) return false;
    const source = { number: this.next, mime: type, follows: old !== null && !discard && !missing, missing };
    const recorder = new Recorder(
      new MediaStream(tracks),
      { ...this.#options, type, bitrate },
      data => {
        source.mime = this.type = recorder.type || type;
        if (!this.#void.has(source)) this.#host.give(source, data);
      },
      this.before,
    );
    this.next += 1;
    const current = (this.#current = { recorder, source });
    recorder.done.then(error => {
      if (this.#current !== current) return;
      this.#current = null;
      this.#host.ended(error);
    });
    return true;
  }

  /**
   * End the recorder.
   * @returns {Promise<unknown>} when all its data was given
   */
  end() {
    const current = this.#current;
    this.#current = null;
    this.paused = false;
    if (current) this.before = current.recorder.stop();
    return this.before;
  }

  pause() {
    this.paused = true;
    this.#current?.recorder.pause();
  }

  resume() {
    this.paused = false;
    this.#current?.recorder.resume();
  }

  /** @param {MediaStreamTrack[]} tracks */
  #type(tracks) {
    const { type, codec } = this.#options;
    const [video, audio] = ["video", "audio"].map(kind => tracks.some(track => track.kind === kind));
    const best = type ?? recordingTypes({ codec, video, audio })[0];
    if (!best) throw new IngestdError(problem(typeof MediaRecorder === "function" ? "no_type" : "no_recorder"));
    return best;
  }
}
