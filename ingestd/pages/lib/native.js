/** HLS as some browsers play it by themselves, for those that cannot be fed. */

const TYPE = "application/vnd.apple.mpegurl";
/** How often its playlist is looked at: whether it has an end, or something new. */
const LOOK_MS = 3000;
/** A browser may be so far from the end that it knows nothing of it. */
const MOST_LEFT_S = 60;

/** @param {HTMLVideoElement} video */
export function playsHls(video) {
  return video.canPlayType(TYPE) !== "";
}

export class NativeHls {
  #video;
  #url;
  #host;
  #listening = new AbortController();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #looking;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #ending;
  /** @type {"away" | "loaded" | "last" | "ended"} last: its playlist has an end */
  #state = "away";
  /** Its playlist was there, and without an end. */
  #live = false;

  /**
   * @param {HTMLVideoElement} video
   * @param {string} url
   * @param {{state: (state: "waiting" | "buffering" | "playing" | "ended") => void,
   *   waiting: (details: string) => void, loading: () => void}} host
   */
  constructor(video, url, host) {
    this.#video = video;
    this.#url = url;
    this.#host = host;
    const until = { signal: this.#listening.signal };
    const playing = () => this.#state === "loaded" || this.#state === "last";
    video.addEventListener("playing", () => playing() && host.state("playing"), until);
    video.addEventListener("waiting", () => playing() && host.state("buffering"), until);
    video.addEventListener("ended", () => this.#end(), until);
    video.addEventListener("error", () => this.#failed(), until);
    void this.#look();
  }

  close() {
    clearTimeout(this.#looking);
    clearTimeout(this.#ending);
    this.#listening.abort();
    this.#video.removeAttribute("src");
    this.#video.load();
  }

  async #look() {
    const { signal } = this.#listening;
    const over = await isOver(this.#url, signal);
    if (signal.aborted) return;
    this.#live = over === false;
    this.#looking = setTimeout(() => void this.#look(), LOOK_MS);
    if (this.#state === "away" && over) this.#host.state("waiting"); // that session is of the past
    else if (this.#state === "away" || (this.#state === "ended" && over === false)) this.#load();
    else if (this.#state === "loaded" && over) this.#last();
    else if (this.#state === "last" && over === false) this.#load();
  }

  #load() {
    clearTimeout(this.#ending);
    this.#state = "loaded";
    this.#host.loading();
    this.#video.src = this.#url;
  }

  /** Nothing more comes: it ends when that was played. Not every browser says so. */
  #last() {
    this.#state = "last";
    const { seekable, currentTime } = this.#video;
    const left = seekable.length ? seekable.end(seekable.length - 1) - currentTime : 0;
    this.#ending = setTimeout(() => this.#end(), 1000 * Math.min(Math.max(left, 0), MOST_LEFT_S) + 1000);
  }

  #end() {
    if (this.#state !== "loaded" && this.#state !== "last") return;
    this.#state = "ended";
    this.#host.state("ended");
  }

  /** Most likely there is no playlist yet; where there is one, it is loaded again. */
  #failed() {
    if (this.#state === "ended") return;
    this.#state = "away";
    this.#host.waiting(this.#video.error?.message ?? "");
    this.#host.state(this.#live ? "buffering" : "waiting");
  }
}

/**
 * Whether the playlist has its end; null if that cannot be told.
 * @param {string} url
 * @param {AbortSignal} signal
 */
async function isOver(url, signal) {
  try {
    const answer = await fetch(url, { cache: "no-store", signal });
    return answer.ok ? (await answer.text()).includes("#EXT-X-ENDLIST") : null;
  } catch {
    return null;
  }
}
