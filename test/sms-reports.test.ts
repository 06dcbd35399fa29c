/**
 * What a provider reports moves a message on and never back (docs/contract.md section 5), whatever the order, however
 * often, on how many connections, and whether the answer of the send comes before it, after it or with it.
 */
import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import pg from 'pg';
import t, { type Test } from 'tap';
import type { Db } from '../src/db/db.ts';
import type { MessageState, ReportStatus } from '../src/db/tables.ts';
import { openKeeping } from '../src/engine.ts';
import type { Digests } from '../src/seal/digests.ts';
import { parseKeyRing } from '../src/seal/keys.ts';
import { forgetSmsReports, hearAnswer, hearReport, type Judged } from '../src/store/message-reports.ts';
import type { Messages } from '../src/store/messages.ts';
import { openDatabase } from './support/engine.ts';
import { TEST_KEY } from './support/gateway.ts';
import fc from './support/property.ts';
import { scaled } from './support/scale.ts';

const STATUSES: ReportStatus[] = [
  'Sent',
  'Submitted',
  'Buffered',
  'Rejected',
  'Success',
  'Failed',
  'AbsentSubscriber',
  'Expired',
];
const STATE: Record<ReportStatus, MessageState> = {
  Sent: 'sent',
  Submitted: 'submitted',
  Buffered: 'buffered',
  Rejected: 'rejected',
  Success: 'delivered',
  Failed: 'failed',
  AbsentSubscriber: 'failed',
  Expired: 'expired',
};
const ORDER: MessageState[][] = [
  ['queued'],
  ['sent'],
  ['submitted'],
  ['buffered'],
  ['delivered', 'failed', 'rejected', 'expired'],
];
const rankOf = (state: string) => ORDER.findIndex((states) => (states as string[]).includes(state));

type Row = { state: string; code: string | null; ended_at: Date | null; network: number | null };

type Stage = { db: Db; messages: Messages; digests: Digests; watch: pg.Client };

async function openStage(t: Test): Promise<Stage> {
  const { url, db } = await openDatabase(t);
  const settings = { messages: { dailyMax: 1_000_000, prefixes: [] }, book: 'real' as const };
  const { messages, digests } = await openKeeping(db, { ring: parseKeyRing(TEST_KEY), ...settings });
  const watch = new pg.Client({ connectionString: url });
  await watch.connect();
  t.teardown(() => watch.end());
  // Every state that a message was ever in, whoever looks away meanwhile.
  await watch.query(`
    create table seen_states (n bigint generated always as identity, id uuid not null, state text not null);
    create function see_state() returns trigger language plpgsql as $$
    begin
      if tg_op = 'INSERT' or new.state <> old.state then
        insert into seen_states (id, state) values (new.id, new.state);
      end if;
      return new;
    end $$;
    create trigger see_state after insert or update on messages for each row execute function see_state();`);
  return { db: db.kysely, messages, digests, watch };
}

let numbers = 0;
function newPhone(): string {
  numbers += 1;
  return `+2547440${String(numbers).padStart(5, '0')}`;
}

type Sent = { id: string; msisdn: string; providerId: string; answer: () => Promise<void> };

/** A message that is queued, and what the provider will have answered. */
async function queued(
  { db, messages }: Stage,
  msisdn = newPhone(),
  providerId = `ATXid_${randomUUID()}`,
): Promise<Sent> {
  const wanted = { kind: 'bulk' as const, body: 'A text', to: [msisdn], cause: 'operator' as const };
  const { call, ids } = await db.transaction().execute((tx) => messages.write(tx, wanted));
  const id = ids[0] ?? '';
  const judged: Judged[] = [{ id, outcome: 'accepted', code: 'sent', statusCode: 101, providerId }];
  const known = await messages.toSend(db, call);
  if (known === undefined) throw new Error('there is nothing to send');
  return {
    id,
    msisdn,
    providerId,
    answer: () => db.transaction().execute((tx) => hearAnswer(tx, known, 'africastalking', judged)),
  };
}

type Told = { status: ReportStatus; reason?: string; network?: number };

function report(
  { db, digests }: Stage,
  { msisdn, providerId }: Pick<Sent, 'msisdn' | 'providerId'>,
  told: Told,
) {
  return db.transaction().execute((tx) => hearReport(tx, digests, { providerId, msisdn, ...told }));
}

