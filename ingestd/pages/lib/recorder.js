/** One MediaRecorder: its data as bytes and in order, and a promise for its end. */

/**
 * @typedef {object} RecorderOptions
 * @property {string} type
 * @property {number} bitrate of the picture, bits per second
 * @property {number} audioBitrate
 * @property {number} slice ms of a chunk
 * @property {number} keyframeInterval ms
 */

export class Recorder {
  /**
   * Resolves when it has ended, by whatever, and all its data was given: with its error, if it had one.
   * @type {Promise<unknown>}
   */
  done;
  /** Whether it was told to stop. */
  stopping = false;
  #recorder;
  /** @type {Promise<void>} */
  #order;
  /** @type {unknown} */
  #error = null;

  /**
   * Begins to record. Throws what MediaRecorder throws.
   * @param {MediaStream} stream
   * @param {RecorderOptions} options
   * @param {(data: Uint8Array) => void} give one call for each chunk, also the empty ones
   * @param {Promise<unknown>} [after] hold the data back until then
   */
  constructor(stream, { type, bitrate, audioBitrate, slice, keyframeInterval }, give, after) {
    // A stream of its own: the page may add and remove tracks of its stream without ending the recorder.
    this.#recorder = new MediaRecorder(new MediaStream(stream.getTracks()), {
      mimeType: type,
      videoBitsPerSecond: bitrate,
      audioBitsPerSecond: audioBitrate,
      videoKeyFrameIntervalDuration: keyframeInterval,
    });
    this.#order = Promise.resolve(after).then(() => {});
    this.#recorder.ondataavailable = ({ data }) => {
      const bytes = data.arrayBuffer();
      this.#order = this.#order.then(async () => give(new Uint8Array(await bytes)));
    };
    this.#recorder.onerror = event => (this.#error ??= /** @type {any} */ (event).error ?? event);
    this.done = new Promise(resolve => {
      this.#recorder.onstop = () => this.#order.then(() => resolve(this.#error), resolve);
    });
    this.#recorder.start(slice);
  }

  /** What it really makes; from its first data on. */
  get type() {
    return this.#recorder.mimeType;
  }

  /** Give what is left and end. */
  stop() {
    this.stopping = true;
    if (this.#recorder.state !== "inactive") this.#recorder.stop();
    return this.done;
  }

  pause() {
    if (this.#recorder.state === "recording") this.#recorder.pause();
  }

  resume() {
    if (this.#recorder.state === "paused") this.#recorder.resume();
  }
}
