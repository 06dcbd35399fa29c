import { join } from 'node:path';
import type { Test } from 'tap';
import { type Database, openPostgres } from '../../src/db/database.ts';
import { migrateServer } from '../../src/db/migrate.ts';
import { type Engine, type EngineSettings, openEngine } from '../../src/engine.ts';
import type { Menu, Way } from '../../src/flow/menu.ts';
import type { Known } from '../../src/flow/plan.ts';
import type { Needs, State, Step } from '../../src/flow/state.ts';
import { begin, step } from '../../src/flow/step.ts';
import { parseMenu } from '../../src/menus.ts';
import { parseKeyRing } from '../../src/seal/keys.ts';
import { TEST_KEY } from './gateway.ts';
import { database } from './postgres.ts';

export const MIGRATIONS = join(import.meta.dirname, '..', '..', 'migrations');

/** Where no facts are: the world of a document that asks for none. */
const WORLD = { facts: {}, msisdn: '+260970000001' };

/** `begin` for documents that ask for no facts. */
export function begun(menu: Menu, language?: string): Step {
  return settled(begin(menu, WORLD, language));
}

/** `step` for documents that ask for no facts. */
export function stepped(menu: Menu, state: State, input: string): Step {
  return settled(step(menu, state, input, WORLD));
}

function settled(result: Step | Needs): Step {
  if ('needs' in result) throw new Error(`the document asks for ${result.needs.join(', ')}`);
  return result;
}

/** A document written in a test; a mistake in it is thrown. */
export function menuOf(yaml: string, known: Known = { facts: {}, effects: {} }): Menu {
  const parsed = parseMenu(yaml, 'test', known);
  if (parsed.menu === undefined) throw new Error(parsed.problems.join('\n'));
  return parsed.menu;
}

/** A fresh migrated database that goes with the test. */
export async function openDatabase(t: Test): Promise<{ url: string; db: Database }> {
  const { url } = await database(t);
  await migrateServer(url, MIGRATIONS);
  const db = openPostgres(url, () => {});
  t.teardown(() => db.close());
  return { url, db };
}

/** An engine on an open database, with the test's documents. */
export function engineOn(
  db: Database,
  settings: Pick<EngineSettings, 'documents' | 'codes' | 'ttl'> & Partial<EngineSettings>,
): Promise<Engine> {
  return openEngine(db, {
    ring: parseKeyRing(TEST_KEY),
    messages: { dailyMax: 1_000, prefixes: [] },
    book: 'demo',
    enqueue: async () => {},
    ...settings,
  });
}

/** Values for which the conditions of a way hold; no amount is below zero. */
export function meeting(when: Way['when'] = {}): Record<string, string> {
  return Object.fromEntries(
    Object.entries(when).map(([name, condition]) => [name, typeof condition === 'string' ? condition : '-1']),
  );
}
