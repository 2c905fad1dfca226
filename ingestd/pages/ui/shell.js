// The head of a page: who is signed in, and the way out.
import { about, signOut, toLogin, who } from "./api.js";
import { get, say } from "./dom.js";

/** @typedef {import("./api.js").About} About */
/** @typedef {import("./api.js").Who} Who */

/**
 * Fill the head, and tell what it is about and who looks at it: null, if that is nobody.
 * @param {{ needed?: boolean }} options *needed*: nobody else may see this page, so they are led to the sign-in
 * @returns {Promise<{ daemon: About, me: Who | null }>}
 */
export async function enter({ needed = false } = {}) {
  const daemon = await about();
  const stranger = daemon.tokens && !daemon.signed_in;
  if (stranger && needed) {
    toLogin();
    return new Promise(() => {});
  }
  const me = stranger ? null : await who();
  const link = get("sign-in", HTMLAnchorElement);
  link.hidden = !stranger;
  link.onclick = (event) => { event.preventDefault(); toLogin(); };
  const button = get("sign-out", HTMLButtonElement);
  button.hidden = !daemon.signed_in;
  button.onclick = () => { void signOut(); };
  say(get("who"), daemon.signed_in && me ? me.name : "");
  return { daemon, me };
}

/** @param {Who | null} me @param {"read" | "publish" | "admin"} scope */
export function may(me, scope) {
  return me !== null && me.scopes.includes(scope);
}
