// A stream key on its way from the dashboard to the broadcast page: in this tab only, and once.

const PLACE = "ingestd.handover";

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
