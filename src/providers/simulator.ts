import type { AirtimeProvider, Providers, SmsProvider } from './provider.ts';

const NAME = 'simulator';

/**
 * Sends nothing: an order or a message stays in its row, marked as taken by the simulator. Used while no
 * provider is configured, so that everything up to the far side can be tried. What it says depends on the
 * key alone, so the same key has the same answer, as with a real one.
 */
export function simulator(): Providers {
  return { by: 'the simulator: nothing leaves', airtime: airtimeSimulator(), sms: smsSimulator() };
}

export function airtimeSimulator(): AirtimeProvider {
  return { name: NAME, send: async ({ key }) => ({ providerId: `sim-${key}`, code: 'simulated' }) };
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
