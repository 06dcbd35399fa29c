import { GuardFailed } from '../db/db.ts';
import type { Accounts } from '../store/accounts.ts';
import type { EffectKind } from './effect.ts';

/** `makeLinkCode { code, phone }`: a code by which that phone, and no other, can be added to the account. */
export function makeLinkCode(accounts: Accounts): EffectKind {
  return {
    commit: async ({ code = '', phone = '' }, { tx, account }) => {
      const known = account === undefined ? undefined : await accounts.inSession(tx, account);
      if (known === undefined) throw new GuardFailed();
      await accounts.addLinkCode(tx, known.id, code, phone);
    },
  };
}

/** `linkPhone { code }`: uses the code up and binds the phone that is calling (decision 16). */
export function linkPhone(accounts: Accounts): EffectKind {
  return { commit: ({ code = '' }, { tx, msisdn }) => accounts.link(tx, code, msisdn) };
}
