/** Keys that are not those of a database are refused before anything is written with them (decision 26). */
import t from 'tap';
import { parseKeyRing } from '../../src/seal/keys.ts';
import { digestRoot } from '../../src/store/keyring.ts';
import { openDatabase } from '../support/engine.ts';

const key = (byte: number) => Buffer.alloc(32, byte).toString('base64');

t.test('a ring fits a database, or is refused', async (t) => {
  const { db } = await openDatabase(t);
  const open = (ring: string, given?: Buffer) => digestRoot(db.kysely, parseKeyRing(ring), given);

  const root = await open(`k1:${key(1)}`);
  t.same(await open(`k1:${key(1)},k2:${key(2)}`), root, 'a key is added');
  t.same(await open(`k2:${key(2)},k1:${key(1)}`), root, 'and made the active one');

  await t.rejects(open(`k1:${key(9)}`), { code: 'wrong_keys', message: /another key under an id/ });
  await t.rejects(
    open(`k1:${key(1)},k2:${key(9)}`),
    { code: 'wrong_keys', message: /another key under the id k2/ },
    'another key under an id that wraps nothing yet',
  );
  await t.rejects(open(`k3:${key(3)}`), { code: 'wrong_keys', message: /lacks the key/ });
  await t.rejects(open(`k1:${key(1)}`, Buffer.alloc(32, 7)), {
    code: 'wrong_keys',
    message: /set up without DIGEST_KEY/,
  });
});
