import { readFileSync, writeFileSync } from 'node:fs';
import type { Machine } from './machine.ts';
import { median, type Reading, type Row, type Slot } from './rows.ts';

/** All that a run found. */
export type Run = {
  machine: Machine & { postgres?: string; embedded?: string };
  quick: boolean;
  minutes: number;
  slot: Slot;
  rows: RowRun[];
};

export type RowRun = Omit<Row, 'prepare'> & {
  /** One a round. */
  readings: Reading[];
  /** Why it was not measured. */
  leftOut?: string;
};

export type Spread = { median: number; least: number; most: number };

/** Of an empty list: undefined. */
export function spread(values: number[]): Spread | undefined {
  if (values.length === 0) return undefined;
  return { median: median(values), least: Math.min(...values), most: Math.max(...values) };
}

/** Round by round the rate of one row divided by that of another. */
export function shares(run: Run, id: string, of: string): Spread | undefined {
  const [row, base] = [id, of].map((wanted) => run.rows.find((row) => row.id === wanted)?.readings ?? []);
  // A row that is measured once is compared with the middle of the rounds.
  const bases = base?.map(({ rate }) => rate) ?? [];
  if (bases.length === 0) return undefined;
  return spread(
    (row ?? []).map(
      ({ rate }, round) => rate / (row?.length === bases.length ? (bases[round] as number) : median(bases)),
    ),
  );
}

/** The machine and the table, as Markdown. */
export function tableOf(run: Run): string {
  const lines = [
    '| row | connections | a second | of bare | p50 ms | p99 ms | processors: servers, database, callers | us each: servers, database | faults | what limits it |',
    '|---|--:|--:|--:|--:|--:|--:|--:|--:|---|',
    ...run.rows.map((row) => lineOf(run, row)),
  ];
  return `${machineOf(run)}\n\n${lines.join('\n')}`;
}

function machineOf({ machine, quick, minutes, slot, rows }: Run): string {
  const rounds = Math.max(0, ...rows.map(({ readings }) => readings.length));
  const databases = [machine.postgres && `Postgres ${machine.postgres}`, machine.embedded].filter(Boolean);
  return [
    `${machine.date}: ${machine.cores} cores of ${machine.cpu}, ${machine.memoryGb} GB, ${machine.system}, Node ${machine.node},`,
    `${databases.join(', ')}; a flush of 8 kB takes ${machine.flushMs} ms; load before the run ${machine.loadBefore.toFixed(2)}.`,
    `${quick ? 'A quick run' : 'A full run'} of ${minutes} minutes: medians and (least–most) of ${rounds === 1 ? '1 round' : `${rounds} rounds`} of ${slot.measureMs / 1000} s a row.`,
  ].join('\n');
}

function lineOf(run: Run, row: RowRun): string {
  if (row.leftOut !== undefined)
    return `| ${row.name} | ${row.connections} | left out: ${row.leftOut} | | | | | | | |`;
  const { readings } = row;
  const rate = spread(readings.map((reading) => reading.rate));
  if (rate === undefined) return `| ${row.name} | ${row.connections} | not measured | | | | | | | |`;
  const of = row.of && shares(run, row.id, row.of);
  const unit = row.unit === 'requests' || row.unit === 'turns' ? '' : ` ${row.unit}`;
  const cells = [
    row.name + moreOf(readings),
    String(row.connections),
    `${count(rate.median)}${unit} (${count(rate.least)}–${count(rate.most)})`,
    of === undefined ? '' : `${of.median.toFixed(2)} (${of.least.toFixed(2)}–${of.most.toFixed(2)})`,
    milliseconds(readings.map(({ p50 }) => p50)),
    milliseconds(readings.map(({ p99 }) => p99)),
    busyOf(readings),
    eachOf(readings),
    faultsOf(readings),
    row.limit,
  ];
  return `| ${cells.join(' | ')} |`;
}

function moreOf(readings: Reading[]): string {
  const names = Object.keys(readings[0]?.more ?? {});
  const each = names.map((name) => `${count(median(readings.map(({ more }) => more?.[name] ?? 0)))} ${name}`);
  return each.length === 0 ? '' : `: ${each.join(', ')}`;
}

function busyOf(readings: Reading[]): string {
  const known = readings.flatMap(({ busy }) => (busy === undefined ? [] : [busy]));
  if (known.length === 0) return '';
  return (['servers', 'database', 'client'] as const)
    .map((who) => median(known.map((busy) => busy[who])).toFixed(2))
    .join(', ');
}

/** Processor time of one request or turn, in microseconds: all threads of the servers, and the database. */
function timeOf(readings: Reading[], who: 'servers' | 'database'): Spread | undefined {
  return spread(readings.flatMap(({ busy, rate }) => (busy === undefined ? [] : [(busy[who] / rate) * 1e6])));
}

function eachOf(readings: Reading[]): string {
  const times = (['servers', 'database'] as const).map((who) => timeOf(readings, who)?.median);
  return times.some((time) => time === undefined)
    ? ''
    : times.map((time) => (time ?? 0).toFixed(0)).join(', ');
}

