/** The library's logic without a browser: bounds, thresholds, waits, and where a player should be. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { CODES, problem, IngestdError } from "../../ingestd/pages/lib/advice.js";
import { Backoff } from "../../ingestd/pages/lib/backoff.js";
import { Bitrate } from "../../ingestd/pages/lib/bitrate.js";
import { Clock } from "../../ingestd/pages/lib/clock.js";
import { excess, LiveEdge } from "../../ingestd/pages/lib/edge.js";
import { kindsOf } from "../../ingestd/pages/lib/mediabuffer.js";
import { Outbox } from "../../ingestd/pages/lib/outbox.js";
import { Pressure } from "../../ingestd/pages/lib/pressure.js";
import { Progress } from "../../ingestd/pages/lib/progress.js";
import { chunkMessage, ending, pieces } from "../../ingestd/pages/lib/protocol.js";
import { recordingTypes } from "../../ingestd/pages/lib/types.js";
import { withToken } from "../../ingestd/pages/lib/watching.js";

const SOURCE = { number: 0, mime: "video/webm", follows: false, missing: 0 };

test("a connection is tried again at once, then after 1, 2, 4 and 8 s, and every 8 s", () => {
  const backoff = new Backoff(() => 0);
  assert.deepEqual([1, 2, 3, 4, 5, 6].map(() => backoff.next()), [0, 1000, 2000, 4000, 8000, 8000]);
  backoff.reset();
  assert.equal(backoff.next(), 0);
  backoff.reset(false); // nothing came of it: not at once
  assert.deepEqual([backoff.next(), backoff.next()], [1000, 2000]);
  assert.equal(new Backoff(() => 0).next(5000), 5000);
});

test("jitter takes up to a quarter off a wait", () => {
  const backoff = new Backoff(() => 1);
  assert.deepEqual([backoff.next(), backoff.next(), backoff.next()], [0, 750, 1500]);
});

test("a recorder pauses above 5 MB and goes on below 1 MB", () => {
  const pressure = new Pressure();
  const judge = buffered => pressure.judge({ buffered, waiting: 10 });
  assert.equal(judge(5_000_000), null);
  assert.equal(judge(5_000_001), "pause");
  assert.equal(judge(6_000_000), null);
  assert.equal(judge(1_000_000), null);
  assert.equal(judge(999_999), "resume");
  assert.equal(judge(999_999), null);
});

test("a recorder ends so that with its last data 60 chunks wait, and another begins when 15 do", () => {
  const pressure = new Pressure({ slice: 250 });
  const judge = waiting => pressure.judge({ buffered: 0, waiting });
  assert.equal(pressure.limit, 60);
  assert.equal(judge(57), null);
  assert.equal(judge(58), "end");
  assert.equal(judge(60), null);
  assert.equal(judge(16), null);
  assert.equal(judge(15), "begin");
  assert.equal(new Pressure({ slice: 100 }).limit, 150); // 15 s, too
});

test("a paused recorder ends, too, when too much waits; nothing begins while the socket is full", () => {
  const pressure = new Pressure();
  assert.equal(pressure.judge({ buffered: 9e6, waiting: 50 }), "pause");
  assert.equal(pressure.judge({ buffered: 9e6, waiting: 58 }), "end");
  assert.equal(pressure.judge({ buffered: 9e6, waiting: 0 }), null);
  assert.equal(pressure.judge({ buffered: 0, waiting: 0 }), "begin");
});

test("the bitrate falls to 60 %, rises after a quiet minute, and later after each raise that did not last", () => {
  const bitrate = new Bitrate(1_000_000);
  assert.equal(bitrate.raise(0), false);
  assert.equal(bitrate.lower(0), true);
  assert.equal(bitrate.value, 600_000);
  assert.equal(bitrate.raise(59_999), false);
  assert.equal(bitrate.raise(60_000), true);
  assert.equal(bitrate.value, 1_000_000);
  bitrate.lower(61_000);
  assert.equal(bitrate.raise(180_999), false);
  assert.equal(bitrate.raise(181_000), true);
});

test("the bitrate has a floor, unless less was asked for", () => {
  const bitrate = new Bitrate(200_000);
  bitrate.lower(0);
  assert.equal(bitrate.value, 150_000);
  assert.equal(bitrate.lower(0), false);
  const low = new Bitrate(100_000);
  assert.equal(low.lower(0), false);
  assert.equal(low.value, 100_000);
});

test("chunks are numbered, kept, and forgotten when they are acknowledged", () => {
  const outbox = new Outbox();
  assert.throws(() => outbox.add(SOURCE, new Uint8Array(1), 0), /due/);
  outbox.begin(7);
  for (let at = 0; at < 3; at++) outbox.add(SOURCE, new Uint8Array(10), at);
  assert.deepEqual(outbox.kept.map(({ number }) => number), [7, 8, 9]);
  assert.equal(outbox.bytes, 30);
  assert.equal(outbox.acknowledge(9), 1);
  assert.deepEqual([outbox.bytes, outbox.due, outbox.acknowledged], [10, 10, 9]);
  assert.equal(outbox.acknowledge(9), null);
});

test("a connection goes on with what is kept, if all that is due is", () => {
  const outbox = new Outbox();
  assert.equal(outbox.resume(0), "ahead");
  outbox.begin(0);
  for (let at = 0; at < 4; at++) outbox.add(SOURCE, new Uint8Array(10), at).end = 10 * at;
  assert.equal(outbox.resume(2), "whole");
  assert.deepEqual(outbox.kept.map(({ number, end }) => [number, end]), [[2, Infinity], [3, Infinity]]);
  assert.equal(outbox.resume(1), "missing"); // the server has lost what it had acknowledged
  assert.equal(outbox.resume(4), "whole");
  assert.equal(outbox.resume(5), "ahead"); // somebody else has sent
});

test("one number is left out for what was not recorded before a recorder", () => {
  const outbox = new Outbox();
  outbox.begin(0);
  outbox.add(SOURCE, new Uint8Array(10), 0);
  const later = { ...SOURCE, number: 1, missing: 2.5 };
  for (let at = 1; at < 3; at++) outbox.add(later, new Uint8Array(10), at);
  assert.deepEqual(outbox.kept.map(({ number, missing }) => [number, missing]), [[0, 0], [2, 2.5], [3, 0]]);
  assert.deepEqual([outbox.due, outbox.dropped], [4, 0]);
  assert.equal(outbox.resume(0), "whole"); // in the middle
  assert.equal(outbox.resume(1), "whole"); // at the front, and not said yet
  assert.equal(outbox.resume(0), "missing");
  assert.equal(outbox.acknowledge(2), null); // it was said, and is settled: no chunk was acknowledged
  assert.equal(outbox.resume(2), "whole");
  assert.equal(outbox.acknowledge(3), 1);
  assert.equal(outbox.resume(2), "missing");
  assert.equal(outbox.resume(1), "missing");
  assert.equal(outbox.resume(4), "whole");
  assert.equal(outbox.resume(5), "ahead");
});

test("what waits are the chunks whose end has not left the page", () => {
  const outbox = new Outbox();
  outbox.begin(0);
  for (const end of [100, 200, 300, Infinity]) outbox.add(SOURCE, new Uint8Array(90), end).end = end;
  assert.deepEqual(outbox.waiting(0), { chunks: 4, bytes: 360, since: 100 });
  assert.deepEqual(outbox.waiting(200), { chunks: 2, bytes: 180, since: 300 });
  assert.deepEqual(outbox.waiting(300), { chunks: 1, bytes: 90, since: Infinity });
});

test("beyond its bound an outbox forgets what was sent, and nothing else", () => {
  const outbox = new Outbox({ most: 2, mostBytes: 25 });
  outbox.begin(0);
  for (let at = 0; at < 4; at++) outbox.add(SOURCE, new Uint8Array(10), at);
  assert.equal(outbox.kept.length, 4);
  assert.equal(outbox.full, true);
  for (const chunk of outbox.kept) chunk.end = 1;
  assert.equal(outbox.full, false);
  outbox.add(SOURCE, new Uint8Array(10), 5);
  assert.deepEqual(outbox.kept.map(({ number }) => number), [3, 4]);
  assert.equal(outbox.dropped, 0);
  outbox.begin(9);
  assert.deepEqual([outbox.dropped, outbox.due, outbox.bytes], [2, 9, 0]);
});

test("a chunk has twelve bytes of header, its number beyond 32 bits, too", () => {
  const bytes = [...new Uint8Array(chunkMessage(2 ** 40 + 5, 3, Uint8Array.of(26)))];
  assert.deepEqual(bytes, [0, 0, 1, 0, 0, 0, 0, 5, 0, 0, 0, 3, 26]);
});

test("a chunk that is larger than a message is cut", () => {
  const sizes = (bytes, largest) => pieces(new Uint8Array(bytes), largest).map(({ length }) => length);
  assert.deepEqual(sizes(10, 22), [10]);
  assert.deepEqual(sizes(11, 22), [10, 1]);
  assert.deepEqual(sizes(0, 22), []);
});

test("close codes do what the protocol's table says", () => {
  const codes = then => [1000, 1001, 1002, 1006, 1007, 1009, 1011, 1012, 1013, 4400, 4401, 4403, 4404, 4408, 4409,
    4410, 4412, 4415, 4423, 4429, 4500].filter(code => ending(code).then === then);
  assert.deepEqual(codes("stop"), [1000, 1002, 1007, 1009, 4400, 4401, 4409, 4412, 4415, 4423]);
  assert.deepEqual(codes("resume"), [1001, 1006, 1011, 1012, 4408, 4410]);
  assert.deepEqual(codes("anew"), [4403, 4404, 4500]);
  assert.deepEqual(codes("later"), [1013, 4429]);
  assert.deepEqual([ending(1005).then, ending(4999).then], ["resume", "stop"]);
});

test("every problem has a sentence and advice; what is not known shows what was said of it", () => {
  for (const code of CODES) {
    const { text, advice } = problem(code);
    assert.match(text, /\.$/, code);
    assert.match(advice, /[.?]$/, code);
  }
  assert.equal(problem("unknown_key", "the key is wrong", { close: 4401 }).close, 4401);
  assert.equal(problem("of_tomorrow", "Something new.").text, "Something new.");
  assert.equal(problem("constructor", "Something new.").text, "Something new.");
  assert.equal(new IngestdError(problem("no_device")).code, "no_device");
});

test("recording types: VP8 first, or what the pipeline copies, of what the browser can", () => {
  const chromium = type => /webm|matroska|mp4;codecs=avc1[^,]*,opus/.test(type);
  assert.equal(recordingTypes({ supported: chromium })[0], "video/webm;codecs=vp8,opus");
  assert.equal(recordingTypes({ codec: "h264", supported: chromium })[0], "video/webm;codecs=h264,opus");
  const safari = type => /^video\/mp4(;codecs=avc1[^,]*,mp4a.*)?$/.test(type);
  assert.equal(recordingTypes({ supported: safari })[0], "video/mp4;codecs=avc1.42E01F,mp4a.40.2");
  assert.equal(recordingTypes({ audio: false, supported: chromium })[0], "video/webm;codecs=vp8");
  assert.equal(recordingTypes({ video: false, supported: () => true })[0], "audio/webm;codecs=opus");
  assert.deepEqual(recordingTypes({ supported: () => false }), []);
});

/** Steer through `ms`, with data that arrives in steps. */
function drive(edge, { ahead, ms, step = 250, from = 0 }) {
  let [at, end, rate] = [from, from + ahead, 1];
  const seeks = [];
  for (let now = 0; now <= ms; now += 50) {
    if (now % step === 0) {
      end += step / 1000;
      edge.arrived(now);
    }
    const course = edge.steer(now, at, [[0, end]]);
    if (course.seek !== null) {
      seeks.push(course.why);
      at = course.seek;
    }
    rate = course.rate;
    at += rate * 0.05;
  }
  return { ahead: end - at, rate, seeks };
}

