/** The counts behind the rate limits: the same as those of a table without an end, and not without an end. */

import t from 'tap';
import { Windows } from '../src/limits.ts';
import fc from './support/property.ts';
import { scaled } from './support/scale.ts';

t.test('as a table that forgets nothing would count', async () => {
  const hits = fc.array(fc.tuple(fc.integer({ min: 0, max: 3 }), fc.nat({ max: 700 })), { maxLength: 60 });
  fc.assert(
    fc.property(hits, (all) => {
      let now = 0;
      const windows = new Windows(1_000, 100, () => now);
      const model = new Map<number, { ends: number; current: number }>();
      for (const [key, later] of all) {
        now += later;
        const known = model.get(key);
        const window = known !== undefined && known.ends > now ? known : { ends: now + 1_000, current: 0 };
        model.set(key, window);
        window.current += 1;
        const { current, ttl } = windows.hit(`k${key}`);
        if (current !== window.current || ttl !== window.ends - now) return false;
      }
      return true;
    }),
    { numRuns: scaled(2_000) },
  );
});

t.test('a key is counted to the end of its window, whenever others begin', async (t) => {
  let now = 0;
  const windows = new Windows(1_000, 100, () => now);
  windows.hit('first');
  now = 999;
  t.same(windows.hit('late'), { current: 1, ttl: 1_000 });
  now = 1_000;
  t.same(windows.hit('first'), { current: 1, ttl: 1_000 }, 'a new window');
  now = 1_998;
  t.same(windows.hit('late'), { current: 2, ttl: 1 });
  now = 1_999;
  t.same(windows.hit('late'), { current: 1, ttl: 1_000 });
});

t.test('never more keys than there is room for, and what has ended goes', async (t) => {
  let now = 0;
  const windows = new Windows(60_000, 1_000, () => now);
  let most = 0;
  const keys = scaled(100_000);
  for (let key = 0; key < keys; key += 1) {
    windows.hit(`k${key}`);
    most = Math.max(most, windows.size);
  }
  t.equal(most, 1_000);
  t.same(windows.hit(`k${keys - 1}`).current, 2, 'the newest are known');
  t.same(windows.hit('k0').current, 1, 'the oldest were pushed out');
  now = 120_000;
  windows.hit('k');
  t.equal(windows.size, 1);
});
