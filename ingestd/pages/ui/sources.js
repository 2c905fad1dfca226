// What is sent: a camera or the screen, with the microphone; and how loud that is.
import { explainMediaError, getMedia } from "../lib/ingestd.js";

/** @typedef {import("../lib/advice.js").Problem} Problem */

/**
 * Sizes that cameras have, or that are cut out of one. What a camera has not, Chromium scales for the preview
 * and records unscaled.
 */
const SIZES = /** @type {const} */ ({ 360: [640, 360], 720: [1280, 720], 1080: [1920, 1080] });

/** A larger screen is more than recorders manage in time. */
const SCREEN = { width: { max: 1920 }, height: { max: 1080 }, frameRate: { max: 30 } };

/** Camera, screen and microphone of this browser. `changed` is called with each new stream to send; null: there is none. */
export class Sources {
  /** @type {MediaStream | null} */
  #camera = null;
  /** @type {MediaStream | null} */
  #screen = null;
  /** @type {AudioContext | null} */
  #context = null;
  /** @type {AnalyserNode | null} */
  #analyser = null;
  #muted = false;
  /** @type {MediaStream | null} */
  stream = null;
  height = 720;

  /** What runs, and what was asked for meanwhile: two at once would leave a device on that nobody uses. */
  #queue = Promise.resolve();

  /** @param {(stream: MediaStream | null) => Promise<void>} changed @param {(problem: Problem) => void} failed */
  constructor(changed, failed) {
    this.changed = changed;
    this.failed = failed;
  }

  get sharing() {
    return this.#screen !== null;
  }

  get muted() {
    return this.#muted;
  }

