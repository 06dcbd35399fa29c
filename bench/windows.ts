/**
 * What counting a key for a limit costs, by how many there are (`Windows` in src/limits.ts), beside one map whose
 * oldest key makes room for each new one, which is what stood there before. Every key is new: subscribers of a country,
 * one after the other. Both take their turns slice by slice, in one process.
 *
 *     node bench/windows.ts [keys=500000]
 */

import { Windows } from '../src/limits.ts';

const KEYS = Number(process.argv[2] ?? 500_000);
const SLICE = 50_000;
const WINDOW_MS = 60_000;
const MOST = 200_000;

const windows = new Windows(WINDOW_MS, MOST);
const single = new Map<string, { ends: number; current: number }>();

function hitSingle(key: string): void {
  const now = performance.now();
  const window = { ends: now + WINDOW_MS, current: 1 };
  single.set(key, window);
  const [oldest] = single.keys();
  if (single.size > MOST && oldest !== undefined) single.delete(oldest);
}

/** In microseconds. */
function timeEach(from: number, hit: (key: string) => unknown): number {
  const began = performance.now();
  for (let index = from; index < from + SLICE; index += 1) hit(`phone:m_${index}`);
  return ((performance.now() - began) * 1000) / SLICE;
}

console.log('keys so far | one map, us each | two generations, us each | ratio');
for (let from = 0; from < KEYS; from += SLICE) {
  const before = timeEach(from, hitSingle);
  const after = timeEach(from, (key) => windows.hit(key));
  const ratio = (before / after).toFixed(1);
  console.log(`${from + SLICE} | ${before.toFixed(1)} | ${after.toFixed(1)} | ${ratio}`);
}
