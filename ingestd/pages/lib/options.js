/** What a Publisher may be told. What it cannot take is refused at once, by name. */

/**
 * @typedef {object} PublisherOptions
 * @property {string} url `ws://HOST:8081/stream/live`
 * @property {string} [key] the stream key, if the URL has none
 * @property {MediaStream} stream what to publish; its tracks stay the page's to stop
 * @property {number} [bitrate] of the picture, bits per second
 * @property {number} [audioBitrate] of the sound, bits per second
 * @property {boolean} [lowLatency] slices of 100 ms instead of 250
 * @property {string} [name] what the server's status calls this publisher
 * @property {import("./types.js").Codec} [codec] what to try first: "h264" where the pipeline copies it
 * @property {string} [type] the exact recording type, instead of the best
 * @property {boolean} [adapt] lower the bitrate when the network does not carry it, and raise it again
 * @property {boolean} [remember] go on with the session after a reload, by way of sessionStorage
 * @property {number} [slice] ms of a chunk
 * @property {number} [keyframeInterval] ms
 */

const MOST_BITS = 2 ** 31 - 1;
const CODECS = ["h264", "vp8", "vp9", "av1"];

/** @type {(least: number, most: number) => (value: any) => boolean} */
const within = (least, most) => value => typeof value === "number" && value >= least && value <= most;
/** @type {(least: number, most: number) => (value: any) => boolean} */
const text = (least, most) => value => typeof value === "string" && within(least, most)([...value].length);

/** @type {Record<string, [expected: string, fits: (value: any) => boolean]>} */
const RULES = {
  url: ["a WebSocket address", value => typeof value === "string" || value instanceof URL],
  key: ["text of 1 to 128 characters", text(1, 128)],
  // Not by its class: that of another frame is another.
  stream: ["a MediaStream", value => typeof value?.getTracks === "function"],
  bitrate: ["bits per second, 1 to 2^31-1", within(1, MOST_BITS)],
  audioBitrate: ["bits per second, 1 to 2^31-1", within(1, MOST_BITS)],
  name: ["text of at most 64 characters", text(0, 64)],
  codec: [`one of ${CODECS.join(", ")}`, value => CODECS.includes(value)],
  type: ["a recording type like video/webm;codecs=vp8,opus", text(1, 128)],
  slice: ["milliseconds, 10 to 15000", within(10, 15_000)],
  keyframeInterval: ["milliseconds, 100 to 60000", within(100, 60_000)],
};
const NEEDED = ["url", "stream"];

/**
 * Throws a TypeError that names the option, what was expected and what came.
 * @param {Partial<PublisherOptions>} options
 * @param {string[]} [needed]
 */
export function checkOptions(options, needed = NEEDED) {
  for (const [name, [expected, fits]] of Object.entries(RULES)) {
    const value = /** @type {Record<string, unknown>} */ (options)[name];
    if ((value === undefined && !needed.includes(name)) || fits(value)) continue;
    throw new TypeError(`Publisher: ${name}: expected ${expected}, not ${told(value)}`);
  }
}

/**
 * Of text only its length: it may be a key.
 * @param {unknown} value
 */
function told(value) {
  if (typeof value === "string") return `text of ${[...value].length}`;
  if (typeof value === "object" && value !== null) return `an object (${value.constructor?.name})`;
  return String(value);
}
