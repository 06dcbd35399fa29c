import type { Db } from '../db/db.ts';
import type { Shape } from '../flow/plan.ts';
import type { FactValue } from '../flow/state.ts';
import type { Messages } from '../store/messages.ts';
import { AIRTIME_FACTS } from './airtime/shapes.ts';
import { INVEST_FACTS } from './invest/shapes.ts';
import { IXO_FACTS } from './ixo/shapes.ts';
import { SUPPORT_FACTS } from './support/shapes.ts';

/**
 * Who is asking for a fact. `phone` is the digest by which the caller is known and owns things; that of a partner's
 * customer where there is no phone, and then `msisdn` is empty.
 */
export type Asking = {
  db: Db;
  msisdn: string;
  phone: Buffer;
  /** What the session has kept so far. */
  vars: Readonly<Record<string, string>>;
  account?: string;
};

/** A fact: values from the database, or fresh ones, under names that texts and ways can use; or rows. */
export type Fact = (asking: Asking) => Promise<FactValue>;

/** What the facts of each service promise, for the checks of its document. */
export const SHAPES: Record<string, Record<string, Shape>> = {
  ixo: IXO_FACTS,
  airtime: AIRTIME_FACTS,
  invest: INVEST_FACTS,
  support: SUPPORT_FACTS,
};

/** `room`: whether this phone may be sent another message today. */
export function smsRoom(messages: Messages): Fact {
  return async ({ db, msisdn }) => ({ room: (await messages.hasRoom(db, msisdn)) ? 'yes' : 'no' });
}
