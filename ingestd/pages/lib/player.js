/** Watch a stream of ingestd: docs/browser.md. */

import { problem } from "./advice.js";
import { Autoplay } from "./autoplay.js";
import { Clock } from "./clock.js";
import { excess, LiveEdge } from "./edge.js";
import { Emitter } from "./emitter.js";
import { kindsOf, MediaBuffer, mediaSource, rangesOf } from "./mediabuffer.js";
import { NativeHls, playsHls } from "./native.js";
import { Progress } from "./progress.js";
import { Watching, withToken } from "./watching.js";

/** @typedef {import("./advice.js").Problem} Problem */

/**
 * @typedef {object} PlayerOptions
 * @property {string} url `ws://HOST:8081/stream/watch/STREAM`
 * @property {string | null} [hls] the same stream as HLS, for browsers that need it
 * @property {string} [token] the playback token, if the URLs have none
 * @property {number} [latency] seconds that should be buffered
 */

/**
 * @typedef {"idle" | "connecting" | "waiting" | "buffering" | "playing" | "interrupted" | "ended"
 *   | "unsupported" | "failed"} PlayerState
 */

/**
 * @typedef {object} PlayerStatistics
 * @property {PlayerState} state
 * @property {number} since when the state began, Unix ms
 * @property {"mse" | "managed-mse" | "hls" | "none"} mode
 * @property {number | null} latencyMs from the server's receipt of a frame to its display; null: not known
 * @property {number} bufferedMs what is left to play
 * @property {number} targetMs what should be
 * @property {number} rate of playback
 * @property {number} stalls
 * @property {number} stalledMs
 * @property {number} jumps
 * @property {number} droppedFrames by this browser
 * @property {number} decodedFrames
 * @property {number} skipped frames that the server left out, because this viewer was too slow
 * @property {number} reconnects
 * @property {string} media the type that is played
 * @property {number | null} firstFrameMs from `start` to the first picture
 */

/**
 * @typedef {object} PlayerEvents
 * @property {{state: PlayerState, cause: Problem | null, retryIn: number | null}} statechange
 * @property {PlayerStatistics} statistics
 * @property {Problem} warning
 * @property {Problem} error
 * @property {{media: string, session: string, live: number}} init
 * @property {{type: string} & Record<string, any>} server
 */

const TICK_MS = 200;
const STATISTICS_MS = 1000;
/** A server that says nothing for so long while something plays is gone: `clock` comes every 2 s. */
const SILENCE_MS = 12_000;

/** @extends {Emitter<PlayerEvents>} */
export class Player extends Emitter {
  #video;
  #url;
  /** @type {string | null} */
  #hls;
  /** @type {PlayerState} */
  #state = "idle";
  /** @type {Problem | null} */
  #cause = null;
  #since = Date.now();
  /** @type {PlayerStatistics["mode"]} */
  #mode = "none";
  /** @type {Watching | null} */
  #watching = null;
  /** @type {MediaBuffer | null} */
  #buffer = null;
  /** @type {NativeHls | null} */
  #native = null;
  #edge;
  #autoplay;
  #progress = new Progress();
  /** @type {ReturnType<typeof setInterval>[]} */
  #timers = [];
  /** @type {AbortController | null} */
  #listening = null;
  #media = "";
  #session = "";
  #clock = new Clock();
  /** The next data is an init segment. */
  #heading = false;
  /** There was data after it. */
  #fed = false;
  #skipped = 0;
  #jumps = 0;
  #started = 0;
  /** @type {number | null} */
  #firstFrame = null;

  /** @param {HTMLVideoElement} video @param {PlayerOptions} options */
  constructor(video, { url, hls = null, token, latency = 1 }) {
    super();
    if (!video?.play) throw new TypeError(`video: expected a <video> element, got ${video}`);
    this.#video = video;
    this.#url = withToken(url, token);
    this.#hls = hls && withToken(hls, token);
    this.#edge = new LiveEdge(latency);
    this.#autoplay = new Autoplay(video, found => this.emit("warning", found));
  }

  /**
   * What keeps this browser from playing.
   * @returns {Problem[]}
   */
  static check() {
    if (mediaSource()) return typeof WebSocket === "function" ? [] : [problem("no_websocket")];
    return [problem("no_media_source")];
  }

  get state() {
    return this.#state;
  }

  /** What the state has come from, if it was a problem. */
  get cause() {
    return this.#cause;
  }

