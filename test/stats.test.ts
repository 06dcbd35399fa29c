/** What operators count, and the sessions of a day beside the aggregator's notices: on a started gateway. */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { csvLine } from '../src/operator/csv.ts';
import { ask } from './support/ask.ts';
import { foundIn } from './support/canary.ts';
import { embeddedDirectory } from './support/embedded.ts';
import { type Gateway, post, startGateway } from './support/gateway.ts';
import { type Phone, phoneOn, type Query, queryOn } from './support/phone.ts';
import { database } from './support/postgres.ts';
import { LONG_TIER } from './support/scale.ts';

const READ = { authorization: 'Bearer roys-token' };
const OPERATOR_TOKEN = 'roy:read:roys-token,mary:money:marys-token';
const NOBODY = { ended: 0, gaveUp: 0, left: 0, continued: 0, open: 0 };

/** Typed where the menu does not expect it: to be found nowhere. */
const TYPED = '7733119';

type Line = Record<string, string>;
type Node = { node: string; reached: number; share: number; left: number };
type Funnel = { totals: Record<string, number>; nodes: Node[] };

async function get(url: string, path: string, headers: Record<string, string> = READ) {
  const { status, body, headers: got } = await ask(url + path, { headers });
  return { status, text: body.toString(), headers: got };
}

async function funnel(url: string, query: string): Promise<Funnel> {
  return JSON.parse((await get(url, `/api/stats/funnel?${query}`)).text) as Funnel;
}

/** What these cells hold needs no quotes. */
function linesOf(text: string): Line[] {
  const [head = '', ...lines] = text.split('\r\n').slice(0, -1);
  const names = head.split(',');
  return lines.map((line) => Object.fromEntries(line.split(',').map((cell, i) => [names[i] ?? '', cell])));
}

/** The minutes that nobody waits for: all turns of a phone are older, and idle. */
async function leave(query: Query, { session }: Phone): Promise<void> {
  await query(
    `update turns set at = at - interval '10 minutes' where session_key in (
      select session_key from turns where hop = 0 order by at desc limit 1)`,
  );
  session.text = '';
}

/** A session through the aggregator, and its notice where `hops` are given. */
async function aggregated(url: string, number: string, code: string, texts: string[], hops?: number) {
  const sessionId = `ATUid_${randomBytes(8).toString('hex')}`;
  for (const text of texts)
    await post(url, { sessionId, serviceCode: code, phoneNumber: number, text }, '/ussd/session');
  if (hops !== undefined) await notice(url, sessionId, number, code, hops);
  return sessionId;
}

async function notice(url: string, sessionId: string, number: string, code: string, hops: number) {
  const date = new Date(Date.now() + 1_000).toISOString().slice(0, 19).replace('T', ' ');
  const told = { date, sessionId, serviceCode: code, phoneNumber: number, networkCode: '63902' };
  const body = { ...told, status: 'Success', cost: 'KES 0.10', durationInMillis: 12_345, hopsCount: hops };
  await post(url, body, '/ussd/status');
}

