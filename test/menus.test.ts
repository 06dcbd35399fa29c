import { randomUUID } from 'node:crypto';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { type Test, test } from 'tap';
import { deadlineIn } from '../src/deadline.ts';
import type { Engine } from '../src/engine.ts';
import { written } from '../src/gateways/screens.ts';
import { SERVICES } from '../src/serve.ts';
import { engineOn, menuOf, openDatabase } from './support/engine.ts';
import { DEFAULTS, type Gateway, post, startGateway, temporaryDirectory } from './support/gateway.ts';
import { database } from './support/postgres.ts';

/** A copy of the shipped documents, which may be edited. */
function copyOf(t: Test): { services: string; menu: string } {
  const services = temporaryDirectory(t);
  cpSync(SERVICES, services, { recursive: true });
  return { services, menu: join(services, 'ixo', 'menu.yaml') };
}

async function until<T>(ask: () => Promise<T>, good: (answer: T) => boolean): Promise<T> {
  for (let attempt = 0; ; attempt += 1) {
    const answer = await ask();
    if (good(answer) || attempt === 400) return answer;
    await sleep(50);
  }
}

test('a session finishes on the screens it began on, a new dial sees the new ones', async (t) => {
  const { url } = await database(t);
  const edited = copyOf(t);
  const quick = { services: edited.services, lookMs: 50 };
  const gateway = await startGateway(t, { DATABASE_URL: url }, quick);
  const ask = (at: Gateway, sessionId: string, text: string) =>
    post(at.url, { ...DEFAULTS, sessionId, text });
  const dial = async () => (await ask(gateway, randomUUID(), '')).body;

  const old = randomUUID();
  t.match((await ask(gateway, old, '')).body, /Welcome to IXO USSD\n1\. Know More/);
  const before = readFileSync(edited.menu, 'utf8');
  const after = before
    .replace('{ en: Welcome to IXO USSD,', '{ en: Welcome to the new IXO,')
    .replace('choose: { en: Information Center,', 'choose: { en: The New Center,');
  t.not(after, before);
  writeFileSync(edited.menu, after);
  t.match(
    await until(dial, (body) => body.includes('new IXO')),
    /^CON Welcome to the new IXO/,
    'a new dial sees it',
  );
  t.match(
    (await ask(gateway, old, '1')).body,
    /^CON Information Center/,
    'the session that was open does not',
  );

  // Another instance, which has the old file, is handed a session that began on the new one.
  const other = await startGateway(t, { DATABASE_URL: url });
  const fresh = randomUUID();
  t.match((await ask(gateway, fresh, '')).body, /^CON Welcome to the new IXO/);
  t.match(
    (await ask(other, fresh, '1')).body,
    /^CON The New Center/,
    'it reads the version from the database',
  );

  writeFileSync(edited.menu, after.replace('to: knowMore', 'to: nowhere'));
  const refused = await until(
    async () => gateway.output(),
    (output) => output.includes('nowhere'),
  );
  t.match(
    refused,
    /is refused[^\n]*|ixo\/menu\.yaml:\d+: preMenu: key 1 leads to nowhere/,
    'a bad edit is logged',
  );
  t.match(await dial(), /^CON Welcome to the new IXO/, 'and nobody sees it');
  writeFileSync(edited.menu, `${after}\n  broken: [`);
  await until(
    async () => gateway.output(),
    (output) => output.split('is refused').length > 2,
  );
  t.match(await dial(), /^CON Welcome to the new IXO/, 'nor one that is no YAML');
  writeFileSync(edited.menu, before);
  t.match(
    await until(dial, (body) => body.includes('IXO USSD')),
    /^CON Welcome to IXO USSD/,
    'a good one again is',
  );
});

const SURVEY = `
service: survey
root: start
resume: 3600
nodes:
  start:
    choose: Survey
    options:
      - { key: 1, label: Begin, to: name }
      - { key: '*', label: Exit, to: bye }
  name:
    ask: Your name
    answer: { kind: name, max: 20 }
    save: name
    to: colour
  colour:
    choose: 'Hello {name}, your colour'
    options:
      - { key: 1, label: Red, to: pin }
      - { key: 2, label: Blue, to: thanks }
  pin:
    ask: Your PIN
    answer: { kind: newPin }
    save: pin
    to: thanks
  thanks:
    say: Thank you
    options:
      - { key: 1, label: More, to: start }
      - { key: '*', label: Exit, to: bye }
  bye:
    end: Bye
`;

const TTL = 60_000;

