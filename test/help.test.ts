/**
 * Requests for help, from the screen to the task router and back (docs/contract.md section 7): none is lost and none is
 * there twice, whatever fails in between.
 */
import t, { type Test } from 'tap';
import type { ServeOptions } from '../src/serve.ts';
import { LEASE_SECONDS, UNCERTAIN_SECONDS } from '../src/store/far-tasks.ts';
import { type FakeTwilio, type FakeTwilioOptions, fakeTwilio } from './support/fake-twilio.ts';
import { type Gateway, post, send, startGateway, startQuickProcess } from './support/gateway.ts';
import { eventually, phoneOn, type Query, queryOn } from './support/phone.ts';
import { database } from './support/postgres.ts';
import { scaled } from './support/scale.ts';

const TOKEN = 'a-token-for-this-test';
const AUTHORIZED = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' };
const SECRET = 'a-secret-of-telerivet';
/** Longer than a busy machine takes for anything here. */
const PATIENCE_MS = 240_000;

/**
 * What is tried again here is tried again at once. A call takes at most a third of what one process holds a task for,
 * as in production, and what may be under way is so for longer than that.
 */
const SOON: ServeOptions = {
  routerMs: 400,
  farTaskTimes: { leaseSeconds: 1.5, uncertainSeconds: 2 },
  queue: { backoff: { retryDelayMax: 0 }, retries: 1_000, expireSeconds: 2, lookSeconds: 1, wakeMs: 100 },
};

type Centre = { gateways: Gateway[]; url: string; fake: FakeTwilio; query: Query; database: string };

/** Gateways on one database, with a task router of their own. */
async function openCentre(
  t: Test,
  instances = 1,
  options: FakeTwilioOptions = {},
  start: typeof startGateway = startGateway,
): Promise<Centre> {
  const { url: DATABASE_URL } = await database(t);
  const fake = await fakeTwilio(t, options);
  const settings = { DATABASE_URL, OPERATOR_TOKEN: TOKEN, TELERIVET_SECRET: SECRET, ...fake.environment };
  const gateways = await Promise.all(Array.from({ length: instances }, () => start(t, settings, SOON)));
  const query = await queryOn(t, DATABASE_URL);
  return { gateways, url: gateways[0]?.url ?? '', fake, query, database: DATABASE_URL };
}

t.test('in production a call that may be under way is waited for', async (t) => {
  t.same([LEASE_SECONDS, UNCERTAIN_SECONDS], [10, 20]);
});

const numberOf = (index: number) => `+22177000${String(index).padStart(4, '0')}`;

/** Asks for help until somebody has answered; every text is sent three times, to whoever is there. */
async function walk(
  t: Test,
  { gateways }: Centre,
  phoneNumber: string,
  ...inputs: string[]
): Promise<string> {
  let told = '';
  const texts = ['', ...inputs.map((_, index) => inputs.slice(0, index + 1).join('*'))];
  for (const text of texts) {
    const fields = { sessionId: `help-${phoneNumber}`, serviceCode: '*555#', phoneNumber, text };
    for (let round = 0; ; round += 1) {
      if (round === 20) throw new Error(`nobody answers ${text}`);
      const replies = await Promise.all(
        [0, 1, 2].map((copy) =>
          post(gateways[(copy + round) % gateways.length]?.url ?? '', fields).catch(() => undefined),
        ),
      );
      const bodies = replies.flatMap((reply) =>
        reply?.outcome === 'ok' || reply?.outcome === 'replay' ? [reply.body] : [],
      );
      if (new Set(bodies).size > 1) t.fail(`${text} was answered in two ways: ${bodies.join(' / ')}`);
      told = bodies[0] ?? '';
      if (told !== '') break;
    }
  }
  return told;
}

const referenceIn = (end: string) => /: (\d{7})$/.exec(end)?.[1] ?? '';

