import { GuardFailed } from '../db/db.ts';
import type { PendingPins } from '../seal/pin.ts';
import type { Accounts } from '../store/accounts.ts';
import type { EffectKind } from './effect.ts';

/** `changePin { pin }`: of the account that is logged in. */
export function changePin(accounts: Accounts, pending: PendingPins): EffectKind {
  return {
    commit: async ({ pin = '' }, { tx, account }) => {
      const known = account === undefined ? undefined : await accounts.inSession(tx, account);
      if (known === undefined) throw new GuardFailed();
      await accounts.changePin(tx, known, pending.open(pin));
    },
  };
}
