/** Say exactly what is asked for, right or wrong, and report what comes back until the connection ends. */

import { readFileSync } from "node:fs";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

import { PROTOCOL } from "./publisher.mjs";
import { RefusedError, connect } from "./websocket.mjs";

/**
 * One step, by the field that it has. In `say` and `text`, "$session" and "$token" stand for those that the
 * server gave last, "$next+N" (with its quotes) for a number counted from `hello.next`.
 * @typedef {object} Step
 * @property {object} [say] send this as JSON
 * @property {string} [text] send this text as it is
 * @property {ChunkStep} [chunk] send a chunk
 * @property {string} [message] send a binary message, in hexadecimal
 * @property {string} [raw] send these bytes, in hexadecimal, as frames as they are
 * @property {string} [wait] until a message of this type has come
 * @property {number} [sleep] ms
 * @property {{code: number, reason?: string}} [close] say close
 * @property {boolean} [cut] end the connection without a word
 * @property {boolean} [again] connect again
 */

/**
 * `number` counts from `hello.next`; the bytes are in hexadecimal, or a part of a file.
 * @typedef {object} ChunkStep
 * @property {number} number
 * @property {number} recorder
 * @property {string} [hex]
 * @property {string} [file]
 * @property {number} [from]
 * @property {number} [to]
 */

/**
 * Play *steps* on a connection to *url*, and wait for its end.
 * @param {string} url @param {Step[]} steps @param {(event: string, fields?: object) => void} report
 */
export async function play(url, steps, report) {
  const known = { session: "", token: "", next: 0 };
  let socket = await begin();
  /** @type {Promise<unknown>} */
  let over = socket ? once(socket, "close") : Promise.resolve();
  /** @type {string[]} types that came and were not waited for */
  let came = [];

  async function begin() {
    let opened;
    try {
      opened = await connect(url, PROTOCOL);
    } catch (error) {
      report("refused", error instanceof RefusedError ? { ...error } : { error: String(error) });
      return null;
    }
    opened.on("message", (text) => {
      const notice = JSON.parse(String(text));
      if (notice.type === "hello") Object.assign(known, { ...notice, token: notice.token ?? known.token });
      came.push(notice.type);
      report(notice.type === "hello" || notice.type === "ack" ? notice.type : "notice", { notice });
    });
    opened.on("close", (closed) => report("close", closed));
    return opened;
  }

  /** @param {string} text */
  const filled = (text) =>
    text
      .replaceAll("$session", known.session)
      .replaceAll("$token", known.token)
      .replace(/"\$next\+(\d+)"/g, (_, more) => String(known.next + Number(more)));

  for (const step of steps) {
    if (step.again) {
      await over;
      came = [];
      socket = await begin();
      over = socket ? once(socket, "close") : Promise.resolve();
    }
    if (!socket) return;
    if (step.say) socket.sendText(filled(JSON.stringify(step.say)));
    if (step.text !== undefined) socket.sendText(filled(step.text));
    if (step.message !== undefined) socket.sendBinary(Buffer.from(step.message, "hex"));
    if (step.raw !== undefined) socket.raw(Buffer.from(step.raw, "hex"));
    if (step.chunk) socket.sendBinary(chunk(step.chunk, known.next));
    if (step.sleep) await sleep(step.sleep);
    if (step.close) socket.close(step.close.code, step.close.reason);
    if (step.cut) socket.destroy();
    if (step.wait) {
      const opened = socket;
      const ended = over.then(() => "over");
      while (!came.includes(step.wait)) {
        if ((await Promise.race([once(opened, "message"), ended])) === "over") break;
      }
      came.splice(0, came.indexOf(step.wait) + 1);
    }
  }
  await over;
}

/** @param {ChunkStep} about @param {number} next */
function chunk({ number, recorder, hex = "", file, from, to }, next) {
  const header = Buffer.alloc(12);
  header.writeBigUInt64BE(BigInt(next + number));
  header.writeUInt32BE(recorder, 8);
  return Buffer.concat([header, file ? readFileSync(file).subarray(from, to) : Buffer.from(hex, "hex")]);
}