async function settled({ query }: Centre): Promise<void> {
  await eventually(
    'everything was told',
    async () => {
      const [row] = await query<{ n: number }>(
        `select count(*)::int as n from outbox where state = 'queued'`,
      );
      return row?.n === 0;
    },
    PATIENCE_MS,
  );
}

async function desk({ url }: Centre, path: string, body?: object): Promise<{ status: number; body: never }> {
  const response = await fetch(`${url}/api/desk/tasks${path}`, {
    headers: AUTHORIZED,
    ...(body !== undefined && { method: 'POST', body: JSON.stringify(body) }),
  });
  return { status: response.status, body: (await response.json()) as never };
}

t.test('1, 2, 3, 1 is one task with exactly the documented attributes; 2 at the end is none', async (t) => {
  const centre = await openCentre(t);
  const { fake, url } = centre;
  const phone = phoneOn(url, numberOf(1));
  t.match(await phone.dial('*555#'), /^CON Choose your language\nChoisissez votre langue\n1\. ENGLISH/);
  t.equal(await phone.type('1'), 'CON Where are you?\n1. Dakar\n2. Touba\n3. Thies\n0. Back\n*. Exit');
  t.match(await phone.type('2'), /^CON What do you need\?\n1\. Shelter\n2\. Legal help\n3\. Food & clothing/);
  t.match(await phone.type('3'), /^CON May we call you on this number\?\n1\. Yes, call me\n2\. No\n/);
  const end = await phone.type('1');
  t.match(end, /^END Thank you\. We will call you\.\nYour reference: \d{7}$/);
  await settled(centre);

  t.same(
    fake.tasks.map(({ attributes }) => attributes),
    [
      {
        type: 'support',
        channel: 'ussd',
        to: '*555#',
        from: numberOf(1),
        language: 'English',
        location: 'Touba',
        callback: 'Yes',
        support_type: 'Food and Clothing',
        reference: referenceIn(end),
      },
    ],
  );
  const [asked] = fake.requests;
  t.equal(asked?.path, `POST /v1/Workspaces/${fake.workspaceSid}/Tasks`);
  t.match(asked?.fields, { WorkflowSid: fake.workflowSid, TaskChannel: 'default', Priority: '5' });

  const french = phoneOn(url, numberOf(2));
  await french.dial('*555#');
  t.match(await french.type('2', '1', '1'), /^CON Pouvons-nous vous appeler sur ce numéro\?\n1\. Oui/);
  t.equal(
    await french.type('2'),
    'END Merci. Personne ne vous appellera. Composez ce code quand vous voulez.',
  );
  await settled(centre);
  t.equal(fake.tasks.length, 1, 'nobody is called who did not ask for it');
  t.same(await centre.query('select count(*)::int as n from tasks'), [{ n: 1 }]);
});

t.test('a dialled-through code asks for nothing that nobody has read', async (t) => {
  const centre = await openCentre(t);
  const through = { serviceCode: '*555*1*2*3*1#', phoneNumber: numberOf(3), text: '' };
  t.match((await post(centre.url, through)).body, /^CON May we call you on this number\?/);
  const lost = { sessionId: 'lost', serviceCode: '*555#', phoneNumber: numberOf(3) };
  await post(centre.url, { ...lost, text: '' });
  t.match((await post(centre.url, { ...lost, text: '2*2*3*1' })).body, /^CON Pouvons-nous vous appeler/);
  t.same(await centre.query('select count(*)::int as n from tasks'), [{ n: 0 }]);
});

