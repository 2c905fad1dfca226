/**
 * Publish to ingestd and watch what it serves, from any page. docs/browser.md is the manual.
 * @module ingestd
 */

export { Publisher } from "./publisher.js";
export { Player } from "./player.js";
export { IngestdError } from "./advice.js";
export { getMedia, explainMediaError } from "./devices.js";
