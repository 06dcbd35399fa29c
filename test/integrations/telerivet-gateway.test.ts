/** The Telerivet script against a running gateway: what was asked for is on the desk, once. */
import { join } from 'node:path';
import t from 'tap';
import { startGateway } from '../support/gateway.ts';
import { database } from '../support/postgres.ts';
import { CALLER, telerivet } from '../support/telerivet.ts';

const SCRIPT = join(import.meta.dirname, '..', '..', 'integrations', 'telerivet', 'ussd-support.js');
const SECRET = 'a-secret-of-the-listener';
const TOKEN = 'a-token-of-operators';

type Task = { from: string; language: string; location: string; supportType: string };

t.test('a Yes in the script is a task on the desk, and a repeat adds no second one', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const gateway = await startGateway(t, { DATABASE_URL, TELERIVET_SECRET: SECRET, OPERATOR_TOKEN: TOKEN });
  const listener = `${gateway.url}/telerivet/ussd-listener`;
  const deployed = (secret: string) =>
    telerivet(t, SCRIPT, {
      'https://replace-me.invalid/telerivet/ussd-listener': listener,
      REPLACE_ME: secret,
    });
  const tasks = async () => {
    const response = await fetch(`${gateway.url}/api/desk/tasks`, {
      headers: { authorization: `Bearer ${TOKEN}` },
    });
    t.equal(response.status, 200);
    return ((await response.json()) as { tasks: Task[] }).tasks;
  };
  const cloud = await deployed(SECRET);
  const walk = async (...inputs: string[]) => {
    const session = await cloud.dial();
    for (const input of inputs) await session.press(input);
    t.ok(session.ended);
    return session.screens.at(-1);
  };

  const wrong = await (await deployed('another-secret')).dial();
  for (const input of ['1', '2', '3', '1']) await wrong.press(input);
  t.match(wrong.screens.at(-1), /^Sorry, we could not take your request/, 'another secret');
  t.match(await walk('1', '2', '3', '2'), /^Thank you\. We will not call you/);
  t.strictSame(await tasks(), [], 'nothing yet');

  t.match(await walk('2', '3', '1', '1'), /^Merci\. Nous avons votre demande/);
  t.match(await tasks(), [{ from: CALLER, language: 'French', location: 'Thies', supportType: 'Shelter' }]);

  // What the listener says, to the letter: the script promises a call for nothing else.
  const fields = {
    from_number: CALLER,
    to_number: '*555#',
    secret: SECRET,
    language_option: '2',
    location_option: '3',
    support_type_option: '1',
    callback_option: '1',
  };
  const again = await fetch(listener, { method: 'POST', body: new URLSearchParams(fields) });
  t.equal(again.status, 200);
  t.equal(await again.text(), 'Success');
  t.equal((await tasks()).length, 1, 'a repeat adds to the one');

  for (const word of [SECRET, CALLER.slice(1)]) t.notOk(gateway.output().includes(word), 'nor is it logged');
});
