/** The queue on both databases: what is queued is delivered, tried again, given up or undone, and operators see which. */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { sql } from 'kysely';
import t, { type Test } from 'tap';
import { type Database, openEmbeddedDatabase, openPostgres } from '../src/db/database.ts';
import { type Db, GuardFailed } from '../src/db/db.ts';
import { migrateServer } from '../src/db/migrate.ts';
import { codeOf, type Delivery } from '../src/effects/delivery.ts';
import { type Queue, type QueueSettings, startQueue } from '../src/queue.ts';
import { endDelivery, listDeliveries, type Outgoing } from '../src/store/outbox.ts';
import { embeddedDirectory } from './support/embedded.ts';
import { MIGRATIONS, openDatabase } from './support/engine.ts';
import { database as newDatabase, startPostgres } from './support/postgres.ts';
import { LONG_TIER } from './support/scale.ts';

// Most of it is waiting.
t.jobs = 3;

/** Waits for whatever has to come; on a machine that does other things as well. */
const PATIENCE_MS = 60_000;

/** Tried again at once, so that a test does not take two hours. */
const QUICK: QueueSettings = {
  backoff: { retryDelayMax: 0 },
  deadBackoff: { retryDelay: 1 },
  lookSeconds: 1,
  wakeMs: 20,
};

const wait = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function until(what: string, holds: () => Promise<boolean> | boolean): Promise<void> {
  const end = performance.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`${what}: not within ${PATIENCE_MS} ms`);
    await wait(15);
  }
}

/** What becomes of the nth try of a row: `done`, `refused`, or the code with which it is to come again. */
type Behaviour = (id: string, nth: number) => string | Promise<string>;

type Tried = Delivery & { tries: Map<string, number>; givenUp: string[]; batches: string[][] };

/** A far side of the test's own. */
function far(db: Db, kind: string, behave: Behaviour, own: Partial<Delivery> = {}): Tried {
  const tries = new Map<string, number>();
  const givenUp: string[] = [];
  const batches: string[][] = [];
  return {
    kind,
    batch: 5,
    workers: 1,
    retries: 2,
    deliver: async (ids) => {
      batches.push(ids);
      const again = new Map<string, string>();
      for (const id of ids) {
        const nth = (tries.get(id) ?? 0) + 1;
        tries.set(id, nth);
        const code = await behave(id, nth);
        if (code === 'done' || code === 'refused') {
          await db
            .transaction()
            .execute((tx) => endDelivery(tx, id, code, code === 'refused' ? 'no_such_number' : null));
        } else again.set(id, code);
      }
      return again;
    },
    giveUp: async (_tx, id) => {
      givenUp.push(id);
    },
    ...own,
    tries,
    givenUp,
    batches,
  };
}

type Stage = { database: Database; db: Db; queue: Queue; errors: unknown[]; kind: string };

let kinds = 0;
function newKind(): string {
  kinds += 1;
  return `kind-${String.fromCharCode(96 + Math.ceil(kinds / 26), 96 + (kinds % 26 || 26))}`;
}

async function stageOn(t: Test, database: Database, settings: QueueSettings = QUICK): Promise<Stage> {
  const errors: unknown[] = [];
  const queue = await startQueue(database, (error) => errors.push(error), settings);
  t.teardown(() => queue.stop().catch(() => {}));
  return { database, db: database.kysely, queue, errors, kind: newKind() };
}

async function enqueue({ db, queue, kind }: Stage, id: string = randomUUID()): Promise<string> {
  await db.transaction().execute((tx) => queue.enqueue(tx, kind, { id }));
  return id;
}

async function rowOf(db: Db, id: string): Promise<Outgoing | undefined> {
  const rows = await listDeliveries(db, {}, 1_000);
  return rows.find((row) => row.id === id);
}

const becomes = (db: Db, id: string, state: string) =>
  until(`${id} ${state}`, async () => (await rowOf(db, id))?.state === state);

type Recorded = { state: string; delay: number; backoff: boolean; most: number; wait: number };

/** What the queue itself has written down of a row's job; `wait` in seconds since the try that failed. */
async function jobsOf(db: Db, id: string): Promise<Recorded[]> {
  const { rows } = await sql<Recorded>`
    select j.state::text, j.retry_delay as delay, j.retry_backoff as backoff, j.retry_delay_max as most,
      extract(epoch from j.start_after - o.tried_at)::float as wait
    from pgboss.job j join outbox o on o.id::text = j.data ->> 'id' where o.id = ${id}`.execute(db);
  return rows;
}

