import { base, call, daemonNow, follow, insist, Problem } from "./api.js";
import { copyable, get, make, note, plural, say } from "./dom.js";
import { handOver } from "./handover.js";
import { enter, may } from "./shell.js";
import { isOnAir, StreamCard } from "./streamcard.js";

/** @typedef {import("./api.js").Stream} Stream */
/** @typedef {import("./api.js").Happening} Happening */
/** @typedef {import("./streamcard.js").Action} Action */

/** So often what is on air is looked at, in milliseconds, while somebody sees the page. */
const EVERY = 2000;
const PAGE = 100;
const ON_AIR = "&state=connecting,live,interrupted";
/** So far clocks may be apart, in milliseconds. */
const CLOCKS = 10_000;
/** So many events that were before are shown. */
const BEFORE = 300;

/** @type {Map<string, StreamCard>} */
const cards = new Map();
/** @type {Map<string, Happening[]>} events of streams whose card is not there yet */
const waiting = new Map();
/** @type {import("./api.js").Who | null} */
let me = null;
let next = "";
let connected = true;

const live = get("live");
const rest = get("rest");
const trouble = get("trouble");
const find = get("find", HTMLInputElement);
const more = get("more", HTMLButtonElement);

/** @param {unknown} error @param {string} [then] what becomes of it where there was no answer */
function explain(error, then = "It is tried again by itself.") {
  if (!(error instanceof Problem)) throw error;
  return note("bad", error.message, error.status === 0 ? `${then} Look whether the daemon runs.` : "");
}

/** What was asked for and refused: it stays until something else is asked for. */
const refusal = get("refusal");

/** @param {Stream} stream */
function show(stream) {
  let card = cards.get(stream.name);
  if (card) card.update(stream);
  else {
    card = new StreamCard(stream, (scope) => may(me, scope), act);
    cards.set(stream.name, card);
    for (const event of waiting.get(stream.name) ?? []) card.happened(event);
    waiting.delete(stream.name);
    if (isOnAir(stream)) void remember(card);
  }
  const place = isOnAir(stream) ? live : rest;
  if (card.element.parentElement === place) return;
  const focused = card.element.contains(document.activeElement) ? document.activeElement : null;
  const after = [...place.children].find((each) => (each.getAttribute("aria-labelledby") ?? "") > `stream-${stream.name}`);
  place.insertBefore(card.element, after ?? null);
  if (focused instanceof HTMLElement) focused.focus();
}

/** @param {StreamCard} card */
async function remember(card) {
  const told = await call("GET", `v1/streams/${card.stream.name}/rates`).catch(() => null);
  if (told && told.session === card.stream.session) card.remember(told.rates);
}

function count() {
  const all = [...cards.values()].map((card) => card.stream);
  const onAir = all.filter(isOnAir);
  const viewers = onAir.reduce((sum, stream) => sum + stream.viewers, 0);
  get("on-air").hidden = !onAir.length;
  get("off-air").hidden = onAir.length === all.length;
  get("empty").hidden = all.length > 0 || find.value !== "";
  get("finding").hidden = all.length < 7 && !find.value && document.activeElement !== find;
  more.hidden = !next;
  const shown = find.value ? `${plural(all.length, "stream")}${next ? " or more" : ""} found` : `${onAir.length ? `${onAir.length} on air` : "Nothing on air"} · ${plural(all.length, "stream")}${next ? " shown" : ""}`;
  say(get("summary"), connected ? `${shown} · ${plural(viewers, "viewer")}` : `${shown} · not connected, trying again …`);
}

let loads = 0;
/** What happened before, by the daemon's clock, was in the answer already. */
let loaded = 0;

/** @param {string} more of the query @returns {Promise<{ streams: Stream[], next: string | null }>} what is looked for */
const ask = (more = "") => call("GET", `v1/streams?limit=${PAGE}&q=${encodeURIComponent(find.value)}${more}`);

/** @returns {Promise<Stream[]>} what is on air, however much that is */
async function askOnAir() {
  /** @type {Stream[]} */
  const found = [];
  for (let cursor = "", done = false; !done;) {
    const told = await ask(`${ON_AIR}${cursor}`);
    found.push(...told.streams);
    cursor = `&cursor=${encodeURIComponent(told.next ?? "")}`;
    done = !told.next;
  }
  return found;
}

/**
 * All streams, from the beginning.
 * @param {boolean} [anew] others than before are looked for
 */
