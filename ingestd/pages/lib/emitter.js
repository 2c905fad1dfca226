/** An EventTarget whose events are CustomEvents with a known `detail`. */

/**
 * @template {Record<string, any>} Events the `detail` of each event, by its type
 */
export class Emitter extends EventTarget {
  /**
   * `addEventListener` with a typed `detail`.
   * @template {keyof Events & string} Type
   * @param {Type} type
   * @param {(detail: Events[Type], event: CustomEvent<Events[Type]>) => void} listener
   * @returns {() => void} ends it
   */
  on(type, listener) {
    /** @param {Event} event */
    const handle = event => {
      const custom = /** @type {CustomEvent<Events[Type]>} */ (event);
      listener(custom.detail, custom);
    };
    this.addEventListener(type, handle);
    return () => this.removeEventListener(type, handle);
  }

  /**
   * @protected
   * @template {keyof Events & string} Type
   * @param {Type} type
   * @param {Events[Type]} detail
   */
  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
