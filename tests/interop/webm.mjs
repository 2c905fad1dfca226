/**
 * Where a WebM stream can be joined: the Clusters whose first video block is a keyframe.
 *
 * Elements are walked as they come, so that only a few header bytes are ever looked at. Of sizes only the
 * Segment's and the Clusters' may be unknown, as MediaRecorder leaves them.
 */

const EBML = 0x1a45dfa3;
const SEGMENT = 0x18538067;
const TRACKS = 0x1654ae6b;
const CLUSTER = 0x1f43b675;
const SIMPLE_BLOCK = 0xa3;
const BLOCK_GROUP = 0xa0;
const BLOCK = 0xa1;
const REFERENCE_BLOCK = 0xfb;
const TRACK_ENTRY = 0xae;
const TRACK_NUMBER = 0xd7;
const TRACK_TYPE = 0x83;
const VIDEO = 1;

/**
 * @typedef {{id: number, start: number, size: number, end: number}} Element
 *   `start`: of its content; `size`: Infinity if unknown; `end`: behind it
 */

/** What is known of one recorder's bytes; anything but WebM is never random access. */
export class Scanner {
  /** @type {number[]} offsets of Clusters that begin with a keyframe, ascending */ points = [];
  /** @type {Buffer | null} all before the first Cluster, once that has come */ header = null;
  #bytes = Buffer.alloc(0);
  /** Offset of `#bytes[0]` in the stream. */ #base = 0;
  #webm = true;
  /** @type {Set<number> | null} */ #videoTracks = null;
  /** The Cluster whose first video block has not come yet; -1: none. */ #cluster = -1;

  /** The stream goes on with *data*. @param {Buffer} data */
  push(data) {
    if (!this.#webm) return;
    this.#bytes = Buffer.concat([this.#bytes, data]);
    let at = 0;
    // Up to the first Cluster everything is kept, for `header`.
    for (;;) {
      const element = elementAt(this.#bytes, at);
      if (!element) break;
      if (this.#base + at === 0 && element.id !== EBML) {
        this.#webm = false;
        this.#bytes = Buffer.alloc(0);
        return;
      }
      if (element.id === CLUSTER) {
        this.header ??= Buffer.from(this.#bytes.subarray(0, at));
        this.#cluster = this.#base + at;
        if (this.#videoTracks?.size === 0) this.#found();
      }
      if (element.id === SEGMENT || element.id === CLUSTER) {
        at = element.start;
        continue;
      }
      if (element.end > this.#bytes.length) break;
      this.#look(element);
      at = element.end;
    }
    if (this.header) {
      this.#bytes = this.#bytes.subarray(at);
      this.#base += at;
    } else if (at) {
      // Walked again from the start with the next bytes: headers are short.
      this.#cluster = -1;
    }
  }

  #found() {
    if (this.#cluster >= 0) this.points.push(this.#cluster);
    this.#cluster = -1;
  }

  /** A complete element. @param {Element} element */
  #look(element) {
    const content = this.#bytes.subarray(element.start, element.end);
    if (element.id === TRACKS) {
      this.#videoTracks = videoTracks(content);
    } else if (element.id === SIMPLE_BLOCK || element.id === BLOCK_GROUP) {
      const [block, keyframe] = element.id === SIMPLE_BLOCK ? [content, null] : fromGroup(content);
      const track = block && vint(block, 0, false);
      if (!track || !this.#videoTracks?.has(track.value)) return;
      if (keyframe ?? (block[track.length + 2] & 0x80) !== 0) this.#found();
      this.#cluster = -1; // the first video block decides
    }
  }
}

/** The block of a BlockGroup, and whether it refers to no other. @param {Buffer} content */
function fromGroup(content) {
  const inside = [...children(content)];
  const block = inside.find(({ id }) => id === BLOCK);
  const keyframe = !inside.some(({ id }) => id === REFERENCE_BLOCK);
  return /** @type {[Buffer | null, boolean]} */ ([
    block ? content.subarray(block.start, block.end) : null,
    keyframe,
  ]);
}

/** The numbers of the video tracks. @param {Buffer} tracks */
function videoTracks(tracks) {
  const found = new Set();
  for (const { id, start, end } of children(tracks)) {
    if (id !== TRACK_ENTRY) continue;
    const entry = tracks.subarray(start, end);
    /** @param {number} wanted */
    const value = (wanted) => {
      const child = [...children(entry)].find((element) => element.id === wanted);
      return child ? entry.readUIntBE(child.start, child.size) : 0;
    };
    if (value(TRACK_TYPE) === VIDEO) found.add(value(TRACK_NUMBER));
  }
  return found;
}

/** @param {Buffer} bytes */
function* children(bytes) {
  for (let at = 0; at < bytes.length;) {
    const element = elementAt(bytes, at);
    if (!element || element.end > bytes.length) return;
    yield element;
    at = element.end;
  }
}

/** The element whose head is at *at*; null: it is not complete. @param {Buffer} bytes @param {number} at */
function elementAt(bytes, at) {
  const id = vint(bytes, at, true);
  const size = id && vint(bytes, at + id.length, false);
  if (!id || !size) return null;
  const start = at + id.length + size.length;
  const known = size.value === 2 ** (7 * size.length) - 1 ? Infinity : size.value;
  return { id: id.value, start, size: known, end: start + known };
}

/**
 * An EBML number; *marked*: with its length marker, as ids have it.
 * @param {Buffer} bytes @param {number} at @param {boolean} marked
 */
function vint(bytes, at, marked) {
  if (at >= bytes.length) return null;
  const length = Math.clz32(bytes[at]) - 23;
  if (at + length > bytes.length) return null;
  let value = marked ? bytes[at] : bytes[at] & (0xff >> length);
  for (let i = 1; i < length; i++) value = value * 256 + bytes[at + i];
  return { value, length };
}