t.test('whoever has the phone next learns nothing', async (t) => {
  const centre = await openCentre(t);
  const first = phoneOn(centre.url, numberOf(4));
  const screens = async () => {
    const seen = [await first.dial('*555#')];
    for (const input of ['2', '1', '1', '1']) seen.push(await first.type(input));
    return seen;
  };
  const once = await screens();
  const again = await screens();
  t.same(again, once, 'the same screens, in the language that is asked for anew, to the reference');
  t.match(once[0], /^CON Choose your language/);
  t.same(await centre.query('select count(*)::int as n from messages'), [{ n: 0 }], 'no SMS');
  t.same(await centre.query('select count(*)::int as n from subscribers'), [{ n: 0 }], 'nothing remembered');
  const broken = phoneOn(centre.url, numberOf(4));
  await broken.dial('*555#');
  await broken.type('1', '1');
  t.equal(await phoneOn(centre.url, numberOf(4)).dial('*555#'), once[0], 'nothing is offered again');
  const { sessionId } = first.session;
  const look = await fetch(`${centre.url}/api/ussd/debug/${sessionId}`, { headers: AUTHORIZED });
  const { debugInfo } = (await look.json()) as { debugInfo: { context: object } };
  t.match(debugInfo.context, { phoneNumber: 'private', message: 'private' });
  t.notMatch(centre.gateways[0]?.output(), /77000/, 'and no log has the number');
});

t.test('asked again within 48 hours: one task, which then says what was said last', async (t) => {
  const centre = await openCentre(t);
  const { fake, query } = centre;
  const phone = phoneOn(centre.url, numberOf(5));
  const askFor = async (...inputs: string[]) => {
    await phone.dial('*555#');
    const end = await phone.type(...inputs, '1');
    await settled(centre);
    return referenceIn(end);
  };
  const reference = await askFor('1', '1', '1');
  t.equal(await askFor('2', '3', '1'), reference);
  t.equal(fake.tasks.length, 1);
  t.match(fake.tasks[0]?.attributes, { language: 'French', location: 'Thies', support_type: 'Shelter' });
  t.match((await desk(centre, `/${reference}`)).body, { requests: 2, location: 'Thies' });

  t.not(await askFor('1', '1', '2'), reference, 'other support is another task');
  t.equal(fake.tasks.length, 2);

  await query(`update tasks set opened_at = opened_at - interval '48 hours 1 second'`);
  t.not(await askFor('1', '1', '1'), reference, 'later it is another one');
  t.equal(fake.tasks.length, 3);
});

t.test('asked for at once from everywhere: one task', async (t) => {
  const centre = await openCentre(t, 2);
  const form = new URLSearchParams({
    from_number: numberOf(6),
    to_number: '*555#',
    secret: SECRET,
    language_option: '1',
    location_option: '1',
    support_type_option: '1',
    callback_option: '1',
  });
  const phones = centre.gateways.flatMap(({ url }) => [phoneOn(url, numberOf(6)), phoneOn(url, numberOf(6))]);
  await Promise.all(
    phones.map(async (phone) => {
      await phone.dial('*555#');
      await phone.type('1', '1', '1');
    }),
  );
  const [ends, posts] = await Promise.all([
    Promise.all(phones.map((phone) => phone.type('1'))),
    Promise.all(
      centre.gateways.flatMap(({ url }) =>
        [0, 1, 2].map(() =>
          send(`${url}/telerivet/ussd-listener`, form, {}).then(({ status, body }) => ({ status, body })),
        ),
      ),
    ),
  ]);
  t.equal(new Set(ends.map(referenceIn)).size, 1, 'one reference');
  t.ok(posts.every(({ status, body }) => status === 200 && body === 'Success'));
  await settled(centre);
  t.equal(centre.fake.tasks.length, 1);
  t.match((await desk(centre, `/${referenceIn(ends[0] ?? '')}`)).body, { requests: 10 });
});