  /** @returns {PlayerStatistics} */
  get statistics() {
    const quality = this.#video.getVideoPlaybackQuality?.();
    const { stalls, stalledMs } = this.#progress;
    return {
      state: this.#state,
      since: this.#since,
      mode: this.#mode,
      latencyMs: this.#behind(),
      bufferedMs: Math.max(0, Math.round(1000 * this.#ahead())),
      targetMs: Math.round(1000 * this.#edge.target),
      rate: this.#video.playbackRate,
      stalls,
      stalledMs: Math.round(stalledMs),
      jumps: this.#jumps,
      droppedFrames: quality?.droppedVideoFrames ?? 0,
      decodedFrames: quality?.totalVideoFrames ?? 0,
      skipped: this.#skipped,
      reconnects: Math.max(0, this.#watching?.reconnects ?? 0),
      media: this.#media,
      firstFrameMs: this.#firstFrame,
    };
  }

  /** Connect and play, as soon as there is something; again after `stop`, `failed` or `unsupported`. */
  start() {
    if (!["idle", "ended", "failed", "unsupported"].includes(this.#state) || this.#timers.length) return;
    this.#started = performance.now();
    this.#firstFrame = null;
    this.#jumps = this.#skipped = 0;
    this.#progress = new Progress();
    this.#edge.reset();
    this.#autoplay.wanted = true;
    this.#session = "";
    this.#listening = new AbortController();
    const until = { signal: this.#listening.signal };
    this.#video.addEventListener("loadeddata", () => this.#shown(), until);
    this.#video.addEventListener("play", () => this.#tick(), until);
    this.#video.addEventListener("error", () => this.#broken(this.#video.error?.message ?? ""), until);
    document.addEventListener("visibilitychange", () => this.#visible(), until);
    this.#timers = [
      setInterval(() => this.#tick(), TICK_MS),
      setInterval(() => this.emit("statistics", this.statistics), STATISTICS_MS),
    ];
    this.#turn("connecting");
    if (!this.#timers.length) return; // a listener has stopped it
    if (!mediaSource()) return this.#fallBack(problem("no_media_source"));
    this.#watching = new Watching(this.#url, {
      told: message => this.#told(message),
      given: data => this.#given(data),
      lost: (why, wait) => this.#lost(why, wait),
      failed: why => (why.code === "unplayable" ? this.#fallBack(why) : this.#fail("failed", why)),
    });
    this.#watching.connect();
  }

  /** Play no longer, and let go of the video element. */
  stop() {
    this.#release();
    this.#turn("idle");
  }

  #release() {
    for (const timer of this.#timers) clearInterval(timer);
    this.#timers = [];
    this.#listening?.abort();
    this.#watching?.close();
    this.#native?.close();
    this.#native = null;
    this.#discard();
    this.#video.playbackRate = 1;
  }

  #discard() {
    this.#autoplay.wanted ||= !this.#video.paused; // to load something else pauses it
    this.#buffer?.close();
    this.#buffer = null;
    this.#fed = false;
  }

  /** @param {{type: string} & Record<string, any>} message */
  #told(message) {
    if (message.type === "init") this.#init(/** @type {any} */ (message));
    else if (message.type === "waiting") this.#wait(message.state);
    else if (message.type === "clock") this.#clock.tell(message.time, performance.now());
    else if (message.type === "skipped") this.#tooSlow(message.frames);
    else if (message.type === "interrupted") this.#turn("interrupted");
    else if (message.type === "resumed") this.#turn("buffering");
    else if (message.type === "ended") this.#turn("ended", problem("session_ended", message.cause));
    this.emit("server", message);
  }

  /** @param {{media: string, time: number, session: string, live: number}} init */
  #init({ media, time, session, live }) {
    const source = mediaSource();
    if (!source) return;
    if (!source.make.isTypeSupported(media)) return this.#fallBack(problem("unsupported_media", media));
    this.#mode = source.mode;
    if (this.#buffer && kindsOf(media) !== kindsOf(this.#media)) this.#discard();
    this.#buffer ??= new MediaBuffer(this.#video, source.make, {
      appended: () => this.#tick(),
      tight: () => this.emit("warning", problem("buffer_quota")),
      broken: why => this.#broken(why),
    });
    this.#buffer.init(media, time, session !== this.#session);
    this.#clock.reset(performance.now());
    this.#media = media;
    this.#session = session;
    this.#heading = true;
    if (this.#state !== "playing") this.#turn("buffering");
    this.emit("init", { media, session, live });
  }

  /** @param {string} state */
  #wait(state) {
    // That a stream has ended stays true while the next session is waited for.
    if (this.#state !== "ended") this.#turn("waiting", problem("waiting", state));
  }

  /** @param {ArrayBuffer} data */
  #given(data) {
    if (!this.#buffer) return;
    if (this.#state === "interrupted") this.#turn("buffering");
    this.#edge.arrived(performance.now());
    this.#fed = !this.#heading;
    this.#heading = false;
    this.#buffer?.append(data); // a listener may have stopped it
  }

  /** @param {number} frames */
  #tooSlow(frames) {
    this.#skipped += frames;
    this.emit("warning", problem("too_slow", `${frames} frames`));
  }

  /** @param {Problem} why @param {number} wait */
  #lost(why, wait) {
    this.emit("warning", why);
    this.#turn("connecting", why, wait);
  }

  /** Whether there should be more. */
  get #flowing() {
    return !this.#native && (this.#state === "buffering" || this.#state === "playing");
  }

  /** Bring the playback where it should be, and see whether it goes on. */
  #tick() {
    const [video, now] = [this.#video, performance.now()];
    const ranges = this.#buffer?.ranges ?? [];
    if (this.#buffer && ranges.length) {
      if (!this.#autoplay.paused) {
        const { seek, why, rate } = this.#edge.steer(now, video.currentTime, ranges);
        if (seek !== null) this.#jump(seek, why);
        else if (video.playbackRate !== rate) video.playbackRate = rate;
      }
      const surplus = excess(video.currentTime, ranges);
      if (surplus) this.#buffer.remove(surplus);
    }
    if (video.readyState >= video.HAVE_CURRENT_DATA && !video.error) this.#autoplay.attempt();
    const ahead = this.#ahead();
    const { stalled, stuck } = this.#progress.look(now, {
      at: video.currentTime,
      paused: this.#autoplay.paused,
      flowing: this.#flowing,
      ahead,
      blank: this.#fed && video.readyState < video.HAVE_CURRENT_DATA,
    });
    if (stalled) this.#edge.stalled(now);
    if (stuck && !this.#native) this.#repair();
    if (this.#flowing && this.#progress.moving) this.#turn("playing");
    else if (this.#state === "playing" && this.#progress.standing) this.#turn("buffering");
    if (this.#flowing && (this.#watching?.silence ?? 0) > SILENCE_MS) {
      this.#watching?.renew("nothing came for too long");
    }
  }

  /** @param {number} to @param {import("./edge.js").Course["why"]} why */
  #jump(to, why) {
    if (why === "gap" || why === "far") this.#jumps += 1;
    this.#progress.jumped();
    this.#video.currentTime = to + 0.001;
  }

  #shown() {
    this.#firstFrame ??= Math.round(performance.now() - this.#started);
  }

  #visible() {
    if (document.hidden) return;
    this.#edge.reset();
    this.#tick();
  }

  /** Data is there, and does not play. */
  #repair() {
    const [range] = this.#buffer?.ranges ?? [];
    const what = this.#progress.remedy(performance.now(), !range);
    if (what === "nudge") this.#jump(Math.max(range[0], this.#video.currentTime + 0.1), "gap");
    this.#remedy(what, "it does not play");
  }

