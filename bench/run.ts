/**
 * `npm run bench`: every row in one interleaved run, as rates and as shares of the bare route.
 *
 *     npm run bench                          about half an hour
 *     npm run bench -- --quick               three minutes at most
 *     npm run bench -- --only walk,bare      some rows
 *     npm run bench -- --write               also into docs/performance.md and docs/performance.svg
 *     npm run bench -- --only walk --rounds 20 --profile   and what the gateway does, in .data/profiles
 *
 * Loads go to 127.0.0.1 only; servers, databases and files are gone at the end, also after Control-C.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { describeMachine } from './machine.ts';
import { plot } from './plot.ts';
import { boundsOf, pageOf, type Run, tableOf, writePage } from './report.ts';
import { allRows, median, type Reading, type Row, type Slot } from './rows.ts';
import { LeftOut, Stage } from './stage.ts';

const ROOT = join(import.meta.dirname, '..');
const RAW = join(ROOT, '.data', 'bench.json');

/**
 * How a run goes about its time. A quick one makes its slots as long as three minutes allow; on a machine so busy
 * that even the shortest do not fit, there are fewer rounds. No round begins that would not end in time.
 */
const PACE = {
  quick: {
    rounds: 3,
    rehearsal: { warmMs: 200, measureMs: 500 },
    slot: { warmMs: 250, measureMs: 1_500 },
    least: 500,
    minutes: 2.7,
    afterRoundsMs: 20_000,
  },
  full: {
    rounds: 7,
    rehearsal: { warmMs: 2_000, measureMs: 2_000 },
    slot: { warmMs: 1_000, measureMs: 5_000 },
    least: 3_000,
    minutes: 57,
    afterRoundsMs: 6 * 60_000,
  },
};

/** Connections are made and the last answers waited for. */
const AROUND_SLOT_MS = 200;

type Prepared = { row: Row; measure(slot: Slot): Promise<Reading> };

const { values: asked } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    write: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    profile: { type: 'boolean', default: false },
  },
});

const rows = chosen(allRows(asked.quick), asked.only?.split(','));
const pace = asked.quick ? PACE.quick : PACE.full;
const stage = new Stage(asked.profile ? join(ROOT, '.data', 'profiles') : undefined);
let stopping: NodeJS.Signals | undefined;
// Once: whoever cannot wait presses it again, and what is left then is taken away by the sentries.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.once(name, () => {
    stopping ??= name;
    console.error('stopping');
    void stage.close().finally(() => process.exit(128 + constants.signals[name]));
  });

try {
  const run = await measureAll();
  mkdirSync(dirname(RAW), { recursive: true });
  writeFileSync(RAW, `${JSON.stringify(run, undefined, 1)}\n`);
  console.log(`${tableOf(run)}\n\n${boundsOf(run)}\n\nRaw numbers: ${relative(process.cwd(), RAW)}`);
  if (asked.write) {
    writePage(join(ROOT, 'docs', 'performance.md'), 'table', pageOf(run));
    writeFileSync(join(ROOT, 'docs', 'performance.svg'), plot(run));
  }
  await stage.close();
} catch (error) {
  // What was under way fails when its processes are gone.
  if (stopping === undefined) console.error(error);
  process.exitCode = stopping === undefined ? 1 : 128 + constants.signals[stopping];
  await stage.close();
}
process.exit();

async function measureAll(): Promise<Run> {
  const began = performance.now();
  const machine = await describeMachine(stage.directory);
  const measured = new Map<string, Reading[]>();
  const rehearsed = new Map<string, number>();
  const rates = (id: string) => {
    const readings = measured.get(id);
    return readings === undefined ? rehearsed.get(id) : median(readings.map(({ rate }) => rate));
  };
  const leftOut: Record<string, string> = {};
  const prepared: Prepared[] = [];
  for (const row of rows) {
    stage.tell(`starting: ${row.name}`);
    try {
      prepared.push({ row, measure: await row.prepare(stage, rates) });
    } catch (error) {
      if (!(error instanceof LeftOut)) throw error;
      leftOut[row.id] = error.message;
    }
  }
  const inRounds = prepared.filter(({ row }) => row.once === undefined);
  for (const { row, measure } of inRounds) {
    stage.tell(`rehearsal: ${row.name}`);
    rehearsed.set(row.id, (await measure(pace.rehearsal)).rate);
  }
  const rounds = asked.rounds === undefined ? pace.rounds : Number(asked.rounds);
  const end = began + pace.minutes * 60_000;
  const afterRounds = prepared.length > inRounds.length ? pace.afterRoundsMs : 0;
  const slot = slotIn(end - afterRounds - performance.now(), rounds * inRounds.length);
  let longest = 0;
  for (let round = 0; round < rounds; round += 1) {
    const start = performance.now();
    if (round > 0 && start + longest > end - afterRounds) break;
    for (const { row, measure } of inOrder(inRounds, round)) {
      stage.tell(`round ${round + 1} of ${rounds}: ${row.name}`);
      const reading = await measure(slot);
      measured.set(row.id, [...(measured.get(row.id) ?? []), reading]);
    }
    longest = Math.max(longest, performance.now() - start);
  }
  for (const { row, measure } of prepared.filter(({ row }) => row.once === true)) {
    stage.tell(row.name);
    measured.set(row.id, [await measure({ ...slot, patienceMs: end - performance.now() })]);
  }
  stage.tell('');
  return {
    machine: { ...machine, ...(await stage.versions()) },
    quick: asked.quick,
    minutes: Math.round((performance.now() - began) / 6_000) / 10,
    slot,
    rows: rows.map(({ prepare: _, ...row }) => ({
      ...row,
      readings: measured.get(row.id) ?? [],
      ...(leftOut[row.id] !== undefined && { leftOut: leftOut[row.id] as string }),
    })),
  };
}

/** Slots as long as there is time for. */
function slotIn(milliseconds: number, slots: number): Slot {
  const { warmMs, measureMs } = pace.slot;
  const each = milliseconds / Math.max(1, slots) - warmMs - AROUND_SLOT_MS;
  return { warmMs, measureMs: Math.round(Math.min(measureMs, Math.max(pace.least, each))) };
}

/** Every round begins elsewhere, and every other one goes backwards: no row always follows the same one. */
function inOrder(all: Prepared[], round: number): Prepared[] {
  const from = (round * 5) % Math.max(1, all.length);
  const turned = [...all.slice(from), ...all.slice(0, from)];
  return round % 2 === 0 ? turned : turned.reverse();
}

/** The rows that were asked for, and the bare ones that they are divided by. */
function chosen(all: Row[], ids: string[] | undefined): Row[] {
  if (ids === undefined) return all;
  const unknown = ids.filter((id) => !all.some((row) => row.id === id));
  if (unknown.length > 0) {
    console.error(`no row ${unknown.join(', ')}: there are ${all.map((row) => row.id).join(', ')}`);
    process.exit(1);
  }
  const wanted = new Set(ids);
  for (const row of all) if (wanted.has(row.id) && row.of !== undefined) wanted.add(row.of);
  return all.filter((row) => wanted.has(row.id));
}
