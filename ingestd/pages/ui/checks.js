// The steps of a check: each says what it saw, or throws what is wrong and how to mend it.
import { Player, Publisher } from "../lib/ingestd.js";
import { about, call, daemonNow, Problem, who } from "./api.js";
import { delay, plural, rate } from "./dom.js";
import { testCard } from "./testcard.js";
import { track } from "./words.js";

/** @typedef {import("./api.js").Stream} Stream */
/** @typedef {import("./api.js").Playback} Playback */
/** @typedef {{ id: string, type: string }[]} Sinks */
/** @typedef {{ title: string, run: () => Promise<string>, needs?: string[], id: string }} Step */

/** What is wrong, and the cure. */
export class Fault extends Error {
  /** @param {string} cause @param {string} cure */
  constructor(cause, cure) {
    super(cause);
    this.cure = cure;
  }
}

/** Always the same, so that playlists, which stay, do not pile up. */
const NAME = "check";
const TITLE = "Check";
/** What is made while that one is there is called like this. */
const OURS = new RegExp(`^${NAME}(-[a-z0-9]{8})?$`);
/** No check takes so long, in milliseconds. */
const LONGEST = 10 * 60_000;
const SOON = 15_000;
const LATER = 30_000;
const LOG = "Look at `ingestd logs` on the server.";

/** One run, with what it has made: `clear` removes that again. */
export class Check {
  /** @type {string} */
  #stream = "";
  #key = "";
  #address = "";
  /** @type {Publisher | null} */
  #publisher = null;
  /** @type {Player | null} */
  #player = null;
  /** @type {ReturnType<typeof testCard> | null} */
  #card = null;
  /** @type {Playback | null} */
  #playback = null;
  #stopped = new AbortController();

  /**
   * @param {string} pipeline
   * @param {{ name: string, type: string }[]} sinks what the pipeline has
   * @param {HTMLVideoElement} video where what comes back is played
   */
  constructor(pipeline, sinks, video) {
    this.pipeline = pipeline;
    this.sinks = sinks;
    this.video = video;
  }

  /** @returns {Step[]} */
  get steps() {
    const published = ["published"];
    return [
      { id: "browser", title: "This browser", run: () => this.#browser() },
      { id: "api", title: "API", run: () => this.#api() },
      { id: "recorder", title: "Recorder types", run: () => this.#recorder(), needs: ["browser"] },
      { id: "stream", title: "A stream for the check", run: () => this.#create(), needs: ["api"] },
      { id: "socket", title: "Socket", run: () => this.#socket(), needs: ["browser", "stream"] },
      { id: "published", title: "Publishing", run: () => this.#publish(), needs: ["socket", "recorder"] },
      { id: "init", title: "Init segment", run: () => this.#init(), needs: published },
      { id: "ffmpeg", title: "FFmpeg", run: () => this.#ffmpeg(), needs: ["init"] },
      ...this.sinks.map(({ name, type }) => ({
        id: `sink-${name}`, title: `Sink ${name}${name === type ? "" : ` (${type})`}`, run: () => this.#sink(name), needs: ["ffmpeg"],
      })),
      { id: "playback", title: "Playback", run: () => this.#play(), needs: ["init"] },
      { id: "video", title: "Video element", run: () => this.#watch(), needs: ["playback"] },
    ];
  }

  /** Let the step that runs end now. */
  stop() {
    this.#stopped.abort();
  }

  get stopped() {
    return this.#stopped.signal.aborted;
  }

  /** Remove what was made. @returns {Promise<string>} what could not be, or nothing */
  async clear() {
    this.#player?.stop();
    await this.#publisher?.stop().catch(() => {});
    this.#card?.close();
    if (!this.#stream) return "";
    try {
      const last = await this.#until(SOON, async () => {
        const found = await this.#status();
        return ["idle", "ended", "failed"].includes(found.state) ? found : null;
      }, true).catch(() => null);
      // What a session has recorded is listed a little after it has ended.
      const recorded = last?.sinks.filter(({ type, sent_frames: frames }) => type === "file" && frames > 0).length ?? 0;
      const found = await this.#until(SOON, async () => {
        const { recordings } = await call("GET", `v1/recordings?stream=${this.#stream}&finished=true`);
        return recordings.length >= recorded ? recordings : null;
      }, true).catch(() => []);
      for (const { id } of found) await call("DELETE", `v1/recordings/${id}`);
      await call("DELETE", `v1/streams/${this.#stream}`);
      this.#stream = "";
      return "";
    } catch (error) {
      return `The stream “${this.#stream}” could not be removed: ${error instanceof Error ? error.message : error}`;
    }
  }

  async #browser() {
    // This page asks for no camera, and is sent with a policy that forbids it one.
    const [problem] = [...Publisher.check(), ...Player.check()].filter(({ code }) => code !== "no_capture");
    if (problem) throw new Fault(problem.text, problem.advice);
    return "Secure context, MediaRecorder, WebSocket and Media Source are there.";
  }

  async #api() {
    try {
      const [daemon, me] = [await about(), await who()];
      this.#address = daemon.publish;
      if (location.protocol === "https:" && daemon.publish.startsWith("ws:")) {
        throw new Fault(`This page is secure, but publishers are sent to ${daemon.publish}, which browsers refuse.`,
          "Set control.public_url to the address that browsers see, beginning with https://.");
      }
      return `ingestd ${daemon.version} answers; ${daemon.tokens ? `signed in as ${me.name}` : "nobody is asked for a token"}.`;
    } catch (error) {
      if (error instanceof Problem && error.status === 0) throw new Fault(error.message, "Look whether the daemon and the proxy before it run.");
      throw error;
    }
  }

  async #recorder() {
    const types = Publisher.types();
    return `${types.length} types; the best is ${types[0]}.`;
  }

  async #create() {
    try {
      const made = await this.#make(await this.#free() ? NAME : `${NAME}-${Date.now().toString(36)}`);
      this.#stream = made.name;
      this.#key = made.key;
      return `“${made.name}” on the pipeline ${made.pipeline}.`;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status === 403) throw new Fault(error.message, "Sign in with a token that has the scope admin.");
      if (error.status === 503) throw new Fault(error.message, "The database is away: look at it, and at `ingestd status` on the server.");
      if (error.status === 409) throw new Fault(error.message, "Delete streams that nobody needs, or raise control.max_streams.");
      throw new Fault(error.message, error.status === 429 ? "Wait a minute, and check again." : LOG);
    }
  }

  /** Whether the name is free: what pages have left behind that were closed is removed. */
  async #free() {
    const streams = /** @type {Stream[]} */ ((await call("GET", `v1/streams?q=${NAME}&limit=100`)).streams);
    // A younger one is of a check that runs elsewhere.
    const old = streams.filter(({ name, title, declared, state, created }) => OURS.test(name) && title === TITLE && !declared
      && ["idle", "ended", "failed"].includes(state) && daemonNow() - Date.parse(created) > LONGEST);
    for (const { name } of old) await call("DELETE", `v1/streams/${name}`);
    return streams.every((stream) => stream.name !== NAME || old.includes(stream));
  }

  /** @param {string} name @returns {Promise<import("./api.js").CreatedStream>} */
  #make(name) {
    return call("POST", "v1/streams", { body: { name, pipeline: this.pipeline, title: TITLE } });
  }