t.test('how far dials come, and the sessions of a day', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway: Gateway = await startGateway(t, { DATABASE_URL, OPERATOR_TOKEN });
  const { url } = gateway;
  const query = await queryOn(t, DATABASE_URL);
  const [{ day } = { day: '' }] = await query<{ day: string }>(
    `select (now() at time zone 'utc')::date::text as day`,
  );

  const [ended, left, open, confused] = [phoneOn(url), phoneOn(url), phoneOn(url), phoneOn(url)];
  await ended.dial();
  t.match(await ended.type('1', '1', '*'), /^END/, 'one goes to the end');
  await left.dial();
  await left.type('1');
  await leave(query, left);
  await open.dial();
  await confused.dial();
  t.match(await confused.type(TYPED, TYPED, TYPED), /^END/, 'one gives up');
  const closed = await aggregated(url, '+254711000201', '*1234#', ['', '2'], 2);
  await aggregated(url, '+254711000202', '*123#', [''], 9);
  await aggregated(url, '+254711000203', '*555#', ['', '1', '1*1'], 3);
  await notice(url, 'ATUid_unknown_here', '+254711000204', '*123#', 4);

  await t.test('the funnel', async (t) => {
    const { totals, nodes } = await funnel(url, 'service=ixo');
    t.strictSame(totals, { dials: 5, ended: 1, gaveUp: 1, left: 2, continued: 0, open: 1 });
    t.strictSame(
      nodes.filter(({ reached }) => reached > 0),
      [
        { node: 'preMenu', reached: 5, share: 1, ...NOBODY, gaveUp: 1, open: 1 },
        { node: 'knowMore', reached: 2, share: 0.4, ...NOBODY, left: 1 },
        { node: 'about', reached: 1, share: 0.2, ...NOBODY },
        { node: 'accountMenu', reached: 1, share: 0.2, ...NOBODY, left: 1 },
        { node: 'goodbye', reached: 1, share: 0.2, ...NOBODY, ended: 1 },
      ].toSorted((a, b) => place(nodes, a.node) - place(nodes, b.node)),
    );
    const [{ names } = { names: [] }] = await query<{ names: string[] }>(`
      select array(select json_object_keys(document -> 'nodes')) as names from menus where service = 'ixo'`);
    t.strictSame(
      nodes.map(({ node }) => node),
      names,
      'every node, in the order of the document',
    );
  });

  await t.test('a node of an older version comes last, under its own name', async (t) => {
    await query(`
      insert into menus (hash, service, document) values ('older', 'ixo', '{"nodes":{"preMenu":{},"wasHere":{}}}')`);
    await query(`
      update turns set menu = (select id from menus where hash = 'older') where node = 1 and service = 'ixo'`);
    const { nodes, totals } = await funnel(url, 'service=ixo');
    t.match(nodes.at(-1), { node: 'wasHere', reached: 2, left: 1 });
    t.match(nodes[0], { node: 'preMenu', reached: 5 });
    t.equal(totals.dials, 5, 'and a dial is one dial');
  });

  await t.test('a private service says how many, and nothing of where', async (t) => {
    const { totals, nodes } = await funnel(url, 'service=support');
    t.match(totals, { dials: 1, left: 1 });
    t.strictSame(nodes, []);
  });

  await t.test('times that bound it, and those that are refused', async (t) => {
    const hourAgo = new Date(Date.now() - 3_600_000).toISOString();
    const before = new Date(Date.now() - 7_200_000).toISOString();
    t.match(await funnel(url, `service=ixo&from=${hourAgo}`), { totals: { dials: 5 } });
    t.match(await funnel(url, `service=ixo&from=${before}&until=${hourAgo}`), { totals: { dials: 0 } });
    const tenDays = new Date(Date.now() - 10 * 86_400_000).toISOString();
    for (const wrong of [
      `service=ixo&from=${tenDays}`,
      `service=ixo&from=${hourAgo}&until=${before}`,
      'service=ixo&from=yesterday',
      'service=ixo&from=0000-01-01T00:00:00Z&until=0000-01-02T00:00:00Z',
      'service=ixo&from=9999-12-30T23:59:59Z&until=9999-12-31T23:59:59-23:59',
      '',
    ])
      t.equal((await get(url, `/api/stats/funnel?${wrong}`)).status, 400, wrong);
    t.equal((await get(url, '/api/stats/funnel?service=nothing')).status, 404);
    t.equal((await get(url, '/api/stats/funnel?service=ixo', {})).status, 401);
    const mary = { authorization: 'Bearer marys-token' };
    t.equal((await get(url, '/api/stats/funnel?service=ixo', mary)).status, 403);
    t.equal((await get(url, `/api/stats/sessions.csv?day=${day}`, mary)).status, 403);
  });

  await t.test('the sessions of the day', async (t) => {
    const { status, text, headers } = await get(url, `/api/stats/sessions.csv?day=${day}`);
    t.equal(status, 200, text);
    t.match(headers, { 'content-type': /^text\/csv/, 'content-disposition': new RegExp(day) });
    const lines = linesOf(text);
    t.equal(lines.length, 8);
    const only = (how: string) => lines.filter(({ reconciled }) => reconciled === how);
    t.strictSame(
      only('ours_only')
        .map(({ service, outcome, hops }) => [service, outcome, hops])
        .toSorted(),
      [
        ['ixo', 'ended', '4'],
        ['ixo', 'gave_up', '4'],
        ['ixo', 'left', '2'],
        ['ixo', 'open', '1'],
      ],
    );
    t.match(
      only('both').filter(({ service }) => service === 'ixo'),
      [
        {
          ...{ day, outcome: 'closed', ended: '', network: '63902', their_status: 'Success' },
          ...{ hops: '2', their_hops: '2', their_ms: '12345', cost: '0.10', currency: 'KES' },
        },
      ],
    );
    t.match(only('hops_differ'), [{ service: 'demo', hops: '1', their_hops: '9' }]);
    t.match(only('theirs_only'), [{ service: '', began: '', hops: '', their_hops: '4', dial: '' }]);
    t.match(
      only('both').find(({ service }) => service === 'private'),
      { phone: '', hops: '3' },
    );
    t.notMatch(text, /support/, 'nobody is said to have dialled the private service');
    t.equal(new Set(lines.map(({ session }) => session)).size, 8, 'each session has a name of its own');
    const needles = [ended, left, open, confused].map(({ number }) => number.slice(1));
    needles.push('254711000201', '254711000203', '254711000204', closed, 'ATUid', TYPED);
    t.strictSame(foundIn(text + gateway.output(), needles), [], 'nothing of anybody, nor in the log');
  });

  await t.test('days that are none', async (t) => {
    for (const wrong of ['day=2026-02-30', 'day=0000-01-01', 'day=today', `day=${day}T00:00:00Z`, ''])
      t.equal((await get(url, `/api/stats/sessions.csv?${wrong}`)).status, 400, wrong);
    t.equal(linesOf((await get(url, '/api/stats/sessions.csv?day=2020-01-01')).text).length, 0, 'and empty');
  });

  await t.test('a long day comes page by page, every session once', async (t) => {
    await query(
      `insert into turns (session_key, day, dial, address, hop, ended, outcome, node, menu, phone, service, sealed)
      select sha256(int4send(n % 700)), $1::date, 100 + n / 700, '\\x03', 0, false, 0, 0, 1, '\\x04', 'demo', ''
      from generate_series(1, 1400) n`,
      [day],
    );
    await query(`
      insert into ussd_notices (gateway, session_key, phone, ended_at, closed, status, hops)
      select 'africastalking', sha256(int4send(n)), '\\x05', now(), false, 'Success', 1 from generate_series(1, 1100) n`);
    const lines = linesOf((await get(url, `/api/stats/sessions.csv?day=${day}`)).text);
    t.equal(lines.length, 8 + 1400 + 1100);
    const made = lines
      .filter(({ service }) => service === 'demo')
      .map(({ session, dial }) => `${session} ${dial}`);
    t.equal(new Set(made).size, 1401);
  });

  await t.test('a file that cannot be read to its end breaks off', async (t) => {
    // Last week's partition is always there.
    const weekAgo = new Date(Date.now() - 7 * 86_400_000).toISOString().slice(0, 10);
    await query(
      `insert into turns (session_key, day, dial, address, hop, ended, outcome, node, menu, phone, service, sealed)
      select sha256(int4send(n)), '${weekAgo}', 1, '\\x03', 0, false, 0, 0, 1, '\\x04', 'demo', ''
      from generate_series(1, 60000) n`,
    );
    // Nobody reads on: what comes after the first pages is not even asked for.
    const answer = await fetch(`${url}/api/stats/sessions.csv?day=${weekAgo}`, { headers: READ });
    t.equal(answer.status, 200);
    await query('alter table ussd_notices rename to away');
    await t.rejects(answer.text());
    await query('alter table away rename to ussd_notices');
  });

  await t.test('the OpenAPI has both', async (t) => {
    const { paths } = JSON.parse((await get(url, '/docs/json', {})).text) as {
      paths: Record<string, { get?: { responses: Record<string, { content?: object }> } }>;
    };
    t.ok(paths['/api/stats/funnel']?.get);
    t.match(paths['/api/stats/sessions.csv']?.get?.responses['200']?.content, { 'text/csv': {} });
  });

  await t.test('a database that is away is a 503, and no empty file', async (t) => {
    await query('alter table ussd_notices rename to away');
    t.equal((await get(url, `/api/stats/sessions.csv?day=${day}`)).status, 503);
    await query('alter table away rename to ussd_notices');
  });
});

t.test('on the embedded database', LONG_TIER, async (t) => {
  const { url } = await startGateway(t, { OPERATOR_TOKEN, DATA_DIR: await embeddedDirectory(t) });
  const phone = phoneOn(url);
  await phone.dial();
  await phone.type('1');
  t.match(await funnel(url, 'service=ixo'), { totals: { dials: 1, open: 1 } });
  const today = new Date().toISOString().slice(0, 10);
  const { text } = await get(url, `/api/stats/sessions.csv?day=${today}`);
  t.match(linesOf(text), [{ service: 'ixo', hops: '2', outcome: 'open', reconciled: 'ours_only' }]);
});

t.test('cells', async (t) => {
  t.equal(csvLine(['a', 1, null, 'b,c', 'say "no"', 'x\r\ny']), 'a,1,,"b,c","say ""no""","x\r\ny"\r\n');
  for (const first of ['=', '+', '-', '@', '\t']) t.match(csvLine([`${first}1+1`]), `'${first}1+1`);
});

function place(nodes: Node[], name: string): number {
  return nodes.findIndex(({ node }) => node === name);
}