  /** @param {boolean} muted */
  set muted(muted) {
    this.#muted = muted;
    for (const track of this.#camera?.getAudioTracks() ?? []) track.enabled = !muted;
  }

  /** The devices in use: their ids, as `enumerateDevices` has them. */
  get chosen() {
    const id = (/** @type {MediaStreamTrack[] | undefined} */ tracks) => alive(tracks)[0]?.getSettings().deviceId ?? "";
    return { camera: id(this.#camera?.getVideoTracks()), microphone: id(this.#camera?.getAudioTracks()) };
  }

  /**
   * Take camera and microphone; what there is none of is left out.
   * @param {{ camera?: string, microphone?: string }} [which] as before, if it is left out
   */
  open(which) {
    return this.#next(async () => {
      const used = this.chosen;
      const { camera, microphone } = which ?? used;
      const video = { ...this.#size, ...exactly(camera) };
      const audio = { ...exactly(microphone) };
      const wanted = [{ video, audio }, { video }, { audio }];
      const before = this.#camera;
      let { taken, refused } = await attempt(first(wanted));
      if (refused && (used.camera || used.microphone)) {
        // What there is goes on.
        if (refused.code !== "device_busy") return this.failed(refused);
        // Some systems give a device to one taker only: the old one is let go of first, and taken back if that was of no use.
        stop(before);
        ({ taken, refused } = await attempt(first(wanted)));
        if (refused) {
          ({ taken } = await attempt(getMedia({
            video: used.camera ? { ...this.#size, ...exactly(used.camera) } : false,
            audio: used.microphone ? exactly(used.microphone) : false,
          })));
        }
      }
      this.#camera = taken;
      for (const track of taken?.getTracks() ?? []) track.addEventListener("ended", () => this.#lost(track));
      this.muted = this.#muted;
      await this.#compose();
      stop(before);
      if (refused) this.failed(refused);
    });
  }

  /**
   * Have the camera's pictures in another size. Taken a second time, a camera that is on would keep its own.
   * @param {number} height
   */
  resize(height) {
    this.height = height;
    return this.#next(async () => {
      const [track] = alive(this.#camera?.getVideoTracks());
      await track?.applyConstraints(this.#size).catch((error) => this.failed(explainMediaError(error)));
    });
  }

  get #size() {
    const [width, height] = SIZES[/** @type {keyof typeof SIZES} */ (this.height)] ?? SIZES[720];
    return { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: 30 } };
  }

  /** Share the screen in place of the camera, until it ends. */
  share() {
    return this.#next(async () => {
      if (this.#screen) return;
      if (!navigator.mediaDevices?.getDisplayMedia) {
        this.failed({ code: "no_screen", text: "This browser cannot share its screen.", advice: "Phones cannot; use a computer." });
        return;
      }
      try {
        this.#screen = await navigator.mediaDevices.getDisplayMedia({ video: SCREEN, audio: true });
      } catch (error) {
        const { name = "", message = String(error) } = error instanceof Error ? error : {};
        // Whoever has changed their mind knows that; what the system forbids looks the same.
        if (name === "NotAllowedError" && !/system/i.test(message)) return;
        const text = `The screen cannot be shared. (${message || name})`;
        this.failed({ code: "no_screen", text, advice: "Allow this browser to record the screen in the system's privacy settings; then try again." });
        return;
      }
      this.#screen.getVideoTracks()[0]?.addEventListener("ended", () => this.unshare());
      await this.#compose();
    });
  }

  /** Back to the camera, if it is on. */
  unshare() {
    return this.#next(async () => {
      const before = this.#screen;
      this.#screen = null;
      if (before) await this.#compose();
      stop(before);
    });
  }

  /** How loud it is, 0 to 1 over 60 dB; null without sound. */
  get level() {
    if (!this.#analyser) return null;
    const samples = new Float32Array(this.#analyser.fftSize);
    this.#analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    return Math.min(1, Math.max(0, 1 + (10 * Math.log10(power + 1e-12)) / 60));
  }

  /** @param {() => Promise<void>} task */
  #next(task) {
    return (this.#queue = this.#queue.then(task, task));
  }

  /** @param {MediaStreamTrack} track a device was unplugged */
  #lost(track) {
    void this.#next(async () => {
      if (!this.#camera?.getTracks().includes(track)) return;
      await this.#compose();
      const gone = this.#camera.getTracks().filter(({ readyState }) => readyState === "ended");
      const what = gone.map(({ kind }) => (kind === "video" ? "camera" : "microphone")).join(" and the ");
      const text = `The ${what} ${gone.length > 1 ? "have" : "has"} gone. (${gone.map(({ label }) => label).join(", ")})`;
      this.failed({ code: "device_gone", text, advice: "Connect it again, or allow it again in the address bar; then choose it." });
    });
  }

  /** Make one stream of what there is. */
  async #compose() {
    const pictures = alive((this.#screen ?? this.#camera)?.getVideoTracks());
    let sound = [...alive(this.#camera?.getAudioTracks()), ...alive(this.#screen?.getAudioTracks())];
    this.#context ??= new AudioContext();
    void this.#context.resume();
    this.#analyser = null;
    if (sound.length) {
      this.#analyser = this.#context.createAnalyser();
      const mixed = this.#context.createMediaStreamDestination();
      for (const track of sound) {
        const source = this.#context.createMediaStreamSource(new MediaStream([track]));
        source.connect(this.#analyser);
        source.connect(mixed);
      }
      // A recorder takes one track of sound.
      if (sound.length > 1) sound = mixed.stream.getAudioTracks();
    }
    const tracks = [...pictures.slice(0, 1), ...sound];
    this.stream = tracks.length ? new MediaStream(tracks) : null;
    await this.changed(this.stream);
  }
}

/** @param {MediaStreamTrack[]} [tracks] */
const alive = (tracks = []) => tracks.filter(({ readyState }) => readyState === "live");

/**
 * @param {Promise<MediaStream>} taking
 * @returns {Promise<{ taken: MediaStream | null, refused: Problem | null }>}
 */
const attempt = (taking) => taking.then((taken) => ({ taken, refused: null }), (error) => ({ taken: null, refused: explainMediaError(error) }));

/** @param {string | undefined} id */
const exactly = (id) => (id ? { deviceId: { exact: id } } : {});

/** @param {MediaStream | null} stream */
const stop = (stream) => stream?.getTracks().forEach((track) => track.stop());

/**
 * The first of *wanted* that there are devices for.
 * @param {MediaStreamConstraints[]} wanted
 * @returns {Promise<MediaStream>}
 */
async function first([constraints, ...others]) {
  try {
    return await getMedia(constraints);
  } catch (error) {
    const code = /** @type {{ code?: string }} */ (error).code;
    if (!others.length || (code !== "no_device" && code !== "device_constraints")) throw error;
    return first(others).catch(() => { throw error; });
  }
}
