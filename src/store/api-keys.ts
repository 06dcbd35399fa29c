import { randomBytes } from 'node:crypto';
import { sql } from 'kysely';
import type { Db } from '../db/db.ts';
import type { Sql } from '../db/sql.ts';
import type { Digests } from '../seal/digests.ts';

/** Too many to be guessed or tried, so a fast digest of them is enough. */
const KEY_BYTES = 32;

/** By which a person who finds one in a log or a repository knows what it is. */
const PREFIX = 'ussdkey_';

/** A key as it is listed; nothing of the key itself is left. */
export type ListedKey = {
  id: number;
  name: string;
  mayAssertPhone: boolean;
  createdAt: Date;
  revokedAt: Date | null;
};

/** A partner by a key, and whether there ever was one: revoking the last one is to open nothing. */
const FIND = `
  select exists (select from api_keys) as some, k.name, k.may_assert_phone
  from (select 1) one left join api_keys k on k.digest = $1 and k.revoked_at is null`;

/**
 * The keys of partners, as keyed digests: a key is found by its digest, so that comparing it takes as long whatever
 * was given, and no look-up by the key itself is made.
 */
export class ApiKeys {
  readonly #digests: Digests;

  constructor(digests: Digests) {
    this.#digests = digests;
  }

  /** Whose key this is, while it is not revoked, and whether there is any. */
  async find(
    run: Sql,
    key: string | undefined,
  ): Promise<{ any: boolean; partner?: { name: string; mayAssertPhone: boolean } }> {
    const [row] = await run('api_keys_find', FIND, [this.#digest(key ?? '')]);
    const any = row?.some === true;
    if (typeof row?.name !== 'string') return { any };
    return { any, partner: { name: row.name, mayAssertPhone: row.may_assert_phone === true } };
  }

  /** Makes a key, and returns it for the only time. */
  async create(db: Db, name: string, mayAssertPhone: boolean): Promise<string> {
    const key = `${PREFIX}${randomBytes(KEY_BYTES).toString('base64url')}`;
    await db
      .insertInto('api_keys')
      .values({ name, digest: this.#digest(key), may_assert_phone: mayAssertPhone })
      .execute();
    return key;
  }

  /** All of them, oldest first. */
  async list(db: Db): Promise<ListedKey[]> {
    const rows = await db.selectFrom('api_keys').selectAll().orderBy('id').execute();
    return rows.map((row) => ({
      id: row.id,
      name: row.name,
      mayAssertPhone: row.may_assert_phone,
      createdAt: row.created_at,
      revokedAt: row.revoked_at,
    }));
  }

  /** Revokes the key with this number, or all of a name; how many there were. */
  async revoke(db: Db, which: number | string): Promise<number> {
    const revoked = await db
      .updateTable('api_keys')
      .set({ revoked_at: sql<Date>`clock_timestamp()` })
      .where(typeof which === 'number' ? 'id' : 'name', '=', which)
      .where('revoked_at', 'is', null)
      .executeTakeFirst();
    return Number(revoked.numUpdatedRows);
  }

  #digest(key: string): Buffer {
    return this.#digests.key('api key', key);
  }
}
