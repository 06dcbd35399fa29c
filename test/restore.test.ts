/** A backup that was taken beside the running service goes on where it was taken (docs/operations.md). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { BACK_UP, backUp, RESTORE, restore } from './support/backup.ts';
import { type Fields, post, startGateway, TEST_KEY, temporaryDirectory } from './support/gateway.ts';
import { logIn, openAccount, PIN, phoneOn, queryOn } from './support/phone.ts';
import { database } from './support/postgres.ts';

const DIGEST_KEY = 'fedcba9876543210fedcba9876543210';
const OTHER_KEY = 'abcdef0123456789abcdef0123456789';
const SETTINGS = { DIGEST_KEY, PIN_ENCRYPTION_KEY: TEST_KEY, SESSION_TTL_SECONDS: '3600' };
const TEXTS = ['', '1', '1*2', '1*2*0', '1*2*0*3'];
/** Sessions that are open when the backup is taken, at different depths. */
const OPEN = 12;

type Answered = { fields: Fields; body: string };

t.test('the runbook names the commands that are tried here', async (t) => {
  const runbook = readFileSync(join(import.meta.dirname, '..', 'docs', 'operations.md'), 'utf8');
  for (const words of [BACK_UP, RESTORE]) t.match(runbook, `${words.join(' ')} `);
});

t.test('backed up while it runs, restored into a fresh database', async (t) => {
  const { url: old } = await database(t);
  const { url: fresh } = await database(t, { empty: true });
  const gateway = await startGateway(t, { ...SETTINGS, DATABASE_URL: old });

  const answered: Answered[] = [];
  const ask = async (url: string, fields: Fields): Promise<string> => {
    const { body } = await post(url, fields);
    answered.push({ fields, body });
    return body;
  };
  const depth = (session: number) => 2 + (session % (TEXTS.length - 2));
  for (let session = 0; session < OPEN; session += 1) {
    for (const text of TEXTS.slice(0, depth(session)))
      await ask(gateway.url, { sessionId: `open-${session}`, text });
  }
  const ann = phoneOn(() => here);
  let here = gateway.url;
  const id = await openAccount(ann);
  const half = phoneOn(() => here, ann.number);
  await half.dial();
  t.match(await half.type('2', '1', id), /PIN/, 'a log-in that waits for its PIN');

  const late = { sessionId: 'late', text: '1*2' };
  for (const text of TEXTS.slice(0, 2)) await ask(gateway.url, { ...late, text });
  const whole = { sessionId: 'whole', text: TEXTS.at(-1) as string };
  let over = false;
  const typing = (async () => {
    for (let session = 0; !over; session += 1)
      for (const text of TEXTS) await post(gateway.url, { sessionId: `meanwhile-${session}`, text });
  })();
  const file = join(temporaryDirectory(t), 'ussd.dump');
  const programs = await backUp(old, file);
  over = true;
  await typing;
  if (programs === undefined) return t.comment('no pg_dump of this version here: nothing was restored');

  const after = (await post(gateway.url, late)).body;
  for (const text of TEXTS.slice(0, -1)) await post(gateway.url, { ...whole, text });
  const lost = (await post(gateway.url, whole)).body;
  const bob = phoneOn(() => here);
  const bobs = await openAccount(bob);
  await gateway.stop();
  await restore(programs, file, fresh);

  await t.test('with other keys it does not start', async (t) => {
    for (const [what, settings, words] of [
      [
        'another ring',
        { PIN_ENCRYPTION_KEY: `k2:${OTHER_KEY}` },
        /lacks the key that this database was set up/,
      ],
      ['another key of that id', { PIN_ENCRYPTION_KEY: `k1:${OTHER_KEY}` }, /has another key under an id/],
      ['another digest key', { DIGEST_KEY: OTHER_KEY }, /DIGEST_KEY is not the one/],
      ['no digest key', { DIGEST_KEY: '' }, /was set up with DIGEST_KEY/],
    ] as const) {
      const start = startGateway(t, { ...SETTINGS, ...settings, DATABASE_URL: fresh });
      await t.rejects(start, { message: words }, what);
    }
  });

  const again = await startGateway(t, { ...SETTINGS, DATABASE_URL: fresh });
  here = again.url;
  const rows = await queryOn(t, fresh);

  await t.test('what was answered before is answered to the byte', async (t) => {
    const wrong: string[] = [];
    // An empty text is a new dial where more has been typed since (decision 4).
    for (const { fields, body } of answered.filter(({ fields }) => fields.text !== '')) {
      const told = await post(again.url, fields);
      if (told.body !== body || told.outcome !== 'replay') wrong.push(`${fields.text}: ${told.outcome}`);
    }
    t.same(wrong, [], `${answered.length} turns`);
  });

  await t.test('open sessions go on', async (t) => {
    for (let session = 0; session < OPEN; session += 1) {
      const text = TEXTS[depth(session)] as string;
      const told = await post(again.url, { sessionId: `open-${session}`, text });
      t.match(told, { status: 200, outcome: 'ok', body: /^CON / }, text);
    }
    t.match(await half.type(PIN), /^CON Your account/, 'and so does the log-in');
  });

  await t.test('what came after the backup', async (t) => {
    t.equal((await post(again.url, late)).body, after, 'is taken again, from the last turn that was saved');
    t.match(await post(again.url, whole), { outcome: 'ok', body: lost }, 'or from the first screen');
    t.match(await logIn(bob, bobs), /^CON (?!Your account)/, 'an account that was opened then is gone');
  });

  await t.test('the account is there, with its PIN', async (t) => {
    t.match(await logIn(ann, id), /^CON Your account/);
    t.match(await logIn(ann, id, '90417'), /^CON (?!Your account)/, 'and no other');
    const [row] = await rows<{ count: number }>('select count(*)::int as count from accounts');
    t.equal(row?.count, 1);
    t.equal(
      (await openAccount(phoneOn(again.url), { name: 'Cy Banda' })).length,
      9,
      'a new one can be opened',
    );
  });
  await again.stop();

  await t.test('a version that lacks a migration does not start', async (t) => {
    await rows(
      `insert into kysely_migration (name, timestamp) values ('9999-later', '2030-01-01T00:00:00Z')`,
    );
    const start = startGateway(t, { ...SETTINGS, DATABASE_URL: fresh });
    await t.rejects(start, { message: /corrupted migrations/ }, 'on what a newer one has migrated');
  });
});
