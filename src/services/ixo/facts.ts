import { UNAMBIGUOUS } from '../../flow/answer.ts';
import { ACCOUNTS_PER_PHONE, type Accounts } from '../../store/accounts.ts';
import type { Messages } from '../../store/messages.ts';
import { type Fact, smsRoom } from '../facts.ts';
import type { IXO_FACTS } from './shapes.ts';

/** What the IXO service asks of the database. The name and shape of a published fact never change. */
export function ixoFacts(
  accounts: Accounts,
  messages: Messages,
  randomCode: (alphabet: string, length: number) => string,
): Record<keyof typeof IXO_FACTS, Fact> {
  return {
    /** `customerId`: a fresh one, to be tried; `room`: whether this phone may open another account. */
    newAccount: async ({ db, phone }) => ({
      customerId: `C${randomCode(UNAMBIGUOUS, 8)}`,
      room: (await accounts.countOf(db, phone)) < ACCOUNTS_PER_PHONE ? 'yes' : 'no',
    }),
    /** `customerId`, `name`, `email` of the account that is logged in. */
    details: async ({ db, account }) =>
      account === undefined ? { customerId: '', name: '', email: '' } : accounts.details(db, account),
    sms: smsRoom(messages),
    /** `code`: a fresh one by which a phone is linked. */
    link: async () => ({ code: `L${randomCode(UNAMBIGUOUS, 8)}` }),
  };
}
