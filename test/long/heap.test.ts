/**
 * The heap of a gateway after a log-in that went home again: nothing that was typed is in it. Steps that are the same for
 * everybody are kept as they are (decision 22); whatever is behind an answer stays sealed.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { startProcess, temporaryDirectory } from '../support/gateway.ts';
import { openAccount, phoneOn } from '../support/phone.ts';
import { database } from '../support/postgres.ts';

/** Writing the heap of a whole process takes seconds. */
const SNAPSHOT_MS = 60_000;
/** Random ids, and numbers of objects that the snapshot gives: they hold any five digits now and then. */
const NUMBERS = /[0-9a-f]{16,}|@\d+/g;
const PIN = '70529';
const NAME = 'Canary Zimba';
const WRONG = '64297';

t.test('a heap snapshot after a log-in that went home', async (t) => {
  if (process.platform === 'win32') return t.comment('no signal asks for a snapshot here');
  const directory = temporaryDirectory(t);
  const { url } = await database(t);
  const gateway = await startProcess(t, {
    DATABASE_URL: url,
    NODE_OPTIONS: `--heapsnapshot-signal=SIGUSR2 --diagnostic-dir=${directory}`,
  });
  const phone = phoneOn(gateway.url);
  const id = await openAccount(phone, { name: NAME, pin: PIN });

  await phone.dial();
  await phone.type('2', '1', id, WRONG);
  const account = await phone.type(PIN);
  t.match(account, 'Your account', 'logged in');
  t.match(await phone.type('00'), 'Welcome', 'and home');
  // Going on there is what would be kept with its whole text.
  t.match(await phone.type('1'), 'Information', 'and on');
  // What the server holds of its last requests gives way to others.
  for (let n = 0; n < 200; n += 1) await phoneOn(gateway.url).dial();

  gateway.child.kill('SIGUSR2');
  const found = () => readdirSync(directory).find((file) => file.endsWith('.heapsnapshot'));
  const until = Date.now() + SNAPSHOT_MS;
  let snapshot = '';
  while (!snapshot.endsWith('}') && !snapshot.endsWith('}\n') && Date.now() < until) {
    await sleep(500);
    const file = found();
    if (file !== undefined) snapshot = readFileSync(join(directory, file), 'latin1');
  }
  t.match(snapshot, 'Information Center', 'the snapshot holds what is in memory');
  const { strings } = JSON.parse(snapshot) as { strings: string[] };
  const holding = (word: string) =>
    strings.filter((text) => text.replaceAll(NUMBERS, '').includes(word)).slice(0, 3);
  for (const [what, word] of [
    ['the PIN', PIN],
    ['a wrong PIN', WRONG],
    ['the Customer ID', id],
    ['the name', NAME],
  ] as const)
    t.same(holding(word), [], what);
});
