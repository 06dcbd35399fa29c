import type { Db } from '../db/db.ts';
import type { Messages } from '../flow/plan.ts';

/** What an effect knows when it is committed. */
export type Committing = {
  /** The transaction of the turn: what is not written here is not part of it. */
  tx: Db;
  /** Empty where the caller has no phone: effects that want one stand in `NEED_PHONE`. */
  msisdn: string;
  /** The digest by which the caller is known and owns things: of the phone, or of a partner's customer. */
  caller: Buffer;
  /** As it was dialled; empty where the service was opened without one. */
  serviceCode: string;
  /** The account that is logged in when it happens. */
  account?: string;
  /** Queues a delivery in the same transaction, by its row's id. */
  enqueue(kind: string, data: { id: string }): Promise<void>;
};

/**
 * One kind of thing that a turn makes happen. `commit` writes it in the turn's own transaction, and throws
 * `GuardFailed` where what the turn was told is no longer so: the turn is run again on fresh facts.
 */
export type EffectKind = { commit(args: Record<string, string>, committing: Committing): Promise<void> };

/** The effects that documents may name, with their arguments. The name and shape of a published one never change. */
export const EFFECTS: Record<string, readonly string[]> = {
  createAccount: ['customerId', 'name', 'email', 'pin'],
  changePin: ['pin'],
  logIn: [],
  makeLinkCode: ['code', 'phone'],
  linkPhone: ['code'],
  rememberLanguage: ['language'],
  sms: ['text'],
  buyAirtime: ['ref', 'to', 'currency', 'amount', 'sent', 'failed', 'tell'],
  buyStock: ['ref', 'stockId', 'amount', 'units', 'price', 'filled', 'rejected', 'tell'],
  sellStock: ['ref', 'stockId', 'units', 'amount', 'price', 'filled', 'rejected', 'tell'],
  openTask: ['reference', 'language', 'location', 'supportType'],
};

/** Those that want the caller's phone: documents with `needsPhone: false` must not name them. */
export const NEED_PHONE: ReadonlySet<string> = new Set([
  'createAccount',
  'linkPhone',
  'sms',
  'buyAirtime',
  'openTask',
]);

/** Effects that leave nothing on the phone: private documents may name no others. */
export const QUIET: ReadonlySet<string> = new Set(['openTask']);

/** Their arguments that are sent as SMS. */
export const MESSAGES: Messages = new Map([
  ['sms', ['text']],
  ['buyAirtime', ['sent', 'failed']],
  ['buyStock', ['filled', 'rejected']],
  ['sellStock', ['filled', 'rejected']],
]);

/** All that the check of a document knows of effects. */
export const EFFECT_RULES = { effects: EFFECTS, needPhone: NEED_PHONE, quiet: QUIET, messages: MESSAGES };
