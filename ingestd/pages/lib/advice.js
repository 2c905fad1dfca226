/** What can go wrong, in words: what happened, and what to do about it. */

/**
 * @typedef {object} Problem
 * @property {string} code for programs
 * @property {string} text what happened, a sentence
 * @property {string} advice what to do about it, a sentence or two
 * @property {number} [close] the WebSocket's close code, if it was one
 */

/** @type {Record<string, readonly [text: string, advice: string]>} */
const WORDS = {
  // This browser
  insecure_page: [
    "This page may not use camera and microphone: it was not loaded over HTTPS.",
    "Open it as https://, or from http://localhost.",
  ],
  no_websocket: ["This browser has no WebSocket.", "Use a current Chrome, Edge, Firefox or Safari."],
  no_recorder: ["This browser has no MediaRecorder.", "Use a current Chrome, Edge, Firefox or Safari."],
  no_type: [
    "This browser records no format that the server takes.",
    "Use a current Chrome, Edge, Firefox or Safari.",
  ],
  no_capture: [
    "This browser offers no camera or microphone here.",
    "Open the page over HTTPS in a current browser; in a frame, allow=\"camera; microphone\" is needed.",
  ],
  no_media_source: [
    "This browser cannot be fed with media by a page.",
    "Use a current browser; on an iPhone iOS 17.1 or later, or a stream that is also served as HLS.",
  ],
  unsupported_media: [
    "This browser cannot play the stream's format.",
    "Use another browser, or add an HLS sink to the stream's pipeline.",
  ],

  // Camera and microphone
  permission_denied: [
    "Camera or microphone were not allowed.",
    "Allow both for this page in the address bar, and in the system's privacy settings; then try again.",
  ],
  no_device: ["No camera or microphone was found.", "Connect one, and try again."],
  device_busy: [
    "Camera or microphone cannot be read.",
    "Close other programs that use it, or unplug it and plug it in again.",
  ],
  device_constraints: [
    "No device can do what was asked for.",
    "Ask for a lower size or frame rate, or choose another device.",
  ],
  capture_failed: ["Camera or microphone failed.", "Try again; if it stays so, restart the browser."],
  devices_changed: [
    "A camera or microphone was connected or removed.",
    "Check that the right one is chosen.",
  ],
  track_ended: [
    "A track of the source has ended.",
    "Was the device unplugged, or sharing stopped? Choose a source again.",
  ],
  track_muted: ["A track gives nothing at the moment.", "Is the device muted by its switch or the system?"],
  source_ended: ["The source has ended: there is nothing to send.", "Choose a camera or screen again."],
  hidden_tab: [
    "The page is hidden.",
    "Browsers slow hidden pages down, and canvases stand still: keep it visible while it publishes.",
  ],

  // The recorder
  recorder_failed: [
    "The recorder failed.",
    "Choose another source or format; if it stays so, restart the browser.",
  ],
  recorder_stopped: [
    "The recorder stopped by itself; another one goes on.",
    "Nothing, unless it happens often.",
  ],
  no_data: ["The recorder gives nothing.", "Is the camera off, or the picture frozen?"],
  empty_chunks: ["The recorder gives empty chunks.", "Its tracks may have ended: choose the source again."],
  huge_chunks: ["The recorder gives very large chunks.", "Use shorter slices, or a lower bitrate."],
  no_keyframe: [
    "The stream has keyframes too rarely, so viewers wait long.",
    "Choose another format; this browser may not obey the keyframe interval.",
  ],
  slow_pictures: ["The frame rate has fallen.", "The machine may be busy: lower the size or frame rate."],
  av_drift: ["Sound and picture move apart.", "Choose the source again; a busy machine may be the cause."],

  // The network
  buffer_full: [
    "The network is slower than the recorder, which pauses.",
    "Use a cable or come closer to the router; the bitrate is lowered if it lasts.",
  ],
  queue_full: [
    "15 seconds wait to be sent, so that recording was stopped until they are.",
    "Nothing that was recorded is lost; what happens meanwhile is. Check the network.",
  ],
  bitrate_lowered: [
    "The bitrate was lowered to what the network carries.",
    "Nothing; it is raised again later.",
  ],
  bitrate_raised: ["The bitrate was raised again.", "Nothing."],
  unreachable: [
    "The server cannot be reached.",
    "Check address and network, and that this page's origin may connect (`ingest.origins`). It is tried again.",
  ],
  connection_lost: ["The connection was lost.", "Nothing: it is made again, and goes on where it stopped."],
  reconnected: ["The connection is back.", "Nothing."],
  bad_address: ["The address is no WebSocket address.", "Give it as ws:// or wss://."],
  chunks_lost: ["Some of what was recorded could not be sent.", "It is missing in the recording."],
  unacknowledged: [
    "The end was not acknowledged in time.",
    "The last seconds may be missing in the recording.",
  ],

  stopped: ["It was stopped.", "Start it again."],

  // What the server says
  ended_by_server: ["The stream was ended on the server.", "Start again if that was not intended."],
  server_stopping: ["The server stops.", "Nothing: the connection is made again when it is back."],
  server_fault: ["The server has had an internal error.", "Nothing; tell the operator if it happens again."],
  server_not_ready: ["The server is still starting.", "Nothing: it is tried again."],
  server_behind: ["The server is behind.", "Lower the bitrate or the size, or tell the operator."],
  not_recorded: ["The server's disk is full: nothing is recorded.", "Tell the operator."],
  protocol: ["Client and server do not understand each other.", "Reload the page; this is a defect."],
  too_large: ["A message was larger than the server takes.", "Lower the bitrate, or use shorter slices."],
  unknown_key: ["The server does not know this stream key.", "Check the stream key, and type it again."],
  session_unknown: ["The session cannot be gone on with.", "Nothing: a new one is begun."],
  session_over: ["The session is over on the server.", "Nothing: a new one is begun."],
  session_failed: ["The stream has failed on the server.", "Tell the operator; a new session is tried."],
  stalled: ["The server has received nothing for too long.", "Nothing: the connection is made again."],
  half_open: ["The server has heard nothing of this page.", "Nothing: the connection is made again."],
  already_live: [
    "Somebody else publishes this stream.",
    "Stop the other publisher, or wait until it is noticed as gone; then start again.",
  ],
  taken_over: ["Another publisher has taken the stream over.", "Stop the other one, then start again."],
  media_refused: ["The server cannot read what this browser records.", "Choose another format."],
  disabled: ["The stream is disabled on the server.", "Enable it, then start again."],
  limit_reached: [
    "The server takes no more streams, or too many wrong keys came from here.",
    "Nothing: it is tried again in a while.",
  ],
  refused: ["The server has refused the connection.", "The reason says why."],

  // Watching
  may_not_watch: ["The server does not let you watch this stream.", "Ask for a new link; tokens expire."],
  no_such_stream: ["There is no such stream.", "Check the address."],
  too_many_viewers: ["The stream has as many viewers as the server takes.", "Nothing: it is tried again."],
  too_many_tokens: [
    "Too many wrong tokens came from here.",
    "Ask for a new link; it is tried again in a while.",
  ],
  unplayable: [
    "The server has this stream in no format that a browser plays.",
    "Publish H.264, VP8, VP9 or AV1, or add an HLS sink to the pipeline.",
  ],
  autoplay_muted: ["The browser starts video without sound only.", "Unmute it with a click."],
  autoplay_refused: ["The browser does not start the video by itself.", "Press play."],
  waiting: ["There is nothing to show yet.", "Nothing: it starts by itself."],
  session_ended: ["The stream has ended.", "Nothing: if it begins again, it starts by itself."],
  too_slow: ["This viewer is too slow, and some frames were left out.", "Check the network."],
  not_ready: ["The video does not get ready although data came; it is set up again.", "Nothing."],
  video_failed: ["The video cannot be decoded.", "Reload the page, or use another browser."],
  buffer_quota: ["The browser's buffer is full, and was cut down.", "Nothing."],
  hls_failed: ["The HLS playlist cannot be played.", "Wait until the stream is live, then start again."],
};

/**
 * @param {string} code
 * @param {string} [details] what was said of it: added to the text
 * @param {{close?: number}} [more]
 * @returns {Problem}
 */
export function problem(code, details, more = {}) {
  const known = Object.hasOwn(WORDS, code);
  const [text, advice] = known ? WORDS[code] : [details ?? code, "See the documentation."];
  const said = details && details !== text ? `${text} (${details})` : text;
  return { code, text: said, advice, ...more };
}

/** All codes, for the documentation. */
export const CODES = Object.freeze(Object.keys(WORDS));

/** A problem as an error. */
export class IngestdError extends Error {
  name = "IngestdError";

  /** @param {Problem} problem */
  constructor(problem) {
    super(`${problem.text} ${problem.advice}`);
    this.code = problem.code;
    this.text = problem.text;
    this.advice = problem.advice;
    this.close = problem.close;
  }
}
