/** The known word that another one is a slip of: at most a third of its letters differ, the case never counts. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  return near(word, known)[0]?.other;
}

/** The same word where no other one is as near. */
export function nearestAlone(word: string, known: readonly string[]): string | undefined {
  const [best, next] = near(word, known);
  return best !== undefined && best.far !== next?.far ? best.other : undefined;
}

/** The known words that a word may be a slip of, and how far they are from it: the nearest first. */
function near(word: string, known: readonly string[]): { other: string; far: number }[] {
  return known
    .map((other) => ({ other, far: distance(word.toLowerCase(), other.toLowerCase()) }))
    .filter(({ other, far }) => far <= Math.max(1, Math.floor(Math.max(word.length, other.length) / 3)))
    .sort((a, b) => a.far - b.far);
}

/** Letters to insert, remove, replace or swap with the next one, until one word is the other. */
function distance(one: string, two: string): number {
  const rows: number[][] = [Array.from({ length: two.length + 1 }, (_, column) => column)];
  const at = (row: number, column: number) => rows[row]?.[column] ?? 0;
  for (let i = 1; i <= one.length; i += 1) {
    const row = [i];
    rows.push(row);
    for (let j = 1; j <= two.length; j += 1) {
      const same = one[i - 1] === two[j - 1] ? 0 : 1;
      let best = Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + same);
      if (i > 1 && j > 1 && one[i - 1] === two[j - 2] && one[i - 2] === two[j - 1])
        best = Math.min(best, at(i - 2, j - 2) + 1);
      row[j] = best;
    }
  }
  return at(one.length, two.length);
}

/** `: did you mean …?`, or nothing. */
export function meaning(word: string, known: readonly string[]): string {
  const near = nearest(word, known);
  return near === undefined ? '' : `: did you mean ${near}?`;
}
