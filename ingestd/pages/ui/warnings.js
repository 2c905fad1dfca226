// What a broadcast goes on with and somebody should know: a list that is read out, the newest first.
import { make } from "./dom.js";
import { advised } from "./words.js";

/** @typedef {import("../lib/advice.js").Problem} Problem */

/** A warning that does not come again goes after so many milliseconds. */
const FADES = 30_000;
const MOST = 4;

/** What is worth no warning: it is said in the state, or was wanted, or is over when it can be read. */
const QUIET = new Set(["reconnected", "devices_changed", "bitrate_raised", "source_ended", "track_ended", "unacknowledged",
  "hidden_tab"]);
/** What is so until it is live again. */
const UNTIL_LIVE = ["buffer_full", "queue_full", "server_stopping"];
const OUTPUTS = "outputs";

export class Warnings {
  #list;
  /** @type {Map<string, ReturnType<typeof setTimeout>>} */
  #timers = new Map();

  /** @param {HTMLElement} list */
  constructor(list) {
    this.#list = list;
  }

  /** @param {Problem} problem */
  tell({ code, text, advice, close }) {
    // Why a connection was lost is said in the state; that another recording begins is not.
    if (QUIET.has(code) || (close && !code.startsWith("session_"))) return;
    const todo = advised(advice);
    const made = make("li", { "data-code": code, class: "note warn" }, make("strong", {}, text), ...(todo ? [make("span", {}, todo)] : []));
    // What is there already is not read out again.
    if (!this.#of(code)?.isEqualNode(made)) {
      this.#over(code);
      this.#list.prepend(made);
      while (this.#list.childElementCount > MOST) this.#list.lastElementChild?.remove();
    }
    clearTimeout(this.#timers.get(code));
    if (code !== OUTPUTS && !UNTIL_LIVE.includes(code)) this.#timers.set(code, setTimeout(() => this.#over(code), FADES));
  }

  /**
   * A broadcast can be live while its recording has failed.
   * @param {{ name: string, state: string }[]} sinks
   */
  outputs(sinks) {
    const failed = sinks.filter(({ state }) => state === "failed").map(({ name }) => `“${name}”`);
    if (!failed.length) this.#over(OUTPUTS);
    else this.tell({ code: OUTPUTS, text: `On the server this output has failed: ${failed.join(", ")}.`, advice: "Tell whoever runs the daemon." });
  }

  /** It is live: what kept it from that is over. */
  live() {
    for (const code of UNTIL_LIVE) this.#over(code);
  }

  clear() {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#list.replaceChildren();
  }

  /** @param {string} code */
  #of(code) {
    return this.#list.querySelector(`[data-code="${CSS.escape(code)}"]`);
  }

  /** @param {string} code */
  #over(code) {
    clearTimeout(this.#timers.get(code));
    this.#of(code)?.remove();
  }
}
