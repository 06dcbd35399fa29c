/** What test/fuzz.test.ts has found, so that it is tried every time. */

/** Documents that were neither read nor refused. */
export const DOCUMENTS: { name: string; text: string }[] = [
  { name: 'an alias of nothing', text: 'service: demo\nroot: *x\n' },
  { name: 'an anchor that stands behind its alias', text: 'service: demo\nroot: *x\nnodes: &x {}\n' },
  {
    name: 'aliases of aliases',
    text: `${Array.from({ length: 9 }, (_, i) => `a${i}: &a${i} [${`${i ? `*a${i - 1}` : 'x'},`.repeat(9)}]`).join('\n')}\n`,
  },
];
