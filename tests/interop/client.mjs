#!/usr/bin/env node
/**
 * Publish files over `ingestd.v1`, each as the container of one recorder, and print what happens as JSON.
 *
 *   node client.mjs --url ws://127.0.0.1:8081/stream/live --key KEY [OPTION…] FILE…
 *
 * or say exactly what scripts say (script.mjs), each on a connection of its own and all at once:
 *
 *   node client.mjs --url ws://127.0.0.1:8081/stream/live --scripts '{"NAME": [STEP…], …}'
 *
 * Exits with 0 when all is acknowledged and the server has ended it; with 1 when the server said stop before,
 * 3 when it could not be reached, 4 when the session was over before all was acknowledged.
 */

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { once } from "node:events";
import { parseArgs } from "node:util";

import { Publisher } from "./publisher.mjs";
import { play } from "./script.mjs";

const { values, positionals: files } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: "string" },
    key: { type: "string" }, // not needed if the URL has it
    name: { type: "string" }, // what the status page calls this client
    mime: { type: "string" },
    resume: { type: "string" }, // SESSION:TOKEN
    slice: { type: "string", default: "65536" }, // bytes of a recorder's slice
    pace: { type: "string", default: "0" }, // ms between slices; 0: as fast as they are acknowledged
    fragment: { type: "string", default: "0" }, // send messages as frames of so many bytes; 0: whole
    bound: { type: "string", default: String(32 << 20) }, // bytes kept unacknowledged
    // Break the connection: NUMBER[:PART] of a chunk, open:CONNECTION, hello:CONNECTION, end
    cut: { type: "string", multiple: true, default: [] },
    reset: { type: "boolean", default: false }, // cut by a TCP RST
    drop: { type: "string" }, // FROM-TO: chunks that are never sent
    stay: { type: "boolean", default: false }, // send no `end`, and wait
    stats: { type: "string", default: "2" }, // seconds between `stats`; 0: none
    patience: { type: "string", default: "30" }, // seconds without a `hello` before it gives up
    scripts: { type: "string" },
  },
});

/** @param {string} event @param {object} [fields] */
function report(event, fields = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
}

/** @param {string} text @returns {import("./publisher.mjs").Cut} */
function cut(text) {
  const [at, part] = text.split(":");
  if (at !== "open" && at !== "hello" && at !== "end") return { at: Number(at), part: Number(part ?? 1) };
  return { at, part: part === undefined ? undefined : Number(part) };
}

/** @param {string | undefined} text */
function resume(text) {
  if (text === undefined) return undefined;
  const colon = text.lastIndexOf(":");
  return { session: text.slice(0, colon), token: text.slice(colon + 1) };
}

/** @param {string} url */
function publisher(url) {
  const made = new Publisher({
    url,
    key: values.key,
    name: values.name,
    resume: resume(values.resume),
    bound: Number(values.bound),
    patience: Number(values.patience),
    fragment: Number(values.fragment),
    statsEvery: Number(values.stats),
    cuts: values.cut.map(cut),
    reset: values.reset,
    report,
  });
  if (values.drop) {
    const [from, to] = values.drop.split("-").map(Number);
    made.kept.drop = { from, to };
  }
  return made;
}

/**
 * Be the recorders: one for each file, and the same file again for one whose session is over.
 * @param {Publisher} to
 */
function record(to) {
  let index = 0;
  let round = 0;
  const slice = Number(values.slice);
  const pace = Number(values.pace);
  const bound = Number(values.bound);

  /** @param {number} mine */
  async function feed(mine) {
    for (; index < files.length; index++) {
      const data = readFileSync(files[index]);
      const recorder = to.begin(values.mime);
      report("recorder", { number: recorder.number, file: files[index], chunk: to.kept.due });
      for (let at = 0; at < data.length; at += slice) {
        to.give(recorder, data.subarray(at, at + slice));
        if (pace) await sleep(pace);
        else while (mine === round && to.kept.bytes > bound / 2 && !to.stuck) await once(to, "room");
        if (mine !== round) return; // this recorder was stopped, and another one begun
      }
    }
    index = Math.max(files.length - 1, 0);
    if (!values.stay) to.end();
  }

  to.on("anew", () => feed((round += 1)));
}

async function main() {
  if (!values.url || (!values.scripts && !files.length)) {
    process.stderr.write("usage: client.mjs --url URL [--key KEY] [OPTION…] FILE…, or --scripts JSON\n");
    return 2;
  }
  if (values.scripts) {
    const { url } = values;
    /** @type {[string, import("./script.mjs").Step[]][]} */
    const scripts = Object.entries(JSON.parse(values.scripts));
    await Promise.all(
      scripts.map(([script, steps]) =>
        play(url, steps, (event, fields) => report(event, { script, ...fields })),
      ),
    );
    return 0;
  }
  const client = publisher(values.url);
  record(client);
  const { what, code, reason } = await client.run();
  const { due, dropped, chunks } = client.kept;
  report("done", { what, code, reason, due, dropped, unacknowledged: chunks.length });
  if (what === "gave up") return 3;
  const ended = what === "over" || (code === 1000 && client.finished);
  return !ended ? 1 : chunks.length ? 4 : 0;
}

process.exitCode = await main();
