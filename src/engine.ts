import { CompiledQuery, sql } from 'kysely';
import type { TakeTurn } from './flow/heard.ts';
import type { Menu } from './flow/menu.ts';
import type { ServiceCodes } from './flow/service-code.ts';
import { Menus } from './menus.ts';
import { Box } from './seal/box.ts';
import { Digests } from './seal/digests.ts';
import type { KeyRing } from './seal/keys.ts';
import type { Database } from './store/database.ts';
import { digestRoot } from './store/keyring.ts';
import { loadMenu, storeMenu } from './store/menus.ts';
import { makePartitions } from './store/partitions.ts';
import { Sessions } from './store/sessions.ts';
import type { Row, Sql } from './store/sql.ts';
import { Turns } from './store/turns.ts';
import { makeTakeTurn } from './turn.ts';

/** Openings this close to midnight UTC, in seconds, are taken under a lock (RULINGS.md 18). */
const MIDNIGHT_SECONDS = 10;

export type EngineSettings = {
  ring: KeyRing;
  /** Where it is given; otherwise one is made and kept in the database. */
  digestKey?: Buffer | undefined;
  documents: Menu[];
  codes: ServiceCodes;
  /** Idle sessions expire after this; in milliseconds. */
  ttl: number;
  midnightSeconds?: number;
};

export type Engine = { takeTurn: TakeTurn; sessions: Sessions; digests: Digests };

/**
 * Puts a turn's parts together on a migrated database: keys checked, documents stored, partitions there.
 * Throws `WrongKeys`.
 */
export async function openEngine(database: Database, settings: EngineSettings): Promise<Engine> {
  const { kysely } = database;
  const digests = new Digests(await digestRoot(kysely, settings.ring, settings.digestKey));
  const box = new Box(settings.ring, 'turns');
  await makePartitions(kysely);
  const turns = new Turns(database.sql, database.laneSql, box, {
    midnightSeconds: settings.midnightSeconds ?? MIDNIGHT_SECONDS,
    makePartitions: async () => void (await makePartitions(kysely)),
  });
  const menus = await Menus.open(
    {
      store: (hash, service, document) => storeMenu(kysely, hash, service, document),
      load: (id) => loadMenu(kysely, id),
    },
    settings.documents,
  );
  const takeTurn = makeTakeTurn({
    turns,
    menus,
    digests,
    codes: settings.codes,
    ttl: settings.ttl,
    underLock: (sessionKey, run) =>
      kysely.transaction().execute(async (tx) => {
        await sql`select pg_advisory_xact_lock(hashtextextended(${sessionKey.toString('hex')}, 0))`.execute(
          tx,
        );
        const within: Sql = async (_name, text, values) =>
          (await tx.executeQuery<Row>(CompiledQuery.raw(text, values))).rows;
        return run(turns.through(within));
      }),
  });
  return { takeTurn, sessions: new Sessions(database.sql, box), digests };
}
