// What the API and the library tell, in words.
import { size } from "./dom.js";

/** @typedef {import("./api.js").Happening} Happening */
/** @typedef {import("../lib/publisher.js").PublisherState} PublisherState */
/** @typedef {"good" | "warn" | "bad" | "live" | ""} Kind */

/** @type {Record<string, [string, Kind]>} */
const STREAM = {
  idle: ["Off air", ""],
  connecting: ["Connecting", "warn"],
  live: ["Live", "live"],
  interrupted: ["Publisher lost, waiting", "warn"],
  ended: ["Ended", ""],
  failed: ["Failed", "bad"],
};

/** @type {Record<string, [string, Kind]>} */
const HEALTH = {
  starting: ["starting", "warn"],
  running: ["running", "good"],
  backing_off: ["trying again", "warn"],
  failed: ["failed", "bad"],
  stopped: ["finished", ""],
};

/** @type {Record<string, [string, Kind]>} */
const STREAM_EVENTS = {
  created: ["Created", ""],
  updated: ["Changed", ""],
  deleted: ["Deleted", ""],
  connecting: ["A publisher connects", ""],
  live: ["On air", "good"],
  interrupted: ["The publisher was lost; it may come back", "warn"],
  resumed: ["The publisher is back", "good"],
  ended: ["Ended", ""],
  failed: ["Failed", "bad"],
};

/** @type {Record<string, [string, Kind]>} */
const HEALTH_EVENTS = {
  starting: ["starts", ""],
  running: ["runs", "good"],
  backing_off: ["failed, and is begun again", "warn"],
  recovered: ["is well again", "good"],
  failed: ["failed, and is given up for now", "bad"],
  stopped: ["has finished", ""],
};

/** @param {string} state @returns {[string, Kind]} what is unknown is shown as it is called */
export const streamState = (state) => STREAM[state] ?? [state, ""];

/** @param {string} state @returns {[string, Kind]} */
export const healthState = (state) => HEALTH[state] ?? [state, ""];

/**
 * What happened.
 * @param {Happening} event
 * @returns {{ text: string, kind: Kind, cause: string }}
 */
export function happening({ type, data }) {
  const [noun, what] = type.split(".");
  const cause = typeof data.cause === "string" ? data.cause : "";
  if (noun === "recording") {
    const text = what === "ready" ? `Recording ready: ${data.file} (${size(data.size ?? 0)})` : `Recording removed: ${data.file}`;
    return { text, kind: "", cause };
  }
  if (noun === "stream") {
    const [text, kind] = STREAM_EVENTS[what] ?? [what, ""];
    if (what === "updated" && data.key === "reset") return { text: "Given another key", kind: "", cause };
    if (what === "updated" && data.enabled === false) return { text: "Disabled", kind: "warn", cause };
    return { text, kind, cause };
  }
  const [text, kind] = HEALTH_EVENTS[what] ?? [what, ""];
  // Why it failed stands at the failure; a new attempt only has it still.
  const why = what === "starting" ? "" : cause;
  return { text: `${noun === "encoder" ? "Encoder" : `Sink ${data.name}`} ${text}`, kind, cause: why };
}

const CODECS = /** @type {Record<string, string>} */ ({
  h264: "H.264", hevc: "H.265", vp8: "VP8", vp9: "VP9", av1: "AV1", opus: "Opus", aac: "AAC", pcm: "PCM",
});

/** @param {import("./api.js").Track} track */
export function track({ kind, codec, width, height }) {
  const name = CODECS[codec] ?? codec.toUpperCase();
  return kind === "video" && width && height ? `${width}×${height} ${name}` : name;
}

/** @type {Record<PublisherState, [badge: string, kind: Kind, text: string, look: Kind]>} */
const PUBLISHING = {
  idle: ["Not on air", "", "Not on air.", ""],
  connecting: ["Connecting", "warn", "Connecting …", ""],
  starting: ["Starting", "warn", "Connected — starting stream.", ""],
  live: ["Live", "live", "You are live.", "good"],
  reconnecting: ["Reconnecting", "warn", "The connection was lost. Reconnecting …", "warn"],
  paused: ["Paused", "warn", "Paused.", "warn"],
  ending: ["Ending", "warn", "Sending what is left …", ""],
  ended: ["Ended", "", "The broadcast has ended.", ""],
  failed: ["Failed", "bad", "The broadcast could not go on.", "bad"],
};

/** @param {PublisherState} state @param {boolean} begun whether it has been live */
export function publishing(state, begun) {
  const [badge, kind, text, look] = PUBLISHING[state] ?? [state, "", state, ""];
  return [badge, kind, state === "failed" && !begun ? "The broadcast could not begin." : text, look];
}

/**
 * What to do, of an advice: where it is nothing, why.
 * @param {string} advice
 */
export function advised(advice) {
  return advice.replace(/^Nothing(?:\.|[:;,] (.))/, (...found) => (found[1] ?? "").toUpperCase());
}
