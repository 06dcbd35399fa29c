/** Where the ledger is tried: a database under one instance or two, and what must hold of it. */
import { sql } from 'kysely';
import type { Test } from 'tap';
import { type Database, openEmbeddedDatabase, openPostgres } from '../../src/db/database.ts';
import { type Db, GuardFailed } from '../../src/db/db.ts';
import { embeddedDirectory } from './embedded.ts';
import { openDatabase } from './engine.ts';

export const at = <T>(list: T[], index: number): T => list[index % list.length] as T;

/** Two instances on one server, or the one process that the embedded database has. */
export type Stage = { databases: Database[]; db: Db };

export async function onPostgres(t: Test): Promise<Stage> {
  const { url, db } = await openDatabase(t);
  const second = openPostgres(url, () => {});
  t.teardown(() => second.close());
  return { databases: [db, second], db: db.kysely };
}

export async function embedded(t: Test): Promise<Stage> {
  const database = await openEmbeddedDatabase(await embeddedDirectory(t));
  t.teardown(() => database.close());
  return { databases: [database], db: database.kysely };
}

export function inTransaction<T>(
  { databases }: Stage,
  lane: number,
  run: (tx: Db) => Promise<T>,
): Promise<T> {
  return at(databases, lane).kysely.transaction().execute(run);
}

/** `GuardFailed` as false: there was not enough money. Anything else is thrown. */
export async function unlessRefused<T>(run: Promise<T>): Promise<T | undefined> {
  try {
    return await run;
  } catch (error) {
    if (error instanceof GuardFailed) return undefined;
    throw error;
  }
}

/** What must never be, one row for each case of it. */
export async function wrongs(db: Db): Promise<unknown[]> {
  const { rows } = await sql`
    with posted as (
      select a.id, coalesce(sum(p.amount), 0) as amount
      from ledger_accounts a left join ledger_postings p on p.account_id = a.id group by a.id),
    kept as (
      select c.book, c.owner, c.currency, sum(h.amount) filter (where h.state = 'open') as amount
      from holds h join ledger_accounts c on c.id = h.account_id group by 1, 2, 3)
    select 'an entry is not zero' as wrong, p.entry_id::text as id
      from ledger_postings p join ledger_accounts a on a.id = p.account_id
      group by p.entry_id, a.book, a.currency having sum(p.amount) <> 0
    union all
    select 'an entry of one side', e.id::text
      from ledger_entries e left join ledger_postings p on p.entry_id = e.id
      group by e.id having count(p.account_id) < 2
    union all
    select 'an entry of two books or currencies', p.entry_id::text
      from ledger_postings p join ledger_accounts a on a.id = p.account_id
      group by p.entry_id having count(distinct (a.book, a.currency)) > 1
    union all
    select 'a balance is not its postings', a.id::text
      from ledger_accounts a join posted on posted.id = a.id
      where a.balance is not null and a.balance <> posted.amount
    union all
    select 'a balance is negative', id::text from ledger_accounts where balance < 0
    union all
    select 'held is not the open holds', a.id::text
      from ledger_accounts a
      left join kept on kept.book = a.book and kept.owner = a.owner and kept.currency = a.currency
      where a.kind = 'held' and a.balance <> coalesce(kept.amount, 0)
    union all
    select 'open and closed at once', id::text from holds where (state = 'open') <> (closed_at is null)
    union all
    select 'closed more or less than once', state from holds where state <> 'open' group by state
      having count(*) <> (select count(*) from ledger_entries e where e.kind = holds.state)`.execute(db);
  return rows;
}