async function survey(t: Test) {
  const { db } = await openDatabase(t);
  const settings = { documents: [menuOf(SURVEY)], codes: { codes: new Map(), fallback: 'survey' }, ttl: TTL };
  const engine = await engineOn(db, settings);
  const phone = `+26097${String(Math.floor(performance.now() * 1000)).slice(-7)}`;
  const asker =
    (by: Engine, sessionId: string, msisdn = phone) =>
    async (text: string): Promise<string> => {
      const heard = {
        gateway: 'ixo',
        mode: 'cumulative' as const,
        sessionId,
        msisdn,
        serviceCode: '*7#',
        text,
      };
      const answer = await by.takeTurn(heard, deadlineIn(20_000));
      return answer.outcome === 'invalid' ? 'invalid' : written(answer.screen).replaceAll('\n', ' / ');
    };
  const older = (by: number) => sql`update turns set at = at - ${by} * interval '1 ms'`.execute(db.kysely);
  return {
    db,
    engine,
    settings,
    asker,
    older,
    dial: (msisdn?: string) => asker(engine, randomUUID(), msisdn),
  };
}

const OFFER = 'CON You were cut off. / 1. Continue / 2. Start again';
const COLOUR = 'CON Hello Ann, your colour / 1. Red / 2. Blue';
const START = 'CON Survey / 1. Begin / *. Exit';

test('whoever was cut off may go on', async (t) => {
  const { engine, asker, older, dial } = await survey(t);
  const first = dial();
  await first('');
  await first('1');
  t.equal(await first('1*Ann'), COLOUR);
  t.equal(await dial()(''), START, 'not while the other dial is alive');
  await older(TTL + 5_000);
  const stranger = dial('+260960000000');
  t.equal(await stranger(''), START, 'nor for another phone');

  // The dial that was never answered came later: it is the newest, and there is nothing in it to go on with.
  t.equal(await dial()(''), START);
  await older(2 * 3_600_000);
  const again = dial();
  await again('');
  await again('1');
  t.equal(await again('1*Ann'), COLOUR);
  await older(TTL + 5_000);
  const resumed = dial();
  t.equal(await resumed(''), OFFER);
  t.match(await resumed('7'), /^CON Invalid choice.* \/ You were cut off\. /);
  const rival = dial();
  t.equal(await resumed('7*1'), COLOUR, 'on the last screen, with what was typed');
  t.equal(await resumed('7*1'), COLOUR, 'a copy is a replay');
  t.equal(await resumed('7*1*2'), 'CON Thank you / 1. More / *. Exit', 'and on from there');
  t.equal(await rival(''), START, 'what was claimed is offered to nobody else');
  const [one, two] = [asker(engine, randomUUID()), asker(engine, randomUUID())];
  await older(TTL + 5_000);
  t.equal(await one(''), START, 'the newest dial has had no answer');
  t.equal(await two(''), START);
});

test('two dials that were offered the same one: the first goes on, the other starts again', async (t) => {
  const { older, dial } = await survey(t);
  const first = dial();
  await first('');
  await first('1*Ann');
  await older(TTL + 5_000);
  const one = dial();
  t.equal(await one(''), OFFER);
  // The offer itself is the newest dial now, so a second one is made by hand: the same session, dialled through.
  await older(TTL + 5_000);
  const answers = await Promise.all([one('1'), one('1')]);
  t.equal(new Set(answers).size, 1, 'copies agree');
});

test('a secret is never gone back behind', async (t) => {
  const { older, dial } = await survey(t);
  const first = dial();
  await first('');
  await first('1');
  await first('1*Ann');
  t.equal(await first('1*Ann*1'), 'CON Your PIN');
  t.match(await first('1*Ann*1*48213'), /^CON Thank you/);
  await older(TTL + 5_000);
  const again = dial();
  t.equal(await again(''), OFFER);
  t.equal(await again('1'), COLOUR, 'the last screen before it');
});

test('an END is not gone back behind, and a document without resume offers nothing', async (t) => {
  const { older, dial, db, settings } = await survey(t);
  const first = dial();
  await first('');
  await first('1*Ann');
  t.equal(await first('1*Ann*2'), 'CON Thank you / 1. More / *. Exit');
  t.equal(await first('1*Ann*2**'), 'END Bye');
  await older(TTL + 5_000);
  t.equal(await dial()(''), START);
  const plain = await engineOn(db, {
    ...settings,
    documents: [menuOf(SURVEY.replace('resume: 3600\n', ''))],
  });
  const left = dial('+260971111111');
  await left('');
  await left('1');
  await older(TTL + 5_000);
  const heard = {
    gateway: 'ixo',
    mode: 'cumulative' as const,
    sessionId: randomUUID(),
    msisdn: '+260971111111',
    serviceCode: '*7#',
    text: '',
  };
  const answer = await plain.takeTurn(heard, deadlineIn(20_000));
  t.equal(answer.outcome !== 'invalid' && written(answer.screen).replaceAll('\n', ' / '), START);
});
