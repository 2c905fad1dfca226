import { Player } from "../lib/ingestd.js";
import { about, base, call, Problem as Refused, toLogin } from "./api.js";
import { delay, get, make, note, plural, say } from "./dom.js";

/** @typedef {import("./api.js").Playback} Playback */
/** @typedef {import("./api.js").Recording} Recording */
/** @typedef {import("../lib/advice.js").Problem} Problem */
/** @typedef {import("../lib/player.js").PlayerState} State */

const VIEWERS_EVERY = 15_000;
const RETRY = 4000;
const OFF = "The stream is switched off";
const OFF_RETRY = 10_000;
const STIRRED = 3000;
/** A recording is finished a little after its stream has ended. */
const LOOKS = [0, 2000, 4000];
/** Whoever loads for less long than this sees nothing of it. */
const PATIENCE = 600;

const name = decodeURIComponent(location.pathname.split("/").pop() ?? "");
const token = new URLSearchParams(location.search).get("token") ?? new URLSearchParams(location.hash.slice(1)).get("token");

const video = get("video", HTMLVideoElement);
const screen = get("screen");
const badge = get("badge");
const mute = get("mute", HTMLButtonElement);
const pause = get("pause", HTMLButtonElement);
const full = get("full", HTMLButtonElement);
const volume = get("volume", HTMLInputElement);
const loud = get("loud", HTMLButtonElement);
const warnings = get("warnings");
/** What was seen last, while somebody pauses. */
const still = get("still", HTMLCanvasElement);

/** @type {Player | null} */
let player = null;
/** @type {Playback | null} */
let playback = null;
let paused = false;
/** @type {"" | "Paused" | "Ready"} why the video stands: somebody paused it elsewhere, or has to start it */
let halt = "";
let ended = false;
let recorded = false;
let patience = 0;

document.title = `${name} · ingestd`;
say(get("name"), `Stream ${name}`);
say(get("title"), name);

/**
 * What is said in place of the picture.
 * @param {string} title
 * @param {string} [text]
 * @param {{ busy?: boolean, light?: boolean, actions?: HTMLElement[] }} more
 */
function curtain(title, text = "", { busy = false, light = false, actions = [] } = {}) {
  clearTimeout(patience);
  const over = get("curtain");
  over.hidden = false;
  over.classList.toggle("light", light);
  get("spinner").hidden = !busy;
  say(get("curtain-title"), title);
  say(get("curtain-text"), text);
  get("curtain-text").hidden = !text;
  get("curtain-actions").replaceChildren(...actions);
  say(get("state"), text ? `${title}. ${text}` : title);
}

/** @param {string} text @param {() => void} act */
function button(text, act) {
  const made = make("button", { type: "button", class: "primary" }, text);
  made.addEventListener("click", act);
  return made;
}

/** @param {"Live" | "Interrupted" | "Recording" | ""} text */
function mark(text) {
  if (text !== "Live") {
    get("viewers").hidden = true;
    for (const id of ["latency", "technical"]) say(get(id), "");
  }
  badge.hidden = !text;
  say(badge, text);
  badge.classList.toggle("live", text === "Live");
}

function halted() {
  loud.hidden = true;
  pause.textContent = "Play";
  stand(halt, halt === "Ready" ? "The browser waits for you to start it." : "");
}

/**
 * It stands until somebody presses Play.
 * @param {string} title
 * @param {string} [text]
 */
function stand(title, text = "") {
  mark("");
  curtain(title, text, { light: !text, actions: [button("Play", () => { pause.click(); pause.focus(); })] });
}

// By a media key, or in the window of a picture in picture.
video.addEventListener("pause", () => {
  if (paused || recorded || video.ended || !["playing", "buffering"].includes(player?.state ?? "")) return;
  halt ||= "Paused";
  halted();
});
video.addEventListener("play", () => {
  if (!halt || !player) return;
  halt = "";
  pause.textContent = "Pause";
  turned(player.state, player.cause);
});

/** Counts what is said of the end: only the latest word of it counts. */
let ends = 0;