async function openEmbedded(t: Test): Promise<Database> {
  const database = await openEmbeddedDatabase(await embeddedDirectory(t));
  t.teardown(() => database.close());
  return database;
}

for (const [name, open] of [
  ['Postgres', async (t: Test) => (await openDatabase(t)).db],
  ['the embedded database', openEmbedded],
] as const) {
  // Alone: the embedded database holds up everything else in this process.
  t.test(name, { buffered: false, ...(open === openEmbedded && LONG_TIER) }, async (t) => {
    const database = await open(t);

    await t.test('what fails is tried again, and done once', async (t) => {
      const stage = await stageOn(t, database);
      const { db, queue, kind } = stage;
      const to = far(db, kind, (_, nth) => (nth < 3 ? `http_50${nth}` : 'done'));
      await queue.work([to]);
      const id = await enqueue(stage);
      await becomes(db, id, 'done');
      t.match(await rowOf(db, id), { kind, state: 'done', attempts: 3, error: null });
      t.equal(to.tries.get(id), 3);
      t.same(to.givenUp, []);
      t.equal(await queue.retry(id), 'unknown', 'what is done is not done again');
    });

    await t.test('how long it waits', async (t) => {
      const stage = await stageOn(t, database, { wakeMs: 20 });
      const { db, queue, kind } = stage;
      const to = far(db, kind, () => 'timeout', { retries: 100 });
      await queue.work([to]);
      const id = await enqueue(stage);
      const tried = async (times: number): Promise<Recorded> => {
        await until(`try ${times}`, async () => {
          const [job] = await jobsOf(db, id);
          return (to.tries.get(id) ?? 0) >= times && job?.state === 'retry';
        });
        const jobs = await jobsOf(db, id);
        t.equal(jobs.length, 1);
        return jobs[0] as Recorded;
      };
      const first = await tried(1);
      t.match(first, { delay: 2, backoff: true, most: 300 }, 'as pg-boss writes it down');
      // By its rule 2 to 4 s; what is over that is the time between two statements on a busy machine.
      t.ok(first.wait >= 2 && first.wait < 10, `the first time soon: ${first.wait}`);
      t.match(await rowOf(db, id), { state: 'queued', attempts: 1, error: 'timeout', endedAt: null });
      const later = async (count: number) => {
        const before = to.tries.get(id) ?? 0;
        await sql`update pgboss.job set retry_count = ${count}, start_after = now()
          where data ->> 'id' = ${id} and state = 'retry'`.execute(db);
        return (await tried(before + 1)).wait;
      };
      // The queue counts a try when it takes the job.
      const third = await later(2);
      t.ok(third > 8 && third < 32, `then longer: ${third}`);
      const last = await later(60);
      t.ok(last > 290 && last < 330, `never longer than five minutes: ${last}`);
    });

    await t.test('after the last try it is given up, once', async (t) => {
      const stage = await stageOn(t, database);
      const { db, queue, kind } = stage;
      const to = far(db, kind, () => 'unreachable');
      await queue.work([to]);
      const ids = [await enqueue(stage), await enqueue(stage)];
      for (const id of ids) {
        await becomes(db, id, 'dead');
        t.match(await rowOf(db, id), { state: 'dead', attempts: 3, error: 'unreachable' });
        t.equal(to.tries.get(id), 3, 'the first try and two more');
      }
      t.same(to.givenUp.toSorted(), ids.toSorted());
    });

    await t.test('one of a batch', async (t) => {
      const stage = await stageOn(t, database);
      const { db, queue, kind } = stage;
      const bad = randomUUID();
      const to = far(db, kind, (id, nth) => (id === bad && nth < 3 ? 'refused_once' : 'done'));
      const good = [randomUUID(), randomUUID()];
      await queue.work([to]);
      // There all at once, so that they come together.
      await db.transaction().execute(async (tx) => {
        for (const id of [good[0], bad, good[1]] as string[]) await queue.enqueue(tx, kind, { id });
      });
      for (const id of [...good, bad]) await becomes(db, id, 'done');
      t.ok(
        to.batches.some((ids) => ids.length === 3),
        'they came together',
      );
      t.same(
        good.map((id) => to.tries.get(id)),
        [1, 1],
        'the others were tried once',
      );
      t.equal(to.tries.get(bad), 3);
    });

    await t.test('a delivery that throws what is no error', async (t) => {
      const stage = await stageOn(t, database);
      const { db, queue, kind, errors } = stage;
      const thrown = [undefined, null, 'a word', { code: 7 }, new Error('with words')];
      const to = far(db, kind, (_, nth) => {
        if (nth <= thrown.length) throw thrown[nth - 1];
        return 'done';
      });
      await queue.work([{ ...to, retries: 10 }]);
      const id = await enqueue(stage);
      await becomes(db, id, 'done');
      t.match(await rowOf(db, id), { attempts: 6, error: null });
      t.equal(errors.length, thrown.length, 'each of them is told');
    });

    await t.test('refused is final', async (t) => {
      const stage = await stageOn(t, database);
      const { db, queue, kind } = stage;
      const to = far(db, kind, () => 'refused');
      await queue.work([to]);
      const id = await enqueue(stage);
      await becomes(db, id, 'refused');
      const next = await enqueue(stage);
      await becomes(db, next, 'refused');
      t.match(await rowOf(db, id), { attempts: 1, error: 'no_such_number' });
      t.equal(to.tries.get(id), 1);
      t.match(await rowOf(db, id), { state: 'refused', attempts: 1 });
      t.same(to.givenUp, []);
    });

    await t.test('an operator has it tried again', async (t) => {
      const stage = await stageOn(t, database);
      const { db, queue, kind } = stage;
      let works = false;
      let spent = true;
      const revived: string[] = [];
      const to = far(db, kind, () => (works ? 'done' : 'unreachable'), {
        retries: 0,
        revive: async (tx, id) => {
          await sql`update outbox set error = 'half done' where id = ${id}`.execute(tx);
          if (spent) throw new GuardFailed();
          revived.push(id);
        },
      });
      await queue.work([to]);
      const id = await enqueue(stage);
      await becomes(db, id, 'dead');
      t.equal(await queue.retry(id), 'refused', 'where it cannot be');
      t.match(await rowOf(db, id), { state: 'dead', attempts: 1, error: 'unreachable' }, 'it is still dead');
      spent = false;
      t.equal(await queue.retry(randomUUID()), 'unknown');

      // The very id that the far side knows, however it is spelt.
      const answers = await Promise.all([queue.retry(id.toUpperCase()), queue.retry(id), queue.retry(id)]);
      t.same(answers.toSorted(), ['queued', 'unknown', 'unknown'], 'asked three times at once, queued once');
      t.same(revived, [id]);
      await becomes(db, id, 'dead');
      t.equal(to.tries.get(id), 2);
      t.same([...to.tries.keys()], [id]);
      t.same(to.givenUp, [id, id], 'given up once each time');
      works = true;
      t.equal(await queue.retry(id), 'queued');
      await becomes(db, id, 'done');
      t.equal(to.tries.get(id), 3);
      t.match(await rowOf(db, id), { attempts: 1 });
    });

    await t.test('what cannot be given up does not hold up the others', async (t) => {
      const stage = await stageOn(t, database);
      const { db, queue, kind, errors } = stage;
      const bad = randomUUID();
      const good = [randomUUID(), randomUUID()];
      let mended = false;
      const calls: string[] = [];
      const to = far(db, kind, () => 'unreachable', {
        retries: 0,
        giveUp: async (tx, id) => {
          calls.push(id);
          await sql`update outbox set error = 'half done' where id = ${id}`.execute(tx);
          if (id === bad && !mended) throw new Error('not now');
        },
      });
      await queue.work([to]);
      for (const id of [bad, ...good]) await enqueue(stage, id);
      for (const id of good) await becomes(db, id, 'dead');
      await until('it was tried', () => errors.length > 0);
      t.match(await rowOf(db, bad), { state: 'queued', error: 'unreachable' }, 'nothing of it happened');
      mended = true;
      await becomes(db, bad, 'dead');
      for (const id of good) t.equal(calls.filter((each) => each === id).length, 1);
      const { rows } = await sql<{ retry_backoff: boolean; retry_delay: number }>`
        select retry_backoff, retry_delay from pgboss.queue where name = 'dead-letters'`.execute(db);
      t.match(rows, [{ retry_backoff: false, retry_delay: 1 }], 'and its waits do not grow');
    });

    await t.test('in a transaction that is taken back', async (t) => {
      const stage = await stageOn(t, database);
      const { db, queue, kind } = stage;
      const to = far(db, kind, () => 'done');
      await queue.work([to]);
      const ids = Array.from({ length: 10 }, () => randomUUID());
      await Promise.all(
        ids.map(async (id, index) => {
          const run = db.transaction().execute(async (tx) => {
            await queue.enqueue(tx, kind, { id });
            // The workers look for jobs meanwhile.
            await wait(150);
            if (index % 2 === 0) throw new GuardFailed();
          });
          await run.catch((error: unknown) => t.type(error, GuardFailed));
        }),
      );
      for (const id of ids.filter((_, index) => index % 2 === 1)) await becomes(db, id, 'done');
      for (const id of ids.filter((_, index) => index % 2 === 0)) {
        t.equal(await rowOf(db, id), undefined, 'no row');
        const { rows } = await sql`select 1 from pgboss.job where data ->> 'id' = ${id}`.execute(db);
        t.same(rows, [], 'no job');
        t.equal(to.tries.get(id), undefined);
      }
      const { rows } = await sql<{ data: object }>`select data from pgboss.job where name = ${kind}`.execute(
        db,
      );
      for (const { data } of rows) t.same(Object.keys(data), ['id'], "a job's data are row ids only");
    });

    await t.test('rest: nothing new is taken, and what is under way goes on', async (t) => {
      const stage = await stageOn(t, database);
      const { db, queue, kind } = stage;
      const { promise: gate, resolve: go } = Promise.withResolvers<void>();
      const to = far(db, kind, async () => {
        await gate;
        return 'done';
      });
      await queue.work([to]);
      const first = await enqueue(stage);
      await until('it is under way', () => to.tries.get(first) === 1);
      await queue.rest();
      const second = await enqueue(stage);
      go();
      await becomes(db, first, 'done');
      // Longer than a worker waits between two looks.
      await wait(1_300);
      t.match(await rowOf(db, second), { state: 'queued', attempts: 0 });
      t.equal(to.tries.get(second), undefined);
      await queue.rest();
      await queue.stop();

      const next = await stageOn(t, database);
      const other = far(db, kind, () => 'done');
      await next.queue.work([other]);
      await becomes(db, second, 'done');
      t.same([...other.tries.keys()], [second], 'the next process takes it, and nothing else');
    });
  });
}