async function rowOf({ watch }: Stage, id: string): Promise<Row> {
  const { rows } = await watch.query<Row>(
    'select state, code, ended_at, network from messages where id = $1',
    [id],
  );
  return rows[0] as Row;
}

async function statesOf({ watch }: Stage, id: string): Promise<string[]> {
  const { rows } = await watch.query<{ state: string }>(
    'select state from seen_states where id = $1 order by n',
    [id],
  );
  return rows.map(({ state }) => state);
}

/** What must hold of the states that a message went through. */
function onlyOn(states: string[]): boolean {
  const ranks = states.map(rankOf);
  return ranks.every((rank, index) => rank >= 0 && (index === 0 || rank > (ranks[index - 1] ?? 0)));
}

/** Where a message is that was sent, after reports in this order: by a list on paper. */
function expected(told: ReportStatus[]): MessageState {
  const final = told.find((status) => rankOf(STATE[status]) === 4);
  if (final !== undefined) return STATE[final];
  return told.reduce<MessageState>(
    (best, status) => (rankOf(STATE[status]) > rankOf(best) ? STATE[status] : best),
    'sent',
  );
}

/** Orders of reports that each property tries. */
const numRuns = scaled(150);

const statuses = fc.array(fc.constantFrom(...STATUSES), { maxLength: 9 });

t.test('one after the other, the answer anywhere among them', async (t) => {
  const stage = await openStage(t);
  await fc.assert(
    fc.asyncProperty(statuses, fc.nat(9), async (told, place) => {
      const message = await queued(stage);
      const before = Math.min(place, told.length);
      const known = new Set<string>();
      for (let at = 0; at <= told.length; at += 1) {
        if (at === before) {
          await message.answer();
          const { state } = await rowOf(stage, message.id);
          if (state !== expected(told.slice(0, at))) throw new Error(`${state} when it was answered`);
        }
        const status = told[at];
        if (status === undefined) break;
        const outcome = await report(stage, message, { status });
        const wanted = known.has(status) ? 'repeated' : at < before ? 'unmatched' : 'stored';
        if (outcome !== wanted) throw new Error(`${status} is ${outcome}, not ${wanted}`);
        known.add(status);
        const { state } = await rowOf(stage, message.id);
        const now = at < before ? 'queued' : expected(told.slice(0, at + 1));
        if (state !== now) throw new Error(`${state} after ${status}, not ${now}`);
      }
      const { state, ended_at } = await rowOf(stage, message.id);
      if ((ended_at !== null) !== (rankOf(state) === 4)) throw new Error(`${state} ended at ${ended_at}`);
      return onlyOn(await statesOf(stage, message.id));
    }),
    { numRuns },
  );
  t.pass('where it is depends on what was reported only');
});

t.test('at once, on several connections, with the answer', async (t) => {
  const stage = await openStage(t);
  let early = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.constantFrom(...STATUSES), { minLength: 1, maxLength: 7 }),
      fc.nat(7),
      async (told, place) => {
        const message = await queued(stage);
        const asked = told.map((status) => () => report(stage, message, { status }));
        const answer = async () => {
          await message.answer();
          return 'answered' as const;
        };
        const all = [...asked.slice(0, place), answer, ...asked.slice(place)];
        const outcomes = await Promise.all(all.map((each) => each()));
        if (outcomes.includes('unmatched')) early += 1;
        const repeated = outcomes.filter((outcome) => outcome === 'repeated').length;
        if (repeated !== told.length - new Set(told).size) throw new Error(`${repeated} repeated of ${told}`);
        const { rows } = await stage.watch.query<{ status: ReportStatus }>(
          'select status from sms_reports where provider_id = $1 order by at',
          [message.providerId],
        );
        const stored = rows.map(({ status }) => status);
        if (stored.toSorted().join() !== [...new Set(told)].toSorted().join())
          throw new Error(`${stored} stored`);
        const { state } = await rowOf(stage, message.id);
        if (state !== expected(stored)) throw new Error(`${state} after ${stored}, not ${expected(stored)}`);
        return onlyOn(await statesOf(stage, message.id));
      },
    ),
    { numRuns },
  );
  t.ok(early > numRuns / 15, `${early} times a report came before the answer`);
});

