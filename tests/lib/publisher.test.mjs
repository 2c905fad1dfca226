/** What a publisher makes of its source and its options, with a recorder and a server that a test plays. */

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { Publisher } from "../../ingestd/pages/lib/publisher.js";

const HELLO = { type: "hello", stream: "cam", session: "one", token: "secret", next: 0, recorder: null, resumed: false };

class Socket {
  static all = [];
  bufferedAmount = 0;
  constructor() { Socket.all.push(this); }
  send() {}
  close() {}
  tell(message) { this.onmessage({ data: JSON.stringify(message) }); }
}
const server = () => Socket.all.at(-1);

class Track extends EventTarget {
  readyState = "live";
  kind = "video";
  label = "";
  getSettings = () => ({});
}

class Stream {
  constructor(tracks = [new Track()]) { this.tracks = tracks; }
  getTracks() { return this.tracks; }
  getVideoTracks() { return this.tracks; }
}

class Recorder {
  static all = [];
  static isTypeSupported = () => true;
  state = "inactive";
  constructor(stream, { mimeType }) {
    Object.assign(this, { stream, mimeType });
    Recorder.all.push(this);
  }
  start() { this.state = "recording"; }
  stop() {
    this.state = "inactive";
    queueMicrotask(() => this.onstop());
  }
}

Object.assign(globalThis, {
  WebSocket: Socket, MediaStream: Stream, MediaRecorder: Recorder,
  document: Object.assign(new EventTarget(), { hidden: false }),
  addEventListener() {}, removeEventListener() {},
});

// Node 18 has neither.
globalThis.navigator ??= {};
globalThis.CustomEvent ??= class extends Event {
  constructor(type, { detail }) {
    super(type);
    this.detail = detail;
  }
};

const OPTIONS = { url: "ws://server/stream/live", key: "key", stream: new Stream() };
const settled = () => new Promise(done => setTimeout(done, 5));
/** @type {Publisher[]} */
const made = [];
afterEach(async () => {
  await Promise.all(made.splice(0).map(publisher => {
    const stopped = publisher.stop();
    server().onclose({ code: 1000, reason: "" });
    return stopped;
  }));
  Socket.all = [];
});

/** A publisher whose server has said hello. */
function started() {
  const publisher = new Publisher({ ...OPTIONS, stream: new Stream() });
  made.push(publisher);
  publisher.start().catch(() => {});
  server().onopen();
  server().tell(HELLO);
  return publisher;
}

/** Its source ends, and with it the recorder. */
async function unplug(publisher) {
  for (const track of publisher.stream.getTracks()) track.readyState = "ended";
  Recorder.all.at(-1).stop();
  await settled();
}

test("a source that ends again and again is none of the recorder's failures", async () => {
  const publisher = started();
  for (let times = 0; times < 4; times++) {
    await unplug(publisher);
    assert.deepEqual([publisher.state, publisher.cause?.code], ["paused", "source_ended"]);
    await publisher.replace(new Stream());
    assert.equal(publisher.state, "starting");
  }
});

test("a recorder that ends by itself three times in ten seconds is", async () => {
  const publisher = started();
  for (const state of ["starting", "starting", "failed"]) {
    Recorder.all.at(-1).stop();
    await settled();
    assert.equal(publisher.state, state);
  }
  assert.equal(publisher.cause?.code, "recorder_failed");
});

test("with nothing to send it is paused again, not reconnecting, when the connection is back", async () => {
  const publisher = started();
  await unplug(publisher);
  server().onclose({ code: 1006, reason: "" });
  assert.equal(publisher.state, "reconnecting");
  await settled();
  server().onopen();
  server().tell({ ...HELLO, token: null, resumed: true });
  assert.deepEqual([publisher.state, publisher.cause?.code], ["paused", "source_ended"]);
});

test("a stream that comes after the end is for the next start, and is not watched before", async () => {
  const publisher = started();
  const stopped = publisher.stop();
  await settled();
  server().onclose({ code: 1000, reason: "" });
  await stopped;
  const told = [];
  publisher.on("warning", ({ code }) => told.push(code));
  const stream = new Stream();
  await publisher.replace(stream);
  stream.getTracks()[0].dispatchEvent(new Event("ended"));
  assert.deepEqual([publisher.state, publisher.stream, told], ["ended", stream, []]);
});

for (const [wrong, said] of [
  [{ url: undefined }, "url: expected a WebSocket address, not undefined"],
  [{ stream: null }, "stream: expected a MediaStream, not null"],
  [{ key: "k".repeat(129) }, "key: expected text of 1 to 128 characters, not text of 129"],
  [{ name: "n".repeat(65) }, "name: expected text of at most 64 characters, not text of 65"],
  [{ bitrate: NaN }, "bitrate: expected bits per second, 1 to 2^31-1, not NaN"],
  [{ bitrate: "fast" }, "bitrate: expected bits per second, 1 to 2^31-1, not text of 4"],
  [{ audioBitrate: 2 ** 31 }, "audioBitrate: expected bits per second, 1 to 2^31-1, not 2147483648"],
  [{ slice: 9 }, "slice: expected milliseconds, 10 to 15000, not 9"],
  [{ keyframeInterval: 60_001 }, "keyframeInterval: expected milliseconds, 100 to 60000, not 60001"],
  [{ codec: "hevc" }, "codec: expected one of h264, vp8, vp9, av1, not text of 4"],
  [{ type: {} }, "type: expected a recording type like video/webm;codecs=vp8,opus, not an object (Object)"],
]) {
  test(`refuses an option: ${said}`, () => {
    assert.throws(() => new Publisher({ ...OPTIONS, ...wrong }), new TypeError(`Publisher: ${said}`));
  });
}

test("takes options at their edges, and refuses what comes later as well", async () => {
  const edges = { key: "🔑".repeat(128), name: "", bitrate: 1, audioBitrate: 2 ** 31 - 1, slice: 10, keyframeInterval: 60_000 };
  const publisher = new Publisher({ ...OPTIONS, ...edges, codec: "av1" });
  await assert.rejects(publisher.setBitrate(0), /bitrate: .* not 0/);
  await assert.rejects(publisher.replace(null), /stream: .* not null/);
  assert.equal(publisher.stream, OPTIONS.stream);
});