t.test('many people, a router that fails in every way, a process that is killed: a task each', async (t) => {
  const people = scaled(50, 12);
  const chaos = { fail: 0.15, busy: 0.1, drop: 0.15, hang: 0.05, malformed: 0.05, truncated: 0.05 };
  const centre = await openCentre(t, 1, { seed: 5, chaos });
  const { fake, gateways } = centre;
  const settings = { DATABASE_URL: centre.database, OPERATOR_TOKEN: TOKEN, ...fake.environment };
  const other = await startQuickProcess(t, settings, SOON);
  gateways.unshift(other);
  const killed = fake.when(() => fake.tasks.length >= people / 4).then(() => other.kill());
  const calm = fake.when(() => fake.requests.length >= 1.6 * people).then(() => fake.chaos({}));
  const numbers = Array.from({ length: people }, (_, index) => numberOf(100 + index));
  const ends = await Promise.all(numbers.map((number) => walk(t, centre, number, '1', '2', '1', '1')));
  t.ok(ends.every((end) => /^END Thank you\. We will call you\./.test(end)));
  await Promise.all([killed, calm]);
  await settled(centre);
  t.equal(fake.tasks.length, people);
  t.same(
    fake.tasks.map(({ attributes }) => [attributes.from, attributes.reference]).sort(),
    numbers.map((number, index) => [number, referenceIn(ends[index] ?? '')]).sort(),
    'one for each of them, under what they were told',
  );
  const rows = await centre.query<{ router_id: string }>('select router_id from tasks');
  t.same(rows.map(({ router_id }) => router_id).sort(), fake.tasks.map(({ sid }) => sid).sort());
});

t.test('the router is down: the desk has it; back again, it is handed over', async (t) => {
  const centre = await openCentre(t);
  const { fake, query } = centre;
  await fake.down();
  const end = await walk(t, centre, numberOf(7), '1', '1', '1', '1');
  const reference = referenceIn(end);
  await eventually('it was tried twice', async () => {
    const [row] = await query<{ attempts: number }>('select attempts from outbox');
    return (row?.attempts ?? 0) >= 2;
  });
  t.match((await desk(centre, '')).body, { tasks: [{ ref: reference, state: 'open', router: null }] });
  t.equal((await desk(centre, `/${reference}/assign`, { to: 'Awa' })).status, 409, 'it is on its way there');
  await fake.up();
  await settled(centre);
  t.equal(fake.tasks.length, 1);
  t.match((await desk(centre, `/${reference}`)).body, {
    router: 'twilio',
    events: [{ kind: 'opened' }, { kind: 'handed', by: 'twilio' }],
  });
});

