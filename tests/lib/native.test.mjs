// HLS as a browser plays it: what its errors mean depends on the playlist.
import assert from "node:assert/strict";
import { test } from "node:test";

import { NativeHls } from "../../ingestd/pages/lib/native.js";

/** What waits for its time: tests say when that is. */
const due = [];
globalThis.setTimeout = act => due.push(act);

const LIVE = "#EXTM3U\n#EXTINF:2,\na.ts\n";

/** A video element, a playlist that is *text* (none: null), and what was said of them. */
function playing(text) {
  const said = [];
  const video = Object.assign(new EventTarget(), { seekable: [], currentTime: 0, error: null });
  globalThis.fetch = async () => new Response(text, { status: text === null ? 404 : 200 });
  const host = { state: state => said.push(state), loading: () => said.push("loading"), waiting: () => {} };
  new NativeHls(video, "http://127.0.0.1/index.m3u8", host);
  return { video, said };
}

/** Let what was asked for be answered. */
async function answered() {
  for (let turn = 0; turn < 10; turn++) await null;
}

test("an error without a playlist is that there is none yet", async () => {
  const { video, said } = playing(null);
  await answered();
  video.dispatchEvent(new Event("error"));
  assert.deepEqual(said, ["loading", "waiting"]);
});

test("an error while something is live is no end of it: it is loaded again", async () => {
  const { video, said } = playing(LIVE);
  await answered();
  video.dispatchEvent(new Event("playing"));
  video.dispatchEvent(new Event("error"));
  due.pop()();
  await answered();
  assert.deepEqual(said, ["loading", "playing", "buffering", "loading"]);
});

test("a session of the past is not shown", async () => {
  const { said } = playing(`${LIVE}#EXT-X-ENDLIST\n`);
  await answered();
  assert.deepEqual(said, ["waiting"]);
});