t.test('a call of many, its reports in any order on any connection', async (t) => {
  const stage = await openStage(t);
  const { db, messages, watch } = stage;
  const to = Array.from({ length: 60 }, newPhone);
  const wanted = { kind: 'bulk' as const, body: 'A text', to, cause: 'operator' as const };
  const { call, ids } = await db.transaction().execute((tx) => messages.write(tx, wanted));
  t.equal(ids[0], call, 'the version before finds a message where it looks for one');
  const known = await messages.toSend(db, call);
  if (known === undefined) throw new Error('there is nothing to send');
  const { rows: order } = await watch.query<{ id: string }>('select id from messages order by created_at');
  t.same(
    order.map(({ id }) => id),
    ids,
  );
  const judged = ids.map(
    (id): Judged => ({ id, outcome: 'accepted', code: 'sent', providerId: `many-${id}` }),
  );
  const told = ids.flatMap((id, index) => {
    const about = { msisdn: to[index] ?? '', providerId: `many-${id}` };
    const own = ['Buffered', 'Submitted', index % 3 === 0 ? 'Failed' : 'Success', 'Sent'] as const;
    return own.map((status) => ({ about, status, at: Math.sin(index * 7 + status.length * 13) }));
  });
  told.sort((a, b) => a.at - b.at);
  const answer = () => db.transaction().execute((tx) => hearAnswer(tx, known, 'africastalking', judged));
  const half = told.length / 2;
  // Two instances that have heard the same answer, and the reports of a whole network, all at once.
  const reports = told.map(
    ({ about, status }) =>
      (): Promise<unknown> =>
        report(stage, about, { status }),
  );
  const all = [...reports.slice(0, half), answer, answer, ...reports.slice(half), ...reports.slice(0, half)];
  // More at a time than there are connections, and few enough that none waits for one longer than the pool allows.
  const waiting = all.values();
  await Promise.all(
    Array.from({ length: 24 }, async () => {
      for (const run of waiting) await run();
    }),
  );
  const { rows } = await watch.query(`select state, count(*)::int from messages group by 1 order by 1`);
  t.same(rows, [
    { state: 'delivered', count: 40 },
    { state: 'failed', count: 20 },
  ]);
  for (const id of ids) if (!onlyOn(await statesOf(stage, id))) t.fail(`${id} went back`);
});

