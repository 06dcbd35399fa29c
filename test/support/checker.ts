/** Holds what the chaos aggregator saw against the database, the provider and the rules. */
import pg from 'pg';
import type { Test } from 'tap';
import { openPostgres } from '../../src/db/database.ts';
import { Digests } from '../../src/seal/digests.ts';
import { parseKey } from '../../src/seal/keys.ts';
import type { Asked, Storm, Turn } from './chaos.ts';
import { PATIENCE_MS, sendOnce } from './cut.ts';
import { settled } from './shop.ts';
import { wrongs } from './stage.ts';
import { DIGEST_KEY, isAcknowledged, type Stage } from './storm.ts';

/** Requests that are sent at once when everything is asked again. */
const AT_ONCE = 20;
const OUTCOMES = ['ok', 'replay', 'unavailable', 'limited'];

export type CheckOptions = {
  /** How requests may be lost besides being cut by the storm itself: instances died, or stood still. */
  losses?: RegExp;
};

/** After a storm: waits until all is quiet, and checks every rule. */
export async function checkAll(t: Test, stage: Stage, storm: Storm, options: CheckOptions = {}) {
  await storm.over;
  const { history } = storm;
  t.comment(summaryOf(history));
  checkAnswers(t, history, options.losses);
  const strays = await redialled(stage, history);
  const known = history.filter(({ turn }) => !strays.has(nameOf(turn)));
  const sessions = new Set(history.map(({ turn }) => nameOf(turn))).size;
  t.ok(
    strays.size <= sessions / 10,
    `${strays.size} of ${sessions} sessions were dialled again by a late start`,
  );
  await checkUnanswered(t, stage, known);
  checkOneAnswer(t, known);
  await checkReplays(t, stage, known);
  await settled(stage);
  await checkPurchases(t, stage, known);
  await checkMessages(t, stage, known);
  await checkLedger(t, stage);
}

/** Everything that was not lost on the way is a screen or polite words, in time. */
function checkAnswers(t: Test, history: Asked[], losses?: RegExp): void {
  const lost = history.filter(({ lost }) => lost !== undefined && lost !== 'cut' && !losses?.test(lost));
  t.same(few(lost), [], 'no request was lost that need not be');
  const odd = history.filter(
    ({ lost, status, outcome, body, ms }) =>
      lost === undefined &&
      !(
        (status === 200 || status === 429) &&
        OUTCOMES.includes(outcome ?? '') &&
        /^(CON|END) /.test(body) &&
        ms < PATIENCE_MS
      ),
  );
  t.same(few(odd), [], `every one of ${history.length} answers is one of the contract's, in time`);
}

/** Within one dial no turn had two answers. Starts on latest-input gateways have no id: nothing names them. */
function checkOneAnswer(t: Test, history: Asked[]): void {
  const said = new Map<string, Set<string>>();
  for (const { turn, dial, body } of history.filter(isAcknowledged).filter(isNamed)) {
    const key = `${nameOf(turn)} ${dial} ${turn.requestId ?? turn.text}`;
    said.set(key, (said.get(key) ?? new Set()).add(body));
  }
  const twice = [...said]
    .filter(([, bodies]) => bodies.size > 1)
    .map(([key, bodies]) => ({ key, said: [...bodies] }));
  t.same(twice.slice(0, 3), [], `none of ${said.size} turns was answered in two ways`);
}

/** What was never answered can be asked again, on any instance. */
async function checkUnanswered(t: Test, stage: Stage, history: Asked[]): Promise<void> {
  const done = new Set(history.filter(isAcknowledged).map(({ turn }) => JSON.stringify(turn)));
  // Not starts: by now they are new dials (decision 4.3).
  const open = onlyNewest(history).filter(({ turn }) => turn.text !== '' && !done.has(JSON.stringify(turn)));
  const wrong: unknown[] = [];
  await each(open, async ({ turn, dial }, index) => {
    const told = await again(stage, turn, index);
    history.push({ ...told, turn, dial, at: performance.now() });
    if (told.outcome !== 'ok' && told.outcome !== 'replay') wrong.push({ turn, told });
  });
  t.same(wrong.slice(0, 3), [], `${open.length} requests without an answer get one when they are sent again`);
}

/** What was acknowledged is replayed to the byte, by either instance. */
async function checkReplays(t: Test, stage: Stage, history: Asked[]): Promise<void> {
  const acknowledged = onlyNewest(history).filter(isAcknowledged).filter(isNamed);
  const turns = [...new Map(acknowledged.map((asked) => [JSON.stringify(asked.turn), asked])).values()];
  const wrong: unknown[] = [];
  // A start may open a new dial by now, so it is asked for last, and only its screen is compared.
  const [starts, others] = [
    turns.filter(({ turn }) => turn.text === ''),
    turns.filter(({ turn }) => turn.text !== ''),
  ];
  for (const part of [others, starts]) {
    await each(part, async ({ turn, body }, index) => {
      const told = await again(stage, turn, index);
      const replayed = told.outcome === 'replay' || turn.text === '';
      if (!replayed || told.body !== body) wrong.push({ turn, before: body, after: told });
    });
  }
  t.ok(others.length > 0, 'something was acknowledged');
  t.same(wrong.slice(0, 3), [], `${turns.length} acknowledged turns are replayed to the byte`);
}

