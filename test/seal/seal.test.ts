import { randomBytes } from 'node:crypto';
import { test } from 'tap';
import { Recent } from '../../src/recent.ts';
import { Box, SealError } from '../../src/seal/box.ts';
import { Digests } from '../../src/seal/digests.ts';
import { KeyError, parseKey, parseKeyRing, subkey } from '../../src/seal/keys.ts';
import fc from '../support/property.ts';

const K1 = '0123456789abcdef0123456789abcdef';
const K2 = 'fedcba9876543210fedcba9876543210';

const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));

function refused(code: SealError['code'], open: () => unknown): boolean {
  try {
    open();
    return false;
  } catch (error) {
    return error instanceof SealError && error.code === code;
  }
}

test('what is sealed opens in its own place under its own key, and nowhere else', async () => {
  const box = new Box(parseKeyRing(`k1:${K1}`), 'turns');
  const other = new Box(parseKeyRing(`k1:${K2}`), 'turns');
  const purpose = new Box(parseKeyRing(`k1:${K1}`), 'columns');
  fc.assert(
    fc.property(bytes, bytes, bytes, fc.nat(), (plain, bound, elsewhere, at) => {
      const record = box.seal(plain, bound, '2026-01-01');
      if (!box.open(record, bound, '2026-01-01').equals(plain)) return false;
      const bent = Buffer.from(record);
      const place = 3 + (at % (record.length - 3));
      bent[place] = (bent[place] ?? 0) ^ 1;
      return (
        (elsewhere.equals(bound) ||
          refused('seal_broken', () => box.open(record, elsewhere, '2026-01-01'))) &&
        refused('seal_broken', () => box.open(record, bound, '2026-01-02')) &&
        refused('seal_broken', () => other.open(record, bound, '2026-01-01')) &&
        refused('seal_broken', () => purpose.open(record, bound, '2026-01-01')) &&
        refused('seal_broken', () => box.open(bent, bound, '2026-01-01')) &&
        refused('seal_broken', () => box.open(record.subarray(0, record.length - 1), bound, '2026-01-01'))
      );
    }),
  );
});

test('equal texts have different records, and a short tag does not pass', async (t) => {
  const box = new Box(parseKeyRing(`k1:${K1}`), 'pins');
  const bound = Buffer.from('C7QK2M9X4');
  const first = box.seal(Buffer.from('48213'), bound);
  t.notSame(first, box.seal(Buffer.from('48213'), bound));
  t.notOk(first.includes('48213'));
  // Key id, IV and the first four bytes of the tag: Node would accept those without a tag length.
  t.ok(refused('seal_broken', () => box.open(first.subarray(0, 1 + 2 + 12 + 4), bound)));
});

test('a ring seals with its first key and opens with all of them', async (t) => {
  const before = new Box(parseKeyRing(`k1:${K1}`), 'columns').seal(Buffer.from('name'), Buffer.alloc(0));
  const during = new Box(parseKeyRing(`k2:${K2},k1:${K1}`), 'columns');
  const after = new Box(parseKeyRing(`k2:${K2}`), 'columns');
  t.equal(during.open(before, Buffer.alloc(0)).toString(), 'name');
  const moved = during.seal(Buffer.from('name'), Buffer.alloc(0));
  t.equal(after.open(moved, Buffer.alloc(0)).toString(), 'name');
  t.ok(refused('key_missing', () => after.open(before, Buffer.alloc(0))));
});

test('keys are read in three spellings, and a wrong one is never quoted', async (t) => {
  const key = randomBytes(32);
  t.same(parseKey(key.toString('hex')), key);
  t.same(parseKey(key.toString('base64')), key);
  t.same(parseKey(K1), Buffer.from(K1));
  t.equal(parseKeyRing(`a:${K1},b:${K2}`).active, 'a');
  t.match(parseKeyRing(K1).active, /^[0-9a-f]{8}$/, 'a bare key is named by a fingerprint');
  t.equal(parseKeyRing(K1).active, parseKeyRing(K1).active);
  for (const wrong of [
    '',
    'short',
    `${K1}x`,
    `a:${K1},${K2}`,
    `a:${K1},a:${K2}`,
    `:${K1}`,
    `a b:${K1}`,
    `${K1},`,
  ]) {
    try {
      parseKeyRing(wrong);
      t.fail(`${wrong} was taken for a ring`);
    } catch (error) {
      t.ok(error instanceof KeyError);
      t.notOk((error as Error).message.includes(K1));
    }
  }
});

test('subkeys and digests of different kinds have nothing to do with each other', async (t) => {
  const root = Buffer.from(K1);
  const keys = (['turns', 'columns', 'pins', 'wrap', 'check', 'digest text', 'pseudonym'] as const).map(
    (purpose) => subkey(root, purpose).export().toString('hex'),
  );
  t.equal(
    new Set([...keys, subkey(root, 'turns', '2026-01-01').export().toString('hex')]).size,
    keys.length + 1,
  );

  const digests = new Digests(root);
  const session = digests.session('ixo', 'session-001');
  t.equal(session.length, 16);
  t.notSame(session, digests.session('xyz', 'session-001'), 'every gateway has a session space of its own');
  t.notSame(digests.text(session, '1'), digests.text(digests.session('ixo', 'session-002'), '1'));
  t.notSame(digests.below(session, 'id', '1'), digests.below(session, 'hop', '1'));
  t.match(digests.pseudonym('+260971234567'), /^m_[0-9a-f]{12}$/);
  t.notSame(digests.phone('+260971234567'), new Digests(Buffer.from(K2)).phone('+260971234567'));
});

test('an IV is used once, also when many are drawn at a time', async (t) => {
  const box = new Box(parseKeyRing(`k1:${K1}`), 'columns');
  const bound = Buffer.from('x');
  const records = Array.from({ length: 1_000 }, () => box.seal(Buffer.from('the same'), bound));
  // Behind the length of the key id and the id itself.
  t.equal(new Set(records.map((record) => record.toString('hex', 3, 15))).size, records.length);
  for (const record of records) t.equal(box.open(record, bound).toString(), 'the same');
});

test('what was made lately is made once, and no more is kept than is allowed', async (t) => {
  const recent = new Recent<{ name: string }>(3);
  let made = 0;
  const ask = (name: string) =>
    recent.of(name, () => {
      made += 1;
      return { name };
    });
  const first = ask('a');
  for (const name of ['b', 'a', 'c', 'd', 'a', 'e']) ask(name);
  t.equal(ask('a'), first, 'what is asked for again stays');
  t.equal(made, 5);
  for (let other = 0; other < 6; other += 1) ask(`other ${other}`);
  t.not(ask('a'), first, 'what is not asked for goes');
  t.equal(made, 12);
});