t.test('a report and the answer that commit at the same moment', async (t) => {
  const stage = await openStage(t);
  const { db, messages, digests, watch } = stage;
  /** Until so many wait for a lock of reports. */
  const waiting = async (count: number) => {
    for (let looks = 0; looks < 2_000; looks += 1) {
      const { rows } = await watch.query(
        `select 1 from pg_locks where locktype = 'advisory' and classid = 7006 and not granted
         and database = (select oid from pg_database where datname = current_database())`,
      );
      if (rows.length >= count) return;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw new Error('nobody waits');
  };
  for (const first of ['the report', 'the answer']) {
    const message = await queued(stage);
    const hold = Promise.withResolvers<void>();
    const held = Promise.withResolvers<void>();
    const { providerId, msisdn } = message;
    const reported = (tx: Db) => hearReport(tx, digests, { providerId, msisdn, status: 'Success' });
    // The one has done everything but its commit when the other begins.
    const one = db.transaction().execute(async (tx) => {
      if (first === 'the report') await reported(tx);
      else {
        const known = await messages.toSend(tx, message.id);
        if (known === undefined) throw new Error('there is nothing to send');
        await hearAnswer(tx, known, 'x', [{ id: message.id, outcome: 'accepted', code: 'sent', providerId }]);
      }
      held.resolve();
      await hold.promise;
    });
    await held.promise;
    const other = first === 'the report' ? message.answer() : db.transaction().execute(reported);
    await waiting(1);
    hold.resolve();
    await Promise.all([one, other]);
    t.match(await rowOf(stage, message.id), { state: 'delivered' }, `${first} first`);
    t.same(await statesOf(stage, message.id), ['queued', 'sent', 'delivered']);
  }
});

t.test('another phone, another id', async (t) => {
  const stage = await openStage(t);
  const message = await queued(stage);
  const { providerId, msisdn } = message;
  const strange: [string, Pick<Sent, 'msisdn' | 'providerId'>][] = [
    ['another phone', { providerId, msisdn: newPhone() }],
    ['another id', { providerId: `${providerId}0`, msisdn }],
    ['the id in other letters', { providerId: providerId.toUpperCase(), msisdn }],
  ];
  for (const when of ['before it is sent', 'after it']) {
    for (const [what, about] of strange)
      t.equal(
        await report(stage, about, { status: 'Success' }),
        when === 'after it' ? 'repeated' : 'unmatched',
        what,
      );
    if (when === 'before it is sent') await message.answer();
    t.match(await rowOf(stage, message.id), { state: 'sent' }, when);
  }
  for (const [what, { providerId: id, msisdn: number }] of strange)
    t.equal(await report(stage, { providerId: id, msisdn: number }, { status: 'Failed' }), 'unmatched', what);
  t.match(await rowOf(stage, message.id), { state: 'sent', code: 'sent', network: null });
  await report(stage, message, { status: 'Failed', reason: 'DeliveryFailure', network: 63902 });
  t.match(await rowOf(stage, message.id), { state: 'failed', code: 'DeliveryFailure', network: 63902 });
  await report(stage, message, { status: 'Success', reason: 'Never mind', network: 63903 });
  t.match(
    await rowOf(stage, message.id),
    { state: 'failed', code: 'DeliveryFailure', network: 63902 },
    'the first stands',
  );

  // Two phones under one id: each has reports of its own.
  const [a, b] = [
    await queued(stage, newPhone(), 'ATXid_both'),
    await queued(stage, newPhone(), 'ATXid_both'),
  ];
  await report(stage, a, { status: 'Success' });
  await Promise.all([a.answer(), b.answer()]);
  await report(stage, b, { status: 'Rejected' });
  t.match(await rowOf(stage, a.id), { state: 'delivered' });
  t.match(await rowOf(stage, b.id), { state: 'rejected' });
});

t.test('what was never sent has nothing to report', async (t) => {
  const stage = await openStage(t);
  const { db, messages } = stage;
  for (const outcome of ['refused', 'later'] as const) {
    const message = await queued(stage);
    const known = await messages.toSend(db, message.id);
    if (known === undefined) throw new Error('there is nothing to send');
    await report(stage, message, { status: 'Success' });
    await db
      .transaction()
      .execute((tx) => hearAnswer(tx, known, 'x', [{ id: message.id, outcome, code: 'said' }]));
    await report(stage, message, { status: 'Failed' });
    t.match(await rowOf(stage, message.id), {
      state: outcome === 'refused' ? 'rejected' : 'queued',
      code: 'said',
    });
    // An answer that comes once more, from an instance that was thought to be gone.
    await message.answer();
    t.match(await rowOf(stage, message.id), { state: outcome === 'refused' ? 'rejected' : 'delivered' });
    t.ok(onlyOn(await statesOf(stage, message.id)));
  }
});

t.test('the key of a call', async (t) => {
  const stage = await openStage(t);
  const { db, messages } = stage;
  const to = [newPhone(), newPhone()];
  const wanted = { kind: 'bulk' as const, body: 'A text', to, cause: 'operator' as const };
  const { call, ids } = await db.transaction().execute((tx) => messages.write(tx, wanted));
  const first = await messages.toSend(db, call);
  if (first === undefined) throw new Error('there is nothing to send');
  t.equal((await messages.toSend(db, call))?.key, first.key, 'the same while nothing is known');
  const later = ids.map((id): Judged => ({ id, outcome: 'later', code: 'gateway_error' }));
  const answered = () => db.transaction().execute((tx) => hearAnswer(tx, first, 'x', later));
  await answered();
  const second = await messages.toSend(db, call);
  t.not(second?.key, first.key, 'another one for those that are left');
  await answered();
  t.equal((await messages.toSend(db, call))?.key, second?.key, 'once, by however many that answer is heard');
});

t.test('reports wait for a day', async (t) => {
  const stage = await openStage(t);
  const { db } = stage;
  const [old, young] = [await queued(stage), await queued(stage)];
  for (const each of [old, young]) await report(stage, each, { status: 'Success' });
  const age = (message: Sent, hours: number) =>
    sql`update sms_reports set at = now() - ${hours} * interval '1 hour' where provider_id = ${message.providerId}`.execute(
      db,
    );
  await age(old, 25);
  await age(young, 23);
  await forgetSmsReports(db);
  for (const each of [old, young]) await each.answer();
  t.match(await rowOf(stage, old.id), { state: 'sent' });
  t.match(await rowOf(stage, young.id), { state: 'delivered' });
  t.equal(await report(stage, old, { status: 'Success' }), 'stored', 'said once more it is heard');
  t.match(await rowOf(stage, old.id), { state: 'delivered' });
});
