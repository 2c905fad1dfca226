/** HLS as some browsers play it by themselves, for those that cannot be fed. */

const TYPE = "application/vnd.apple.mpegurl";
const AGAIN_MS = 3000;

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
  #timer;

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
    video.addEventListener("playing", () => host.state("playing"), until);
    video.addEventListener("waiting", () => host.state("buffering"), until);
    video.addEventListener("ended", () => host.state("ended"), until);
    video.addEventListener("error", () => this.#failed(), until);
    this.#load();
  }

  close() {
    clearTimeout(this.#timer);
    this.#listening.abort();
    this.#video.removeAttribute("src");
    this.#video.load();
  }

  #load() {
    this.#host.loading();
    this.#video.src = this.#url;
  }

  /** Most likely there is no playlist yet. */
  #failed() {
    this.#host.waiting(this.#video.error?.message ?? "");
    this.#host.state("waiting");
    this.#timer = setTimeout(() => this.#load(), AGAIN_MS);
  }
}