async function load(anew = false) {
  const number = ++loads;
  const before = anew ? 0 : cards.size;
  const since = daemonNow() - CLOCKS;
  // What is on air is shown wherever it is in the list.
  const [onAir, told] = await Promise.all([askOnAir(), ask()]);
  // Who types on has asked for others meanwhile.
  if (number !== loads) return;
  /** @type {Stream[]} */
  const streams = [...onAir, ...told.streams];
  const names = new Set(streams.map((stream) => stream.name));
  // What was shown stays, where it is still there.
  while (told.next && names.size < before) {
    const page = await ask(`&cursor=${encodeURIComponent(told.next)}`);
    if (number !== loads) return;
    streams.push(...page.streams);
    for (const { name } of page.streams) names.add(name);
    told.next = page.next;
  }
  for (const name of cards.keys()) {
    if (!names.has(name)) remove(name);
  }
  next = told.next ?? "";
  loaded = since;
  streams.forEach(show);
  trouble.replaceChildren();
  count();
}

async function loadMore() {
  const number = loads;
  const told = await ask(`&cursor=${encodeURIComponent(next)}`);
  if (number !== loads) return;
  next = told.next ?? "";
  told.streams.forEach(show);
  count();
}

/** What is on air: its numbers change without an event. */
async function measure() {
  const before = [...cards.values()].filter((card) => isOnAir(card.stream));
  if (document.hidden || !before.length) return;
  const number = loads;
  const onAir = await askOnAir();
  if (number !== loads) return;
  const now = performance.now();
  for (const stream of onAir) {
    show(stream);
    cards.get(stream.name)?.measure(now);
  }
  const names = new Set(onAir.map((stream) => stream.name));
  for (const card of before) {
    if (!names.has(card.stream.name)) await look(card.stream.name);
  }
  trouble.replaceChildren();
  count();
}

/** @param {string} name one stream of which something was told */
async function look(name) {
  try {
    show(await call("GET", `v1/streams/${name}`));
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 404) throw error;
    remove(name);
  }
  count();
}

/** @param {string} name */
function remove(name) {
  const element = cards.get(name)?.element;
  const focused = element?.contains(document.activeElement);
  element?.remove();
  if (focused) get("main").focus({ preventScroll: true });
  cards.delete(name);
  count();
}

/** @type {Map<string, number>} */
const due = new Map();

/** @param {Happening} event */
function happened(event) {
  const card = cards.get(event.stream);
  if (card) card.happened(event);
  else waiting.set(event.stream, [...(waiting.get(event.stream) ?? []), event].slice(-50));
  if (!begun || event.type.startsWith("recording.") || Date.parse(event.at) < loaded) return;
  // Events come in bursts: one look is enough for all of them.
  clearTimeout(due.get(event.stream));
  if (event.type === "stream.deleted") {
    remove(event.stream);
    return;
  }
  due.set(event.stream, setTimeout(() => {
    due.delete(event.stream);
    if (!cards.has(event.stream) && find.value) return;
    look(event.stream).catch((error) => trouble.replaceChildren(explain(error)));
  }, 150));
}

/** @param {"open" | "lost" | "reset"} state */
function stands(state) {
  connected = state !== "lost";
  if (state === "reset" || (state === "open" && begun)) load().catch((error) => trouble.replaceChildren(explain(error)));
  count();
}

// What can be done

const asking = get("asking", HTMLDialogElement);

/** @type {Record<Action, { title: string, text: string, yes: string, method: string, path: string }>} */
const QUESTIONS = {
  stop: { title: "Stop", text: "Its broadcast ends now, for all viewers and sinks. The publisher may begin again.", yes: "Stop it", method: "POST", path: "/stop" },
  "reset-key": { title: "Reset the key of", text: "The old key is worth nothing from then on. Whoever broadcasts with it is thrown out.", yes: "Make a new key", method: "POST", path: "/reset-key" },
  disable: { title: "Disable", text: "Nobody can broadcast to it until it is enabled again.", yes: "Disable it", method: "POST", path: "/disable" },
  enable: { title: "Enable", text: "", yes: "", method: "POST", path: "/enable" },
  delete: { title: "Delete", text: "Its key is worth nothing any more. Recordings stay.", yes: "Delete it", method: "DELETE", path: "" },
};

/** @param {Action} action @param {Stream} stream */
async function act(action, stream) {
  const { title, text, yes, method, path } = QUESTIONS[action];
  if (yes && !(await sure(`${title} “${stream.name}”?`, text, yes, method === "DELETE" || action === "stop"))) return;
  refusal.replaceChildren();
  try {
    const told = await call(method, `v1/streams/${stream.name}${path}`);
    if (action === "reset-key") tellKey(told);
    if (action === "delete") remove(stream.name);
    else await look(stream.name);
  } catch (error) {
    if (error instanceof Problem && error.status === 404) remove(stream.name);
    refusal.replaceChildren(explain(error, "Try again."));
    refusal.scrollIntoView({ block: "nearest" });
  }
}