function faultsOf(readings: Reading[]): string {
  const all = new Map<string, number>();
  for (const { faults } of readings)
    for (const [kind, found] of Object.entries(faults)) all.set(kind, (all.get(kind) ?? 0) + found);
  return all.size === 0 ? '0' : [...all].map(([kind, found]) => `${found} ${kind}`).join(', ');
}

function milliseconds(values: number[]): string {
  return median(values).toFixed(1);
}

/** Thousands apart, and only as exact as anybody can remember. */
export function count(value: number): string {
  return Math.abs(value) < 100
    ? String(Math.round(value * 10) / 10)
    : Math.round(value).toLocaleString('en').replaceAll(',', ' ');
}

/** What was to be reached, and whether this run did. */
export function boundsOf(run: Run): string {
  const of = (id: string) => run.rows.find((row) => row.id === id)?.readings ?? [];
  const p99 = spread(of('half').map((reading) => reading.p99));
  const grown = spread(of('memory').map(({ more }) => more?.['MB grown'] ?? Number.NaN));
  const stored = [...run.rows]
    .reverse()
    .find(({ id, readings }) => id.startsWith('stored') && readings.length > 0);
  const bytes = stored && spread(stored.readings.flatMap(({ more }) => more?.['bytes a turn'] ?? []));
  const largest = stored?.id.slice('stored'.length) ?? '10M';
  const lines = [
    bound(
      'a plain turn, 64 connections, of the bare route',
      '≥ 0.35',
      shares(run, 'walk', 'bare'),
      (x) => x >= 0.35,
    ),
    bound(
      'a plain turn, 512 connections, of the bare route',
      '≥ 0.45',
      shares(run, 'walk512', 'bare512'),
      (x) => x >= 0.45,
    ),
    bound('a plain turn, of SELECT and UPSERT', '≥ 2.5', shares(run, 'walk', 'naive'), (x) => x >= 2.5),
    bound('the same, 512 connections', '≥ 2.5', shares(run, 'walk512', 'naive512'), (x) => x >= 2.5),
    bound('a plain turn, of sessions in Redis', '≥ 0.65', shares(run, 'walk', 'redis'), (x) => x >= 0.65),
    bound('gateway, all threads, us a turn', '≤ 115', timeOf(of('walk'), 'servers'), (x) => x <= 115),
    bound('Postgres, us a turn', '≤ 40', timeOf(of('walk'), 'database'), (x) => x <= 40),
    bound('p99 at half load, ms', '≤ 35', p99, (x) => x <= 35),
    bound(
      `${largest} turns stored, of the rate at 1k${largest === '10M' ? '' : ' (the bound is for 10M: a full run)'}`,
      '≥ 0.90',
      stored?.id === 'stored1k' ? undefined : stored && shares(run, stored.id, 'stored1k'),
      (x) => x >= 0.9,
    ),
    bound(
      `memory grown${run.quick ? ' (the bound is for 1M sessions: a full run)' : ''}, MB`,
      '< 50',
      grown,
      (x) => x < 50,
    ),
    bound('two instances, of one', '≥ 0.8', shares(run, 'two', 'walk'), (x) => x >= 0.8),
    bound('bytes a turn, with indexes', '≤ 346', bytes, (x) => x <= 346),
  ];
  return ['| bound | wanted | median (least–most) | reached |', '|---|--:|--:|---|', ...lines].join('\n');
}

function bound(
  what: string,
  wanted: string,
  found: Spread | undefined,
  good: (value: number) => boolean,
): string {
  if (found === undefined) return `| ${what} | ${wanted} | | not measured |`;
  const digits = found.median >= 20 ? 0 : 2;
  const said = (['median', 'least', 'most'] as const).map((which) => found[which].toFixed(digits));
  // A median on the right side with rounds on the other one is said as such.
  const [least, most] = [good(found.least), good(found.most)];
  const verdict = !good(found.median) ? '**no**' : least && most ? 'yes' : 'yes, not in every round';
  return `| ${what} | ${wanted} | ${said[0]} (${said[1]}–${said[2]}) | ${verdict} |`;
}

/** What stands between the markers of a part of the page is written by a command. */
const MARKERS = {
  table: '<!-- written by npm run bench -- --write: from here',
  held: '<!-- written by npm run bench:held -- --write: from here',
};
const END = '<!-- to here -->';

/** Puts what was found between the markers of a page. Throws where it has none. */
export function writePage(file: string, part: keyof typeof MARKERS, written: string): void {
  const page = readFileSync(file, 'utf8');
  const begin = page.indexOf(MARKERS[part]);
  const from = page.indexOf('\n', begin);
  const to = page.indexOf(END, from);
  if (begin < 0 || to < from) throw new Error(`the markers of ${part} are missing in ${file}`);
  writeFileSync(file, `${page.slice(0, from)}\n\n${written}\n\n${page.slice(to)}`);
}

/** The table and the bounds, as the page has them. */
export function pageOf(run: Run): string {
  return `${tableOf(run)}\n\n### The bounds\n\n${boundsOf(run)}`;
}
