/**
 * A WebSocket client after RFC 6455, over node:http and nothing else: one subprotocol, no extensions.
 *
 * It has what a test of a server wants and a browser hides: the status of a refused upgrade, pings, frames in
 * pieces, and a connection that breaks in the middle of a message.
 */

import { createHash, randomBytes } from "node:crypto";
import { EventEmitter } from "node:events";
import http from "node:http";
import https from "node:https";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const CONTINUATION = 0x0;
const TEXT = 0x1;
const BINARY = 0x2;
const CLOSE = 0x8;
const PING = 0x9;
const PONG = 0xa;
/** How long the server may take to end the connection once both have said close, in ms. */
const LINGER = 5000;

/**
 * How a connection ended: code 1006 if no close frame came, 1005 if it had no code.
 * @typedef {{code: number, reason: string}} Closed
 */

/** The server did not upgrade: `status` is its answer's, or 0 if what came was no valid upgrade. */
export class RefusedError extends Error {
  /** @param {number} status @param {string} reason */
  constructor(status, reason) {
    super(`the upgrade was refused: ${status} ${reason}`);
    this.status = status;
    this.reason = reason;
  }
}

/** A server that breaks RFC 6455; `code` is what the connection is failed with. */
class ProtocolError extends Error {
  /** @param {number} code @param {string} reason */
  constructor(code, reason) {
    super(reason);
    this.code = code;
  }
}

/**
 * Connect and upgrade; rejects with RefusedError, or with the socket's own error.
 * @param {string} url ws:// or wss://
 * @param {string} protocol the subprotocol, which the server must choose
 * @param {{timeout?: number, maxMessage?: number}} [options] ms for all of it; bytes of a server's message
 * @returns {Promise<WebSocket>}
 */
export function connect(url, protocol, { timeout = 10000, maxMessage = 65536 } = {}) {
  const key = randomBytes(16).toString("base64");
  const target = new URL(url.replace(/^ws/, "http"));
  return new Promise((resolve, reject) => {
    const request = (target.protocol === "https:" ? https : http).request(target, {
      agent: false,
      headers: {
        Connection: "Upgrade",
        Upgrade: "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Protocol": protocol,
      },
    });
    const timer = setTimeout(() => request.destroy(new Error(`no upgrade within ${timeout} ms`)), timeout);
    request.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    request.on("response", (response) => {
      clearTimeout(timer);
      response.setEncoding("utf8");
      let body = "";
      response.on("data", (part) => (body += part));
      response.on("close", () => reject(new RefusedError(response.statusCode ?? 0, body.trim())));
    });
    request.on("upgrade", (response, socket, head) => {
      clearTimeout(timer);
      const accept = createHash("sha1")
        .update(key + GUID)
        .digest("base64");
      const { headers } = response;
      if (headers["sec-websocket-accept"] !== accept || headers["sec-websocket-protocol"] !== protocol) {
        socket.destroy();
        reject(new RefusedError(0, `no valid answer, or not with ${protocol}`));
        return;
      }
      resolve(new WebSocket(socket, maxMessage, head));
    });
    request.end();
  });
}

/**
 * An open connection. Emits `message` (a string or a Buffer), `ping`, and once `close` (a Closed); nothing
 * after that.
 */
export class WebSocket extends EventEmitter {
  /** @type {Buffer} received and not yet understood */ #unread;
  /** @type {Buffer[]} the fragments of the message under way */ #fragments = [];
  #opcode = CONTINUATION;
  #closeSent = false;
  /** @type {Closed | null} */ #closed = null;
  #socket;
  #maxMessage;