test("a player that is a little late runs a little faster, until it is where it should be", () => {
  const before = drive(new LiveEdge(1), { ahead: 3, ms: 3000 });
  assert.ok(before.rate > 1 && before.rate <= 1.2, String(before.rate));
  const after = drive(new LiveEdge(1), { ahead: 3, ms: 60_000 });
  assert.ok(Math.abs(after.ahead - 1) < 0.5, String(after.ahead));
  assert.deepEqual(after.seeks, []);
});

test("who wants little delay has it in a few seconds, and does not overshoot", () => {
  for (const ms of [4000, 5000, 7000, 12_000]) {
    const { ahead } = drive(new LiveEdge(0.2), { ahead: 0.5, ms, step: 100 });
    assert.ok(Math.abs(ahead - 0.2) < 0.05, `${ahead} after ${ms} ms`);
  }
});

test("a player that has little left runs slower", () => {
  const edge = new LiveEdge(1);
  const { rate, ahead } = drive(edge, { ahead: 0.1, ms: 1500 });
  assert.equal(rate, 0.95);
  assert.ok(drive(new LiveEdge(1), { ahead: 0.1, ms: 30_000 }).ahead > ahead);
});

test("a player that is far behind jumps", () => {
  const { seeks, ahead } = drive(new LiveEdge(1), { ahead: 20, ms: 1000 });
  assert.deepEqual(seeks, ["far"]);
  assert.ok(ahead < 2, String(ahead));
});

