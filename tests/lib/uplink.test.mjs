/** What a publisher says to the server, over a WebSocket that a test plays the server of. */

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { Outbox } from "../../ingestd/pages/lib/outbox.js";
import { Uplink } from "../../ingestd/pages/lib/uplink.js";

const LIMITS = { max_message: 1 << 20, max_text: 16384, window: 60, ack: "written", ping_interval: 10, ping_timeout: 10 };
const HELLO = { type: "hello", stream: "cam", session: "one", token: "secret", next: 0, recorder: null, resumed: false, limits: LIMITS };

/** The network: what was opened, and what was said on it. */
class FakeSocket {
  static CONNECTING = 0;
  static OPEN = 1;
  static all = [];
  readyState = 1;
  bufferedAmount = 0;
  said = [];

  constructor(url, protocols) {
    Object.assign(this, { url, protocols });
    FakeSocket.all.push(this);
  }

  send(data) {
    this.said.push(typeof data === "string" ? JSON.parse(data) : numbers(data));
  }

  close(code) {
    this.closed = code ?? true;
  }

  open() {
    this.onopen();
    return this;
  }

  tell(message) {
    this.onmessage({ data: JSON.stringify(message) });
    return this;
  }

  end(code, reason = "") {
    this.onclose({ code, reason });
  }
}

function numbers(data) {
  const view = new DataView(data);
  return `chunk ${view.getBigUint64(0)} of ${view.getUint32(8)}: ${data.byteLength - 12}`;
}

const storage = new Map();
const listeners = new Map();
Object.assign(globalThis, {
  WebSocket: FakeSocket,
  sessionStorage: { getItem: key => storage.get(key) ?? null, setItem: (key, value) => storage.set(key, value),
    removeItem: key => storage.delete(key) },
  addEventListener: (type, listener) => listeners.set(type, listener),
  removeEventListener: type => listeners.delete(type),
});

const made = [];
afterEach(() => {
  made.splice(0).forEach(({ uplink }) => uplink.close());
  FakeSocket.all = [];
  storage.clear();
});

/** An uplink with a recorder of one chunk of ten bytes a call of `give`. */
function uplink(options = {}) {
  const outbox = new Outbox(options.bounds);
  const events = [];
  const note = name => (...what) => events.push([name, ...what]);
  const publisher = {
    outbox,
    events,
    source: { number: -1, mime: "video/webm", follows: false, missing: 0 },
    give: (count = 1) => {
      for (let each = 0; each < count; each++) publisher.uplink.give(publisher.source, new Uint8Array(10));
    },
    names: () => events.map(([name]) => name),
  };
  publisher.uplink = new Uplink(outbox, { url: "ws://server/stream/live", key: "key", name: "camera", ...options }, {
    connected: note("connected"),
    begin: number => {
      events.push(["begin", number]);
      publisher.source = { number, mime: "video/webm", follows: false, missing: 0 };
    },
    acknowledged: note("acknowledged"),
    told: note("told"),
    lost: note("lost"),
    failed: note("failed"),
    ended: note("ended"),
  });
  made.push(publisher);
  publisher.uplink.connect();
  return publisher;
}

const socket = (at = -1) => FakeSocket.all.at(at);
const again = async count => {
  while (FakeSocket.all.length < count) await new Promise(done => setTimeout(done, 2));
  return socket().open();
};

test("opens with the key in the first message, begins a recorder at hello, and ends", () => {
  const publisher = uplink();
  assert.deepEqual([socket().url, socket().protocols], ["ws://server/stream/live", ["ingestd.v1"]]);
  socket().open().tell(HELLO);
  publisher.give(2);
  socket().tell({ type: "ack", next: 2 });
  publisher.uplink.end();
  assert.deepEqual(socket().said, [
    { type: "open", key: "key", client: "camera" },
    { type: "recorder", number: 0, mime: "video/webm", follows: false },
    "chunk 0 of 0: 10",
    "chunk 1 of 0: 10",
    { type: "end" },
  ]);
  socket().end(1000);
  assert.deepEqual(publisher.names(), ["connected", "begin", "acknowledged", "ended"]);
  assert.deepEqual(publisher.events.at(-1), ["ended", null]);
});