t.test('the code of anything that is thrown', async (t) => {
  const coded = Object.assign(new Error('words'), { code: 'ECONNRESET' });
  for (const [thrown, code] of [
    [undefined, 'error'],
    [null, 'error'],
    ['a word', 'error'],
    [7, 'error'],
    [coded, 'ECONNRESET'],
    [new TypeError('words'), 'TypeError'],
    [{ code: 'x'.repeat(1_000) }, 'x'.repeat(60)],
  ] as const) {
    t.equal(codeOf(thrown), code);
  }
});

/** A process that takes a job, says so, and never comes back from it. */
const NEVER = `
  import { startQueue } from ${JSON.stringify(join(import.meta.dirname, '../src/queue.ts'))};
  import { openPostgres } from ${JSON.stringify(join(import.meta.dirname, '../src/db/database.ts'))};
  const [url, kind, retries] = process.argv.slice(1);
  const queue = await startQueue(openPostgres(url, () => {}), () => {}, {
    backoff: { retryDelayMax: 0 }, expireSeconds: 1, deadBackoff: { retryDelay: 1 } });
  await queue.work([{ kind, batch: 1, workers: 1, retries: Number(retries), deliver: (ids) => {
    process.stdout.write(ids[0] + '\\n');
    return new Promise(() => {});
  } }]);
  process.stdout.write('ready\\n');
`;