t.test('what the router says of a task, in whatever order', async (t) => {
  const centre = await openCentre(t);
  const { fake, url } = centre;
  const events = `${url}/twilio/task-events`;
  const asks = async (index: number) => {
    const reference = referenceIn(await walk(t, centre, numberOf(index), '1', '1', '1', '1'));
    await settled(centre);
    return { reference, sid: fake.tasksOf({ reference }).at(-1)?.sid ?? '' };
  };
  const at = (ms: number) => ({ TimestampMs: `${1_750_000_000_000 + ms}` });
  const stateOf = async (reference: string) => {
    const { state, assignee } = (await desk(centre, `/${reference}`)).body as {
      state: string;
      assignee: string;
    };
    return [state, assignee];
  };

  const one = await asks(8);
  const say = (type: string, ms: number, more: Record<string, string> = {}) =>
    fake.tell(one.sid, type, events, { overrides: { ...at(ms), ...more } });
  t.equal(await say('reservation.accepted', 10), 200);
  t.same(await stateOf(one.reference), ['assigned', 'amina']);
  await say('reservation.accepted', 5, { WorkerName: 'too late' });
  t.same(await stateOf(one.reference), ['assigned', 'amina'], 'an older event moves nothing');
  await say('reservation.canceled', 20, { TaskAssignmentStatus: 'pending' });
  t.same(await stateOf(one.reference), ['open', null]);
  await say('task.completed', 30);
  await say('reservation.accepted', 40);
  t.same(await stateOf(one.reference), ['closed', null], 'closed is closed');
  await say('task.completed', 50);
  const { events: trail } = (await desk(centre, `/${one.reference}`)).body as { events: { kind: string }[] };
  t.same(
    trail.map(({ kind }) => kind),
    ['opened', 'handed', 'assigned', 'released', 'closed'],
  );

  t.comment('nobody took it: it is not over');
  const two = await asks(9);
  fake.setStatus(two.sid, 'canceled', 'Task TTL Exceeded');
  t.equal(await fake.tell(two.sid, 'task.canceled', events, { overrides: at(1) }), 200);
  await settled(centre);
  t.equal(fake.tasksOf({ reference: two.reference }).length, 2, 'it is handed over anew');
  t.same(await stateOf(two.reference), ['open', null]);

  t.comment('somebody cancelled it');
  const three = await asks(10);
  await fake.tell(three.sid, 'task.canceled', events, {
    overrides: { ...at(1), TaskCanceledReason: 'a test' },
  });
  t.same(await stateOf(three.reference), ['closed', null]);

  t.comment('its end was never told, and the caller asks again');
  const four = await asks(11);
  fake.setStatus(four.sid, 'completed', 'done');
  const phone = phoneOn(url, numberOf(11));
  await phone.dial('*555#');
  t.equal(referenceIn(await phone.type('1', '1', '1', '1')), four.reference);
  await settled(centre);
  const live = fake.tasksOf({ reference: four.reference }).filter(({ status }) => status === 'pending');
  t.equal(live.length, 1, 'somebody will call');

  t.comment('closed at the desk, it is over there too');
  const five = await asks(12);
  const note = { note: 'called back, a bed for tonight' };
  t.match((await desk(centre, `/${five.reference}/close`, note)).body, {
    state: 'closed',
    events: [{}, {}, { kind: 'closed', by: 'operator', ...note }],
  });
  await settled(centre);
  t.equal(fake.task(five.sid).status, 'canceled');
  t.equal((await desk(centre, `/${five.reference}/close`, note)).status, 200, 'said twice');
  t.equal((await desk(centre, `/${five.reference}/close`, { note: 'another' })).status, 409);

  t.comment('only what Twilio has signed is heard');
  const six = await asks(13);
  const { body, headers } = fake.event(six.sid, 'task.completed', events, at(1));
  const forged = fake.event(six.sid, 'task.completed', events, at(1), 'another token');
  const refused: [string, string, Record<string, string>][] = [
    ['without a signature', body, { 'content-type': 'application/x-www-form-urlencoded' }],
    ['by another token', forged.body, forged.headers],
    ['changed on the way', body.replace('completed', 'canceled'), headers],
    ['nothing', '', headers],
  ];
  for (const [what, sent, said] of refused) t.equal((await send(events, sent, said)).status, 403, what);
  t.equal((await send(`${events}?more=1`, body, headers)).status, 403, 'for another URL');
  t.same(await stateOf(six.reference), ['open', null]);
  await fake.tell(six.sid, 'task.completed', events, {
    overrides: { ...at(1), WorkspaceSid: 'WS00000000000000000000000000000000' },
  });
  t.same(await stateOf(six.reference), ['open', null], 'of another workspace');
  t.equal(
    await fake.tell(six.sid, 'task.completed', events, {
      url: events.replace('http:', 'https:'),
      overrides: at(2),
    }),
    200,
    'behind a proxy that ends TLS',
  );
  t.same(await stateOf(six.reference), ['closed', null]);
});

t.test('an event that comes before the answer: the task is known by its reference', async (t) => {
  const centre = await openCentre(t);
  const { fake, url, query } = centre;
  fake.next('hang');
  const reference = referenceIn(await walk(t, centre, numberOf(14), '1', '1', '1', '1'));
  await fake.when(() => fake.tasks.length === 1);
  const [task] = fake.tasks;
  const events = `${url}/twilio/task-events`;
  t.equal(await fake.tell(task?.sid ?? '', 'reservation.accepted', events), 200);
  t.match((await desk(centre, `/${reference}`)).body, {
    state: 'assigned',
    assignee: 'amina',
    router: 'twilio',
  });
  await settled(centre);
  t.equal(fake.tasks.length, 1);
  t.same(await query('select router_id from tasks'), [{ router_id: task?.sid }]);
});

