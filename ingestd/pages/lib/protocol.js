/** `ingestd.v1` as bytes and codes: docs/protocol.md. */

export const SUBPROTOCOL = "ingestd.v1";

const HEADER = 12;

/**
 * @typedef {object} Hello
 * @property {string} stream
 * @property {string} session
 * @property {string | null} token
 * @property {number} next
 * @property {number | null} recorder
 * @property {boolean} resumed
 * @property {{max_message: number, max_text: number, window: number, ack: string, ping_interval: number,
 *   ping_timeout: number}} limits
 */

/** @typedef {{session: string, token: string}} Resume */

/**
 * A chunk as it goes over the wire.
 * @param {number} number
 * @param {number} recorder
 * @param {Uint8Array} data
 * @returns {ArrayBuffer}
 */
export function chunkMessage(number, recorder, data) {
  const message = new Uint8Array(HEADER + data.byteLength);
  const header = new DataView(message.buffer);
  header.setUint32(0, Math.floor(number / 2 ** 32));
  header.setUint32(4, number % 2 ** 32);
  header.setUint32(8, recorder);
  message.set(data, HEADER);
  return message.buffer;
}

/**
 * Cut a recorder's data into pieces that a message has room for. Most need none, and are handed back whole.
 * @param {Uint8Array} data
 * @param {number} largest bytes of a whole message
 * @returns {Uint8Array[]}
 */
export function pieces(data, largest) {
  const room = Math.max(1, largest - HEADER);
  const cut = [];
  for (let at = 0; at < data.byteLength; at += room) cut.push(data.subarray(at, at + room));
  return cut;
}

/**
 * @typedef {object} Ending what a close code means
 * @property {"stop" | "resume" | "anew" | "later"} then anew: without `resume`; later: as before, but not soon
 * @property {string} code of the problem, see advice.js
 */

/** @type {Record<number, [then: Ending["then"], code: string]>} */
const ENDINGS = {
  1000: ["stop", "ended_by_server"],
  1001: ["resume", "server_stopping"],
  1002: ["stop", "protocol"],
  1006: ["resume", "connection_lost"],
  1007: ["stop", "protocol"],
  1009: ["stop", "too_large"],
  1011: ["resume", "server_fault"],
  1012: ["resume", "server_stopping"],
  1013: ["later", "server_not_ready"],
  4400: ["stop", "protocol"],
  4401: ["stop", "unknown_key"],
  4403: ["anew", "session_unknown"],
  4404: ["anew", "session_over"],
  4408: ["resume", "stalled"],
  4409: ["stop", "already_live"],
  4410: ["resume", "half_open"],
  4412: ["stop", "taken_over"],
  4415: ["stop", "media_refused"],
  4423: ["stop", "disabled"],
  4429: ["later", "limit_reached"],
  4500: ["anew", "session_failed"],
};

/**
 * @param {number} code of a close frame
 * @returns {Ending}
 */
export function ending(code) {
  const [then, name] = ENDINGS[code] ?? (code < 4000 ? ["resume", "connection_lost"] : ["stop", "refused"]);
  return { then, code: name };
}