t.test('a process that is gone in between', async (t) => {
  const { url, db: database } = await openDatabase(t);
  for (const retries of [1, 0]) {
    await t.test(retries === 0 ? 'at its last try' : 'with a try left', async (t) => {
      const stage = await stageOn(t, database, { ...QUICK, expireSeconds: 1 });
      const { db, queue, kind } = stage;
      const child = spawn(
        process.execPath,
        ['--input-type=module', '-e', NEVER, '--', url, kind, `${retries}`],
        {
          stdio: ['ignore', 'pipe', 'inherit'],
        },
      );
      t.teardown(() => child.kill('SIGKILL'));
      let said = '';
      child.stdout.on('data', (chunk: Buffer) => {
        said += chunk.toString();
      });
      await until('the child works', () => said.includes('ready'));
      const id = await enqueue(stage);
      await until('the child has it', () => said.includes(id));
      const gone = new Promise((resolve) => child.on('exit', resolve));
      child.kill('SIGKILL');
      await gone;

      const [one, other] = [
        far(db, kind, () => 'done', { retries }),
        far(db, kind, () => 'done', { retries }),
      ];
      const second = await stageOn(t, database, { ...QUICK, expireSeconds: 1 });
      await queue.work([one]);
      await second.queue.work([other]);
      await becomes(db, id, retries === 0 ? 'dead' : 'done');
      const row = await rowOf(db, id);
      if (retries === 0) {
        t.match(row, { state: 'dead', error: 'expired' }, 'it is said why');
        t.equal(one.givenUp.length + other.givenUp.length, 1, 'given up once, by either of the others');
        t.equal(await queue.retry(id), 'queued');
        await becomes(db, id, 'done');
      }
      t.equal((one.tries.get(id) ?? 0) + (other.tries.get(id) ?? 0), 1, 'taken up once');
    });
  }
});

