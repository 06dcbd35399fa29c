/**
 * `npm run bench:against -- <directory …>`: this checkout beside others, in one interleaved run. A change stays where it
 * pays here, and what a part costs is seen by a checkout without it.
 *
 *     git worktree add /tmp/before main && ln -s $PWD/node_modules /tmp/before/node_modules
 *     npm run bench:against -- /tmp/before --rounds 8 --connections 64,512
 *
 * Rates as shares of the bare route, and processor time a turn of the gateway (all its threads) and of Postgres, in
 * microseconds: medians over the rounds, and the median of the ratios in one round.
 */
import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { median } from './rows.ts';
import { type Server, Stage, threadsOf } from './stage.ts';
import type { Plan } from './walks.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '6' },
    seconds: { type: 'string', default: '3' },
    connections: { type: 'string', default: '64' },
    plans: { type: 'string', default: 'walk' },
  },
});
if (positionals.length === 0) {
  console.error(
    'npm run bench:against -- <directory of another checkout …> [--rounds N] [--connections 64,512]',
  );
  process.exit(2);
}

type Reading = { rate: number; main: number; all: number; database: number };

const stage = new Stage();
process.once('SIGINT', () => void stage.close().finally(() => process.exit(130)));
try {
  const servers: Record<string, Server> = {
    bare: await stage.bare(),
    this: await stage.gateway('this'),
  };
  for (const directory of positionals)
    servers[basename(directory)] = await stage.gateway(
      basename(directory),
      'own disk',
      'first',
      join(resolve(directory), 'src', 'main.ts'),
    );
  for (const plan of values.plans.split(',') as Plan[])
    for (const connections of values.connections.split(',').map(Number)) {
      for (const name of Object.keys(servers)) await measure(name, plan, connections, 2_000);
      const rounds: Record<string, Reading>[] = [];
      for (let round = 0; round < Number(values.rounds); round += 1) {
        const names = Object.keys(servers);
        const readings: Record<string, Reading> = {};
        for (const name of round % 2 === 0 ? names : names.reverse())
          readings[name] = await measure(name, plan, connections, Number(values.seconds) * 1000);
        rounds.push(readings);
      }
      tell(plan, connections, rounds);
    }

  async function measure(name: string, plan: Plan, connections: number, measureMs: number): Promise<Reading> {
    const server = servers[name] as Server;
    stage.only([server]);
    const crowd = {
      plan: name === 'bare' ? ('fixed' as const) : plan,
      ports: [server.port],
      connections,
      sessions: connections * 2,
    };
    const task = { crowds: [crowd], warmMs: 700, measureMs };
    const { tallies, begin, end } = await stage.callers.call(task, () => ({
      ...threadsOf(server.pid),
      database: (stage.busy([])?.database ?? 0) * 1e6,
    }));
    const { turns = 0, seconds = 1, faults = {} } = tallies[0] ?? {};
    if (Object.keys(faults).length > 0) console.error(name, faults);
    return {
      rate: turns / seconds,
      main: (end.main - begin.main) / turns,
      all: (end.all - begin.all) / turns,
      database: (end.database - begin.database) / turns,
    };
  }
} finally {
  await stage.close();
}
process.exit();

function tell(plan: Plan, connections: number, rounds: Record<string, Reading>[]): void {
  const of = (pick: (round: Record<string, Reading>) => number) => median(rounds.map(pick));
  const line = (name: string) =>
    [
      name.padEnd(10),
      `${of((round) => (round[name] as Reading).rate / (round.bare as Reading).rate).toFixed(3)} of bare`,
      `${of((round) => (round[name] as Reading).main).toFixed(0)} us main thread`,
      `${of((round) => (round[name] as Reading).all).toFixed(0)} us all threads`,
      `${of((round) => (round[name] as Reading).database).toFixed(0)} us Postgres`,
    ].join('  ');
  console.log(`${plan}, ${connections} connections, ${rounds.length} rounds`);
  for (const name of ['bare', 'this', ...positionals.map((directory) => basename(directory))]) {
    const ratio = (field: keyof Reading) =>
      of((round) => (round.this as Reading)[field] / (round[name] as Reading)[field]).toFixed(2);
    const beside = `  this of it: rate × ${ratio('rate')}, all threads × ${ratio('all')}, Postgres × ${ratio('database')}`;
    console.log(`  ${line(name)}${name === 'this' || name === 'bare' ? '' : beside}`);
  }
}