  async #socket() {
    this.#playback = /** @type {Playback} */ (await call("GET", `v1/playback/${this.#stream}`));
    const url = this.#playback.watch;
    const began = performance.now();
    await new Promise((opened, failed) => {
      const socket = new WebSocket(url);
      const fault = () => {
        socket.close();
        const { origin } = new URL(url);
        failed(new Fault(`No WebSocket could be opened to ${origin}.`,
          new URL(url).host === location.host
            ? "The proxy must pass WebSocket upgrades of /stream/ on to the ingest listener."
            : "That port must be reachable from here: open it in the firewall; or put a proxy before both listeners, and set control.public_url."));
      };
      const timer = setTimeout(fault, SOON);
      socket.onerror = () => { clearTimeout(timer); fault(); };
      socket.onopen = () => { clearTimeout(timer); socket.close(); opened(null); };
    });
    return `Open after ${delay(performance.now() - began)}.`;
  }

  async #publish() {
    this.#card = testCard();
    const publisher = new Publisher({ url: this.#address, key: this.#key, stream: this.#card.stream, bitrate: 1_000_000, name: "check page" });
    this.#publisher = publisher;
    const began = performance.now();
    const problem = await Promise.race([
      publisher.start().then(() => null, (error) => error),
      this.#patience(LATER).then(() => publisher.cause ?? { text: "Nothing was taken in time." }),
    ]);
    if (problem) throw new Fault(problem.text ?? String(problem), cureOf(problem));
    return `The first chunk was in the journal after ${delay(performance.now() - began)}, as ${publisher.statistics.recorderType}.`;
  }

  async #init() {
    const status = await this.#until(SOON, async () => {
      const found = await this.#status();
      if (found.state === "failed") throw new Fault(found.cause ?? "The session failed.", LOG);
      return found.source?.tracks.length ? found : null;
    }).catch(timeless("The daemon found no init segment in what this browser records.", "Try another browser, and tell the operator which one it was."));
    return `Read: ${status.source?.tracks.map(track).join(", ")}.`;
  }

  async #ffmpeg() {
    if (!this.sinks.length) return "Not needed: the pipeline has no sinks.";
    const cure = "Run `ingestd doctor` on the server: it names what is missing, and how to install it.";
    const status = await this.#until(LATER, async () => {
      const found = await this.#status();
      const { encoder } = found;
      const running = found.sinks.length > 0;
      if (found.state === "failed") throw new Fault(`FFmpeg does not encode: ${encoder?.last_error ?? found.cause ?? "the session failed"}.`, cure);
      if (encoder?.last_error && (encoder.state === "failed" || encoder.attempts > 1)) throw new Fault(`FFmpeg does not encode: ${encoder.last_error}.`, cure);
      return encoder ? (encoder.frames > 0 ? found : null) : (running ? found : null);
    }).catch(timeless("FFmpeg has encoded nothing yet.", `The server may be too busy. ${cure}`));
    const { encoder } = status;
    return encoder ? `It encodes: ${plural(encoder.frames, "frame")} so far.` : "Not needed to encode: the sinks take what the browser sends.";
  }

  /** @param {string} name */
  async #sink(name) {
    const cure = "Run `ingestd doctor` on the server, and look at the sink's keys in the pipeline's file.";
    let last = "";
    const sink = await this.#until(LATER, async () => {
      const found = (await this.#status()).sinks.find((each) => each.name === name);
      if (!found) return null;
      last = found.last_error ?? "";
      if (found.last_error && (found.state === "failed" || found.attempts > 1)) throw new Fault(`${found.last_error}.`, cure);
      const begun = found.type === "hls" ? Boolean(found.last_segment) : found.type === "file" || found.sent_frames > 0;
      return found.state === "running" && begun ? found : null;
    }).catch((error) => timeless(last || "It has written nothing yet.", cure)(error));
    if (sink.type === "hls") return `The first segment is written: ${sink.last_segment}.`;
    return sink.file ? `Writes ${sink.file}.` : "It runs.";
  }

  async #play() {
    const { hls } = /** @type {Playback} */ (this.#playback);
    const playback = /** @type {Playback} */ (await call("GET", `v1/playback/${this.#stream}`));
    this.#playback = playback;
    const player = new Player(this.video, { url: playback.watch, hls });
    this.#player = player;
    this.video.muted = true;
    player.start();
    await this.#until(SOON, async () => {
      if (player.state === "failed" || player.state === "unsupported") {
        throw new Fault(player.cause?.text ?? "It cannot be played.", cureOf(player.cause));
      }
      return player.state === "playing" ? true : null;
    }).catch((error) => timeless(`The player stays ${player.state}. ${player.cause?.text ?? ""}`.trim(), cureOf(player.cause))(error));
    return `${player.statistics.media || player.statistics.mode}, the first picture after ${delay(player.statistics.firstFrameMs ?? NaN)}.`;
  }

  async #watch() {
    const { video } = this;
    const player = /** @type {Player} */ (this.#player);
    const [frames, at] = [player.statistics.decodedFrames, video.currentTime];
    await this.#until(SOON, async () => (player.statistics.decodedFrames > frames + 25 && video.currentTime > at + 1 ? true : null))
      .catch(timeless("The picture stands still.", "Keep this page in front while it checks. The browser may lack a decoder, or be too busy: close other tabs, or try another browser."));
    const heard = /** @type {any} */ (video).webkitAudioDecodedByteCount;
    if (heard === 0) throw new Fault("There is a picture, but no sound.", "Check again in another browser.");
    await this.#until(5000, async () => player.statistics.latencyMs).catch(() => null);
    const { latencyMs, droppedFrames } = player.statistics;
    const sent = this.#publisher?.statistics.sentBitrate;
    return `${video.videoWidth}×${video.videoHeight} moves${heard ? ", with sound" : ""}; ${latencyMs === null ? "" : `${delay(latencyMs)} behind, `}`
      + `${droppedFrames} frames dropped, ${rate(sent)} sent.`;
  }

  /** @returns {Promise<Stream>} */
  #status() {
    return call("GET", `v1/streams/${this.#stream}`);
  }

  /** @param {number} ms @returns {Promise<void>} */
  #patience(ms) {
    return new Promise((done, failed) => {
      const timer = setTimeout(done, ms);
      this.#stopped.signal.addEventListener("abort", () => { clearTimeout(timer); failed(new Fault("Stopped.", "")); });
    });
  }

  /**
   * What *look* finds first; `Late` after so many milliseconds.
   * @template Found
   * @param {number} ms
   * @param {() => Promise<Found | null>} look
   * @param {boolean} anyway also when it was stopped
   * @returns {Promise<Found>}
   */
  async #until(ms, look, anyway = false) {
    for (const end = performance.now() + ms; performance.now() < end;) {
      if (this.stopped && !anyway) throw new Fault("Stopped.", "");
      const found = await look();
      if (found !== null) return found;
      await new Promise((done) => { setTimeout(done, 250); });
    }
    throw new Late();
  }
}

class Late extends Error {}

/**
 * What an operator can do: advice that says "nothing", or to tell the operator, is for others.
 * @param {{ code?: string, advice?: string } | null} problem
 */
function cureOf(problem) {
  if (problem?.code === "limit_reached") return "End streams that nobody needs, or raise ingest.max_streams.";
  if (problem?.code === "too_many_viewers") return "Raise viewers.max and viewers.max_per_stream.";
  return /^(Nothing|Tell the operator)/.test(problem?.advice ?? "Nothing") ? LOG : problem?.advice ?? LOG;
}

/**
 * A fault in place of a mere `Late`.
 * @param {string} cause
 * @param {string} cure
 */
function timeless(cause, cure) {
  return (/** @type {unknown} */ error) => {
    throw error instanceof Late ? new Fault(cause, cure) : error;
  };
}