t.test('two instances: each row is delivered once', async (t) => {
  const { url, db: database } = await openDatabase(t);
  const again = openPostgres(url, () => {});
  t.teardown(() => again.close());
  // As production polls: nothing wakes the workers.
  const [one, other] = [await stageOn(t, database, {}), await stageOn(t, again, {})];
  other.kind = one.kind;
  const sides = [one, other].map(({ db, kind }) => far(db, kind, () => 'done', { workers: 2 }));
  await Promise.all([one.queue.work(sides.slice(0, 1)), other.queue.work(sides.slice(1))]);
  const ids = await Promise.all(Array.from({ length: 40 }, (_, index) => enqueue(index % 2 ? one : other)));
  for (const id of ids) await becomes(one.db, id, 'done');
  const tries = ids.map((id) => sides.reduce((sum, side) => sum + (side.tries.get(id) ?? 0), 0));
  t.same([...new Set(tries)], [1]);
});

t.test('an instance that does not know a kind leaves giving it up to one that does', async (t) => {
  const { db: database } = await openDatabase(t);
  const stage = await stageOn(t, database);
  const { db, queue, kind } = stage;
  const to = far(db, kind, () => 'unreachable', { retries: 0 });
  await queue.work([to]);
  // Dies without its own process looking at what is dead.
  const older = await stageOn(t, database);
  await older.queue.work([]);
  const ids = await Promise.all(Array.from({ length: 8 }, () => enqueue(stage)));
  for (const id of ids) await becomes(db, id, 'dead');
  t.same(to.givenUp.toSorted(), ids.toSorted());
});

t.test('the database is away for a while', async (t) => {
  const server = await startPostgres({ own: true });
  t.teardown(() => server.stop());
  const { url } = await newDatabase(t, { server: server.url });
  await migrateServer(url, MIGRATIONS);
  const database = openPostgres(url, () => {});
  t.teardown(() => database.close());
  const stage = await stageOn(t, database, { ...QUICK, expireSeconds: 1 });
  const { db, queue, kind, errors } = stage;
  const { promise: gate, resolve: go } = Promise.withResolvers<void>();
  const to = far(
    db,
    kind,
    async (_, nth) => {
      if (nth === 1) await gate;
      return 'done';
    },
    { retries: 50 },
  );
  await queue.work([to]);
  const before = await enqueue(stage);
  await until('it is under way', () => to.tries.get(before) === 1);
  await server.kill();
  go();
  await until('the queue has noticed', () => errors.length > 0);
  await t.rejects(enqueue(stage), 'nothing is queued meanwhile');
  await server.restart();
  await becomes(db, before, 'done');
  const after = await enqueue(stage);
  await becomes(db, after, 'done');
  t.ok(true, 'work goes on');
});
