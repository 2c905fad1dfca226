// What is sent: a camera or the screen, with the microphone; and how loud that is.
import { explainMediaError, getMedia } from "../lib/ingestd.js";

/** @typedef {import("../lib/advice.js").Problem} Problem */

const RATES = /** @type {const} */ ({ 480: [854, 480], 720: [1280, 720], 1080: [1920, 1080] });

/** Camera, screen and microphone of this browser. `changed` is called with each new stream to send. */
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

  /** @param {(stream: MediaStream) => Promise<void>} changed @param {(problem: Problem) => void} failed */
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
    const id = (/** @type {MediaStreamTrack | undefined} */ track) => track?.getSettings().deviceId ?? "";
    return { camera: id(this.#camera?.getVideoTracks()[0]), microphone: id(this.#camera?.getAudioTracks()[0]) };
  }

  /**
   * Take camera and microphone; what there is none of is left out.
   * @param {{ camera?: string, microphone?: string }} which
   */
  async open({ camera, microphone } = this.chosen) {
    const [width, height] = RATES[/** @type {keyof typeof RATES} */ (this.height)] ?? RATES[720];
    const video = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: 30 }, ...exactly(camera) };
    const audio = { ...exactly(microphone) };
    const wanted = [{ video, audio }, { video }, { audio }];
    const before = this.#camera;
    try {
      this.#camera = await first(wanted).catch((error) => {
        if (!before) throw error;
        // Some systems give a device to one taker only: the old one is let go of first.
        stop(before);
        return first(wanted);
      });
    } catch (error) {
      this.#camera = null;
      this.failed(explainMediaError(error));
      return;
    }
    this.muted = this.#muted;
    await this.#compose();
    stop(before);
  }

  /** Share the screen in place of the camera, until it ends. */
  async share() {
    if (!navigator.mediaDevices?.getDisplayMedia) {
      this.failed({ code: "no_screen", text: "This browser cannot share its screen.", advice: "Phones cannot; use a computer." });
      return;
    }
    try {
      this.#screen = await navigator.mediaDevices.getDisplayMedia({ video: true, audio: true });
    } catch (error) {
      // Whoever has changed their mind knows that.
      if (!(error instanceof DOMException && error.name === "NotAllowedError")) this.failed(explainMediaError(error));
      return;
    }
    this.#screen.getVideoTracks()[0]?.addEventListener("ended", () => this.unshare());
    await this.#compose();
  }

  async unshare() {
    const before = this.#screen;
    this.#screen = null;
    if (this.#camera) await this.#compose();
    else await this.open();
    stop(before);
  }

  /** How loud it is, 0 to 1 over 60 dB; null without sound. */
  get level() {
    if (!this.#analyser) return null;
    const samples = new Float32Array(this.#analyser.fftSize);
    this.#analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    return Math.min(1, Math.max(0, 1 + (10 * Math.log10(power + 1e-12)) / 60));
  }

  async #compose() {
    const pictures = this.#screen ?? this.#camera;
    const [own, shared] = [this.#camera?.getAudioTracks() ?? [], this.#screen?.getAudioTracks() ?? []];
    this.#context ??= new AudioContext();
    void this.#context.resume();
    this.#analyser = null;
    let sound = [...own, ...shared];
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
    this.stream = new MediaStream([...(pictures?.getVideoTracks().slice(0, 1) ?? []), ...sound]);
    await this.changed(this.stream);
  }
}

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
