import { GuardFailed } from '../db/db.ts';
import type { Accounts } from '../store/accounts.ts';
import type { Attempts } from '../store/attempts.ts';
import type { EffectKind } from './effect.ts';

/** `logIn {}`: a right PIN clears the counts of the account and of the phone (docs/contract.md section 2). */
export function logIn(accounts: Accounts, attempts: Attempts): EffectKind {
  return {
    commit: async (_args, { tx, account, caller }) => {
      const known = account === undefined ? undefined : await accounts.inSession(tx, account);
      if (known === undefined) throw new GuardFailed();
      await attempts.clear(tx, [known.customer, caller]);
    },
  };
}
