import type { PendingPins } from '../seal/pin.ts';
import type { Accounts } from '../store/accounts.ts';
import type { EffectKind } from './effect.ts';

/** `createAccount { customerId, name, email, pin }`: `pin` is what is kept of a new PIN between turns. */
export function createAccount(accounts: Accounts, pending: PendingPins): EffectKind {
  return {
    commit: async ({ customerId = '', name = '', email = '', pin = '' }, { tx, msisdn }) => {
      await accounts.create(tx, { customerId, name, email, msisdn, verifier: pending.open(pin) });
    },
  };
}
