/** A label, and the lines beside it; a row without lines is left out. */
export type Row = [label: string, lines: readonly string[]];

/** Lays out what a person at a terminal is shown when the gateway listens: one label a row, what it says beside it. */
export function startTable(title: string, rows: readonly Row[]): string {
  const wide = Math.max(...rows.map(([label]) => label.length));
  const lines = rows.flatMap(([label, said]) =>
    said.map((line, at) => `  ${(at === 0 ? label : '').padEnd(wide)}  ${line}`),
  );
  return ['', title, '', ...lines, '', ''].join('\n');
}
