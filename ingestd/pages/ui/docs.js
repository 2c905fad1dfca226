// The page to try the API: all operations on it come from /v1/openapi.json.
import { base, call, insist } from "./api.js";
import { get, make, note, say } from "./dom.js";
import { enter } from "./shell.js";

/** @typedef {{ $ref?: string, type?: string, enum?: string[], default?: unknown, examples?: unknown[], anyOf?: Schema[], items?: Schema, properties?: Record<string, Schema>, required?: string[] }} Schema */
/** @typedef {{ name: string, in: "path" | "query" | "header", required: boolean, description: string, schema: Schema }} Parameter */
/**
 * @typedef {object} Operation
 * @property {string} operationId
 * @property {string} summary
 * @property {string} [description]
 * @property {string[]} tags
 * @property {Parameter[]} [parameters]
 * @property {{ content: Record<string, { schema: Schema }> }} [requestBody]
 * @property {Record<string, { description: string }>} responses
 * @property {string} [x-scope] what it needs; not there where it is open to everybody
 */
/** @typedef {{ info: { version: string, description: string }, tags: { name: string }[], paths: Record<string, Record<string, Operation>>, components: { schemas: Record<string, Schema> } }} OpenAPI */
/** @typedef {{ url: URL, method: string, headers: Record<string, string>, body?: string }} Asked */

const LONGEST = 200_000; // characters of an answer that are shown

const token = get("token", HTMLInputElement);
const find = get("find", HTMLInputElement);
const state = get("state");
/**
 * What writes have to show where somebody is signed in; null, if nobody is.
 * @type {string | null}
 */
let csrf = null;

/** Who asks, where no token is typed. */
async function meet() {
  const { daemon, me } = await enter();
  csrf = me?.csrf ?? null;
  say(get("token-hint"), !daemon.tokens ? "This daemon asks for none."
    : daemon.signed_in && me ? `Without one, requests are sent as ${me.name}.`
      : "This daemon asks for one: type it here, or sign in.");
}

/**
 * *text* with what is between backticks as code.
 * @param {string} [text]
 */
function prose(text = "") {
  return text.split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));
}

/** @param {OpenAPI} doc @param {Schema} schema */
function resolved(doc, schema) {
  const name = schema.$ref?.split("/").pop();
  return name ? doc.components.schemas[name] : schema;
}

/**
 * A value of *schema* to begin with: the fields that one would fill in, and those that must be.
 * @param {OpenAPI} doc
 * @param {Schema} schema
 */
function example(doc, schema) {
  const form = resolved(doc, schema);
  /** @type {Record<string, unknown>} */
  const empty = { boolean: true, integer: 0, number: 0, array: [], object: {} };
  /** @type {Record<string, unknown>} */
  const shown = {};
  for (const [name, given] of Object.entries(form.properties ?? {})) {
    const field = resolved(doc, given);
    const examples = field.examples ?? field.anyOf?.[0].examples;
    if (examples) shown[name] = examples[0];
    else if ((field.default ?? null) !== null) shown[name] = field.default;
    else if (form.required?.includes(name)) shown[name] = empty[field.type ?? ""] ?? "";
  }
  return shown;
}

/**
 * What is asked for, out of the operation's form.
 * @param {string} path
 * @param {string} method
 * @param {HTMLFormElement} form
 * @param {Parameter[]} parameters
 * @returns {Asked}
 */
function request(path, method, form, parameters) {
  const filled = new FormData(form);
  const value = (/** @type {string} */ name) => String(filled.get(name) ?? "");
  let target = path;
  const query = new URLSearchParams();
  /** @type {Record<string, string>} */
  const headers = {};
  for (const { name, in: place } of parameters) {
    const given = value(`${place}:${name}`);
    if (place === "path") target = target.replace(`{${name}}`, encodeURIComponent(given));
    else if (given !== "" && place === "query") query.set(name, given);
    else if (given !== "") headers[name] = given;
  }
  const body = value("body").trim();
  if (body) headers["Content-Type"] = "application/json";
  const search = query.toString();
  return { url: new URL(target.slice(1) + (search && `?${search}`), base), method: method.toUpperCase(), headers, body: body || undefined };
}

