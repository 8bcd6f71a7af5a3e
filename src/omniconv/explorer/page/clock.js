/** Times of short work: browsers round their clock, so that a run is repeated until it can be read. */

/** What is read off the clock at least [ms], and runs for it at most. */
const READABLE = 2;
const MOST_REPEATS = 4096;

/** How long one run takes [ms], the shortest of a few readings. @param {() => void} run @param {number} [readings] */
export function timeRuns(run, readings = 5) {
  let repeats = 1;
  let best = Infinity;
  for (let n = 0; n < readings; ) {
    const start = performance.now();
    for (let i = 0; i < repeats; i++) run();
    const passed = performance.now() - start;
    if (passed < READABLE && repeats < MOST_REPEATS) {
      repeats *= 2;
      continue;
    }
    best = Math.min(best, passed / repeats);
    n += 1;
  }
  return best;
}
