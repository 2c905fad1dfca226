import { Publisher } from "../lib/ingestd.js";
import { base, call, insist, Problem as Refused } from "./api.js";
import { clock, copyable, delay, get, make, note, plural, rate, say, size } from "./dom.js";
import { Graph } from "./graph.js";
import { keepUp, letGo, takeOver, unfinished } from "./handover.js";
import { enter, may } from "./shell.js";
import { Sources } from "./sources.js";
import { Warnings } from "./warnings.js";
import { advised, publishing } from "./words.js";

/** @typedef {import("../lib/advice.js").Problem} Problem */
/** @typedef {import("../lib/publisher.js").PublisherState} State */

const BITRATES = /** @type {Record<string, number>} */ ({ 360: 800_000, 720: 2_500_000, 1080: 4_500_000 });
/** How long a link to watch is good that this page hands out, in seconds. */
const LINK_S = 12 * 3600;
const LONGEST_KEY = 128;

/** The second click of a double one is not meant for the button that has come in place of the first. */
const DOUBLE = 500;

const preview = get("preview", HTMLVideoElement);
const form = get("form", HTMLFormElement);
const key = get("key", HTMLInputElement);
const streams = get("streams", HTMLSelectElement);
const cameras = get("cameras", HTMLSelectElement);
const microphones = get("microphones", HTMLSelectElement);
const quality = get("quality", HTMLSelectElement);
const short = get("short", HTMLInputElement);
const go = get("go", HTMLButtonElement);
const end = get("end", HTMLButtonElement);
const mute = get("mute", HTMLButtonElement);
const screenButton = get("screen", HTMLButtonElement);
const level = get("level", HTMLMeterElement);
const warnings = new Warnings(get("warnings"));
const stateNote = get("state");

/** @type {Publisher | null} */
let publisher = null;
let address = "";
let signed = false;
/** When this broadcast went live first, in milliseconds; by a clock that nobody sets. */
let began = 0;
/** @type {import("./api.js").Who | null} */
let me = null;
/** This page was reloaded while it was on air with a camera: it goes on as soon as it can. */
let returning = false;

// Sources

const sources = new Sources(async (stream) => {
  preview.srcObject = stream;
  preview.play().catch(() => {});
  if (!stream) curtain("Choose what to send", publisher ? "Nothing is sent until then." : "Nothing is sent before you go live.");
  else if (stream.getVideoTracks().length) {
    if (get("curtain").contains(document.activeElement)) screenButton.focus();
    get("curtain").hidden = true;
  } else curtain("Sound only", "There is no camera: only the microphone is sent.");
  mute.disabled = !sources.chosen.microphone;
  screenButton.textContent = sources.sharing ? "Stop sharing" : "Share screen";
  settle();
  goOn();
  void list();
  if (stream) await publisher?.replace(stream);
}, (problem) => {
  if (!sources.stream) return curtain(problem.text, problem.advice);
  warnings.tell(problem);
  // What could not be had does not look chosen.
  void list();
});

/** @param {string} title @param {string} text */
function curtain(title, text) {
  get("curtain").hidden = false;
  say(get("curtain-title"), title);
  say(get("curtain-text"), text);
}

async function list() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  const { camera, microphone } = sources.chosen;
  fill(cameras, devices.filter((each) => each.kind === "videoinput"), camera, "Camera");
  fill(microphones, devices.filter((each) => each.kind === "audioinput"), microphone, "Microphone");
}

/** @param {HTMLSelectElement} select @param {MediaDeviceInfo[]} devices @param {string} chosen @param {string} word */
function fill(select, devices, chosen, word) {
  select.disabled = !devices.length;
  // What is not in use must not look chosen: then it could not be chosen.
  const used = chosen !== "" && devices.some(({ deviceId }) => deviceId === chosen);
  const options = devices.map(({ deviceId, label }, index) =>
    make("option", { value: deviceId, selected: used && deviceId === chosen }, label || `${word} ${index + 1}`));
  if (!used) options.unshift(make("option", { value: "", selected: true, disabled: true }, devices.length ? "choose …" : "none found"));
  select.replaceChildren(...options);
}

