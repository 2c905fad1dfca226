'use strict';

// Publishes with ingestd.v1 and goes on after a reload. Written from docs/protocol.md; steps 6 and 7 of "How
// to resume" must not be needed here, and are errors.
//
// What it keeps in sessionStorage is the test's ledger. Each load of the page has a number, L:
//   chunk/L/N      [recorder, size, SHA-256] of chunk N, noted before it is sent
//   hellos/L       every hello of the load, without the token
//   acknowledged/L the greatest `next` that an ack of the load had
//   errors         what should not have happened
const ledger = {
  get: key => JSON.parse(sessionStorage.getItem(key)),
  set: (key, value) => sessionStorage.setItem(key, JSON.stringify(value)),
  add: (key, value) => ledger.set(key, [...(ledger.get(key) || []), value]),
};

const RESUME = new Set([1001, 1005, 1006, 1011, 1012, 4408, 4410]);
const WAITS = [0, 1000, 2000, 4000, 8000];

const publisher = {
  load: (ledger.get('loads') || 0) + 1,
  kept: [],            // not acknowledged: { number, bytes }
  due: null,           // the number of the recorder's next chunk, from the first hello on
  number: null,        // of the recorder
  failures: 0,
  connections: 0,
  ready: false,        // past hello
  done: false,

  async start(options) {
    ledger.set('options', options);
    ledger.set('loads', this.load);
    this.ended = new Promise(end => { this.end = end; });
    this.options = options;
    this.source = numberedCanvas({ ...options, first: this.load * 2000 });
    this.connect();
  },

  connect() {
    const socket = this.socket = new WebSocket(this.options.url, ['ingestd.v1']);
    const ours = handle => event => this.socket === socket && handle(event);
    this.connections += 1;
    socket.binaryType = 'arraybuffer';
    socket.onopen = ours(() => {
      const open = { type: 'open', key: this.options.key, client: `load ${this.load}` };
      const resume = ledger.get('resume');
      this.say(resume ? { ...open, resume } : open);
    });
    socket.onmessage = ours(({ data }) => {
      const { type, ...fields } = JSON.parse(data);
      if (type === 'hello') this.hello(fields);
      if (type === 'ack') this.acknowledged(fields.next);
    });
    socket.onclose = ours(({ code, reason }) => this.closed(code, reason));
  },

  hello({ token, ...told }) {
    const before = ledger.get('resume');
    ledger.add(`hellos/${this.load}`, told);
    if (before && told.session !== before.session) return this.fail(`another session: ${told.session}`);
    ledger.set('resume', { session: told.session, token: token || before.token });
    this.failures = 0;
    this.ready = true;
    if (this.number === null) {
      this.number = told.recorder === null ? 0 : told.recorder + 1;
      this.due = told.next;
      this.record();
    }
    this.kept = this.kept.filter(({ number }) => number >= told.next);
    const first = this.kept.length ? this.kept[0].number : this.due;
    if (first !== told.next) return this.fail(`chunk ${told.next} is due, ${first} is the first that is kept`);
    this.say({ type: 'recorder', number: this.number, mime: this.options.mime });
    this.kept.forEach(chunk => this.send(chunk));
    if (this.done) this.say({ type: 'end' });
  },

  acknowledged(next) {
    ledger.set(`acknowledged/${this.load}`, next);
    this.kept = this.kept.filter(({ number }) => number >= next);
  },

  closed(code, reason) {
    this.ready = false;
    if (code === 1000 && this.done) return this.end();
    if (!RESUME.has(code)) return this.fail(`closed: ${code} ${reason}`);
    const wait = WAITS[Math.min(this.failures, WAITS.length - 1)];
    this.failures += 1;
    setTimeout(() => this.connect(), wait * (1 - 0.2 * Math.random()));
  },

  async record() {
    const recorder = this.recorder = new MediaRecorder(await this.source.stream(this.options), {
      mimeType: this.options.mime,
      videoBitsPerSecond: this.options.bits_per_second,
    });
    let order = this.order = Promise.resolve();
    recorder.ondataavailable = ({ data }) => {
      order = this.order = order.then(async () => this.give(await data.arrayBuffer()));
    };
    recorder.onerror = event => this.fail(String(event.error || event));
    this.stopped = new Promise(done => recorder.addEventListener('stop', done));
    recorder.start(this.options.timeslice_ms);
  },

  async give(bytes) {
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    const hash = [...digest].map(byte => byte.toString(16).padStart(2, '0')).join('');
    const chunk = { number: this.due, bytes };
    this.due += 1;
    ledger.set(`chunk/${this.load}/${chunk.number}`, [this.number, bytes.byteLength, hash]);
    this.kept.push(chunk);
    if (this.ready) this.send(chunk);
  },

  send({ number, bytes }) {
    const message = new Uint8Array(12 + bytes.byteLength);
    const header = new DataView(message.buffer);
    header.setBigUint64(0, BigInt(number));
    header.setUint32(8, this.number);
    message.set(new Uint8Array(bytes), 12);
    this.socket.send(message);
  },

  say(message) { this.socket.send(JSON.stringify(message)); },

  fail(error) {
    ledger.add('errors', error);
    this.socket.close();
    this.socket = null;
    if (this.recorder && this.recorder.state !== 'inactive') this.recorder.stop();
    this.end();
  },

  async stop() {
    this.recorder.stop();
    await this.stopped;
    await this.order;
    this.done = true;
    if (this.ready) this.say({ type: 'end' });
    await this.ended;
    await this.source.end();
  },
};

// A load after the first goes on by itself.
if (ledger.get('options')) publisher.start(ledger.get('options'));