/** @param {string} text */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/**
 * The same with curl, which has no cookie: it has to show a token where the page shows either.
 * @param {Asked} asked
 * @param {boolean} known whether it needs to be known who asks
 */
function curl({ url, method, headers, body }, known) {
  const words = ["curl"];
  if (method !== "GET") words.push("-X", method);
  if (known) words.push("-H", '"Authorization: Bearer $TOKEN"');
  for (const [name, value] of Object.entries(headers)) words.push("-H", quoted(`${name}: ${value}`));
  if (body) words.push("-d", quoted(body));
  return [...words, quoted(url.href)].join(" ");
}

/**
 * Who asks: the token that was typed, or what goes with the cookie.
 * @returns {Record<string, string>}
 */
function credentials() {
  if (token.value) return { Authorization: `Bearer ${token.value}` };
  return csrf === null ? {} : { "X-CSRF-Token": csrf };
}

/**
 * The answer's body, as it comes.
 * @param {Response} answer
 * @param {HTMLElement} shown
 * @param {AbortController} stopped
 */
async function show(answer, shown, stopped) {
  const type = answer.headers.get("content-type") ?? "";
  if (type.startsWith("image/")) {
    const image = make("img", { alt: "The answer" });
    image.src = URL.createObjectURL(await answer.blob());
    image.onload = () => URL.revokeObjectURL(image.src);
    shown.replaceChildren(image);
    return;
  }
  if (type && !/json|text/.test(type)) {
    say(shown, `${type}, ${answer.headers.get("content-length") ?? "an unknown number of"} bytes: not shown`);
    stopped.abort();
    return;
  }
  const text = make("pre", { class: "mono", tabindex: 0 });
  const decoder = new TextDecoder();
  const reader = answer.body?.getReader();
  let end = "";
  let whole = true;
  for (let part; reader && !(part = await reader.read()).done; ) {
    end += decoder.decode(part.value, { stream: true });
    whole &&= end.length <= LONGEST;
    end = end.slice(-LONGEST);
    say(text, end);
    if (!text.isConnected) shown.replaceChildren(text);
  }
  if (whole && end && type.includes("json")) say(text, JSON.stringify(JSON.parse(end), null, 2));
}

/** @param {string} id @param {Parameter} parameter */
function field(id, { name, in: place, required, description, schema }) {
  const choices = schema.enum ?? schema.items?.enum;
  const hint = choices ? choices.join(", ") : schema.default ?? schema.items?.type ?? schema.type ?? "";
  return make("div", { class: "field" },
    make("label", { for: id }, `${name}${required ? " *" : ""}`),
    make("input", { id, name: `${place}:${name}`, required, spellcheck: "false", autocapitalize: "off", placeholder: String(hint), "aria-describedby": `${id}-hint` }),
    make("small", { id: `${id}-hint` }, ...prose(description)));
}

