/** A MediaSource with one SourceBuffer: appends in order, across new init segments, within its quota. */

/** @typedef {import("./edge.js").Range} Range */

/**
 * @typedef {{kind: "init", type: string, time: number, follow: boolean}} Init
 * @typedef {{kind: "data", data: ArrayBuffer}} Data
 * @typedef {{kind: "remove", range: Range}} Remove
 */

/**
 * @typedef {object} MediaBufferHost
 * @property {() => void} appended
 * @property {() => void} tight the quota was reached, and older media removed
 * @property {(why: string) => void} broken it takes nothing more
 */

const MOST_BYTES = 64 * 2 ** 20;
const ATTEMPTS = 4;

/** What this browser has, and how we call it. */
export function mediaSource() {
  if (globalThis.MediaSource) return { make: globalThis.MediaSource, mode: /** @type {const} */ ("mse") };
  const managed = globalThis.ManagedMediaSource;
  return managed ? { make: managed, mode: /** @type {const} */ ("managed-mse") } : null;
}

export class MediaBuffer {
  /** Stream time 0 is at this time of the video, seconds. */
  offset = 0;
  /** Where the newest session begins in the video, seconds. */
  begun = 0;
  #video;
  #host;
  #source;
  #url;
  /** @type {SourceBuffer | null} */
  #buffer = null;
  #type = "";
  /** @type {(Init | Data | Remove)[]} */
  #queue = [];
  #bytes = 0;
  #refused = 0;
  #closed = false;

  /** @param {HTMLVideoElement} video @param {typeof MediaSource} make @param {MediaBufferHost} host */
  constructor(video, make, host) {
    this.#video = video;
    this.#host = host;
    this.#source = new make();
    this.#source.addEventListener("sourceopen", () => this.#pump());
    this.#url = URL.createObjectURL(this.#source);
    video.disableRemotePlayback = true; // a ManagedMediaSource asks for it
    video.src = this.#url;
  }

  /** @returns {Range[]} */
  get ranges() {
    return rangesOf(this.#buffer && !this.#closed ? this.#buffer.buffered : null);
  }

  /**
   * The next data is an init segment.
   * @param {string} type
   * @param {number} time of the first frame after it, ms
   * @param {boolean} follow put that frame where the buffer ends, whatever its time is
   */
  init(type, time, follow) {
    this.#push({ kind: "init", type, time, follow });
  }

  /** @param {ArrayBuffer} data */
  append(data) {
    this.#bytes += data.byteLength;
    if (this.#bytes > MOST_BYTES) return this.#host.broken("too much is waiting to be buffered");
    this.#push({ kind: "data", data });
  }

  /** @param {Range} range */
  remove(range) {
    if (!this.#queue.some(({ kind }) => kind === "remove")) this.#push({ kind: "remove", range });
  }

  close() {
    this.#closed = true;
    this.#queue = [];
    URL.revokeObjectURL(this.#url);
    if (this.#video.src === this.#url) {
      this.#video.removeAttribute("src");
      this.#video.load();
    }
  }

  /** @param {Init | Data | Remove} step */
  #push(step) {
    this.#queue.push(step);
    this.#pump();
  }

  #pump() {
    while (!this.#closed && this.#source.readyState === "open" && !this.#buffer?.updating) {
      const step = this.#queue.shift();
      if (!step) return;
      try {
        this.#do(step);
      } catch (error) {
        if (step.kind === "data" && error instanceof DOMException && error.name === "QuotaExceededError") {
          if (!this.#makeRoom(step)) return;
        } else {
          return this.#host.broken(String(error));
        }
      }
    }
  }

  /** @param {Init | Data | Remove} step */
  #do(step) {
    if (step.kind === "init") return this.#begin(step);
    if (step.kind === "remove") return this.#buffer?.remove(...step.range);
    this.#buffer?.appendBuffer(step.data);
    this.#bytes -= step.data.byteLength;
    this.#refused = 0;
  }

  /** @param {Init} init */
  #begin({ type, time, follow }) {
    if (this.#buffer) {
      this.#buffer.abort(); // whatever segment was begun, the next byte begins another
      if (type !== this.#type) this.#buffer.changeType(type);
    } else {
      this.#buffer = this.#add(type);
    }
    this.#type = type;
    const end = this.ranges.at(-1)?.[1];
    if (follow && end !== undefined) {
      this.begun = end;
      this.offset = this.#buffer.timestampOffset = end - time / 1000;
    }
  }

  /** @param {string} type */
  #add(type) {
    const buffer = this.#source.addSourceBuffer(type);
    buffer.addEventListener("updateend", () => {
      if (this.#closed) return;
      this.#host.appended();
      this.#pump();
    });
    buffer.addEventListener("error", () => {
      if (!this.#closed) this.#host.broken(this.#video.error?.message || "the media was refused");
    });
    return buffer;
  }

  /**
   * @param {Data} step what there was no room for
   * @returns {boolean} whether to go on
   */
  #makeRoom(step) {
    this.#refused += 1;
    const ranges = this.ranges;
    if (!ranges.length || this.#refused > ATTEMPTS) {
      this.#host.broken("there is no room in the buffer");
      return false;
    }
    const [start, end] = [ranges[0][0], ranges[ranges.length - 1][1]];
    const played = this.#video.currentTime - 2;
    // What was played, else all but the newest: the player then jumps.
    const to = played - start > 0.5 ? played : Math.max(end - 2, start + (end - start) / 2);
    this.#queue.unshift({ kind: "remove", range: [start, to] }, step);
    this.#host.tight();
    return true;
  }
}

/**
 * Which kinds of tracks media of *type* has: a SourceBuffer takes no others after its first init segment.
 * @param {string} type
 */
export function kindsOf(type) {
  return `${type.split("/")[0]} ${type.split(",").length}`;
}

/** @param {TimeRanges | null} ranges @returns {Range[]} */
export function rangesOf(ranges) {
  return Array.from({ length: ranges?.length ?? 0 }, (_, at) => {
    const known = /** @type {TimeRanges} */ (ranges);
    return [known.start(at), known.end(at)];
  });
}
