/** `units` are millionths of a share, `priceMinor` is what one share may cost, in hundredths. */
export type ExchangeOrder = {
  /** The same however often one order is handed over. */
  key: string;
  symbol: string;
  side: 'buy' | 'sell';
  units: bigint;
  priceMinor: bigint;
};

/** Done at the price asked, or not at all and never; `code` is one short word for operators. */
export type ExchangeAnswer = { outcome: 'filled' | 'rejected'; code: string };

export type ExchangeProvider = {
  name: string;
  /** Places one order, and answers a repeat of it as it did the first time. Throws `ProviderError`. */
  place(order: ExchangeOrder): Promise<ExchangeAnswer>;
};

/** Fills every order at the price asked, and nothing leaves. There is no other exchange yet. */
export function exchangeSimulator(): ExchangeProvider {
  return { name: 'simulator', place: async () => ({ outcome: 'filled', code: 'simulated' }) };
}