test("a player begins where the data does, and jumps a gap as soon as it stands before it", () => {
  const edge = new LiveEdge(1);
  assert.deepEqual(edge.steer(0, 0, []), { rate: 1, seek: null, why: null });
  assert.deepEqual(edge.steer(0, 0, [[20, 21]]), { rate: 1, seek: 20, why: "start" });
  assert.deepEqual(edge.steer(0, 0, [[20, 31]]), { rate: 1, seek: 20, why: "start" });
  const ranges = [[20, 21], [21.175, 23]];
  assert.equal(edge.steer(0, 20.5, ranges).seek, null);
  assert.deepEqual(edge.steer(0, 20.9, ranges), { rate: 1, seek: 21.175, why: "gap" });
  assert.deepEqual(edge.steer(0, 21.1, ranges), { rate: 1, seek: 21.175, why: "gap" });
  assert.equal(edge.steer(0, 21.175, ranges).seek, null);
});

test("a player that began at a keyframe of the past goes to the live edge, once what came at once is there", () => {
  const edge = new LiveEdge(0.3);
  assert.equal(edge.steer(0, 0, [[20, 22]]).why, "start");
  assert.equal(edge.steer(100, 20.1, [[20, 22.1]]).seek, null);
  const { seek, why } = edge.steer(400, 20.4, [[20, 22.4]]);
  assert.equal(why, "join");
  assert.ok(seek !== null && Math.abs(seek - 22.1) < 1e-9, String(seek));
  assert.equal(edge.steer(500, 22.1, [[20, 22.5]]).seek, null);
  const near = new LiveEdge(0.3);
  near.steer(0, 0, [[20, 20.5]]);
  assert.equal(near.steer(400, 20.4, [[20, 20.9]]).seek, null);
});