/** @param {OpenAPI} doc @param {string} path @param {string} method @param {Operation} op */
function operation(doc, path, method, op) {
  const { operationId: id, parameters = [], "x-scope": scope } = op;
  const content = op.requestBody?.content["application/json"];
  const form = make("form", { class: "stack tight", autocomplete: "off" });
  if (parameters.length) {
    form.append(make("h3", {}, "Parameters"),
      make("div", { class: "fields" }, ...parameters.map((each) => field(`${id}-${each.in}-${each.name}`, each))));
  }
  if (content) {
    const given = JSON.stringify(example(doc, content.schema), null, 2);
    const rows = Math.max(4, given.split("\n").length + 1);
    form.append(make("h3", {}, "Body"), make("textarea", { name: "body", rows, spellcheck: "false", "aria-label": "Body, JSON" }, given));
  }
  const stop = make("button", { type: "button", hidden: true }, "Stop");
  form.append(make("div", { class: "row" }, make("button", { type: "submit", class: "primary" }, "Send"), stop));
  const command = make("pre", { class: "mono", tabindex: 0 });
  const status = make("div", { class: "status", role: "status" });
  const body = make("div");
  const result = make("div", { class: "stack tight", hidden: true },
    make("h3", {}, "Command"), command, make("h3", {}, "Answer"), status, body);

  let sent = new AbortController();
  stop.onclick = () => sent.abort();
  const send = async () => {
    sent.abort();
    const mine = (sent = new AbortController());
    const asked = request(path, method, form, parameters);
    say(command, curl(asked, token.value !== "" || (csrf !== null && scope !== undefined)));
    result.hidden = stop.hidden = false;
    say(status, "…");
    body.replaceChildren();
    try {
      const answer = await fetch(asked.url, { ...asked, headers: { ...asked.headers, ...credentials() }, signal: mine.signal, cache: "no-store" });
      status.replaceChildren(make("span", { class: `badge ${answer.ok ? "good" : "bad"}` }, `${answer.status} ${answer.statusText}`.trim()));
      // It signs this browser in and out.
      if (path === "/v1/session") await meet();
      await show(answer, body, mine);
    } catch (error) {
      if (!mine.signal.aborted) status.replaceChildren(note("bad", "No answer.", error instanceof Error ? error.message : String(error)));
      else if (sent === mine && status.textContent === "…") say(status, "Stopped.");
    } finally {
      if (sent === mine) stop.hidden = true;
    }
  };
  form.addEventListener("submit", (event) => { event.preventDefault(); void send(); });

  const answers = Object.entries(op.responses).map(([code, { description }]) =>
    make("li", {}, make("code", {}, code), " ", ...prose(description)));
  return make("details", { "data-words": `${method} ${path} ${op.summary} ${op.description ?? ""}`.toLowerCase() },
    make("summary", {},
      make("span", { class: `badge method ${method}` }, method.toUpperCase()), make("span", { class: "path mono" }, path),
      make("span", { class: "what" }, op.summary), make("span", { class: "badge scope" }, scope ?? "open")),
    make("div", { class: "inside stack" }, make("p", { class: "soft" }, ...prose(op.description)), form, result,
      make("div", { class: "stack tight" }, make("h3", {}, "Answers"), make("ul", { class: "answers small soft" }, ...answers))));
}

/** @param {OpenAPI} doc */
function render(doc) {
  say(get("version"), doc.info.version);
  get("introduction").replaceChildren(...prose(doc.info.description));
  get("operations").replaceChildren(...doc.tags.map(({ name }) => {
    const found = Object.entries(doc.paths).flatMap(([path, methods]) =>
      Object.entries(methods).filter(([, op]) => op.tags[0] === name)
        .map(([method, op]) => operation(doc, path, method, op)));
    return make("section", {}, make("h2", {}, name), make("div", { class: "panel operations" }, ...found));
  }));
}

function choose() {
  const words = find.value.toLowerCase().split(/\s+/);
  let count = 0;
  for (const section of document.querySelectorAll("section")) {
    const before = count;
    for (const each of section.querySelectorAll("details")) {
      each.hidden = !words.every((word) => each.dataset.words?.includes(word));
      count += Number(!each.hidden);
    }
    section.hidden = count === before;
  }
  say(state, count ? "" : "Nothing of that kind.");
}

get("settings").addEventListener("submit", (event) => event.preventDefault());
find.addEventListener("input", choose);

async function open() {
  await meet();
  render(await call("GET", "v1/openapi.json"));
  choose();
}
void insist(open, ({ message }) => state.replaceChildren(note("bad", message, "It is tried again by itself.")));
