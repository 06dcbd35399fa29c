/**
 * `npm run bench:held`: whether a load is held. 200 turns a second for ten minutes, one in twenty of an account, then
 * 2,000 plain turns a second for one minute, with 5,000 sessions open all the time.
 *
 *     npm run bench:held                 about twelve minutes; exit code 1 where a bound is missed
 *     npm run bench:held -- --quick      under a minute: whether it runs, not whether it holds
 *     npm run bench:held -- --write      also into docs/performance.md
 *
 * Loads go to 127.0.0.1 only; servers, databases and files are gone at the end, also after Control-C.
 */
import { constants } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Crowd, Tally } from './load.ts';
import { describeMachine } from './machine.ts';
import { count, writePage } from './report.ts';
import { accountsOn, median } from './rows.ts';
import { OPERATOR_TOKEN, residentOf, type Server, Stage } from './stage.ts';

const PAGE = join(import.meta.dirname, '..', 'docs', 'performance.md');
const MB = 1024 * 1024;

/** Everybody who thinks has a session; one who is heard next has waited longest. */
const SESSIONS = 5_000;
const CONNECTIONS = 256;
/** Memory that a process may win over a load that does not change; in MB. */
const FLAT_MB = 50;
/** Of what was asked for; less was not held. */
const ANSWERED = 0.99;

/** Times are in seconds, the bound on p99 in milliseconds. */
type Load = { name: string; plan: Crowd['plan']; rate: number; seconds: number; p99: number };

type Held = Load & {
  tally: Tally;
  /** As the gateway counts them in the middle of the load. */
  open: number;
  /** Resident memory of the gateway in MB: in the first tenth of the time, and in the last one. */
  before: number;
  after: number;
};

const { values: asked } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, write: { type: 'boolean', default: false } },
});
const LOADS: Load[] = [
  {
    name: '200 turns a second, 5 % of them of accounts',
    plan: 'mixed',
    rate: 200,
    seconds: asked.quick ? 15 : 600,
    p99: 500,
  },
  {
    name: '2 000 plain turns a second',
    plan: 'walk',
    rate: 2_000,
    seconds: asked.quick ? 5 : 60,
    p99: 1_000,
  },
];

const stage = new Stage();
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.once(name, () => void stage.close().finally(() => process.exit(128 + constants.signals[name])));

try {
  const machine = await describeMachine(stage.directory);
  const server = await stage.gateway();
  await accountsOn(stage, server);
  const all: Held[] = [];
  for (const load of LOADS) all.push(await hold(server, load));
  const { cores, cpu, memoryGb, date, loadBefore } = machine;
  const said = [
    `${date}: ${cores} cores of ${cpu}, ${memoryGb} GB, for callers, gateway and Postgres together;`,
    `load before the run ${loadBefore.toFixed(2)}.`,
    '',
    tableOf(all),
  ].join('\n');
  console.log(said);
  if (asked.write) writePage(PAGE, 'held', said);
  if (all.some((held) => missed(held).length > 0)) process.exitCode = 1;
} catch (error) {
  console.error(error);
  process.exitCode = 1;
}
await stage.close();
process.exit();

async function hold(server: Server, load: Load): Promise<Held> {
  const { plan, rate, seconds } = load;
  stage.tell(`${load.name}, for ${seconds} s`);
  const crowd: Crowd = {
    plan,
    rate,
    ports: [server.port],
    connections: CONNECTIONS,
    sessions: SESSIONS,
    accounts: stage.accounts,
  };
  // Nothing counts before everybody has dialled.
  const warmMs = (SESSIONS / rate) * 1_100;
  const seen: number[] = [];
  const watch = setInterval(() => seen.push(residentOf(server.pid)), 1_000);
  let open = Number.NaN;
  const middle = setTimeout(
    () => {
      openSessions(server).then(
        (number) => {
          open = number;
        },
        () => {},
      );
    },
    warmMs + seconds * 500,
  );
  const { tallies } = await stage.callers.call(
    { crowds: [crowd], warmMs, measureMs: seconds * 1_000 },
    () => undefined,
  );
  clearInterval(watch);
  clearTimeout(middle);
  const measured = seen.slice(-seconds);
  const tenth = Math.max(1, Math.floor(measured.length / 10));
  return {
    ...load,
    tally: tallies[0] as Tally,
    open,
    before: median(measured.slice(0, tenth)) / MB,
    after: median(measured.slice(-tenth)) / MB,
  };
}

async function openSessions({ port }: Server): Promise<number> {
  const answer = await fetch(`http://127.0.0.1:${port}/metrics`, {
    headers: { authorization: `Bearer ${OPERATOR_TOKEN}` },
  });
  return Number(/^ussd_active_sessions (\S+)$/m.exec(await answer.text())?.[1]);
}

/** What did not hold, in words. */
function missed({ tally, rate, p99, open, before, after }: Held): string[] {
  const faults = Object.entries(tally.faults).map(([kind, number]) => `${number} ${kind}`);
  const bounds: [boolean, string][] = [
    [tally.turns / tally.seconds >= rate * ANSWERED, 'fewer were answered than came'],
    [tally.p99 < p99, `p99 is not below ${p99} ms`],
    [open >= SESSIONS, `not ${count(SESSIONS)} sessions were open`],
    [after - before < FLAT_MB, 'memory grew'],
  ];
  return [...bounds.filter(([held]) => !held).map(([, said]) => said), ...faults];
}

function tableOf(all: Held[]): string {
  return [
    '| load | for | answered a second | p50 ms | p99 ms (bound) | worst ms | sessions open | memory MB, first and last tenth | faults | held |',
    '|---|--:|--:|--:|--:|--:|--:|--:|--:|---|',
    ...all.map((held) => {
      const { name, seconds, tally, p99, open, before, after } = held;
      const faults = Object.values(tally.faults).reduce((sum, number) => sum + number, 0);
      const cells = [
        name,
        `${seconds} s`,
        count(tally.turns / tally.seconds),
        tally.p50.toFixed(1),
        `${tally.p99.toFixed(1)} (${count(p99)})`,
        tally.worst.toFixed(0),
        count(open),
        `${before.toFixed(0)}, ${after.toFixed(0)}`,
        String(faults),
        missed(held).join('; ') || 'yes',
      ];
      return `| ${cells.join(' | ')} |`;
    }),
  ].join('\n');
}
