/** The desk, and what a Telerivet Cloud Script posts (docs/contract.md section 7, decisions 27 and 33). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { taskDelivery } from '../src/effects/open-task.ts';
import { parseMenu } from '../src/menus.ts';
import { ProviderError } from '../src/providers/provider.ts';
import type { TaskRouter } from '../src/providers/task-router.ts';
import { twilioTaskRouter } from '../src/providers/twilio.ts';
import { putOut } from '../src/store/outbox.ts';
import type { Tasks } from '../src/store/tasks.ts';
import { foundIn, tables } from './support/canary.ts';
import { engineOn, menuOf, openDatabase } from './support/engine.ts';
import { fakeTwilio } from './support/fake-twilio.ts';
import { type Gateway, send, startGateway } from './support/gateway.ts';
import { phoneOn, queryOn } from './support/phone.ts';
import { database, startPostgres } from './support/postgres.ts';

const SECRET = 'a-secret-of-telerivet';
const OPERATORS = [
  'awa:desk:token-of-awa',
  'moussa:desk+read:token-of-moussa',
  'reader:read:token-of-reader',
].join(',');

const POSTED = {
  from_number: '+221770009001',
  to_number: '*555#',
  secret: SECRET,
  language_option: '2',
  location_option: '3',
  support_type_option: '1',
  callback_option: '1',
};

async function start(
  t: Test,
  settings: Record<string, string> = {},
): Promise<Gateway & { database: string }> {
  const { url } = await database(t);
  const given = { DATABASE_URL: url, OPERATOR_TOKEN: OPERATORS, TELERIVET_SECRET: SECRET, ...settings };
  return { ...(await startGateway(t, given)), database: url };
}

const listen = (gateway: Gateway, fields: object, path = '/telerivet/ussd-listener') =>
  send(gateway.url + path, JSON.stringify(fields), { 'content-type': 'application/json' });

type Seen = { status: number; body: Record<string, unknown> };

async function desk({ url }: Gateway, path = '', name = 'awa', body?: unknown): Promise<Seen> {
  const headers: Record<string, string> = { 'content-type': 'application/json' };
  if (name !== '') headers.authorization = `Bearer token-of-${name}`;
  const response = await fetch(`${url}/api/desk/tasks${path}`, {
    headers,
    ...(body !== undefined && { method: 'POST', body: JSON.stringify(body) }),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

t.test('what Telerivet posts', async (t) => {
  const gateway = await start(t, { RATE_LIMIT_MAX: '40' });

  t.test('the secret comes first', async (t) => {
    const wrong = [
      { ...POSTED, secret: 'another-secret-xxxxxx' },
      { ...POSTED, secret: SECRET.toUpperCase() },
      { ...POSTED, secret: '' },
      { ...POSTED, secret: [SECRET] },
      { ...POSTED, secret: { $ne: '' } },
      { ...POSTED, secret: undefined },
      { secret: 'wrong' },
      {},
    ];
    for (const fields of wrong) t.match(await listen(gateway, fields), { status: 401, body: 'Unauthorized' });
    for (const body of ['', 'not json', '[]', 'null', '"x"'])
      t.match(
        (await send(`${gateway.url}/telerivet/ussd-listener`, body, { 'content-type': 'application/json' }))
          .status,
        body === 'not json' ? 400 : 401,
        body,
      );
  });

  t.test('a field that is none of its values', async (t) => {
    const wrong: [string, unknown][] = [
      ['language_option', '3'],
      ['language_option', 0],
      ['language_option', 'English'],
      ['location_option', '4'],
      ['location_option', ''],
      ['support_type_option', 1.5],
      ['support_type_option', null],
      ['support_type_option', ['1']],
      ['callback_option', '3'],
      ['callback_option', true],
      ['callback_option', '1 '],
      ['from_number', '770009001'],
      ['from_number', 770009001],
      ['from_number', '+0770009001'],
      ['from_number', ''],
      ['to_number', 'our line'],
    ];
    for (const [name, value] of wrong)
      t.match(await listen(gateway, { ...POSTED, [name]: value }), { status: 400 }, `${name}: ${value}`);
    for (const name of Object.keys(POSTED).filter((each) => each !== 'secret'))
      t.match(await listen(gateway, { ...POSTED, [name]: undefined }), { status: 400 }, `no ${name}`);
    t.same((await desk(gateway)).body, { tasks: [], next: null }, 'nothing came of any of it');
  });

  t.test('numbers or text, a form or JSON; No makes no task', async (t) => {
    t.match(await listen(gateway, { ...POSTED, callback_option: 2 }), { status: 200, body: 'Success' });
    t.same((await desk(gateway)).body, { tasks: [], next: null });
    const numbers = {
      ...POSTED,
      language_option: 2,
      location_option: 3,
      support_type_option: 1,
      callback_option: 1,
    };
    t.match(await listen(gateway, numbers), { status: 200, body: 'Success' });
    const form = new URLSearchParams({ ...POSTED, support_type_option: '3' }).toString().replace('%2B', '+');
    t.match(await send(`${gateway.url}/telerivet/ussd-listener`, form, FORM), {
      status: 200,
      body: 'Success',
    });
    for (const from_number of ['221770009001', 221770009001])
      t.match(await listen(gateway, { ...numbers, from_number }), { status: 200, body: 'Success' });
    t.match((await desk(gateway)).body.tasks, [
      { from: '+221770009001', to: '*555#', language: 'French', location: 'Thies', supportType: 'Shelter' },
      { from: '+221770009001', supportType: 'Food and Clothing', source: 'telerivet', state: 'open' },
    ]);
  });

  t.test('who knows the secret is not counted, who does not is', async (t) => {
    for (let round = 0; round < 50; round += 1)
      t.equal((await listen(gateway, { ...POSTED, callback_option: '2' })).status, 200);
    const statuses = [];
    for (let round = 0; round < 50; round += 1)
      statuses.push((await listen(gateway, { ...POSTED, secret: 'a guess' })).status);
    t.same([...new Set(statuses)], [401, 429]);
    t.equal((await listen(gateway, POSTED)).status, 200, 'and still comes in');
  });

  t.test('other methods, and no secret at all', async (t) => {
    const other = await fetch(`${gateway.url}/telerivet/ussd-listener`);
    t.match([other.status, other.headers.get('allow')], [405, 'POST']);
    const closed = await startGateway(t);
    t.equal((await listen(closed, { ...POSTED, secret: '' })).status, 401);
    t.equal((await listen(closed, POSTED)).status, 401);
  });

  t.same(foundIn(gateway.output(), [SECRET, '221770009001']), [], 'neither secret nor number is in the log');
});

const FORM = { 'content-type': 'application/x-www-form-urlencoded' };

t.test('the database is away: it is said, so that it is posted again', async (t) => {
  const server = await startPostgres({ own: true });
  t.teardown(() => server.stop());
  const { url } = await database(t, { server: server.url });
  const gateway = await startGateway(t, { DATABASE_URL: url, TELERIVET_SECRET: SECRET });
  await server.kill();
  t.match(await listen(gateway, POSTED), { status: 503, body: 'Service unavailable' });
});

t.test('the desk', async (t) => {
  const gateway = await start(t);
  const refs: string[] = [];
  for (let caller = 1; caller <= 7; caller += 1) {
    await listen(gateway, { ...POSTED, from_number: `+22177000900${caller}` });
    const { tasks } = (await desk(gateway)).body as { tasks: { ref: string }[] };
    refs.push(tasks.at(-1)?.ref ?? '');
  }

  t.test('page by page, whoever has waited longest first', async (t) => {
    const seen: string[] = [];
    let path = '?limit=3';
    for (;;) {
      const { tasks, next } = (await desk(gateway, path)).body as {
        tasks: { ref: string }[];
        next: string | null;
      };
      t.ok(tasks.length <= 3);
      seen.push(...tasks.map(({ ref }) => ref));
      if (next === null) break;
      path = `?limit=3&cursor=${next}`;
    }
    t.same(seen, refs);
    for (const wrong of ['?limit=0', '?limit=101', '?cursor=x', '?state=lost'])
      t.equal((await desk(gateway, wrong)).status, 400, wrong);
  });

  t.test('who may', async (t) => {
    const [ref = ''] = refs;
    const calls: [string, unknown?][] = [
      [''],
      [`/${ref}`],
      [`/${ref}/assign`, { to: 'x' }],
      [`/${ref}/close`, { note: 'x' }],
    ];
    for (const [path, body] of calls) {
      t.equal((await desk(gateway, path, '', body)).status, 401, `${path} without a token`);
      t.equal((await desk(gateway, path, 'nobody', body)).status, 401, `${path} with a wrong one`);
      t.equal((await desk(gateway, path, 'reader', body)).status, 403, `${path} with one that may only read`);
    }
    t.match((await desk(gateway, `/${ref}`)).body, { state: 'open', requests: 1 });
    const open = await startGateway(t);
    t.equal((await desk(open, '', '')).status, 401, 'nor this machine, where there is no token');
  });

  t.test('taken, taken over, closed; and who did it', async (t) => {
    const [, ref = ''] = refs;
    t.match(await desk(gateway, `/${ref}/assign`, 'awa', { to: 'Awa Ndiaye' }), {
      status: 200,
      body: { state: 'assigned', assignee: 'Awa Ndiaye' },
    });
    t.equal((await desk(gateway, `/${ref}/assign`, 'awa', { to: 'Awa Ndiaye' })).status, 200, 'said twice');
    t.equal((await desk(gateway, `/${ref}/assign`, 'moussa', { to: 'Moussa' })).status, 409);
    t.equal((await desk(gateway, `/${ref}/assign`, 'moussa', { to: 'Moussa', instead: true })).status, 200);
    t.equal((await desk(gateway, `/${ref}/close`, 'moussa', { note: 'called, all well' })).status, 200);
    t.equal(
      (await desk(gateway, `/${ref}/close`, 'moussa', { note: 'called, all well' })).status,
      200,
      'again',
    );
    t.equal((await desk(gateway, `/${ref}/close`, 'awa', { note: 'called, all well' })).status, 409);
    t.equal((await desk(gateway, `/${ref}/assign`, 'awa', { to: 'Awa' })).status, 409, 'it is closed');
    t.match((await desk(gateway, `/${ref}`)).body.events, [
      { kind: 'opened', by: 'telerivet' },
      { kind: 'assigned', by: 'awa', note: 'to Awa Ndiaye' },
      { kind: 'assigned', by: 'moussa', note: 'to Moussa' },
      { kind: 'closed', by: 'moussa', note: 'called, all well' },
    ]);
    t.match((await desk(gateway, '?state=closed')).body.tasks, [{ ref }]);
    t.notOk(((await desk(gateway)).body.tasks as { ref: string }[]).some((task) => task.ref === ref));
    for (const body of [{}, { to: '' }, { to: 'a\nb' }, { to: 'x'.repeat(61) }, { to: 5 }])
      t.equal((await desk(gateway, `/${ref}/assign`, 'awa', body)).status, 400);
    for (const body of [{}, { note: ' ' }, { note: 'x'.repeat(501) }])
      t.equal((await desk(gateway, `/${ref}/close`, 'awa', body)).status, 400);
    for (const unknown of ['/1234567', '/1234567/assign', '/1234567/close']) {
      const body = unknown.endsWith('assign')
        ? { to: 'x' }
        : unknown.endsWith('close')
          ? { note: 'x' }
          : undefined;
      t.equal((await desk(gateway, unknown, 'awa', body)).status, 404, unknown);
    }
    t.match(gateway.output(), /"operator":"moussa","ref":"\d{7}","outcome":"done","msg":"desk task closed"/);
  });

  t.test('two who take one at the same moment', async (t) => {
    const [, , ref = ''] = refs;
    const takers = ['awa', 'moussa', 'awa', 'moussa', 'awa', 'moussa'];
    const told = await Promise.all(
      takers.map((name, index) => desk(gateway, `/${ref}/assign`, name, { to: `taker ${index}` })),
    );
    t.equal(told.filter(({ status }) => status === 200).length, 1);
    t.equal(told.filter(({ status }) => status === 409).length, takers.length - 1);
    const closed = await Promise.all(
      takers.map((name, index) => desk(gateway, `/${ref}/close`, name, { note: `by ${index}` })),
    );
    t.equal(closed.filter(({ status }) => status === 200).length, 1);
  });

  t.test('at rest nobody can be told', async (t) => {
    const all = await tables(gateway.database);
    t.match(all, /tasks\.sealed\n[0-9a-f]{80}/, 'the tables were read');
    t.same(foundIn(all, ['22177000900', 'all well']), []);
    t.same(foundIn(gateway.output(), ['22177000900', 'Shelter', 'Thies', 'all well']), []);
  });

  t.test('how many wait, and for how long', async (t) => {
    const headers = { authorization: 'Bearer token-of-reader' };
    const metrics = await (await fetch(`${gateway.url}/metrics`, { headers })).text();
    t.match(metrics, /ussd_desk_tasks\{state="open"\} 5\n/);
    t.match(metrics, /ussd_desk_oldest_seconds\{state="open"\} \d/);
  });
});

const SUPPORT = readFileSync(join(import.meta.dirname, '../src/services/support/menu.yaml'), 'utf8');

t.test('a private document can betray nobody: the check refuses what would', async (t) => {
  const effects = { openTask: ['reference', 'language', 'location', 'supportType'], sms: ['text'] };
  const known = {
    facts: { help: { values: { reference: 7 } } },
    effects,
    quiet: new Set(['openTask']),
  };
  t.ok(menuOf(SUPPORT, known));
  const refused: [string, string, RegExp][] = [
    ['private: true', 'private: true\nresume: 60', /a private service offers no resume: remove it/],
    ['- openTask:', '- sms: { text: x }\n              - openTask:', /the effect sms leaves a trace/],
    ['language: fr', 'language: wo', /key 2 names wo: name one of en, fr/],
  ];
  for (const [from, to, problem] of refused) {
    t.ok(SUPPORT.includes(from), from);
    t.match(JSON.stringify(parseMenu(SUPPORT.replace(from, to), 'test', known)), problem);
  }
});

const REQUEST = {
  from: '+221770009100',
  to: '*555#',
  language: 'English',
  location: 'Touba',
  supportType: 'Legal',
};

async function onRows(t: Test) {
  const { url, db } = await openDatabase(t);
  const engine = await engineOn(db, {
    documents: [],
    codes: { codes: new Map(), fallback: '' },
    ttl: 180_000,
  });
  const query = await queryOn(t, url);
  const asks = async (tasks: Tasks, reference: string) => {
    const id = await db.kysely.transaction().execute(async (tx) => {
      const event = await tasks.ask(tx, { ...REQUEST, reference, source: 'ussd', priority: 0 });
      await putOut(tx, 'task', event);
      return event;
    });
    return id;
  };
  return { db: db.kysely, tasks: engine.tasks, farTasks: engine.farTasks, query, asks };
}

t.test(
  'creating it is begun and nobody hears the answer: it is looked for before it is created again',
  async (t) => {
    const { db, tasks, farTasks, query, asks } = await onRows(t);
    const fake = await fakeTwilio(t);
    const { accountSid, authToken, workspaceSid, url: baseUrl } = fake;
    const twilio = { accountSid, authToken, workspaceSid, baseUrl, taskChannel: 'default', timeoutMs: 3_000 };
    const router = twilioTaskRouter(twilio);
    const later = () => query(`update tasks set tried_at = tried_at - interval '1 minute'`);

    const id = await asks(tasks, '1000001');
    fake.next('drop');
    t.same([...(await taskDelivery(db, farTasks, router).deliver([id]))], [[id, 'dropped']]);
    t.same([...(await taskDelivery(db, farTasks, router).deliver([id]))], []);
    t.equal(fake.tasks.length, 1);

    t.comment('it may be under way for a while: its absence proves nothing yet');
    await query(`update tasks set state = 'closed', closed_at = now()`);
    const second = await asks(tasks, '1000002');
    fake.next('fail');
    t.same([...(await taskDelivery(db, farTasks, router).deliver([second]))], [[second, 'http_500_20500']]);
    t.same([...(await taskDelivery(db, farTasks, router).deliver([second]))], [[second, 'uncertain']]);
    await later();
    t.same([...(await taskDelivery(db, farTasks, router).deliver([second]))], []);
    t.equal(fake.tasks.length, 2);

    t.comment('without looking there would be two');
    await query(`update tasks set state = 'closed', closed_at = now()`);
    const third = await asks(tasks, '1000003');
    const blind: TaskRouter = { ...router, find: async () => undefined };
    fake.next('drop');
    await taskDelivery(db, farTasks, blind).deliver([third]);
    await later();
    await taskDelivery(db, farTasks, blind).deliver([third]);
    t.equal(fake.tasksOf({ reference: '1000003' }).length, 2);

    t.comment(
      'after an answer nothing is under way: it is created again a few seconds later, not after twenty',
    );
    await query(`update tasks set state = 'closed', closed_at = now()`);
    const soon = () => query(`update tasks set tried_at = tried_at - interval '5 seconds'`);
    const fourth = await asks(tasks, '1000004');
    fake.next('fail');
    await taskDelivery(db, farTasks, router).deliver([fourth]);
    await soon();
    t.same([...(await taskDelivery(db, farTasks, router).deliver([fourth]))], []);
    t.equal(fake.tasksOf({ reference: '1000004' }).length, 1);
    await query(`update tasks set state = 'closed', closed_at = now()`);
    const fifth = await asks(tasks, '1000005');
    fake.next('drop');
    await taskDelivery(db, farTasks, blind).deliver([fifth]);
    await soon();
    t.same(
      [...(await taskDelivery(db, farTasks, blind).deliver([fifth]))],
      [[fifth, 'uncertain']],
      'without an answer it may be',
    );
  },
);

t.test('one process at a time speaks of a task', async (t) => {
  const { db, tasks, farTasks, query, asks } = await onRows(t);
  const made: string[] = [];
  const { promise: answered, resolve: answer } = Promise.withResolvers<void>();
  const slow: TaskRouter = {
    name: 'slow',
    create: async ({ attributes }) => {
      made.push(attributes.reference);
      await answered;
      return 'one';
    },
    find: async () => undefined,
    update: async () => true,
    close: async () => {},
  };
  const id = await asks(tasks, '1000004');
  const first = taskDelivery(db, farTasks, slow).deliver([id]);
  while (made.length === 0) await new Promise((resolve) => setImmediate(resolve));
  t.same([...(await taskDelivery(db, farTasks, slow).deliver([id]))], [[id, 'busy']]);
  answer();
  t.same([...(await first)], []);
  t.same(made, ['1000004']);
  t.same(await query('select leased_until, router_id from tasks'), [
    { leased_until: null, router_id: 'one' },
  ]);
});

t.test('what is refused for good stays with the desk, which may take it then', async (t) => {
  const { db, tasks, farTasks, query, asks } = await onRows(t);
  const refusing: TaskRouter = {
    name: 'refusing',
    create: async () => {
      throw new ProviderError('refused_reference', false);
    },
    find: async () => undefined,
    update: async () => true,
    close: async () => {},
  };
  const assign = () =>
    db
      .transaction()
      .execute((tx) => tasks.assign(tx, '1000005', { to: 'Awa', by: 'awa', instead: false, routed: true }));
  const id = await asks(tasks, '1000005');
  t.equal(await assign(), 'elsewhere');
  t.same([...(await taskDelivery(db, farTasks, refusing).deliver([id]))], []);
  t.same(await query('select state, error from outbox'), [{ state: 'refused', error: 'refused_reference' }]);
  t.equal(await assign(), 'assigned');
});

t.test('a router that lets go of everything is not asked for ever', async (t) => {
  const { db, tasks, farTasks, asks } = await onRows(t);
  await asks(tasks, '1000006');
  const [task] = await tasks.list(db, { states: ['open'] }, 1);
  const again = [];
  for (let round = 0; round < 7; round += 1) {
    await farTasks.handed(db, task?.id ?? '', 'hot potato', `id ${round}`);
    const event = { router: 'hot potato', routerId: `id ${round}`, at: round + 1, move: 'lost' as const };
    again.push((await farTasks.hear(db, event)).handOver !== undefined);
  }
  t.same(again, [true, true, true, true, true, false, false]);
  t.match(await tasks.list(db, { states: ['open'] }, 5), [{ reference: '1000006', router: null }]);
});

t.test('what nobody has touched for so long is erased, and nothing else', async (t) => {
  const { db, tasks, query, asks } = await onRows(t);
  await asks(tasks, '1000007');
  await query(`update tasks set changed_at = now() - interval '91 days', matter = 'x'`);
  await asks(tasks, '1000008');
  t.same(await tasks.forget(db, 90), { open: 1, assigned: 0, closed: 0 });
  t.same(await query('select reference from tasks'), [{ reference: '1000008' }]);
  t.same(await query('select count(*)::int as n from task_events'), [{ n: 1 }], 'with what became of it');
});

t.test('three wrong answers in a row end it kindly', async (t) => {
  const gateway = await start(t);
  const phone = phoneOn(gateway.url, '+221770009300');
  await phone.dial('*555#');
  t.match(await phone.type('1', '9'), /^CON Please reply with one of these:\nWhere are you\?/);
  t.match(await phone.type('9', '9'), /^END We did not understand\. Please dial again/);
});