t.test('a process that is gone in the middle of handing over: another one finishes, once', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const fake = await fakeTwilio(t);
  const settings = { DATABASE_URL, OPERATOR_TOKEN: TOKEN, ...fake.environment };
  const killed = await startQuickProcess(t, settings, SOON);
  const query = await queryOn(t, DATABASE_URL);
  const centre: Centre = { gateways: [killed], url: killed.url, fake, query, database: DATABASE_URL };
  // It is killed when the task is there and the answer is not.
  fake.next('hang');
  const end = await walk(t, centre, numberOf(15), '1', '1', '1', '1');
  await fake.when(() => fake.tasks.length === 1);
  await killed.kill();
  const after = await startGateway(t, settings, SOON);
  await settled(centre);
  t.equal(fake.tasks.length, 1);
  t.match((await desk({ ...centre, url: after.url }, `/${referenceIn(end)}`)).body, { router: 'twilio' });
});

t.test('what the router says late, of a task that it let go or has not read to its end', async (t) => {
  const centre = await openCentre(t);
  const { fake, url } = centre;
  const events = `${url}/twilio/task-events`;
  const yes = async (index: number, session: string) => {
    const fields = { sessionId: session, serviceCode: '*555#', phoneNumber: numberOf(index) };
    let body = '';
    for (const text of ['', '1', '1*1', '1*1*1', '1*1*1*1'])
      body = (await post(url, { ...fields, text })).body;
    return referenceIn(body);
  };
  const live = (reference: string) =>
    fake.tasksOf({ reference }).filter(({ status }) => !['completed', 'canceled'].includes(status));
  const opened = async (index: number) => {
    const reference = await yes(index, `first-${index}`);
    await settled(centre);
    return { reference, sid: fake.tasksOf({ reference })[0]?.sid ?? '' };
  };

  t.comment('completed before the second Yes was seen there, told after it');
  const one = await opened(20);
  fake.setStatus(one.sid, 'completed', 'called');
  fake.chaos({ fail: 1 });
  t.equal(await yes(20, 'second-20'), one.reference);
  await fake.tell(one.sid, 'task.completed', events);
  fake.chaos({});
  await settled(centre);
  t.equal(live(one.reference).length, 1, 'somebody will call');
  t.match((await desk(centre, `/${one.reference}`)).body, { state: 'open', requests: 2 });

  t.comment('found out by ourselves, and the end of the old one told while the new one is not answered');
  const two = await opened(21);
  fake.setStatus(two.sid, 'completed', 'called');
  t.equal(await yes(21, 'second-21'), two.reference);
  // The update finds it over; then creating anew fails once.
  await eventually('it is to be created anew', async () => {
    const [row] = await centre.query<{ n: number }>(
      `select count(*)::int as n from task_events where kind = 'reopened'`,
    );
    return (row?.n ?? 0) >= 2;
  });
  await fake.tell(two.sid, 'task.completed', events);
  await settled(centre);
  t.equal(live(two.reference).length, 1);
  t.match((await desk(centre, `/${two.reference}`)).body, { state: 'open' });

  for (const [index, fate, type] of [
    [22, 'fail', 'task.deleted'],
    [23, 'hang', 'task.system-deleted'],
    [24, 'hang', 'reservation.accepted'],
  ] as const) {
    t.comment(`cancelled by its age, created anew (${fate}), and then ${type} of the old one`);
    const old = await opened(index);
    fake.setStatus(old.sid, 'canceled', 'Task TTL Exceeded');
    const before = fake.requests.length;
    fake.next(fate);
    await fake.tell(old.sid, 'task.canceled', events);
    await fake.when(() => fake.requests.length > before);
    t.equal(await fake.tell(old.sid, type, events), 200);
    await settled(centre);
    t.equal(live(old.reference).length, 1, 'one, and not two');
    t.match((await desk(centre, `/${old.reference}`)).body, { state: 'open', router: 'twilio' });
  }
});