const choose = () => sources.open({ camera: cameras.value, microphone: microphones.value });
cameras.addEventListener("change", choose);
microphones.addEventListener("change", choose);
navigator.mediaDevices?.addEventListener("devicechange", () => { void list(); });
get("camera-on").addEventListener("click", () => { void sources.open(); });
get("screen-first").addEventListener("click", () => { void sources.share(); });
screenButton.addEventListener("click", () => { void (sources.sharing ? sources.unshare() : sources.share()); });
mute.addEventListener("click", () => {
  sources.muted = !sources.muted;
  mute.setAttribute("aria-pressed", String(sources.muted));
  mute.textContent = sources.muted ? "Unmute" : "Mute";
});
quality.addEventListener("change", async () => {
  await sources.resize(Number(quality.value));
  await publisher?.setBitrate(BITRATES[quality.value]);
});

setInterval(() => {
  const now = sources.level;
  level.value = now ?? 0;
  const quiet = sources.muted ? "muted" : "silent";
  say(get("level-word"), now === null ? "off" : now < 0.1 ? quiet : now > 0.95 ? "too loud" : "heard");
}, 100);

// Going live

/** The key in what was pasted: people copy the whole address, too. */
function pasted() {
  const text = key.value.trim();
  return /^(wss?|https?):/i.test(text) ? (text.split(/[?#]/)[0].split("/").filter(Boolean).pop() ?? "") : text;
}

get("show").addEventListener("click", () => {
  const shown = key.type === "password";
  key.type = shown ? "text" : "password";
  get("show").setAttribute("aria-pressed", String(shown));
  get("show").textContent = shown ? "Hide" : "Show";
});
key.addEventListener("input", () => { complain(); settle(); });

/** @param {HTMLElement} [what] */
function complain(what) {
  get("key-trouble").replaceChildren(...(what ? [what] : []));
  if (what) key.setAttribute("aria-invalid", "true");
  else key.removeAttribute("aria-invalid");
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!pasted() || pasted().length > LONGEST_KEY) {
    complain(note("bad", pasted() ? "No stream key is as long as that." : "Paste the stream key first."));
    key.focus();
    return;
  }
  // Enter in the field of the key comes here while it is live, too.
  if (!publisher && sources.stream && settled()) begin(sources.stream);
});

function goOn() {
  if (!returning || publisher || !sources.stream || !address) return;
  returning = false;
  begin(sources.stream);
}

/** @param {MediaStream} stream */
function begin(stream) {
  warnings.clear();
  complain();
  began = 0;
  for (const graph of Object.values(graphs)) graph.replace([]);
  publisher = new Publisher({
    url: address, key: pasted(), stream, bitrate: BITRATES[quality.value], lowLatency: short.checked, name: "broadcast page",
    remember: true,
  });
  publisher.on("statechange", ({ state, cause, retryIn }) => turned(state, cause, retryIn));
  publisher.on("hello", ({ stream: name }) => { void share(name); });
  publisher.on("warning", (problem) => warnings.tell(problem));
  publisher.on("server", ({ type, sinks }) => { if (type === "state") warnings.outputs(sinks ?? []); });
  publisher.on("error", (problem) => {
    if (problem.code !== "unknown_key") return;
    complain(note("bad", "No stream here has this key."));
    get("sharing").hidden = true;
  });
  // What it fails with comes as an event.
  publisher.start().catch(() => {});
  keep();
}

/** For a reload: who has ended it does not want it back. */
function keep() {
  if (!publisher) return;
  if (publisher.state === "ending") letGo();
  else keepUp({ key: pasted(), quality: quality.value, short: short.checked, camera: !sources.sharing });
}

end.addEventListener("click", () => {
  if (publisher?.state !== "live" && !settled()) return;
  void publisher?.stop();
  keep();
});

/** @param {State} state @param {Problem | null} cause @param {number | null} retryIn */
function turned(state, cause, retryIn) {
  const [badge, kind, text, look] = publishing(state, began > 0);
  const shown = get("badge");
  say(shown, badge);
  shown.className = `badge ${kind}`;
  if (state === "live") began ||= performance.now();
  get("numbers").hidden = !began;
  const said = cause && state !== "live" ? [cause.text, advised(cause.advice)].filter((each) => !text.startsWith(each)) : [];
  const again = retryIn && retryIn >= 1000 ? `Next try in ${Math.round(retryIn / 1000)} s.` : "";
  stateNote.className = `note ${look}`;
  stateNote.replaceChildren(make("strong", {}, text), ...[...said, again].filter(Boolean).map((each) => make("span", {}, each)));
  if (state === "live") {
    warnings.live();
    void awake();
  }
  if (state === "ended" || state === "failed") {
    publisher = null;
    letGo();
    lock?.release().catch(() => {});
    say(get("clock"), began ? `after ${clock((performance.now() - began) / 1000)}` : "");
    for (const graph of Object.values(graphs)) graph.push(null);
    warnings.live();
    warnings.outputs([]);
  }
  document.title = `${state === "idle" ? "Broadcast" : badge} · ingestd`;
  settle();
}

let swapped = -DOUBLE;
const settled = () => performance.now() - swapped > DOUBLE;

function settle() {
  const running = publisher !== null;
  const focused = document.activeElement === go || document.activeElement === end;
  if (go.hidden !== running) swapped = performance.now();
  go.hidden = running;
  end.hidden = !running;
  go.disabled = !sources.stream || !address;
  key.readOnly = streams.disabled = short.disabled = running;
  get("new-key", HTMLButtonElement).disabled = running;
  if (focused) (running ? end : go.disabled ? key : go).focus();
}

/** @type {{ released: boolean, release: () => Promise<void> } | null} */
let lock = null;

/** Phones go to sleep, and the broadcast with them. */
async function awake() {
  try {
    if (!lock || lock.released) lock = await /** @type {any} */ (navigator).wakeLock?.request("screen");
    if (!publisher) await lock?.release();
  } catch { /* it is asked for, not needed */ }
}
document.addEventListener("visibilitychange", () => { if (!document.hidden && publisher) void awake(); });
addEventListener("beforeunload", (event) => { if (publisher) event.preventDefault(); });
// A page that nobody saw may not have noted it for a minute.
addEventListener("pagehide", keep);

// What can be seen of it

const graphs = {
  bitrate: new Graph("Bitrate", rate, { seconds: 60, least: 500_000 }),
  buffer: new Graph("Waiting to be sent", size, { seconds: 60, least: 100_000 }),
  lag: new Graph("Delay to the server", delay, { seconds: 60, least: 500 }),
};
get("graphs").append(...Object.values(graphs).map((graph) => graph.element));

setInterval(() => {
  if (began && publisher) say(get("clock"), clock((performance.now() - began) / 1000));
  if (!publisher) return;
  keep();
  const told = publisher.statistics;
  graphs.bitrate.push(told.sentBitrate);
  graphs.buffer.push(told.bufferedBytes);
  graphs.lag.push(told.lagMs);
  const facts = /** @type {[string, string][]} */ ([
    ["Sent", size(told.sentBytes)],
    ["Picture", told.width ? `${told.width}×${told.height}` : "none"],
    ["Set to", rate(told.bitrate)],
    ["Reconnects", String(told.reconnects)],
    ["Lost", plural(told.droppedChunks, "chunk")],
  ]);
  get("facts").replaceChildren(...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}, 1000);

const link = get("link", HTMLInputElement);
copyable(link, get("copy-link", HTMLButtonElement));

/** @param {string} name of the stream that is, or will be, sent */
async function share(name) {
  const plain = new URL(`watch/${name}`, base).href;
  // For a member who may publish the daemon signs one.
  const told = signed && may(me, "publish")
    ? await call("POST", `v1/streams/${name}/link`, { body: { expires_in: LINK_S }, login: false }).catch(() => null) : null;
  // A link from before the sign-in has expired is better than none.
  if (!told && link.value.startsWith(`${plain}?token=`)) return;
  link.value = told?.token ? `${plain}?token=${encodeURIComponent(told.token)}` : plain;
  get("open-link", HTMLAnchorElement).href = link.value;
  say(get("link-hint"), !signed ? "Whoever has it can watch."
    : told?.token ? "Whoever has it can watch, for twelve hours."
      : "Viewers need a token in the link: whoever runs the daemon gives those out.");
  get("sharing").hidden = false;
}

// Whose streams there are, for who is signed in

streams.addEventListener("change", () => {
  const option = streams.selectedOptions[0];
  get("renew").hidden = !option.value || option.dataset.declared === "true" || !may(me, "admin");
  if (option.value) void share(option.value);
  else get("sharing").hidden = true;
});

get("new-key").addEventListener("click", async (event) => {
  const button = get("new-key", HTMLButtonElement);
  // One click asks, the next does it: no dialog for the only thing that is asked here.
  if (button.dataset.sure !== streams.value || event.detail > 1) {
    button.dataset.sure = streams.value;
    button.textContent = "Yes, end the old key";
    return;
  }
  try {
    key.value = (await call("POST", `v1/streams/${streams.value}/reset-key`, { login: false })).key;
    complain();
    (go.disabled ? key : go).focus();
    get("renew").hidden = true;
  } catch (error) {
    complain(note("bad", error instanceof Refused ? error.message : String(error)));
  } finally {
    delete button.dataset.sure;
    button.textContent = "Make a new key";
  }
});

async function offer() {
  const told = await call("GET", "v1/streams?limit=1000", { login: false });
  for (const { name, title, declared } of told.streams) {
    streams.append(make("option", { value: name, "data-declared": declared }, title ? `${name} — ${title}` : name));
  }
  get("pick").hidden = !told.streams.length;
}

async function open() {
  const given = takeOver();
  const before = given ? null : unfinished();
  if (given) key.value = given.key;
  if (before) {
    key.value = before.key;
    quality.value = before.quality;
    sources.height = Number(before.quality);
    short.checked = before.short;
    returning = before.camera && !problems.length;
    if (returning) {
      // It may be reloaded again before it is there.
      keepUp(before);
      if (!sources.stream) void sources.open();
    }
    const todo = returning ? "It goes on as soon as the camera is on." : "Choose what to send, then go live again.";
    stateNote.replaceChildren(make("strong", {}, "This page was reloaded while you were live."), make("span", {}, todo));
  }
  const entered = await insist(enter, (why) => get("key-trouble").replaceChildren(note("bad", why.message, "It is tried again by itself.")));
  complain();
  me = entered.me;
  address = entered.daemon.publish;
  signed = entered.daemon.playback !== "open";
  settle();
  goOn();
  if (given) void share(given.stream);
  // A key is enough to go live, and what is live is not left for the sign-in.
  if (may(me, "read")) await offer().catch(() => {});
  const wanted = given?.stream ?? new URLSearchParams(location.hash.slice(1)).get("stream") ?? "";
  if (wanted && [...streams.options].some((option) => option.value === wanted)) {
    streams.value = wanted;
    if (!given) streams.dispatchEvent(new Event("change"));
  }
}

const problems = Publisher.check();
if (problems.length) {
  const [problem] = problems;
  curtain(problem.text, problem.advice);
  get("camera-on", HTMLButtonElement).disabled = get("screen-first", HTMLButtonElement).disabled = screenButton.disabled = true;
} else {
  // Who has allowed it before is not asked again.
  Promise.resolve(navigator.permissions?.query({ name: /** @type {any} */ ("camera") }))
    .then((found) => { if (found?.state === "granted" && !sources.stream) void sources.open(); }, () => {});
}
void open();
