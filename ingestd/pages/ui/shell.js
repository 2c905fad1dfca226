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
  if (daemon.tokens && !daemon.signed_in) {
    if (needed) {
      toLogin();
      return new Promise(() => {});
    }
    const link = get("sign-in", HTMLAnchorElement);
    link.hidden = false;
    link.onclick = (event) => { event.preventDefault(); toLogin(); };
    return { daemon, me: null };
  }
  const me = await who();
  if (daemon.signed_in) {
    say(get("who"), me.name);
    const button = get("sign-out", HTMLButtonElement);
    button.hidden = false;
    button.onclick = () => { void signOut(); };
  }
  return { daemon, me };
}

/** @param {Who | null} me @param {"read" | "publish" | "admin"} scope */
export function may(me, scope) {
  return me !== null && me.scopes.includes(scope);
}
