// Stream keys that outlive a page, in this tab only: on its way from the dashboard to the broadcast page,
// once; and of a broadcast that a reload interrupts, for a minute.

const PLACE = "ingestd.handover";
const LIVE = "ingestd.live";
/** A tab that is restored later than that is not put on air by itself. */
const GOOD_MS = 60_000;

/** @param {{ key: string, stream: string }} what */
export function handOver(what) {
  sessionStorage.setItem(PLACE, JSON.stringify(what));
}

/** @returns {{ key: string, stream: string } | null} what was handed over; it is gone then */
export function takeOver() {
  const found = sessionStorage.getItem(PLACE);
  sessionStorage.removeItem(PLACE);
  try {
    const told = JSON.parse(found ?? "null");
    return typeof told?.key === "string" && typeof told?.stream === "string" ? told : null;
  } catch {
    return null;
  }
}

/** @typedef {{ key: string, quality: string, short: boolean, camera: boolean }} Broadcast */

/**
 * Note what is on air, now and again.
 * @param {Broadcast} what
 */
export function keepUp(what) {
  sessionStorage.setItem(LIVE, JSON.stringify({ ...what, at: Date.now() }));
}

/** It has ended. */
export function letGo() {
  sessionStorage.removeItem(LIVE);
}

/** @returns {Broadcast | null} what was on air in this tab a moment ago */
export function unfinished() {
  try {
    const { at, ...told } = JSON.parse(sessionStorage.getItem(LIVE) ?? "{}");
    letGo();
    return typeof told.key === "string" && Date.now() - at < GOOD_MS ? told : null;
  } catch {
    return null;
  }
}
