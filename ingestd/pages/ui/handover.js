// Stream keys that outlive a page, in this tab only: on its way from the dashboard to the broadcast page,
// once; and of a broadcast that a reload interrupts, for a minute.

const PLACE = "ingestd.handover";
const LIVE = "ingestd.live";
/** A tab that is restored later than that is not put on air by itself. */
const GOOD_MS = 60_000;

/** @param {string} place @param {unknown} what */
function put(place, what) {
  try {
    sessionStorage.setItem(place, JSON.stringify(what));
  } catch { /* this browser keeps nothing: the key has to be pasted */ }
}

/** @param {string} place @returns {any} what was there; it is gone then */
function take(place) {
  try {
    const found = sessionStorage.getItem(place);
    sessionStorage.removeItem(place);
    return JSON.parse(found ?? "null");
  } catch {
    return null;
  }
}

/** @param {{ key: string, stream: string }} what */
export function handOver(what) {
  put(PLACE, what);
}

/** @returns {{ key: string, stream: string } | null} what was handed over; it is gone then */
export function takeOver() {
  const told = take(PLACE);
  return typeof told?.key === "string" && typeof told?.stream === "string" ? told : null;
}

/** @typedef {{ key: string, quality: string, short: boolean, camera: boolean }} Broadcast */

/**
 * Note what is on air, now and again.
 * @param {Broadcast} what
 */
export function keepUp(what) {
  put(LIVE, { ...what, at: Date.now() });
}

/** It has ended. */
export function letGo() {
  take(LIVE);
}

/** @returns {Broadcast | null} what was on air in this tab a moment ago */
export function unfinished() {
  const told = take(LIVE);
  return typeof told?.key === "string" && Date.now() - told.at < GOOD_MS ? told : null;
}
