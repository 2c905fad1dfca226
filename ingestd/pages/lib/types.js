/** Which types a MediaRecorder records, best first. */

/** @typedef {"h264" | "vp8" | "vp9" | "av1"} Codec */

/**
 * For each codec the types to ask for. H.264 first as Matroska (which Chromium makes of `video/webm`): it
 * comes slice by slice, an MP4 only a group of pictures at a time.
 * @type {Record<Codec, [container: string, codec: string][]>}
 */
const VIDEO = {
  h264: [
    ["video/webm", "h264"],
    ["video/x-matroska", "avc1"],
    ["video/mp4", "avc1.42E01F"],
    ["video/mp4", "avc1"],
  ],
  vp8: [["video/webm", "vp8"]],
  vp9: [["video/webm", "vp9"]],
  av1: [["video/webm", "av01.0.04M.08"], ["video/webm", "av1"]],
};

/** AV1 last: few machines encode it in time. */
const ORDER = /** @type {const} */ (["vp8", "vp9", "h264", "av1"]);

const SOUND_ONLY = [
  "audio/webm;codecs=opus",
  "audio/mp4;codecs=mp4a.40.2",
  "audio/mp4;codecs=opus",
  "audio/mp4",
];

/** @type {Record<string, string[]>} */
const SOUND = { "video/mp4": ["mp4a.40.2", "opus"] };

/**
 * @param {object} options
 * @param {Codec} [options.codec] what to try first: "h264" where the pipeline copies it
 * @param {boolean} [options.video]
 * @param {boolean} [options.audio]
 * @param {(type: string) => boolean} [options.supported]
 * @returns {string[]}
 */
export function recordingTypes({ codec = "vp8", video = true, audio = true, supported = recordable } = {}) {
  return candidates(codec, video, audio).filter(supported);
}

/**
 * @param {Codec} first @param {boolean} video @param {boolean} audio
 * @returns {string[]}
 */
function candidates(first, video, audio) {
  if (!video) return SOUND_ONLY;
  const codecs = [first, ...ORDER.filter(codec => codec !== first)];
  const types = codecs.flatMap(codec =>
    VIDEO[codec].flatMap(([container, name]) =>
      audio
        ? (SOUND[container] ?? ["opus"]).map(sound => `${container};codecs=${name},${sound}`)
        : [`${container};codecs=${name}`],
    ),
  );
  return [...types, "video/webm", "video/mp4"];
}

/** @param {string} type */
function recordable(type) {
  return typeof MediaRecorder === "function" && MediaRecorder.isTypeSupported(type);
}
