import { randomBytes } from 'node:crypto';
import anyAscii from 'any-ascii';
import { type RawBuilder, sql } from 'kysely';
import type { Db } from '../db/db.ts';
import { folded } from '../flow/typed.ts';

/** What a catalogue says of one company. */
export type Listing = {
  symbol: string;
  name: string;
  /** Its sector. */
  detail: string;
  /** Of one share, in hundredths of a US dollar. */
  priceMinor: bigint;
};

/** One of them as it is kept. */
export type Instrument = Listing & { id: string };

/** Rows of one statement: far below the parameters that it may have. */
const LOAD_PAGE = 500;

/** Longer fragments find nothing more. */
const LONGEST_FRAGMENT = 60;

/**
 * Takes a catalogue over in one transaction: what is new is added, what differs is changed, and what it does not
 * name stays, because wallets may hold it. Prices are looked up turn by turn, so they hold at once.
 */
export async function loadInstruments(
  db: Db,
  listings: readonly Listing[],
): Promise<{ added: number; changed: number }> {
  return db.transaction().execute((tx) => load(tx, listings));
}

/** The same into an empty table only: a catalogue that an operator has loaded is theirs. */
export async function seedInstruments(db: Db, listings: () => readonly Listing[]): Promise<number> {
  const known = await db.selectFrom('instruments').select('id').limit(1).executeTakeFirst();
  if (known !== undefined) return 0;
  return (await db.transaction().execute((tx) => load(tx, listings(), 'seed'))).added;
}

async function load(tx: Db, listings: readonly Listing[], how: 'load' | 'seed' = 'load') {
  // In one order, so that two loads at once wait for one another instead of in a circle.
  const rows = listings.toSorted((one, other) => (one.symbol < other.symbol ? -1 : 1)).map(rowOf);
  let [added, changed] = [0, 0];
  for (let at = 0; at < rows.length; at += LOAD_PAGE) {
    const written = await tx
      .insertInto('instruments')
      .values(rows.slice(at, at + LOAD_PAGE))
      .onConflict((conflict) =>
        how === 'seed'
          ? conflict.column('symbol').doNothing()
          : conflict
              .column('symbol')
              .doUpdateSet((set) => ({
                name: set.ref('excluded.name'),
                detail: set.ref('excluded.detail'),
                price_minor: set.ref('excluded.price_minor'),
                searched: set.ref('excluded.searched'),
                updated_at: sql<Date>`clock_timestamp()`,
              }))
              .where(
                sql<boolean>`(instruments.name, instruments.detail, instruments.price_minor, instruments.searched)
                  is distinct from (excluded.name, excluded.detail, excluded.price_minor, excluded.searched)`,
              ),
      )
      .returning(sql<boolean>`xmax = 0`.as('added'))
      .execute();
    added += written.filter((row) => row.added).length;
    changed += written.filter((row) => !row.added).length;
  }
  return { added, changed };
}

/** All of them, by symbol. */
export function listInstruments(db: Db, most: number): Promise<Instrument[]> {
  return read(db, sql`order by symbol limit ${most}`);
}

/**
 * Those of whose symbol or name this is a part, however it is written: `é` is found by `e`, because a handset may
 * have no other. What has it as its symbol comes first, then what begins with it.
 */
export async function findInstruments(db: Db, fragment: string, most: number): Promise<Instrument[]> {
  const part = searchable(fragment).slice(0, LONGEST_FRAGMENT);
  if (part === '') return [];
  const pattern = part.replace(/[\\%_]/g, '\\$&');
  return read(
    db,
    sql`where searched like ${`%${pattern}%`}
      order by lower(symbol) <> ${part}, searched not like ${`${pattern}%`}, symbol limit ${most}`,
  );
}

/** One by its id. */
export async function instrumentById(db: Db, id: string): Promise<Instrument | undefined> {
  return (await read(db, sql`where id = ${id}`))[0];
}

/** A text as a search compares it: in small letters that every handset has, without what is none. */
export function searchable(text: string): string {
  const letters = [...anyAscii(folded(text).normalize('NFKC')).toLowerCase()].filter(
    (letter) => letter >= ' ',
  );
  return letters.join('').trim();
}

async function read(db: Db, which: RawBuilder<unknown>): Promise<Instrument[]> {
  const { rows } = await sql<Omit<Instrument, 'priceMinor'> & { price: string }>`
    select id, symbol, name, detail, price_minor::text as price from instruments ${which}`.execute(db);
  return rows.map(({ price, ...row }) => ({ ...row, priceMinor: BigInt(price) }));
}

function rowOf({ symbol, name, detail, priceMinor }: Listing) {
  return {
    id: `stk_${randomBytes(12).toString('hex')}`,
    symbol,
    name,
    detail,
    price_minor: String(priceMinor),
    // On two lines: nobody can type what would go over from the one to the other.
    searched: `${searchable(symbol)}\n${searchable(name)}`,
  };
}