  /** @param {string} why */
  #broken(why) {
    if (this.#native || !this.#timers.length) return;
    this.#remedy(this.#progress.remedy(performance.now(), true), this.#video.error?.message || why);
  }

  /**
   * @param {"nudge" | "renew" | "give up"} what
   * @param {string} why
   */
  #remedy(what, why) {
    if (what === "give up") return this.#fallBack(problem("video_failed", why));
    this.#autoplay.wanted = true;
    if (what === "nudge") return;
    this.emit("warning", problem("not_ready", why));
    this.#discard();
    this.#session = "";
    this.#watching?.renew("the video is set up again");
  }

  /**
   * Play HLS, if the browser can.
   * @param {Problem} why not the WebSocket
   */
  #fallBack(why) {
    this.#watching?.close();
    this.#discard();
    if (!this.#hls || !playsHls(this.#video)) return this.#fail("unsupported", why);
    this.emit("warning", why);
    this.#mode = "hls";
    this.#media = "application/vnd.apple.mpegurl";
    this.#native = new NativeHls(this.#video, this.#hls, {
      state: state => this.#turn(state),
      loading: () => (this.#autoplay.wanted = true),
      waiting: details => this.emit("warning", problem("hls_failed", details)),
    });
  }

  /** @param {"failed" | "unsupported"} state @param {Problem} why */
  #fail(state, why) {
    this.#release();
    this.#turn(state, why);
    this.emit("error", why);
    this.emit("statistics", this.statistics);
  }

  #ahead() {
    const ranges = this.#buffer?.ranges ?? rangesOf(this.#video.buffered);
    const last = ranges.at(-1);
    return last ? last[1] - Math.max(this.#video.currentTime, ranges[0][0]) : 0;
  }

  #behind() {
    const [buffer, at] = [this.#buffer, this.#video.currentTime];
    if (!buffer || at < buffer.begun) return null;
    return this.#clock.behind(1000 * (at - buffer.offset), performance.now());
  }

  /** @param {PlayerState} state @param {Problem | null} [cause] @param {number | null} [retryIn] ms */
  #turn(state, cause = null, retryIn = null) {
    if (state === this.#state && cause?.text === this.#cause?.text && retryIn === null) return;
    if (state !== this.#state) this.#since = Date.now();
    this.#state = state;
    this.#cause = cause;
    this.emit("statechange", { state, cause, retryIn });
  }
}
