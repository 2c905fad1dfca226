/** One WebSocket, from its opening to its end; whatever comes after it was given up is ignored. */

/**
 * @typedef {object} LinkEvents
 * @property {() => void} opened
 * @property {(message: {type: string} & Record<string, any>) => void} told
 * @property {(data: ArrayBuffer) => void} [given]
 * @property {(code: number, reason: string, opened: boolean) => void} closed once, unless `close` was called
 */

/** How long a connection may take to open. */
const PATIENCE_MS = 20_000;

export class Link {
  /** Bytes that were handed to the socket. */
  sent = 0;
  /** When a message came last, ms. */
  heard = performance.now();
  #socket;
  #events;
  #timer;
  #opened = false;
  /**
   * What the server said that it ends with: more than fits into a close frame.
   * @type {string | null}
   */
  #last = null;

  /** @param {string} url @param {string[]} protocols @param {LinkEvents} events */
  constructor(url, protocols, events) {
    this.#events = /** @type {LinkEvents | null} */ (events);
    this.#socket = new WebSocket(url, protocols);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => this.#open();
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    this.#socket.onclose = ({ code, reason }) => this.#end(code, this.#last ?? reason);
    this.#timer = setTimeout(() => this.giveUp("it did not open in time"), PATIENCE_MS);
  }

  /** Bytes that have not left this page. */
  get buffered() {
    return this.#socket.bufferedAmount;
  }

  /** Bytes that have left this page. */
  get left() {
    return this.sent - this.#socket.bufferedAmount;
  }

  /** @param {object} message */
  say(message) {
    const text = JSON.stringify(message);
    this.sent += new TextEncoder().encode(text).byteLength;
    this.#socket.send(text);
  }

  /** @param {ArrayBuffer} data */
  give(data) {
    this.sent += data.byteLength;
    this.#socket.send(data);
  }

  /**
   * Close it, and hear nothing more of it.
   * @param {number} [code]
   */
  close(code) {
    const [socket, timer] = [this.#socket, this.#timer];
    this.#events = null;
    if (socket.readyState === WebSocket.CONNECTING) {
      // Browsers write an error when that is broken off.
      socket.onopen = () => {
        clearTimeout(timer);
        socket.close(code);
      };
      return;
    }
    clearTimeout(timer);
    socket.close(code);
  }

  /**
   * It looks dead: end it as a network does.
   * @param {string} reason
   */
  giveUp(reason) {
    const events = this.#events;
    this.#events = null;
    clearTimeout(this.#timer);
    this.#socket.close();
    events?.closed(1006, reason, this.#opened);
  }

  #open() {
    clearTimeout(this.#timer);
    this.#opened = true;
    this.heard = performance.now();
    this.#events?.opened();
  }

  /** @param {string | ArrayBuffer} data */
  #receive(data) {
    this.heard = performance.now();
    if (typeof data !== "string") return this.#events?.given?.(data);
    const message = parse(data);
    if (message?.type === "end" && typeof message.reason === "string") this.#last = message.reason;
    if (message) this.#events?.told(message);
  }

  /** @param {number} code @param {string} reason */
  #end(code, reason) {
    clearTimeout(this.#timer);
    const events = this.#events;
    this.#events = null;
    events?.closed(code, reason, this.#opened);
  }
}

/**
 * What an address was refused with. The words of the error are left out: they have the address, which may have
 * a key.
 * @param {unknown} error
 */
export function nameOf(error) {
  return error instanceof Error ? error.name : "";
}

/** @param {string} text @returns {({type: string} & Record<string, any>) | null} */
function parse(text) {
  try {
    const message = JSON.parse(text);
    return typeof message?.type === "string" ? message : null;
  } catch {
    return null;
  }
}