test("resumes at once with the token, and sends what is not acknowledged and what came meanwhile", async () => {
  const publisher = uplink();
  socket().open().tell(HELLO);
  publisher.give(3);
  socket().tell({ type: "ack", next: 1 }).end(1006);
  publisher.source = { number: 1, mime: "video/mp4", follows: true, missing: 0 };
  publisher.give();
  (await again(2)).tell({ ...HELLO, token: null, next: 2, recorder: 0, resumed: true });
  assert.deepEqual(socket().said, [
    { type: "open", key: "key", client: "camera", resume: { session: "one", token: "secret" } },
    { type: "recorder", number: 0, mime: "video/webm", follows: false },
    "chunk 2 of 0: 10",
    { type: "recorder", number: 1, mime: "video/mp4", follows: true },
    "chunk 3 of 1: 10",
  ]);
  assert.equal(publisher.uplink.reconnects, 1);
  socket().end(1006); // a token of null leaves the one before
  assert.deepEqual((await again(3)).said[0].resume, { session: "one", token: "secret" });
});

test("what is missing is skipped, and a new recorder begins there", async () => {
  const publisher = uplink({ bounds: { most: 2 } });
  socket().open().tell(HELLO);
  publisher.give(5);
  socket().tell({ type: "ack", next: 1 }).end(1012);
  (await again(2)).tell({ ...HELLO, next: 1, recorder: 0, resumed: true });
  publisher.give();
  const { reason, ...skip } = socket().said[1];
  assert.deepEqual(skip, { type: "skip", to: 5 });
  assert.deepEqual(socket().said.slice(2), [
    { type: "recorder", number: 1, mime: "video/webm", follows: false },
    "chunk 5 of 1: 10",
  ]);
  assert.equal(publisher.outbox.dropped, 2);
});

test("what was not recorded is said before the next recorder, and again until the server has settled it", async () => {
  const publisher = uplink();
  socket().open().tell(HELLO);
  publisher.give();
  publisher.source = { number: 1, mime: "video/webm", follows: false, missing: 20.12345 };
  publisher.give(2);
  const recorder = { type: "recorder", number: 1, mime: "video/webm", follows: false };
  const skip = { type: "skip", to: 2, seconds: 20.123, reason: "nothing was recorded while too much waited" };
  const rest = [recorder, "chunk 2 of 1: 10", "chunk 3 of 1: 10"];
  assert.deepEqual(socket().said.slice(2), ["chunk 0 of 0: 10", skip, ...rest]);
  socket().end(1006);
  const resumed = { ...HELLO, token: null, recorder: 1, resumed: true };
  (await again(2)).tell({ ...resumed, next: 1 });
  assert.deepEqual(socket().said.slice(1), [skip, ...rest]);
  socket().end(1006);
  (await again(3)).tell({ ...resumed, next: 2 });
  publisher.give();
  assert.deepEqual(socket().said.slice(1), [...rest, "chunk 4 of 1: 10"]);
  publisher.source = { ...publisher.source, number: 2, missing: 1e6 };
  publisher.give();
  assert.deepEqual(socket().said.at(-3), { ...skip, to: 6, seconds: 86_400 }); // the server takes no more
  assert.deepEqual([publisher.names().includes("lost"), publisher.outbox.dropped], [true, 0]);
  assert.equal(publisher.names().filter(name => name === "begin").length, 1);
});

test("begins anew when the session is not known any more, and in a session of another", async () => {
  const publisher = uplink();
  socket().open().tell(HELLO);
  publisher.give(2);
  socket().end(1001);
  (await again(2)).end(4403, "no such session");
  (await again(3)).tell({ ...HELLO, session: "two", token: "other", next: 0 });
  publisher.give();
  assert.deepEqual(socket().said, [
    { type: "open", key: "key", client: "camera" },
    { type: "recorder", number: 0, mime: "video/webm", follows: false },
    "chunk 0 of 0: 10",
  ]);
  assert.deepEqual(publisher.events.filter(([name]) => name === "lost").map(([, why]) => why.code),
    ["server_stopping", "session_unknown"]);
  socket().end(1006);
  (await again(4)).tell({ ...HELLO, session: "two", next: 40, recorder: 7, resumed: true });
  assert.deepEqual(publisher.events.at(-1), ["begin", 8]);
});

test("a session that is over is followed by another at once, however long the server was away", async () => {
  const publisher = uplink();
  socket().open().tell(HELLO);
  for (let attempt = 0; attempt < 6; attempt++) {
    socket().end(1006);
    listeners.get("online")();
  }
  socket().open().end(4404);
  assert.deepEqual([publisher.events.at(-1)[1].code, publisher.events.at(-1)[2]], ["session_over", 0]);
  assert.equal((await again(8)).said[0].resume, undefined);
  socket().end(4404); // which would be odd
  assert.ok(publisher.events.at(-1)[2] >= 750);
});

