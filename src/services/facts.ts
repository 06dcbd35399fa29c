import type { Db } from '../store/accounts.ts';

/** Who is asking for a fact. */
export type Asking = { db: Db; msisdn: string; phone: Buffer; account?: string };

/** A fact: values from the database, or fresh ones, under names that texts and ways can use. */
export type Fact = (asking: Asking) => Promise<Record<string, string>>;