t.test('credentials that come later, go, and come back', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const fake = await fakeTwilio(t);
  const query = await queryOn(t, DATABASE_URL);
  const begin = async (settings: Record<string, string>): Promise<Centre & { stop(): Promise<unknown> }> => {
    const gateway = await startGateway(t, { DATABASE_URL, OPERATOR_TOKEN: TOKEN, ...settings }, SOON);
    return { gateways: [gateway], url: gateway.url, fake, query, database: DATABASE_URL, stop: gateway.stop };
  };
  const alone = await begin({});
  const early = referenceIn(await walk(t, alone, numberOf(30), '1', '1', '1', '1'));
  const taken = referenceIn(await walk(t, alone, numberOf(31), '1', '1', '1', '1'));
  await settled(alone);
  t.equal((await desk(alone, `/${taken}/assign`, { to: 'Awa' })).status, 200);
  await alone.stop();

  const routed = await begin(fake.environment);
  await settled(routed);
  t.same(
    fake.tasks.map(({ attributes }) => attributes.reference),
    [early],
    'who was waiting is handed over; who was taken stays with whoever took them',
  );
  await routed.stop();

  const without = await begin({});
  t.equal((await desk(without, `/${early}/assign`, { to: 'Moussa' })).status, 200, 'there is nobody else');
  t.equal((await desk(without, `/${early}/close`, { note: 'called' })).status, 200);
  await settled(without);
  await without.stop();

  const back = await begin(fake.environment);
  await settled(back);
  t.equal(fake.tasks[0]?.status, 'canceled', 'nobody is called about what is settled');
  t.equal(fake.tasks.length, 1);
  await back.stop();
});

t.test('while the router is away the desk can take a task, and then it is nobody else’s', async (t) => {
  const centre = await openCentre(t);
  const { fake } = centre;
  fake.chaos({ drop: 1 });
  const reference = referenceIn(await walk(t, centre, numberOf(40), '1', '1', '1', '1'));
  await fake.when(() => fake.tasks.length === 1);
  await fake.down();
  const path = `/${reference}/assign`;
  t.equal((await desk(centre, path, { to: 'Awa' })).status, 409);
  await eventually('nobody is speaking of it', async () => {
    return (await desk(centre, path, { to: 'Awa', instead: true })).status === 200;
  });
  fake.chaos({});
  await fake.up();
  await settled(centre);
  t.same(
    fake.tasks.map(({ status }) => status),
    ['canceled'],
    'what was created without an answer is over',
  );
  t.match((await desk(centre, `/${reference}`)).body, { state: 'assigned', assignee: 'Awa' });
  const [task] = fake.tasks;
  await fake.tell(task?.sid ?? '', 'task.canceled', `${centre.url}/twilio/task-events`);
  t.match(
    (await desk(centre, `/${reference}`)).body,
    { state: 'assigned' },
    'and what is said of it is not heard',
  );
});

t.test('what cannot be read was signed by nobody; names and clocks that are none', async (t) => {
  const centre = await openCentre(t);
  const { fake, url } = centre;
  const events = `${url}/twilio/task-events`;
  const form = 'application/x-www-form-urlencoded';
  const unreadable: [string, string][] = [
    ['application/json', '{'],
    ['text/xml', '<x/>'],
    ['multipart/form-data; boundary=x', '--x--'],
    [form, `a=${'x'.repeat(70_000)}`],
    [form, 'a=%FF'],
  ];
  for (const [type, body] of unreadable)
    t.equal((await send(events, body, { 'content-type': type })).status, 403, type);

  const reference = referenceIn(await walk(t, centre, numberOf(50), '1', '1', '1', '1'));
  await settled(centre);
  const sid = fake.tasksOf({ reference })[0]?.sid ?? '';
  const odd = { WorkerName: 'a\0b', TimestampMs: '9999999999999' };
  t.equal(await fake.tell(sid, 'reservation.accepted', events, { overrides: odd }), 200);
  t.match((await desk(centre, `/${reference}`)).body, { state: 'assigned', assignee: null });
  const later = { TimestampMs: `${Date.now() + 3_600_000}` };
  await fake.tell(sid, 'task.completed', events, { overrides: later });
  t.match((await desk(centre, `/${reference}`)).body, { state: 'closed' }, 'a wrong clock makes nobody deaf');
});

