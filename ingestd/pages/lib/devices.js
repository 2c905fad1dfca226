/** Camera and microphone: getting them, and seeing what becomes of them. */

import { IngestdError, problem } from "./advice.js";

/** @typedef {import("./advice.js").Problem} Problem */

/** @type {Record<string, string>} */
const CODES = {
  NotAllowedError: "permission_denied",
  SecurityError: "permission_denied",
  NotFoundError: "no_device",
  NotReadableError: "device_busy",
  AbortError: "device_busy",
  OverconstrainedError: "device_constraints",
};

/**
 * What `getUserMedia` or `getDisplayMedia` has failed with, in words.
 * @param {unknown} error
 * @returns {Problem}
 */
export function explainMediaError(error) {
  if (error instanceof IngestdError) return error;
  const { name = "", message = String(error) } = error instanceof Error ? error : {};
  return problem(CODES[name] ?? "capture_failed", message || name);
}

/**
 * `getUserMedia` that throws an `IngestdError` with advice.
 * @param {MediaStreamConstraints} [constraints]
 * @returns {Promise<MediaStream>}
 */
export async function getMedia(constraints = { video: true, audio: true }) {
  const missing = captureProblem();
  if (missing) throw new IngestdError(missing);
  try {
    return await navigator.mediaDevices.getUserMedia(constraints);
  } catch (error) {
    throw new IngestdError(explainMediaError(error));
  }
}

/**
 * Why this page cannot have camera and microphone, if it cannot.
 * @returns {Problem | null}
 */
export function captureProblem() {
  if (!globalThis.isSecureContext) return problem("insecure_page");
  // Only Chromium tells a frame beforehand what it may.
  const policy = /** @type {any} */ (document).featurePolicy;
  const allowed = !policy || policy.allowsFeature("camera") || policy.allowsFeature("microphone");
  return navigator.mediaDevices && allowed ? null : problem("no_capture");
}

/**
 * Report what happens to the tracks of *stream*, to the devices and to the page.
 * @param {MediaStream} stream
 * @param {(problem: Problem) => void} report
 * @returns {() => void} ends it
 */
export function watchSource(stream, report) {
  const done = new AbortController();
  const until = { signal: done.signal };
  for (const track of stream.getTracks()) {
    const named = track.label ? `${track.kind}, ${track.label}` : track.kind;
    track.addEventListener("ended", () => report(problem("track_ended", named)), until);
    track.addEventListener("mute", () => report(problem("track_muted", named)), until);
  }
  navigator.mediaDevices?.addEventListener("devicechange", () => report(problem("devices_changed")), until);
  const look = () => document.hidden && report(problem("hidden_tab"));
  document.addEventListener("visibilitychange", look, until);
  return () => done.abort();
}
