import { make, say } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [300, 44];

/** A figure over time, small, with the same in words for who does not see it. */
export class Graph {
  /**
   * @param {string} name
   * @param {(value: number) => string} format
   * @param {{ length?: number, seconds?: number, least?: number }} options *length* samples are kept, over
   *   *seconds*; the scale goes up to *least* at least.
   */
  constructor(name, format, { length = 60, seconds = 120, least = 1 } = {}) {
    /** @type {(number | null)[]} */
    this.samples = [];
    this.length = length;
    this.format = format;
    this.name = name;
    this.least = least;
    this.period = seconds >= 120 ? `${Math.round(seconds / 60)} minutes` : `${seconds} seconds`;
    this.now = make("span", { class: "now" }, "–");
    this.picture = document.createElementNS(SVG, "svg");
    this.picture.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.picture.setAttribute("preserveAspectRatio", "none");
    this.picture.setAttribute("role", "img");
    this.area = this.picture.appendChild(document.createElementNS(SVG, "path"));
    this.area.setAttribute("class", "area");
    this.line = this.picture.appendChild(document.createElementNS(SVG, "path"));
    this.line.setAttribute("class", "line");
    this.element = make("figure", { class: "graph" }, make("figcaption", {}, make("span", {}, name), this.now), this.picture);
    this.#draw();
  }

  /** @param {number | null} value null: nothing was measured */
  push(value) {
    this.samples.push(value);
    if (this.samples.length > this.length) this.samples.shift();
    this.#draw();
  }

  /** @param {(number | null)[]} samples what was before */
  replace(samples) {
    this.samples = samples.slice(-this.length);
    this.#draw();
  }

  #draw() {
    const known = /** @type {number[]} */ (this.samples.filter((value) => value !== null));
    const last = this.samples.at(-1) ?? null;
    say(this.now, last === null ? "–" : this.format(last));
    const most = Math.max(this.least, ...known) * 1.08;
    const step = WIDTH / (this.length - 1);
    const begin = WIDTH - (this.samples.length - 1) * step;
    let [line, area, open] = ["", "", 0];
    this.samples.forEach((value, index) => {
      if (value === null) { open = 0; return; }
      const place = `${(begin + index * step).toFixed(1)} ${(HEIGHT - (value / most) * HEIGHT).toFixed(1)}`;
      const x = place.split(" ")[0];
      line += `${open ? "L" : "M"}${place}`;
      const next = this.samples[index + 1];
      area += open ? `L${place}` : `M${x} ${HEIGHT}L${place}`;
      if (next === null || next === undefined) area += `L${x} ${HEIGHT}Z`;
      open = 1;
    });
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", area);
    this.picture.setAttribute("aria-label", known.length
      ? `${this.name} over the last ${this.period}: from ${this.format(Math.min(...known))} to ${this.format(Math.max(...known))}`
      : `${this.name}: nothing measured yet`);
  }
}
