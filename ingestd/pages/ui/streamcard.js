import { base, daemonNow } from "./api.js";
import { at, clock, make, plural, rate, say, size } from "./dom.js";
import { Graph } from "./graph.js";
import { happening, healthState, streamState, track } from "./words.js";

/** @typedef {import("./api.js").Stream} Stream */
/** @typedef {import("./api.js").Happening} Happening */
/** @typedef {"stop" | "reset-key" | "enable" | "disable" | "delete"} Action */

const EVENTS = 50;
/** Every so many milliseconds a new picture is asked for: the daemon makes none more often. */
const PICTURE = 5000;
const ON_AIR = ["connecting", "live", "interrupted"];

/** @param {Stream} stream */
export const isOnAir = (stream) => ON_AIR.includes(stream.state);

/** One stream on the dashboard. What is unchanged stays the same element, so that focus stays where it is. */
export class StreamCard {
  /**
   * @param {Stream} stream
   * @param {(scope: "publish" | "admin") => boolean} allowed
   * @param {(action: Action, stream: Stream) => void} act
   */
  constructor(stream, allowed, act) {
    this.stream = stream;
    this.allowed = allowed;
    /** @type {{ time: number, bytes: number, frames: number } | null} */
    this.measured = null;
    this.pictured = 0;
    const id = `stream-${stream.name}`;
    this.badge = make("span", { class: "badge" });
    this.title = make("p", { class: "title" });
    this.image = make("img", { alt: `What ${stream.name} shows now`, hidden: true });
    this.image.addEventListener("error", () => { this.image.hidden = true; });
    this.image.addEventListener("load", () => { this.image.hidden = false; });
    this.noPicture = make("span", { class: "small" }, "no picture yet");
    this.thumb = make("div", { class: "thumb" }, this.noPicture, this.image);
    this.bitrate = new Graph("Bitrate", rate, { length: 60, seconds: 120, least: 500_000 });
    this.fps = new Graph("Frames per second", (value) => value.toFixed(0), { length: 60, seconds: 120, least: 30 });
    this.graphs = make("div", { class: "graphs" }, this.bitrate.element, this.fps.element);
    this.facts = make("dl", { class: "facts" });
    this.side = make("div", { class: "side stack tight" }, this.thumb, this.facts);
    this.sinks = make("ul", { class: "sinks" });
    this.cause = make("p", { class: "small soft" });
    this.events = make("ul", { class: "events", tabindex: "0", "aria-label": `Events of ${stream.name}` });
    this.noEvents = make("p", { class: "small soft" }, "Nothing happened since the daemon started.");
    this.buttons = /** @type {Record<Action, HTMLButtonElement>} */ ({});
    const button = (/** @type {Action} */ action, /** @type {string} */ text, kind = "") => {
      const made = make("button", { type: "button", class: kind, "aria-label": `${text}: ${stream.name}` }, text);
      made.addEventListener("click", () => act(action, this.stream));
      this.buttons[action] = made;
      return made;
    };
    this.watch = make("a", { class: "button", href: new URL(`watch/${stream.name}`, base).href, "aria-label": `Watch: ${stream.name}` }, "Watch");
    this.element = make("article", { class: "panel stream", "aria-labelledby": id },
      make("header", {},
        make("h3", { id }, make("a", { href: new URL(`watch/${stream.name}`, base).href }, stream.name)),
        this.badge, this.title),
      this.side,
      make("div", { class: "body stack" },
        this.graphs, this.sinks, this.cause,
        make("div", { class: "row" }, this.watch, button("stop", "Stop", "danger"), button("reset-key", "Reset key"),
          button("enable", "Enable"), button("disable", "Disable"), button("delete", "Delete", "danger"))),
      make("details", {}, make("summary", {}, "Events and restarts"), this.noEvents, this.events));
    this.update(stream);
  }

  /** @param {Stream} stream as it is now */
  update(stream) {
    const begun = stream.session !== this.stream.session;
    const focused = document.activeElement;
    this.stream = stream;
    if (begun) {
      this.measured = null;
      this.bitrate.replace([]);
      this.fps.replace([]);
      this.pictured = 0;
    }
    const onAir = isOnAir(stream);
    this.element.classList.toggle("on-air", onAir);
    const [word, kind] = stream.enabled ? streamState(stream.state) : /** @type {const} */ (["Disabled", "warn"]);
    say(this.badge, word);
    this.badge.className = `badge ${kind}`;
    say(this.title, stream.title);
    this.title.hidden = !stream.title;
    for (const part of [this.side, this.graphs, this.sinks, this.watch]) {
      part.hidden = !onAir;
    }
    say(this.cause, stream.cause ? `${onAir ? "" : "It ended: "}${stream.cause}` : off(stream));
    this.cause.hidden = onAir && !stream.cause;
    this.#showFacts(stream);
    this.#showSinks(stream);
    this.#showPicture(stream);
    const { buttons } = this;
    const admin = this.allowed("admin");
    buttons.stop.hidden = !onAir || !this.allowed("publish");
    buttons["reset-key"].hidden = !admin || stream.declared;
    buttons.enable.hidden = !admin || stream.enabled;
    buttons.disable.hidden = !admin || !stream.enabled || onAir;
    buttons.delete.hidden = !admin || stream.declared || onAir;
    // Whoever has pressed one that goes stays at this stream.
    const all = [buttons.enable, buttons.disable, ...Object.values(buttons)];
    if (all.some((each) => each.hidden && each === focused)) {
      (all.find((each) => !each.hidden) ?? this.element.querySelector("a"))?.focus();
    }
  }