  /** @param {import("node:net").Socket} socket @param {number} maxMessage @param {Buffer} head */
  constructor(socket, maxMessage, head) {
    super();
    this.#socket = socket;
    this.#maxMessage = maxMessage;
    this.#unread = head;
    socket.setNoDelay(true);
    socket.on("data", (data) => this.#received(data));
    socket.on("drain", () => this.emit("drain"));
    socket.on("error", () => {}); // "close" follows
    socket.on("close", () => {
      this.emit("close", this.#closed ?? { code: 1006, reason: "" });
      this.removeAllListeners();
    });
    // What came together with the answer; later, so that listeners can be there first.
    if (head.length) setImmediate(() => this.#received(Buffer.alloc(0)));
  }

  /** Bytes that the operating system has not yet taken. */
  get buffered() {
    return this.#socket.writableLength;
  }

  /** @param {string} text */
  sendText(text) {
    this.raw(frame(TEXT, Buffer.from(text)));
  }

  /**
   * Send a binary message, as frames of at most *fragment* bytes (0: as one).
   * @param {Buffer} data @param {number} [fragment]
   */
  sendBinary(data, fragment = 0) {
    this.raw(binaryMessage(data, fragment));
  }

  /**
   * Begin a binary message, and break the connection after *part* (0 … 1) of its bytes; *reset*: by an RST.
   * @param {Buffer} data @param {number} fragment @param {number} part @param {boolean} reset
   */
  breakIn(data, fragment, part, reset) {
    const bytes = binaryMessage(data, fragment);
    this.#socket.write(bytes.subarray(0, Math.round(part * bytes.length)), () => this.destroy(reset));
  }

  /** Bytes as they are, which should be frames. @param {Buffer} bytes */
  raw(bytes) {
    if (!this.#socket.destroyed) this.#socket.write(bytes);
  }

  /** Say close, and wait for the answer. @param {number} code @param {string} [reason] */
  close(code, reason = "") {
    this.#sendClose(Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]));
  }

  /** End the connection without a word. @param {boolean} [reset] by a TCP RST */
  destroy(reset = false) {
    if (reset) this.#socket.resetAndDestroy();
    else this.#socket.destroy();
  }

  /** @param {Buffer} payload */
  #sendClose(payload) {
    if (this.#closeSent) return;
    this.#closeSent = true;
    this.raw(frame(CLOSE, payload));
    setTimeout(() => this.#socket.destroy(), LINGER).unref();
  }

  /** @param {Buffer} data */
  #received(data) {
    this.#unread = Buffer.concat([this.#unread, data]);
    try {
      // After a close frame nothing counts.
      while (!this.#closed && this.#takeFrame());
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#closed = { code: error.code, reason: error.message };
      this.close(error.code, error.message);
      this.#socket.end();
    }
  }

  /** Take one frame from what was received; false if it is not complete. */
  #takeFrame() {
    const bytes = this.#unread;
    if (bytes.length < 2) return false;
    const final = (bytes[0] & 0x80) !== 0;
    const opcode = bytes[0] & 0x0f;
    if (bytes[0] & 0x70) throw new ProtocolError(1002, "a reserved bit is set");
    if (bytes[1] & 0x80) throw new ProtocolError(1002, "a server's frame is masked");
    let length = bytes[1];
    let start = 2;
    if (length === 126) {
      if (bytes.length < 4) return false;
      length = bytes.readUInt16BE(2);
      start = 4;
    } else if (length === 127) {
      if (bytes.length < 10) return false;
      length = Number(bytes.readBigUInt64BE(2));
      start = 10;
    }
    if (opcode >= CLOSE && (!final || length > 125)) throw new ProtocolError(1002, "a long control frame");
    if (length > this.#maxMessage) throw new ProtocolError(1009, "a message is too long");
    if (bytes.length < start + length) return false;
    this.#unread = bytes.subarray(start + length);
    this.#understand(opcode, final, bytes.subarray(start, start + length));
    return true;
  }

  /** @param {number} opcode @param {boolean} final @param {Buffer} payload */
  #understand(opcode, final, payload) {
    if (opcode === PING) {
      this.raw(frame(PONG, payload));
      this.emit("ping");
    } else if (opcode === CLOSE) {
      if (payload.length === 1) throw new ProtocolError(1002, "half a close code");
      const code = payload.length ? payload.readUInt16BE(0) : 1005;
      this.#closed = { code, reason: utf8(payload.subarray(2)) };
      this.#sendClose(payload.subarray(0, 2));
    } else if (opcode === TEXT || opcode === BINARY || opcode === CONTINUATION) {
      if ((opcode === CONTINUATION) !== this.#fragments.length > 0) {
        throw new ProtocolError(1002, "a fragment out of place");
      }
      if (opcode !== CONTINUATION) this.#opcode = opcode;
      this.#fragments.push(payload);
      if (this.#fragments.reduce((sum, { length }) => sum + length, 0) > this.#maxMessage) {
        throw new ProtocolError(1009, "a message is too long");
      }
      if (!final) return;
      const message = Buffer.concat(this.#fragments);
      this.#fragments = [];
      this.emit("message", this.#opcode === TEXT ? utf8(message) : message);
    } else if (opcode !== PONG) {
      throw new ProtocolError(1002, "an unknown opcode");
    }
  }
}

/**
 * One masked frame of a client's.
 * @param {number} opcode @param {Buffer} payload @param {boolean} [final]
 */
export function frame(opcode, payload, final = true) {
  const { length } = payload;
  const head = Buffer.alloc(length < 126 ? 2 : length < 65536 ? 4 : 10);
  head[0] = (final ? 0x80 : 0) | opcode;
  head[1] = 0x80 | (length < 126 ? length : length < 65536 ? 126 : 127);
  if (head.length === 4) head.writeUInt16BE(length, 2);
  if (head.length === 10) head.writeBigUInt64BE(BigInt(length), 2);
  const mask = randomBytes(4);
  const masked = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i++) masked[i] = payload[i] ^ mask[i & 3];
  return Buffer.concat([head, mask, masked]);
}

/** @param {Buffer} data @param {number} fragment */
function binaryMessage(data, fragment) {
  if (!fragment || data.length <= fragment) return frame(BINARY, data);
  const frames = [];
  for (let at = 0; at < data.length; at += fragment) {
    const opcode = at ? CONTINUATION : BINARY;
    frames.push(frame(opcode, data.subarray(at, at + fragment), at + fragment >= data.length));
  }
  return Buffer.concat(frames);
}

/** @param {Buffer} bytes */
function utf8(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new ProtocolError(1007, "text that is not UTF-8");
  }
}
