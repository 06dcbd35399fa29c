import { UNAMBIGUOUS } from '../../flow/answer.ts';
import type { Ledger } from '../../store/ledger.ts';
import type { Messages } from '../../store/messages.ts';
import { type Fact, smsRoom } from '../facts.ts';
import type { AIRTIME_FACTS } from './shapes.ts';

/** The one currency of this service. */
const CURRENCY = 'KES';

/** What the airtime service asks of the database. The name and shape of a published fact never change. */
export function airtimeFacts(
  ledger: Ledger,
  messages: Messages,
  randomCode: (alphabet: string, length: number) => string,
): Record<keyof typeof AIRTIME_FACTS, Fact> {
  return {
    /** `balance`: what may be spent, in hundredths; `book`: `demo` where it is demonstration money. */
    wallet: async ({ db, phone }) => {
      const { free } = await ledger.balance(db, phone, CURRENCY);
      return { balance: String(free), book: ledger.book };
    },
    /** `ref`: a fresh one, by which subscriber and support speak of an order. */
    order: async () => ({ ref: randomCode(UNAMBIGUOUS, 8) }),
    sms: smsRoom(messages),
  };
}
