import type { AirtimeProvider, AirtimeSale, Providers, SmsProvider } from './provider.ts';

const NAME = 'simulator';

/**
 * Sends nothing: an order or a message stays in its row, marked as taken by the simulator. Used while no
 * provider is configured, so that everything up to the far side can be tried. What it says depends on the
 * key alone, so the same key has the same answer, as with a real one.
 */
export function simulator(till: Till = tillInMemory()): Providers {
  return { by: 'the simulator: nothing leaves', airtime: airtimeSimulator(till), sms: smsSimulator() };
}

/** Where the simulator writes down what it sold, a repeat once. */
export type Till = {
  put(sale: Omit<AirtimeSale, 'at' | 'sold'>): Promise<void>;
  list(from: Date, until: Date): Promise<AirtimeSale[]>;
};

export function airtimeSimulator(till: Till = tillInMemory()): AirtimeProvider {
  return {
    name: NAME,
    send: async ({ key, currency, amountMinor }) => {
      const providerId = `sim-${key}`;
      await till.put({ providerId, currency, amountMinor });
      return { providerId, code: 'simulated' };
    },
    listSales: (from, until) => till.list(from, until),
  };
}

/** Sales of this process, forgotten with it. */
function tillInMemory(): Till {
  const sales = new Map<string, AirtimeSale & { at: Date }>();
  return {
    put: async (sale) => {
      if (!sales.has(sale.providerId)) sales.set(sale.providerId, { ...sale, at: new Date(), sold: true });
    },
    list: async (from, until) => [...sales.values()].filter(({ at }) => at >= from && at < until),
  };
}

export function smsSimulator(): SmsProvider {
  return {
    name: NAME,
    most: 1000,
    send: async ({ key, to }) =>
      to.map((number, index) => ({
        to: number,
        outcome: 'accepted',
        code: 'simulated',
        statusCode: 101,
        // One message of a batch of its own keeps the name that it always had.
        providerId: to.length === 1 ? `sim-${key}` : `sim-${key}-${index + 1}`,
      })),
  };
}