/** @param {string} title @param {string} text @param {string} yes @param {boolean} final @returns {Promise<boolean>} */
function sure(title, text, yes, final) {
  say(get("asking-title"), title);
  say(get("asking-text"), text);
  say(get("asking-yes"), yes);
  get("asking-yes").className = final ? "stop" : "primary";
  asking.returnValue = "";
  asking.showModal();
  return new Promise((done) => {
    asking.addEventListener("close", () => {
      // The stream that it was about may have gone meanwhile.
      if (asking.contains(document.activeElement) || document.activeElement === document.body) get("main").focus({ preventScroll: true });
      done(asking.returnValue === "yes");
    }, { once: true });
  });
}

const keyed = get("keyed", HTMLDialogElement);
const key = get("key", HTMLInputElement);
const ingest = get("ingest", HTMLInputElement);
copyable(key, get("copy-key", HTMLButtonElement));
copyable(ingest, get("copy-ingest", HTMLButtonElement));
let keyOf = "";

/** @param {import("./api.js").CreatedStream} stream */
function tellKey(stream) {
  keyOf = stream.name;
  say(get("keyed-title"), `Stream key of “${stream.name}”`);
  key.value = stream.key;
  ingest.value = stream.ingest_url;
  keyed.showModal();
}
keyed.addEventListener("close", () => { key.value = ingest.value = ""; });
get("keyed-close").addEventListener("click", () => keyed.close());
get("broadcast").addEventListener("click", () => {
  handOver({ key: key.value, stream: keyOf });
  location.assign(new URL("broadcast", base));
});

const creating = get("creating", HTMLDialogElement);
const form = get("creating-form", HTMLFormElement);
const name = get("new-name", HTMLInputElement);
const refused = get("creating-trouble");

async function offer() {
  form.reset();
  name.removeAttribute("aria-invalid");
  refused.replaceChildren();
  creating.showModal();
  const select = get("new-pipeline", HTMLSelectElement);
  if (select.options.length > 1) return;
  const { pipelines } = await call("GET", "v1/pipelines");
  for (const pipeline of pipelines) {
    const sinks = pipeline.sinks.map((/** @type {{ type: string }} */ sink) => sink.type).join(", ");
    select.append(make("option", { value: pipeline.id }, `${pipeline.id} (${sinks || "no sinks"})`));
  }
}

/** The create that got no answer: sent again as it was, it is not done twice, and its key is told. */
let unanswered = { asked: "", number: "" };

function random() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!name.checkValidity()) {
    refused.replaceChildren(note("bad", "The name has a character that it cannot have.", "Use a–z, 0–9, “-” and “_”, and begin with a letter or digit."));
    name.setAttribute("aria-invalid", "true");
    name.focus();
    return;
  }
  name.removeAttribute("aria-invalid");
  const wanted = Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ""));
  const asked = JSON.stringify(wanted);
  const number = asked === unanswered.asked ? unanswered.number : random();
  unanswered = { asked: "", number: "" };
  const button = get("creating-go", HTMLButtonElement);
  button.disabled = true;
  refused.replaceChildren();
  try {
    const made = await call("POST", "v1/streams", { body: wanted, headers: { "Idempotency-Key": number } });
    creating.close();
    tellKey(made);
    look(made.name).catch((error) => trouble.replaceChildren(explain(error)));
  } catch (error) {
    if (error instanceof Problem && error.status === 0) unanswered = { asked, number };
    refused.replaceChildren(explain(error, "Try again."));
  } finally {
    button.disabled = false;
  }
});
get("creating-cancel").addEventListener("click", () => creating.close());

let begun = false;

async function begin() {
  ({ me } = await enter({ needed: true }));
  for (const id of ["create", "create-first"]) {
    const button = get(id, HTMLButtonElement);
    button.hidden = !may(me, "publish");
    button.onclick = () => { offer().catch((error) => refused.replaceChildren(explain(error))); };
  }
  await load();
  begun = true;
  follow(BEFORE, happened, stands);
}

let typed = 0;
find.addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(() => load(true).catch((error) => trouble.replaceChildren(explain(error))), 200);
});
more.addEventListener("click", () => { loadMore().catch((error) => trouble.replaceChildren(explain(error))); });

void insist(begin, (error) => {
  trouble.replaceChildren(explain(error));
  say(get("summary"), "");
});

(async () => {
  for (;;) {
    await new Promise((done) => { setTimeout(done, EVERY); });
    if (!begun) continue;
    await measure().catch((error) => trouble.replaceChildren(explain(error)));
  }
})();