/** Each order is bought exactly once, and nobody was told of an order that there is not. */
async function checkPurchases(t: Test, { rows, fake }: Stage, history: Asked[]): Promise<void> {
  const orders = await rows<{ id: string; ref: string; state: string }>(
    'select id, ref, state from airtime_orders',
  );
  const bought = new Map<string, number>();
  for (const { key } of fake.purchases) bought.set(key, (bought.get(key) ?? 0) + 1);
  const wrong = orders.filter(
    ({ id, state }) => bought.get(id) !== 1 || !['sent', 'confirmed'].includes(state),
  );
  t.same(wrong.slice(0, 3), [], `each of ${orders.length} orders was bought once`);
  t.equal(bought.size, orders.length, 'and nothing else was');
  const refs = new Set(orders.map(({ ref }) => ref));
  const told = new Set(history.filter(isAcknowledged).flatMap(({ body }) => refIn(body)));
  t.same(
    [...told].filter((ref) => !refs.has(ref)),
    [],
    `${told.size} orders were acknowledged, and are there`,
  );
  t.same(await rows(`select id from holds where state = 'open'`), [], 'no money is held when all is quiet');
}

/** Every message has been sent, once per key, and everybody who was told of one has it. */
async function checkMessages(t: Test, { rows, fake }: Stage, history: Asked[]): Promise<void> {
  t.same(
    await rows(`select id, kind, state, error from outbox where state <> 'done'`),
    [],
    'the outbox is empty',
  );
  t.same(
    await rows(
      `select id, state, code from messages where state in ('promised', 'queued', 'failed', 'rejected')`,
    ),
    [],
    'no message is left',
  );
  const calls = await rows<{ key: string }>(
    'select c.key from messages m join sms_calls c on c.id = m.call_id',
  );
  t.same(
    few(calls.filter(({ key }) => fake.messagesOf({ key }).length !== 1)),
    [],
    `each of ${calls.length} messages is at the provider once`,
  );
  const promised = new Map<string, Set<string>>();
  for (const { turn, body } of history.filter(isAcknowledged)) {
    if (!body.startsWith('CON The SMS is on its way')) continue;
    const turns = promised.get(turn.phoneNumber) ?? new Set();
    promised.set(turn.phoneNumber, turns.add(`${nameOf(turn)} ${turn.requestId ?? turn.text}`));
  }
  const missing = [...promised].filter(([number, turns]) => {
    const sent = fake.messagesOf({ number }).filter(({ text }) => !text.includes('airtime'));
    return sent.length < turns.size;
  });
  t.same(
    missing.map(([number]) => number),
    [],
    `${promised.size} phones got what they were promised`,
  );
}

async function checkLedger(t: Test, { url }: Stage): Promise<void> {
  const db = openPostgres(url, () => {});
  try {
    t.same(await wrongs(db.kysely), [], 'the ledger is right, and sums to zero');
  } finally {
    await db.close();
  }
}

/**
 * Sessions with more dials than the storm meant: a start that was held up for long opens a new one, as it should
 * (decision 4.3), and then no text is the turn that it was.
 */
async function redialled(stage: Stage, history: Asked[]): Promise<Set<string>> {
  const digests = new Digests(parseKey(DIGEST_KEY));
  const meant = new Map<string, { key: Buffer; dials: number }>();
  for (const { turn, dial } of history) {
    const key = digests.session(turn.gateway, turn.sessionId);
    const dials = Math.max(meant.get(nameOf(turn))?.dials ?? 0, dial + 1);
    meant.set(nameOf(turn), { key, dials });
  }
  const client = new pg.Client({ connectionString: stage.url });
  await client.connect();
  try {
    const { rows } = await client.query<{ key: string; dials: number }>(
      `select encode(session_key, 'hex') as key, count(distinct (day, dial))::int as dials from turns group by 1`,
    );
    const there = new Map(rows.map(({ key, dials }) => [key, dials]));
    const more = [...meant].filter(([, { key, dials }]) => (there.get(key.toString('hex')) ?? 0) > dials);
    return new Set(more.map(([name]) => name));
  } finally {
    await client.end();
  }
}

/** Of sessions that were dialled again only the last dial can be asked for. */
function onlyNewest(history: Asked[]): Asked[] {
  const newest = new Map<string, number>();
  for (const { turn, dial } of history)
    newest.set(nameOf(turn), Math.max(newest.get(nameOf(turn)) ?? 0, dial));
  return history.filter(({ turn, dial }) => newest.get(nameOf(turn)) === dial);
}

const nameOf = ({ gateway, sessionId }: Turn) => `${gateway} ${sessionId}`;
const isNamed = ({ turn }: { turn: Turn }) => turn.gateway === 'ixo' || turn.requestId !== undefined;
const refIn = (body: string) => /^END KES .* Ref ([A-Z2-9]{8})/.exec(body)?.slice(1) ?? [];
const few = <T>(list: T[]): T[] => list.slice(0, 3);

function again({ urls }: Stage, turn: Turn, index: number) {
  return sendOnce(urls[index % urls.length] ?? '', turn);
}

async function each<T>(list: T[], run: (one: T, index: number) => Promise<void>): Promise<void> {
  for (let from = 0; from < list.length; from += AT_ONCE)
    await Promise.all(list.slice(from, from + AT_ONCE).map((one, index) => run(one, from + index)));
}

function summaryOf(history: Asked[]): string {
  const counts = new Map<string, number>();
  for (const { outcome, lost } of history) {
    const what = lost ?? outcome ?? 'none';
    counts.set(what, (counts.get(what) ?? 0) + 1);
  }
  const slowest = Math.round(Math.max(...history.filter(({ lost }) => !lost).map(({ ms }) => ms)));
  return `${history.length} requests: ${[...counts].map((pair) => pair.join(' ')).join(', ')}; slowest ${slowest} ms`;
}