/** @param {State} state @param {Problem | null} cause */
function turned(state, cause) {
  if (recorded) return;
  const shown = state === "playing";
  if (state !== "connecting" && state !== "buffering") still.hidden = true;
  for (const control of [pause, mute, full]) control.disabled = !["playing", "buffering", "interrupted", "connecting"].includes(state);
  volume.disabled = mute.disabled;
  loud.hidden ||= mute.disabled;
  // The way out of it stays open.
  if (document.fullscreenElement) full.disabled = false;
  if (halt && (shown || state === "buffering")) return halted();
  mark(shown ? "Live" : state === "interrupted" ? "Interrupted" : "");
  switch (state) {
    case "playing":
      clearTimeout(patience);
      ended = false;
      get("curtain").hidden = true;
      say(get("state"), "Live");
      sound();
      break;
    case "connecting":
      if (get("curtain-title").textContent === OFF) break;
      curtain(cause ? "Connecting again …" : "Connecting …", cause?.text ?? "", { busy: true });
      break;
    case "buffering":
      clearTimeout(patience);
      patience = setTimeout(() => curtain("Loading …", "", { busy: true, light: true }), get("curtain").hidden ? PATIENCE : 0);
      break;
    case "waiting":
      if (ended) void over();
      else curtain("Waiting for the broadcaster", "It begins here by itself.");
      break;
    case "interrupted":
      curtain("The broadcaster was lost", "It goes on here by itself if they come back.", { light: true });
      break;
    case "ended":
      void over();
      break;
    case "unsupported":
      curtain("This browser cannot play it", cause ? `${cause.text} ${cause.advice}` : "");
      break;
    case "failed":
      ends += 1;
      if (cause?.code === "disabled") {
        curtain(OFF, "It begins here by itself when it is switched on again.");
        setTimeout(() => { if (!paused && !recorded) player?.start(); }, OFF_RETRY);
        break;
      }
      curtain(cause?.text ?? "It cannot be played.", cause?.advice ?? "", { actions: [button("Try again", () => location.reload())] });
      break;
  }
}

// The end, and what is left of it

async function over() {
  ended = true;
  const number = ++ends;
  const text = "If it begins again, it starts here by itself.";
  curtain("The broadcast has ended", text);
  for (const wait of LOOKS) {
    await new Promise((done) => { setTimeout(done, wait); });
    const goesOn = () => !ended || recorded || number !== ends;
    const found = goesOn() ? null : await recording().catch(() => null);
    if (goesOn()) return;
    if (found) {
      curtain("The broadcast has ended", text, { actions: [button("Watch the recording", () => replay(found))] });
      return;
    }
  }
}

/** @returns {Promise<Recording | null>} the newest one that browsers play, for who may see it */
async function recording() {
  const daemon = await about();
  if (daemon.tokens && !daemon.signed_in) return null;
  const told = await call("GET", `v1/recordings?stream=${encodeURIComponent(name)}&finished=true&limit=10`, { login: false });
  const order = ["mp4", "webm", "mkv"];
  const files = /** @type {Recording[]} */ (told.recordings).filter(({ file }) => order.includes(file.split(".").pop() ?? ""));
  const newest = files.filter(({ session }) => session === files[0]?.session);
  const rank = (/** @type {Recording} */ { file }) => order.indexOf(file.split(".").pop() ?? "");
  return newest.sort((one, other) => rank(one) - rank(other))[0] ?? null;
}

/** @param {Recording} found */
function replay(found) {
  recorded = true;
  player?.stop();
  get("curtain").hidden = true;
  loud.hidden = true;
  mark("Recording");
  say(get("state"), "Recording");
  const source = new URL(`v1/recordings/${found.id}/file`, base).href;
  video.controls = true;
  video.muted = false;
  video.src = source;
  video.play().catch(() => {});
  video.addEventListener("error", () => warnings.replaceChildren(
    note("bad", "This browser does not play the recording.", "Download it, and open it in a player like VLC.")), { once: true });
  document.querySelector(".controls")?.replaceChildren(
    make("a", { class: "button", href: source, download: "" }, "Download the recording"),
    button("Back to live", () => location.reload()));
  video.focus();
}

// Controls

function sound() {
  const silent = video.muted || video.volume === 0;
  volume.value = String(video.volume);
  mute.textContent = silent ? "Sound off" : "Sound on";
  mute.setAttribute("aria-pressed", String(silent));
  mute.setAttribute("aria-label", silent ? "Sound is off: turn it on" : "Sound is on: turn it off");
  // What is told of the media names its codecs; of HLS it does not.
  const media = player?.statistics.media ?? "";
  const none = media.includes("codecs") && !/opus|mp4a/.test(media);
  loud.hidden = !video.muted || player?.state !== "playing" || heard || none;
}
let heard = false;

/** @param {boolean} muted */
function silence(muted) {
  heard = true;
  video.muted = muted;
  if (!muted && video.volume === 0) video.volume = 1;
  sound();
}
mute.addEventListener("click", () => silence(!video.muted));
loud.addEventListener("click", () => { silence(false); mute.focus(); });
volume.addEventListener("input", () => {
  video.volume = Number(volume.value);
  silence(video.volume === 0);
});
video.addEventListener("volumechange", sound);