test("who wants little delay goes back to the live edge after a stall, others catch up", () => {
  for (const [latency, why] of [[0.2, "join"], [1, null]]) {
    const edge = new LiveEdge(latency);
    edge.steer(0, 20, [[20, 20 + latency]]);
    edge.stalled(5000);
    assert.equal(edge.steer(5100, 20, [[20, 22]]).seek, null);
    assert.equal(edge.steer(5300, 20, [[20, 22]]).why, why);
  }
});

test("stalls, and data that comes in large pieces, raise what is buffered; time forgives", () => {
  const edge = new LiveEdge(1);
  assert.equal(edge.target, 1);
  edge.stalled(0);
  assert.equal(edge.target, 1.3);
  for (let stall = 0; stall < 50; stall++) edge.stalled(0);
  assert.equal(edge.target, 4);
  edge.steer(30_000, 0, [[0, 1]]);
  assert.equal(edge.target, 3.7);
  const starting = new LiveEdge(1);
  starting.steer(0, 0, [[20, 20.1]]);
  starting.stalled(2999);
  assert.equal(starting.target, 1);
  starting.stalled(3000);
  assert.equal(starting.target, 1.3);
  const close = new LiveEdge(0.2);
  close.stalled(0);
  assert.ok(Math.abs(close.target - 0.32) < 1e-9, String(close.target));
  const pieces = new LiveEdge(0.5);
  pieces.arrived(1000);
  pieces.arrived(3000);
  assert.equal(pieces.target, 1.62);
});

