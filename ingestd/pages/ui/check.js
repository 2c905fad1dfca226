import { call, insist, Problem } from "./api.js";
import { Check, Fault } from "./checks.js";
import { copy, get, make, note, say } from "./dom.js";
import { enter, may } from "./shell.js";

/** @typedef {import("./checks.js").Step} Step */
/** @typedef {"waits" | "runs" | "ok" | "failed" | "skipped"} Outcome */
/** @typedef {{ step: Step, outcome: Outcome, said: string, cure: string, ms: number }} Result */

const SIGNS = /** @type {Record<Outcome, [sign: string, word: string]>} */ ({
  waits: ["·", "not yet"], runs: ["…", "running"], ok: ["✓", "passed"], failed: ["✗", "failed"], skipped: ["–", "left out"],
});
/** Sinks that send the picture to somebody else. */
const PUSHES = ["rtmp", "mux"];

const form = get("form", HTMLFormElement);
const pipeline = get("pipeline", HTMLSelectElement);
const begin = get("begin", HTMLButtonElement);
const cancel = get("cancel", HTMLButtonElement);
const verdict = get("verdict");
const copyButton = get("copy", HTMLButtonElement);
const video = get("video", HTMLVideoElement);

/** @type {{ id: string, sinks: { name: string, type: string }[] }[]} */
let pipelines = [];
let version = "";
/** @type {Check | null} */
let check = null;

/** @param {"" | "good" | "bad" | "warn"} kind @param {string} text @param {string} [more] */
function judge(kind, text, more = "") {
  verdict.className = `note ${kind}`;
  verdict.replaceChildren(make("strong", {}, text), ...(more ? [make("span", {}, more)] : []));
}

/** @param {Result} result */
function row({ step, outcome, said, cure, ms }) {
  const [sign, word] = SIGNS[outcome];
  return make("li", { class: outcome, id: `step-${step.id}` },
    make("span", { class: "sign", "aria-hidden": "true" }, sign),
    make("span", { class: "name" }, step.title, make("span", { class: "unseen" }, `: ${word}`)),
    make("span", { class: "small soft number" }, outcome === "ok" || outcome === "failed" ? `${(ms / 1000).toFixed(1)} s` : ""),
    ...(outcome === "failed" ? [note("bad", said, cure)] : said ? [make("span", { class: "said" }, said)] : []));
}

/** @param {Result[]} results */
function asText(results) {
  const lines = results.map(({ step, outcome, said, cure, ms }) => {
    const took = outcome === "ok" || outcome === "failed" ? ` (${(ms / 1000).toFixed(1)} s)` : "";
    return `${SIGNS[outcome][0]} ${step.title}${took}${said ? `: ${said}` : ""}${cure ? `\n    → ${cure}` : ""}`;
  });
  const head = [`ingestd check, ${new Date().toISOString()}, ${location.origin}`, `Browser: ${navigator.userAgent}`,
    `Daemon: ${version}; pipeline: ${pipeline.value}`];
  const judged = [...verdict.children].map((each) => each.textContent).join(" ");
  return [...head, judged, "", ...lines, ""].join("\n");
}

/** @param {Step} step @param {Result[]} results */
const reached = ({ needs = [] }, results) => needs.every((id) => results.find(({ step }) => step.id === id)?.outcome === "ok");

async function run() {
  const sinks = pipelines.find(({ id }) => id === pipeline.value)?.sinks ?? [];
  const running = (check = new Check(pipeline.value, sinks, video));
  const results = running.steps.map((step) => /** @type {Result} */ ({ step, outcome: "waits", said: "", cure: "", ms: 0 }));
  const list = get("steps");
  list.replaceChildren(...results.map(row));
  get("picture").hidden = false;
  for (const result of results) {
    const { step } = result;
    const show = () => list.querySelector(`#step-${CSS.escape(step.id)}`)?.replaceWith(row(result));
    if (running.stopped || !reached(step, results)) {
      result.outcome = "skipped";
      result.said = running.stopped ? "Stopped." : "Not reached: something before it failed.";
      show();
      continue;
    }
    result.outcome = "runs";
    judge("", `${step.title} …`);
    show();
    const began = performance.now();
    try {
      result.said = await step.run();
      result.outcome = "ok";
    } catch (error) {
      result.outcome = "failed";
      result.said = error instanceof Error ? error.message : String(error);
      result.cure = error instanceof Fault ? error.cure : error instanceof Problem ? "Look at `ingestd logs` on the server." : "Reload the page and try again; if it stays so, this is a defect.";
    }
    result.ms = performance.now() - began;
    show();
  }
  cancel.hidden = true;
  judge("", "Tidying up …");
  const left = await running.clear();
  check = null;
  get("picture").hidden = true;
  const failed = results.filter(({ outcome }) => outcome === "failed");
  if (running.stopped) judge("warn", "Stopped.", left);
  else if (failed.length) judge("bad", failed.length === 1 ? `${failed[0].step.title} failed.` : `${failed.length} steps failed.`, left || "Causes and cures are below.");
  else judge("good", "All of it works.", left || "From this browser through the daemon and back.");
  const text = asText(results);
  say(get("text"), text);
  get("text-box").hidden = false;
  copyButton.disabled = false;
  copyButton.onclick = async () => {
    const done = await copy(text);
    if (!done) get("text-box", HTMLDetailsElement).open = true;
    say(get("copied"), done ? "Copied." : "This page may not copy: take it from below.");
  };
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  begin.disabled = pipeline.disabled = true;
  cancel.hidden = false;
  copyButton.disabled = true;
  say(get("copied"), "");
  get("text-box").hidden = true;
  await run();
  begin.disabled = pipeline.disabled = false;
  begin.textContent = "Check again";
  // Who started it by keyboard, and had nothing to press meanwhile, is there again.
  if (document.activeElement === document.body) begin.focus({ preventScroll: true });
});
cancel.addEventListener("click", () => check?.stop());
addEventListener("beforeunload", (event) => { if (check) event.preventDefault(); });

function choose() {
  const sinks = pipelines.find(({ id }) => id === pipeline.value)?.sinks ?? [];
  const pushed = sinks.filter(({ type }) => PUSHES.includes(type)).map(({ name }) => name);
  say(get("pipeline-hint"), pushed.length
    ? `Mind: the test picture goes out to ${pushed.join(", ")} as well.`
    : `Tested with it: ${sinks.map(({ name }) => name).join(", ") || "nothing but playback"}.`);
}
pipeline.addEventListener("change", choose);

async function open() {
  const { daemon, me } = await enter({ needed: true });
  ({ version } = daemon);
  if (!may(me, "admin")) {
    pipeline.replaceChildren(make("option", {}, "–"));
    judge("warn", "The check makes a stream and removes it: that needs the scope admin.", "Sign in with another token.");
    return;
  }
  ({ pipelines } = await call("GET", "v1/pipelines"));
  const kind = (/** @type {{ sinks: { type: string }[] }} */ { sinks }) => Number(sinks.some(({ type }) => PUSHES.includes(type)));
  // One that pushes to somebody is not the first choice.
  pipelines.sort((one, other) => kind(one) - kind(other));
  pipeline.replaceChildren(...pipelines.map(({ id }) => make("option", { value: id }, id)));
  pipeline.disabled = begin.disabled = !pipelines.length;
  choose();
  judge("", "Not run yet.");
}
void insist(open, ({ message }) => judge("bad", message, "It is tried again by itself."));
