/** An exchange that fails, hangs, refuses and forgets to answer, and still does each order once. */
import type { ExchangeAnswer, ExchangeOrder, ExchangeProvider } from '../../src/providers/exchange.ts';
import { ProviderError } from '../../src/providers/provider.ts';

/** What it does to a call: `lost` does the order and fails all the same, `hangs` does it and never answers. */
export type Mood = 'well' | 'down' | 'lost' | 'hangs' | 'broken' | 'unwilling';

export type FakeExchange = ExchangeProvider & {
  /** What was asked, call by call, and what was decided for each key, once. */
  asked: ExchangeOrder[];
  decided: Map<string, ExchangeAnswer>;
  /** The mood of each call that comes; of its number. */
  mood(call: number): Mood;
  /** What it decides for a key that it has not seen. */
  decide(order: ExchangeOrder): ExchangeAnswer;
};

export function fakeExchange(): FakeExchange {
  const exchange: FakeExchange = {
    name: 'fake',
    asked: [],
    decided: new Map(),
    mood: () => 'well',
    decide: () => ({ outcome: 'filled', code: 'ok' }),
    place: async (order) => {
      const mood = exchange.mood(exchange.asked.push(order) - 1);
      if (mood === 'down') throw new ProviderError('unreachable', true);
      if (mood === 'broken') throw new TypeError('words that nobody may read');
      if (mood === 'unwilling') throw new ProviderError('refused_symbol', false);
      const answer = exchange.decided.get(order.key) ?? exchange.decide(order);
      exchange.decided.set(order.key, answer);
      if (mood === 'lost') throw new ProviderError('dropped', true);
      if (mood === 'hangs') return new Promise(() => {});
      return answer;
    },
  };
  return exchange;
}
