/** The chunks that a publisher of `ingestd.v1` keeps until they are acknowledged. */

import { Scanner } from "./webm.mjs";

/**
 * One message's worth of a recorder.
 * @typedef {object} Chunk
 * @property {number} number
 * @property {Recorder} recorder
 * @property {boolean} first whether its recorder begins with it
 * @property {number} start where in the recorder's bytes it begins
 * @property {Buffer} data
 * @property {number} sentOn the connection that it was sent on last; 0: none
 * @property {number} sentAt when, in ms
 */

/** One container: its bytes go out in chunks, under one number. */
export class Recorder {
  scanner = new Scanner();
  length = 0;
  chunks = 0;
  /** The chunk that completed its headers; Infinity while they are not complete. */
  headerIn = Infinity;

  /** @param {number} number @param {string} [mime] */
  constructor(number, mime) {
    this.number = number;
    this.mime = mime;
  }
}

/** Ascending numbers; those that are missing in between were dropped. */
export class Kept {
  /** @type {Chunk[]} */ chunks = [];
  /** Of all that is kept. */ bytes = 0;
  /** The number of the next chunk that a recorder gives. */ due = 0;
  /** How many never reached a server, as far as is known. */ dropped = 0;
  /** Chunks with these numbers are dropped before they are sent, as if the bound was reached. */
  drop = { from: Infinity, to: -1 };
  /** The connection that now counts. */ connection = 0;

  /** @param {number} bound bytes that are kept at most */
  constructor(bound) {
    this.bound = bound;
  }

  /** Begin as the first time: what is kept belongs to no session. @param {number} next */
  reset(next) {
    this.#remove(0, this.chunks.length);
    this.due = next;
  }

  /**
   * Bytes of a recorder: one chunk more, or several of at most *most* bytes.
   * @param {Recorder} recorder @param {Buffer} data @param {number} most
   */
  add(recorder, data, most) {
    for (let at = 0; at === 0 || at < data.length; at += most) {
      this.#add(recorder, data.subarray(at, at + most));
    }
  }

  /** @param {Recorder} recorder @param {Buffer} data */
  #add(recorder, data) {
    const number = this.due++;
    const first = recorder.chunks++ === 0;
    const start = recorder.length;
    recorder.length += data.length;
    recorder.scanner.push(data);
    if (recorder.scanner.header && recorder.headerIn === Infinity) recorder.headerIn = number;
    this.#put({ number, recorder, first, start, data, sentOn: 0, sentAt: 0 });
    if (number >= this.drop.from && number <= this.drop.to) this.#remove(this.chunks.length - 1, 1);
    // The bound: that they are missing is seen when the next one is to be sent.
    while (this.bytes > this.bound && this.chunks.length > 1) this.#remove(0, 1);
  }

  /** Forget what is below *next*. @param {number} next */
  acknowledged(next) {
    while (this.chunks.length && this.chunks[0].number < next) this.bytes -= this.#shift().data.length;
  }

  /** Index of the first chunk that was not sent on this connection; past the end if there is none. */
  unsent() {
    const index = this.chunks.findIndex((chunk) => !this.sent(chunk));
    return index < 0 ? this.chunks.length : index;
  }

  /** @param {Chunk} chunk */
  sent(chunk) {
    return chunk.sentOn === this.connection && this.connection > 0;
  }

  /** Drop all that was not sent. */
  dropUnsent() {
    this.#remove(this.unsent(), this.chunks.length);
  }

  /** The server takes less in a message than before: cut what it does not have anew. @param {number} most */
  fit(most) {
    if (this.chunks.every(({ data }) => data.length <= most)) return;
    const old = this.chunks;
    [this.chunks, this.bytes] = [[], 0];
    let shift = -1;
    for (const chunk of old) {
      const { number, recorder, data, start } = chunk;
      for (let at = 0; at === 0 || at < data.length; at += most) {
        shift += 1;
        const [first, part] = [chunk.first && at === 0, data.subarray(at, at + most)];
        this.#put({ ...chunk, number: number + shift, first, start: start + at, data: part });
      }
      shift -= 1;
      if (recorder.headerIn === number) recorder.headerIn += shift + 1;
    }
    this.due += shift + 1;
  }

  /**
   * What follows number *from* is missing up to what is not sent: drop of that what cannot be joined, and cut
   * the first chunk that is left so that it can be. If its recorder's headers are missing, too, they are put
   * in front, and *again* gives the recorder another number. Undefined: there is no such place yet.
   * @param {number} from @param {(recorder: Recorder) => void} again @returns {Chunk | undefined}
   */
  join(from, again) {
    const unsent = this.unsent();
    for (let index = unsent; index < this.chunks.length; index++) {
      const chunk = this.chunks[index];
      const { recorder, first, start, data } = chunk;
      const inside = (/** @type {number} */ at) => at >= start && at < start + data.length;
      const point = first ? start : recorder.scanner.points.find(inside);
      if (point === undefined) continue;
      this.#remove(unsent, index - unsent);
      /** @type {Buffer} */
      let headers = Buffer.alloc(0);
      if (!first && recorder.scanner.header && recorder.headerIn >= from) {
        headers = recorder.scanner.header;
        recorder.headerIn = chunk.number;
        chunk.first = true;
        again(recorder);
      }
      chunk.data = Buffer.concat([headers, data.subarray(point - start)]);
      chunk.start = point;
      this.bytes += chunk.data.length - data.length;
      return chunk;
    }
    return undefined;
  }

  /** @param {Chunk} chunk */
  #put(chunk) {
    this.chunks.push(chunk);
    this.bytes += chunk.data.length;
  }

  #shift() {
    return /** @type {Chunk} */ (this.chunks.shift());
  }

  /**
   * Drop *count* chunks from index *from* on; those that were sent most likely arrive.
   * @param {number} from @param {number} count
   */
  #remove(from, count) {
    for (const chunk of this.chunks.splice(from, count)) {
      this.bytes -= chunk.data.length;
      if (!this.sent(chunk)) this.dropped += 1;
    }
  }
}