t.test('below the secret of callbacks, and from networks that are not allowed', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const fake = await fakeTwilio(t);
  const gateway = await startGateway(t, {
    DATABASE_URL,
    CALLBACK_SECRET: 'a-secret-of-callbacks',
    GATEWAY_ALLOW: '192.0.2.0/24',
    OPERATOR_TOKEN: TOKEN,
    TELERIVET_SECRET: SECRET,
    ...fake.environment,
  });
  const below = `${gateway.url}/c/a-secret-of-callbacks`;
  const posted = {
    from_number: numberOf(60),
    to_number: '*555#',
    secret: SECRET,
    language_option: '1',
    location_option: '1',
    support_type_option: '1',
    callback_option: '1',
  };
  t.equal(
    (await send(`${gateway.url}/telerivet/ussd-listener`, new URLSearchParams(posted), {})).status,
    403,
  );
  t.equal((await send(`${below}/telerivet/ussd-listener`, new URLSearchParams(posted), {})).status, 200);
  await fake.when(() => fake.tasks.length === 1);
  const sid = fake.tasks[0]?.sid ?? '';
  for (const events of [`${gateway.url}/twilio/task-events`, `${below}/twilio/task-events`])
    t.equal(await fake.tell(sid, 'task.updated', events), 200, 'signed is signed');
  t.equal((await send(`${below}/twilio/task-events`, 'EventType=task.completed', {})).status, 403);
});

t.test('closed only as it was seen; what was said before; what was dialled', async (t) => {
  const centre = await openCentre(t);
  const { url } = centre;
  const through = { serviceCode: '*555*1*2*3#', phoneNumber: numberOf(70), sessionId: 'through' };
  await post(url, { ...through, text: '' });
  const reference = referenceIn((await post(url, { ...through, text: '1' })).body);
  const again = { serviceCode: '*555#', phoneNumber: numberOf(70), sessionId: 'again' };
  for (const text of ['', '2', '2*1', '2*1*3', '2*1*3*1']) await post(url, { ...again, text });
  await settled(centre);
  t.match((await desk(centre, `/${reference}`)).body, {
    to: '*555#',
    language: 'French',
    location: 'Dakar',
    requests: 2,
    events: [{ kind: 'opened' }, {}, {}].slice(0, 1),
  });
  const { events } = (await desk(centre, `/${reference}`)).body as {
    events: { kind: string; note: string }[];
  };
  t.equal(events.find(({ kind }) => kind === 'repeated')?.note, 'before: English, Touba, *555#');
  const closing = { note: 'called' };
  t.equal((await desk(centre, `/${reference}/close`, { ...closing, requests: 1 })).status, 409);
  t.equal((await desk(centre, `/${reference}/close`, { ...closing, requests: 2 })).status, 200);

  const phone = phoneOn(url, numberOf(71));
  await phone.dial('*555#');
  t.match(await phone.type('9'), /^CON Reply \/ Répondez:\nChoose your language/);
  await phone.type('9');
  t.equal(
    await phone.type('9'),
    'END Please dial again when you are ready.\nComposez ce code quand vous voulez.',
  );
  await phone.dial('*555#');
  t.match(await phone.type('*'), /^END Goodbye\..*\nAu revoir\./);
});
