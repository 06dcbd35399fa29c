import { UNAMBIGUOUS } from '../../flow/answer.ts';
import type { Airtime } from '../../store/airtime.ts';
import type { Ledger } from '../../store/ledger.ts';
import type { Messages } from '../../store/messages.ts';
import { type Fact, smsRoom } from '../facts.ts';
import { type AIRTIME_FACTS, CODES } from './shapes.ts';

/** The one currency of this service. */
const CURRENCY = 'KES';

/** What the airtime service asks of the database. The name and shape of a published fact never change. */
export function airtimeFacts(
  ledger: Ledger,
  messages: Messages,
  airtime: Airtime,
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
    /**
     * `own` and `recipient`: whether airtime is sold to the caller's number and to the one that was typed, `yes` or
     * `no` (decision 41); `codes`: what the numbers begin with that it is sold to.
     */
    country: async ({ msisdn, vars: { recipient = '' } }) => ({
      own: airtime.sellsTo(CURRENCY, msisdn) ? 'yes' : 'no',
      recipient: airtime.sellsTo(CURRENCY, recipient) ? 'yes' : 'no',
      codes: listed(airtime.prefixesOf(CURRENCY)),
    }),
  };
}

/** Prefixes as a screen shows them: as many as there is room for. */
function listed(prefixes: readonly string[]): string {
  if (prefixes.length === 0) return '-';
  const fits = prefixes.filter((_, index) => prefixes.slice(0, index + 1).join(', ').length <= CODES - 4);
  return fits.length === prefixes.length ? fits.join(', ') : `${fits.join(', ')} ...`;
}