test("a buffer keeps 30 s behind, and 60 s while somebody pauses", () => {
  assert.equal(excess(0, []), null);
  assert.equal(excess(30, [[0, 31]]), null);
  assert.deepEqual(excess(31, [[0, 32]]), [0, 21]);
  assert.equal(excess(0, [[0, 60]]), null);
  assert.deepEqual(excess(0, [[0, 30], [31, 61]]), [0, 31]);
});

/** Look every 100 ms; `at` is where playback is then. */
function watch(progress, positions, how = {}) {
  const usual = { flowing: true, ahead: 1, paused: false };
  return positions.map((at, index) => progress.look(1000 + index * 100, { ...usual, ...how, at }));
}

test("playback that stands for lack of data is a stall, once, with its length", () => {
  const progress = new Progress();
  watch(progress, [0, 0.1, 0.2, ...Array(9).fill(0.3), 0.4, 0.5], { ahead: 0 });
  assert.deepEqual([progress.stalls, progress.stalledMs, progress.moving], [1, 800, true]);
});

test("nothing is a stall before the first picture, in a pause, or when nothing more should come", () => {
  for (const how of [{ paused: true }, { flowing: false, ahead: 0 }]) {
    const progress = new Progress();
    watch(progress, [0, 0.1, ...Array(80).fill(0.1)], how);
    assert.deepEqual([progress.stalls, progress.standing], [0, false]);
  }
  const before = new Progress();
  watch(before, Array(80).fill(0), { ahead: 0 });
  assert.equal(before.stalls, 0);
});

test("data that does not play for 5 s is stuck, before the first picture, too", () => {
  const looks = watch(new Progress(), Array(60).fill(0));
  assert.deepEqual(looks.flatMap(({ stuck }, index) => (stuck ? [index] : [])), [50]);
  const unready = watch(new Progress(), Array(60).fill(0), { ahead: 0.1 });
  assert.ok(unready.every(({ stuck }) => !stuck));
  const blank = watch(new Progress(), Array(60).fill(0), { ahead: 0, blank: true });
  assert.ok(blank.some(({ stuck }) => stuck));
});

test("a player refuses options that make no sense, and says which and why", () => {
  for (const latency of [-1, 20.1, NaN, "1", null]) {
    assert.throws(() => new LiveEdge(latency), { message: `latency: expected seconds from 0 to 20, got ${latency}` });
  }
  new LiveEdge(0);
  new LiveEdge(20);
  assert.throws(() => withToken(undefined, "t"), { message: "url: expected an address as text, got undefined" });
});

test("media is of other kinds when its sound or its picture goes or comes, not when its codec changes", () => {
  const both = kindsOf('video/webm;codecs="vp8,opus"');
  assert.equal(kindsOf('video/mp4;codecs="avc1.42e01f,opus"'), both);
  const [picture, sound] = [kindsOf('video/webm;codecs="vp8"'), kindsOf('audio/webm;codecs="opus"')];
  assert.equal(new Set([both, picture, sound]).size, 3);
});

test("latency goes on from where the server said that it is, for a while", () => {
  const clock = new Clock();
  assert.equal(clock.behind(0, 0), null);
  clock.tell(60_000, 1000);
  assert.equal(clock.behind(59_400, 1000), 600);
  assert.equal(clock.behind(60_400, 2000), 600);
  assert.equal(clock.behind(70_000, 2000), 0);
  assert.equal(clock.behind(60_400, 11_001), null);
  clock.reset(12_000);
  clock.tell(60_000, 12_299); // it was true when the frames were sent that came with it
  assert.equal(clock.behind(59_400, 12_299), null);
  clock.tell(62_000, 12_300);
  assert.equal(clock.behind(61_400, 12_300), 600);
});

test("what is stuck is nudged, then set up again, and after four such things given up; time forgives", () => {
  const progress = new Progress();
  const remedies = [40_000, 45_000, 50_000, 55_000, 60_000].map(now => progress.remedy(now));
  assert.deepEqual(remedies, ["nudge", "renew", "nudge", "renew", "give up"]);
  assert.equal(progress.remedy(90_001), "nudge");
  assert.equal(new Progress().remedy(40_000, true), "renew");
});
