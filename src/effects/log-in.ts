import type { Digests } from '../seal/digests.ts';
import { type Accounts, GuardFailed } from '../store/accounts.ts';
import type { Attempts } from '../store/attempts.ts';
import type { EffectKind } from './effect.ts';

/** `logIn {}`: a right PIN clears the counts of the account and of the phone (CONTRACT.md section 2). */
export function logIn(accounts: Accounts, attempts: Attempts, digests: Digests): EffectKind {
  return {
    commit: async (_args, { tx, account, msisdn }) => {
      if (account === undefined) throw new GuardFailed();
      const { customer } = await accounts.byId(tx, account);
      await attempts.clear(tx, [customer, digests.phone(msisdn)]);
    },
  };
}