test("a page that was reloaded goes on with the session, with a recorder of its own", () => {
  const first = uplink({ remember: true });
  socket().open().tell(HELLO);
  assert.equal([...storage.keys()].some(name => name.includes("server")), false); // a URL may have the key
  first.uplink.close();
  const publisher = uplink({ remember: true });
  socket().open().tell({ ...HELLO, token: "new", next: 12, recorder: 3, resumed: true });
  publisher.give();
  assert.deepEqual(socket().said[0].resume, { session: "one", token: "secret" });
  assert.deepEqual(socket().said.slice(1), [
    { type: "recorder", number: 4, mime: "video/webm", follows: false },
    "chunk 12 of 4: 10",
  ]);
  assert.deepEqual([...storage.values()].map(JSON.parse), [{ session: "one", token: "new" }]);
  publisher.uplink.end();
  socket().end(1000);
  assert.equal(storage.size, 0);
});

test("nothing is remembered unless it was asked for", () => {
  uplink();
  socket().open().tell(HELLO);
  assert.equal(storage.size, 0);
});

for (const [code, name] of [[4401, "unknown_key"], [4409, "already_live"], [4412, "taken_over"],
  [4415, "media_refused"], [4423, "disabled"], [4400, "protocol"], [1009, "too_large"]]) {
  test(`stops at ${code}, with the server's reason`, () => {
    const publisher = uplink();
    socket().open().end(code, "it is so");
    const [event, why] = publisher.events.at(-1);
    assert.deepEqual([event, why.code, why.close], ["failed", name, code]);
    assert.match(why.text, /it is so/);
    assert.equal(listeners.size, 0);
  });
}

test("tries again when its own last connection is still in its place", async () => {
  const publisher = uplink();
  socket().open().tell(HELLO);
  socket().end(4403);
  (await again(2)).end(4409);
  const [event, why, wait] = publisher.events.at(-1);
  assert.deepEqual([event, why.code], ["lost", "already_live"]);
  assert.ok(wait >= 750, String(wait));
});

test("who begins again right after the end waits for the last session to be finished; who has failed does not", () => {
  for (const end of [publisher => publisher.uplink.end(), () => {}]) {
    end(uplink());
    socket().open().tell(HELLO).end(1000);
    const another = uplink({ key: "another" });
    socket().open().end(4409);
    assert.equal(another.events.at(-1)[0], "failed");
    const publisher = uplink();
    socket().open().end(4409, "still being finished");
    const [event, why, wait] = publisher.events.at(-1);
    assert.deepEqual([event, why.code, wait >= 750], ["lost", "already_live", true]);
    listeners.get("online")();
    socket().open().tell(HELLO).end(4412);
    assert.equal(publisher.events.at(-1)[0], "failed");
    const late = uplink();
    socket().open().end(4409);
    assert.equal(late.events.at(-1)[0], "failed");
  }
});

test("the event `online` ends a wait", () => {
  const publisher = uplink();
  socket().end(1006);
  assert.equal(publisher.events.at(-1)[1].code, "unreachable");
  listeners.get("online")();
  socket().end(1006);
  assert.ok(publisher.events.at(-1)[2] >= 750); // and now it would wait
  listeners.get("online")();
  assert.equal(FakeSocket.all.length, 3);
});

test("the reason of `end` counts, which a close frame has no room for; late words of a given-up one do not", async () => {
  const publisher = uplink();
  const first = socket().open().tell(HELLO);
  first.tell({ type: "end", code: 4500, reason: "the whole reason" }).end(4500, "the whole");
  assert.match(publisher.events.at(-1)[1].text, /the whole reason/);
  publisher.uplink.close();
  first.tell({ type: "state" });
  assert.deepEqual(publisher.events.flatMap(([name, what]) => (name === "told" ? [what.type] : [])), ["end"]);
});

test("a connection that nothing comes back on is given up, but not while the server says that it is behind", t => {
  let now = performance.now();
  t.mock.method(performance, "now", () => now);
  const publisher = uplink();
  socket().open().tell(HELLO);
  publisher.give();
  socket().tell({ type: "pressure", active: true });
  now += 20_001;
  publisher.uplink.look();
  assert.equal(publisher.names().includes("lost"), false);
  socket().tell({ type: "pressure", active: false });
  now += 19_999;
  publisher.uplink.look();
  assert.equal(publisher.names().includes("lost"), false);
  now += 2;
  publisher.uplink.look();
  assert.equal(publisher.events.at(-1)[1].code, "connection_lost");
});

test("an end is said again after a break; a session that is over had it", async () => {
  const publisher = uplink();
  socket().open().tell(HELLO);
  publisher.give();
  publisher.uplink.end();
  socket().end(1006);
  (await again(2)).tell({ ...HELLO, next: 0, recorder: 0, resumed: true });
  assert.deepEqual(socket().said.slice(1).map(each => each.type ?? each), ["recorder", "chunk 0 of 0: 10", "end"]);
  socket().end(4404);
  assert.deepEqual(publisher.events.at(-1), ["ended", null]);
});
