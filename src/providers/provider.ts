/**
 * The far sides: providers that sell airtime and carry messages. What every one of them takes and gives stands
 * here; one file beside this one is one of them. Nothing of ours is imported, so a far side knows neither
 * the database nor the queue: the caller decides whether to try again.
 */

/**
 * Why the far side did not do it, or cannot be known to have done it. `code` is one short word for logs and
 * operators (`timeout`, `unreachable`, `http_500`, `malformed`, `refused_number`); neither it nor anything
 * else here quotes a body, a number or a key, and there is no `cause`, because that of `fetch` holds the
 * request. `retryable`: the same call with the same key may succeed later, or is needed to learn what became
 * of this one. Where it is false, the far side has said that it did nothing and never will.
 */
export class ProviderError extends Error {
  readonly code: string;
  readonly retryable: boolean;
  constructor(code: string, retryable: boolean) {
    super(`the provider did not do it: ${code}`);
    this.name = 'ProviderError';
    this.code = code;
    this.retryable = retryable;
  }
}

/** Codes of answers that can be tried again and say that this call did nothing. */
const DID_NOTHING = new Set(['unreachable', 'refused_duplicate', 'refused_balance', 'refused_account']);

/**
 * Whether a call that failed certainly did nothing: it was refused for good, it never arrived, or its answer said so.
 * Says nothing of earlier calls with the same key.
 */
export function didNothing({ code, retryable }: ProviderError): boolean {
  return !retryable || DID_NOTHING.has(code);
}

/** An amount as the far side says it: a decimal string in whole units of `currency`, exact. */
export type Money = { currency: string; amount: string };

/** `amountMinor` is in hundredths of `currency`. `key` is the same however often one order is handed over. */
export type AirtimeOrder = { key: string; to: string; currency: string; amountMinor: bigint };

/** The far side took the order: `providerId` is what its later notice names, `code` what it said. */
export type AirtimeTaken = { providerId: string; code: string };

export type AirtimeProvider = {
  name: string;
  /** Buys airtime for one phone. Throws `ProviderError`. */
  send(order: AirtimeOrder): Promise<AirtimeTaken>;
  /**
   * Lists what was sold from `from` to before `until`, all of it. Not there where the provider has no list that can
   * be relied on. Throws `ProviderError`.
   */
  listSales?(from: Date, until: Date): Promise<AirtimeSale[]>;
};

/** A sale in a provider's own list; `sold`: it says that it was carried out. */
export type AirtimeSale = {
  providerId: string;
  currency: string;
  amountMinor: bigint;
  at?: Date;
  sold: boolean;
};

/**
 * One text to one phone or several. `key` is the same however often one batch is handed over, and a batch
 * is then handed over unchanged. `from` is a sender id or a short code; `twoWay` sends from a short code that
 * can be answered (`linkId` is the one of the message that is answered, `retryHours` how long the far side
 * itself tries).
 */
export type SmsBatch = {
  key: string;
  text: string;
  to: string[];
  from?: string;
  twoWay?: { keyword?: string; linkId?: string; retryHours?: number };
};

/**
 * What became of one recipient: `accepted`, the far side has it, and `providerId` names it in later reports;
 * `refused`, it never will, however often it is asked; `later`, it did not take it now, or did not say.
 */
export type SmsVerdict = {
  to: string;
  outcome: 'accepted' | 'refused' | 'later';
  code: string;
  /** The far side's own number for it, where it has one. */
  statusCode?: number;
  providerId?: string;
  cost?: Money;
};

export type SmsProvider = {
  name: string;
  /** Recipients that one call may have. */
  most: number;
  /** One verdict per recipient asked for, in that order. Throws `ProviderError` where the whole call failed. */
  send(batch: SmsBatch): Promise<SmsVerdict[]>;
};

/** What one far side offers; `by` is its name for people, as on the start line. */
export type Providers = { by: string; airtime: AirtimeProvider; sms: SmsProvider };
