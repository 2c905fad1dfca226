// The page to try the API: everything on it comes from /v1/openapi.json.
"use strict";

const LONGEST = 200_000; // characters of an answer that are shown
const $ = (id) => document.getElementById(id);

/** An element with attributes and children; text is never taken for HTML. */
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** *text* with what is between backticks as code. */
function prose(text) {
  return (text ?? "").split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));
}

function resolved(doc, schema) {
  const name = schema?.$ref?.split("/").pop();
  return name ? doc.components.schemas[name] : schema ?? {};
}

/** A value of *schema* to begin with: the fields that one would fill in, and those that must be. */
function example(doc, schema) {
  const form = resolved(doc, schema);
  const shown = {};
  for (const [name, given] of Object.entries(form.properties ?? {})) {
    const field = resolved(doc, given);
    const examples = field.examples ?? field.anyOf?.[0].examples;
    if (examples) shown[name] = examples[0];
    else if ((field.default ?? null) !== null) shown[name] = field.default;
    else if (form.required?.includes(name)) shown[name] = { boolean: true, integer: 0, number: 0, array: [], object: {} }[field.type] ?? "";
  }
  return shown;
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** What is asked for, out of the operation's form. */
function request(path, method, form, parameters) {
  let target = path;
  const query = new URLSearchParams();
  const headers = {};
  for (const { name, in: place } of parameters) {
    const value = form.elements[`${place}:${name}`].value;
    if (place === "path") target = target.replace(`{${name}}`, encodeURIComponent(value));
    else if (value !== "" && place === "query") query.set(name, value);
    else if (value !== "") headers[name] = value;
  }
  const body = form.elements.body?.value.trim();
  if (body) headers["Content-Type"] = "application/json";
  const base = new URL(".", location.href);
  const url = new URL(target.slice(1) + (query.size ? `?${query}` : ""), base);
  return { url, method: method.toUpperCase(), headers, body: body || undefined };
}

function curl({ url, method, headers, body }) {
  const words = ["curl"];
  if (method !== "GET") words.push("-X", method);
  if ($("token").value) words.push("-H", '"Authorization: Bearer $TOKEN"');
  for (const [name, value] of Object.entries(headers)) words.push("-H", quoted(`${name}: ${value}`));
  if (body) words.push("-d", quoted(body));
  return [...words, quoted(url.href)].join(" ");
}

async function show(answer, shown, stopped) {
  const type = answer.headers.get("content-type") ?? "";
  if (type.startsWith("image/")) {
    const image = make("img", { alt: "The answer" });
    image.src = URL.createObjectURL(await answer.blob());
    image.onload = () => URL.revokeObjectURL(image.src);
    shown.replaceChildren(image);
    return;
  }
  const text = make("pre", { tabindex: 0 });
  shown.replaceChildren(text);
  if (!/json|text/.test(type) && type) {
    text.textContent = `${type}, ${answer.headers.get("content-length") ?? "an unknown number of"} bytes: not shown`;
    stopped.abort();
    return;
  }
  const decoder = new TextDecoder();
  let whole = "";
  const reader = answer.body?.getReader();
  for (let part; reader && !(part = await reader.read()).done; ) {
    whole += decoder.decode(part.value, { stream: true });
    text.textContent = whole.slice(-LONGEST);
  }
  if (type.includes("json") && whole.length < LONGEST) {
    text.textContent = JSON.stringify(JSON.parse(whole), null, 2);
  }
}

async function send(event, path, method, parameters, parts) {
  event.preventDefault();
  const asked = request(path, method, event.target, parameters);
  const stopped = new AbortController();
  parts.command.textContent = curl(asked);
  parts.result.hidden = false;
  parts.status.className = "status";
  parts.status.textContent = "…";
  parts.body.replaceChildren();
  parts.stop.hidden = false;
  parts.stop.onclick = () => stopped.abort();
  const headers = { ...asked.headers };
  if ($("token").value) headers.Authorization = `Bearer ${$("token").value}`;
  try {
    const answer = await fetch(asked.url, { ...asked, headers, signal: stopped.signal, cache: "no-store" });
    parts.status.textContent = `${answer.status} ${answer.statusText}`;
    parts.status.classList.add(answer.ok ? "good" : "bad");
    await show(answer, parts.body, stopped);
  } catch (error) {
    if (error.name !== "AbortError") {
      parts.status.textContent = `No answer: ${error.message}`;
      parts.status.classList.add("bad");
    }
  } finally {
    parts.stop.hidden = true;
  }
}

function field({ name, in: place, required, description, schema }) {
  const choices = schema.enum ?? schema.items?.enum;
  const hint = choices ? choices.join(", ") : schema.default ?? schema.items?.type ?? schema.type ?? "";
  const input = make("input", {
    name: `${place}:${name}`, required, spellcheck: "false", autocapitalize: "off", placeholder: String(hint ?? ""),
  });
  return make("label", {}, `${name}${required ? " *" : ""}`, input, make("small", {}, ...prose(description)));
}

function operation(doc, path, method, op) {
  const parameters = op.parameters ?? [];
  const content = op.requestBody?.content["application/json"];
  const parts = {
    command: make("pre", { tabindex: 0 }), status: make("p", { class: "status", role: "status" }),
    body: make("div"), stop: make("button", { type: "button", hidden: true }, "Stop"),
  };
  parts.result = make("div", { hidden: true }, make("h3", {}, "Command"), parts.command, make("h3", {}, "Answer"),
    parts.status, parts.body);
  const form = make("form", { autocomplete: "off" });
  if (parameters.length) form.append(make("h3", {}, "Parameters"), make("div", { class: "fields" }, ...parameters.map(field)));
  if (content) {
    const box = make("textarea", { name: "body", spellcheck: "false", "aria-label": "Body, JSON" });
    box.value = JSON.stringify(example(doc, content.schema), null, 2);
    box.rows = Math.max(4, box.value.split("\n").length + 1);
    form.append(make("h3", {}, "Body"), box);
  }
  form.append(make("div", { class: "row" }, make("button", { class: "send" }, "Send"), parts.stop));
  form.addEventListener("submit", (event) => send(event, path, method, parameters, parts));
  const answers = Object.entries(op.responses).map(([status, answer]) =>
    make("li", {}, make("code", {}, status), " ", ...prose(answer.description)));
  const scope = op["x-scope"] ?? "open";
  return make("details", { "data-words": `${method} ${path} ${op.summary} ${op.description ?? ""}`.toLowerCase() },
    make("summary", {},
      make("span", { class: `method ${method}` }, method.toUpperCase()), make("span", { class: "path" }, path),
      make("span", { class: "what" }, op.summary), make("span", { class: "scope" }, scope)),
    make("div", { class: "inside" }, make("p", { class: "about" }, ...prose(op.description)), form, parts.result,
      make("h3", {}, "Answers"), make("ul", { class: "answers" }, ...answers)));
}

function render(doc) {
  $("version").textContent = doc.info.version;
  $("introduction").replaceChildren(...prose(doc.info.description));
  const sections = doc.tags.map(({ name }) => {
    const found = Object.entries(doc.paths).flatMap(([path, methods]) =>
      Object.entries(methods).filter(([, op]) => op.tags[0] === name)
        .map(([method, op]) => operation(doc, path, method, op)));
    return make("section", {}, make("h2", {}, name), ...found);
  });
  $("operations").replaceChildren(...sections, make("p", { id: "state", role: "status" }));
}

function find() {
  const words = $("find").value.toLowerCase().split(/\s+/);
  let count = 0;
  for (const section of document.querySelectorAll("main section")) {
    let any = false;
    for (const each of section.querySelectorAll("details")) {
      each.hidden = !words.every((word) => each.dataset.words.includes(word));
      any ||= !each.hidden;
      count += !each.hidden;
    }
    section.hidden = !any;
  }
  $("state").textContent = count ? "" : "Nothing of that kind.";
}

$("settings").addEventListener("submit", (event) => event.preventDefault());
$("find").addEventListener("input", find);

async function load() {
  let doc;
  try {
    doc = await (await fetch("v1/openapi.json")).json();
  } catch (error) {
    $("state").textContent = `The document cannot be read, and is asked for again: ${error.message}`;
    setTimeout(load, 3000);
    return;
  }
  render(doc);
}
load();
