/** What the first picture of the page does not wait for: made when it is wanted, or done after the screen has it. */

/** What is made when it is first asked for. @template T @param {() => T} build @returns {() => T} */
export function once(build) {
  /** @type {{made: T} | null} */
  let held = null;
  return () => (held ??= { made: build() }).made;
}

/** After what is there now has been drawn on the screen. @returns {Promise<void>} */
export function afterPaint() {
  return new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
}
