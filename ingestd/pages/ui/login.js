import { about, afterLogin, insist, Problem, signIn } from "./api.js";
import { get, make, note, say } from "./dom.js";

const form = get("form", HTMLFormElement);
const token = get("token", HTMLInputElement);
const button = get("go", HTMLButtonElement);
const trouble = get("trouble");
const next = afterLogin(location.hash);

/** @param {unknown} error */
function words(error) {
  if (!(error instanceof Problem)) return note("bad", String(error));
  if (error.status === 401) return note("bad", "This token is not good.", "It is wrong, expired or revoked: ask whoever runs the daemon for another.");
  if (error.status === 429) return note("bad", "Too many wrong tokens came from here.", `${error.message}.`);
  if (error.status === 0) return note("bad", "The daemon does not answer.", "Look whether it runs, and whether this device is online.");
  return note("bad", "The daemon refused.", error.message);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  trouble.replaceChildren();
  const given = token.value.trim();
  if (!given) {
    trouble.replaceChildren(note("bad", "Paste a token first."));
    token.focus();
    return;
  }
  button.disabled = true;
  try {
    await signIn(given);
    token.value = "";
    location.replace(next);
  } catch (error) {
    trouble.replaceChildren(words(error));
    token.setAttribute("aria-invalid", "true");
    token.select();
  } finally {
    button.disabled = false;
  }
});

insist(about, (error) => trouble.replaceChildren(words(error))).then((daemon) => {
  trouble.replaceChildren();
  if (daemon.tokens && !daemon.signed_in) {
    token.focus();
    return;
  }
  say(get("why"), daemon.tokens ? "You are signed in already." : "This daemon asks nobody for a token.");
  get("asked").hidden = true;
  button.replaceWith(make("a", { class: "button primary", href: next.href }, "Go on"));
});