pause.addEventListener("click", () => {
  if (halt) return void video.play().catch(() => {});
  paused = !paused;
  pause.textContent = paused ? "Play" : "Pause";
  if (paused) {
    keepPicture();
    player?.stop();
    stand("Paused");
  } else {
    player?.start();
  }
});

function keepPicture() {
  still.hidden = !video.videoWidth;
  still.width = video.videoWidth;
  still.height = video.videoHeight;
  if (!still.hidden) still.getContext("2d")?.drawImage(video, 0, 0);
}

full.addEventListener("click", () => {
  if (document.fullscreenElement) void document.exitFullscreen();
  else if (screen.requestFullscreen) screen.requestFullscreen().catch(() => {});
  // An iPhone shows videos alone as large as the screen.
  else /** @type {any} */ (video).webkitEnterFullscreen?.();
});
document.addEventListener("fullscreenchange", () => {
  full.textContent = document.fullscreenElement ? "Leave full screen" : "Full screen";
});

/** Over a full screen the controls show while somebody moves. */
let stirring = 0;
for (const kind of ["pointermove", "pointerdown", "keydown"]) {
  screen.addEventListener(kind, () => {
    screen.classList.add("stirred");
    clearTimeout(stirring);
    stirring = setTimeout(() => screen.classList.remove("stirred"), STIRRED);
  });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || recorded) return;
  const press = { m: mute, f: full, k: pause }[event.key.toLowerCase()];
  if (!press || press.disabled) return;
  event.preventDefault();
  press.click();
});

// Beginning

/** @returns {Promise<Playback>} */
function ask() {
  return call("GET", `v1/playback/${encodeURIComponent(name)}${token ? `?token=${encodeURIComponent(token)}` : ""}`, { login: false });
}

/** @param {Playback} told */
function count({ viewers }) {
  const shown = get("viewers");
  say(shown, plural(viewers, "viewer"));
  shown.hidden = !viewers || player?.state !== "playing";
}

async function begin() {
  try {
    playback = await ask();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 404) {
      curtain("There is no such stream", `Nothing is called “${name}” here. Look at the link again.`);
    } else if (error.status === 401 || error.status === 403) {
      const daemon = await about().catch(() => null);
      curtain("You need a link that is still good", "Ask whoever gave you this one for another.",
        { actions: daemon?.tokens ? [button("Sign in", toLogin)] : [] });
    } else {
      curtain(error.status === 0 ? "The server does not answer" : "It does not go at the moment",
        `${error.status === 429 ? "Too many wrong links came from here. " : ""}It is tried again by itself.`, { busy: true });
      setTimeout(begin, RETRY);
    }
    return;
  }
  if (playback.title) {
    document.title = `${playback.title} · ingestd`;
    say(get("title"), playback.title);
  }
  ended = playback.state === "ended" || playback.state === "failed";
  player = new Player(video, { url: playback.watch, hls: playback.hls });
  player.on("statechange", ({ state, cause }) => { if (!paused) turned(state, cause); });
  player.on("server", ({ type, state }) => {
    if (type === "waiting" && !ended && ["ended", "failed"].includes(state)) void over();
  });
  player.on("warning", (problem) => {
    if (problem.code === "autoplay_refused") {
      halt = "Ready";
      halted();
    }
    if (problem.code === "too_slow") {
      warnings.replaceChildren(note("warn", problem.text, problem.advice));
      setTimeout(() => warnings.replaceChildren(), 15_000);
    }
  });
  player.on("statistics", (told) => {
    const shown = told.state === "playing" && !halt;
    say(get("latency"), shown && told.latencyMs !== null ? `${delay(told.latencyMs)} behind ·` : "");
    say(get("technical"), shown
      ? [video.videoWidth ? `${video.videoWidth}×${video.videoHeight}` : "sound only", told.mode === "hls" ? "HLS" : "", told.stalls ? plural(told.stalls, "stall") : ""].filter(Boolean).join(" · ")
      : "");
  });
  player.start();
  if (ended) void over();
  setInterval(async () => {
    if (document.hidden || player?.state !== "playing") return;
    const told = await ask().catch(() => null);
    if (told) count(told);
  }, VIEWERS_EVERY);
  player.on("init", () => { setTimeout(async () => { const told = await ask().catch(() => null); if (told) count(told); }, 1500); });
}

void begin();