  /** @param {number} now in milliseconds: `update` had the numbers of then */
  measure(now) {
    const { bytes, source } = this.stream;
    const frames = source?.video_frames ?? 0;
    const { measured } = this;
    if (measured && now - measured.time < 1000) return;
    this.measured = { time: now, bytes, frames };
    if (measured && bytes >= measured.bytes && frames >= measured.frames) {
      const seconds = (now - measured.time) / 1000;
      this.bitrate.push(((bytes - measured.bytes) * 8) / seconds);
      this.fps.push((frames - measured.frames) / seconds);
    }
  }

  /** @param {{ bitrate: number, fps: number }[]} rates what was before the page was there */
  remember(rates) {
    this.bitrate.replace([...rates.map((each) => each.bitrate), ...this.bitrate.samples]);
    this.fps.replace([...rates.map((each) => each.fps), ...this.fps.samples]);
  }

  /** @param {Happening} event */
  happened(event) {
    const { text, kind, cause } = happening(event);
    this.noEvents.hidden = true;
    this.events.prepend(make("li", {},
      make("time", { datetime: event.at }, at(event.at)),
      make("span", { class: kind }, text, ...(cause ? [make("span", { class: "soft" }, ` — ${cause}`)] : []))));
    while (this.events.childElementCount > EVENTS) this.events.lastElementChild?.remove();
  }

  /** @param {Stream} stream */
  #showFacts({ source, viewers, started, state, bytes, encoder, sinks, gap_count: gaps, cuts }) {
    const video = source?.tracks.find((each) => each.kind === "video");
    const audio = source?.tracks.find((each) => each.kind === "audio");
    const restarts = [...sinks, ...(encoder ? [encoder] : [])].reduce((sum, each) => sum + each.restarts, 0);
    const facts = /** @type {[string, string][]} */ ([
      ["Viewers", viewers.toLocaleString()],
      ["On air for", started && state !== "connecting" ? clock((daemonNow() - Date.parse(started)) / 1000) : "–"],
      ["Picture", video ? track(video) : "none"],
      ["Sound", audio ? track(audio) : "none"],
      ["Received", size(bytes)],
      ["Restarts", String(restarts)],
      ["Publisher lost", plural(cuts ?? 0, "time")],
      ["Gaps", String(gaps ?? 0)],
    ]);
    const shown = this.facts.querySelectorAll("dd");
    if (shown.length === facts.length) facts.forEach(([, value], index) => say(shown[index], value));
    else this.facts.replaceChildren(...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  }

  /** @param {Stream} stream */
  #showSinks({ encoder, sinks }) {
    const rows = [
      ...(encoder ? [{ ...encoder, name: "encoder", about: encoder.speed ? `${encoder.speed.toFixed(2)}× real time` : "" }] : []),
      ...sinks.map((sink) => ({ ...sink, about: [sink.type === sink.name ? "" : sink.type, sink.sent_bytes ? size(sink.sent_bytes) : "",
        sink.dropped_frames ? `${plural(sink.dropped_frames, "frame")} dropped` : ""].filter(Boolean).join(" · ") })),
    ];
    const key = JSON.stringify(rows.map(({ name, state, restarts, last_error, about }) => [name, state, restarts, last_error, about]));
    if (this.sinks.dataset.key === key) return;
    this.sinks.dataset.key = key;
    this.sinks.replaceChildren(...rows.map(({ name, state, restarts, last_error: error, about }) => {
      const [word, kind] = healthState(state);
      return make("li", {}, make("span", { class: "name" }, name), make("span", { class: `badge ${kind}` }, word),
        make("span", { class: "small soft number" }, [restarts ? plural(restarts, "restart") : "", about].filter(Boolean).join(" · ")),
        ...(error ? [make("span", { class: "error" }, `${state === "running" ? "Before: " : ""}${error}`)] : []));
    }));
  }

  /** @param {Stream} stream */
  #showPicture({ name, state, source, encoder }) {
    const pictures = source?.tracks.some((each) => each.kind === "video");
    if (!pictures) this.image.removeAttribute("src"); // what was before is not what is now
    this.image.hidden ||= !pictures;
    say(this.noPicture, source?.tracks.length && !pictures ? "sound only" : "no picture yet");
    // While the publisher is away there is the last one, for who comes only now.
    const wanted = state === "live" || (state === "interrupted" && this.image.hidden);
    const there = wanted && pictures && (!encoder || encoder.frames > 0);
    const now = Date.now();
    if (!there || now - this.pictured < PICTURE || document.hidden) return;
    this.pictured = now;
    this.image.src = new URL(`v1/streams/${name}/thumbnail.jpg?${now}`, base).href;
  }
}

/** @param {Stream} stream */
function off({ state, since }) {
  if (state === "idle" || !since) return "Not broadcast since the daemon started.";
  return `Since ${at(since)}.`;
}
