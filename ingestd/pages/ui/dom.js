// Elements, and numbers as people read them.

/**
 * An element with attributes and children; text is never taken for HTML.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | number | boolean | null | undefined>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) made.setAttribute(name, String(value));
  }
  made.append(...children);
  return made;
}

/**
 * The element with *id*, which the page has.
 * @template {Element} [Kind=HTMLElement]
 * @param {string} id
 * @param {{ new (): Kind }} [kind]
 * @returns {Kind}
 */
export function get(id, kind = /** @type {any} */ (HTMLElement)) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} #${id}`);
  return /** @type {any} */ (found);
}

/**
 * Change text only where it is another: what stays is not read out again.
 * @param {Element} element
 * @param {string} text
 */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * A note with what is so, and what to do.
 * @param {"good" | "warn" | "bad" | ""} kind
 * @param {string} text
 * @param {string} [advice]
 */
export function note(kind, text, advice = "") {
  return make("div", { class: `note ${kind}` }, make("strong", {}, text), ...(advice ? [make("span", {}, advice)] : []));
}

/**
 * A text to copy, with its button.
 * @param {HTMLInputElement} input
 * @param {HTMLButtonElement} button
 */
export function copyable(input, button) {
  const word = button.textContent ?? "Copy";
  button.addEventListener("click", async () => {
    let done = await copy(input.value);
    if (!done) {
      // Without HTTPS there is only the old way; it copies what is selected.
      input.select();
      done = document.execCommand("copy");
    }
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = word; }, 2000);
  });
}

/**
 * Whether *text* is on the clipboard now: browsers have one in secure contexts only.
 * @param {string} text
 */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/** @param {number | null | undefined} bits a second */
export function rate(bits) {
  if (bits === null || bits === undefined || !Number.isFinite(bits)) return "–";
  if (bits >= 999_500) return `${(bits / 1e6).toFixed(bits >= 9.95e6 ? 0 : 1)} Mbit/s`;
  return `${Math.round(bits / 1000)} kbit/s`;
}

/** @param {number} bytes */
export function size(bytes) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 999.5 && unit < units.length - 1; unit++) bytes /= 1000;
  return `${bytes.toFixed(unit && bytes < 9.95 ? 1 : 0)} ${units[unit]}`;
}

/** @param {number} ms */
export function delay(ms) {
  if (!Number.isFinite(ms)) return "–";
  return ms < 995 ? `${Math.round(ms / 10) * 10} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** @param {number} seconds */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  return `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(whole % 60)}`;
}

/** @param {string} time as the API tells it */
export function at(time) {
  const when = new Date(time);
  const today = when.toDateString() === new Date().toDateString();
  return when.toLocaleString(undefined, today ? { timeStyle: "medium" } : { dateStyle: "short", timeStyle: "short" });
}

/** @param {number} count @param {string} one @param {string} [many] */
export function plural(count, one, many = `${one}s`) {
  return `${count.toLocaleString()} ${count === 1 ? one : many}`;
}
