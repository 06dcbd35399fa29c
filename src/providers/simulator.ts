/** The far side of a message. `key` is the same however often one message is handed over. */
export type SmsProvider = {
  name: string;
  send(message: { key: string; to: string; text: string }): Promise<{ providerId: string }>;
};

/**
 * Sends nothing: the message stays in its row, marked as taken by the simulator. Used while no provider is
 * configured, so that everything up to the far side can be tried.
 */
export function smsSimulator(): SmsProvider {
  return { name: 'simulator', send: async ({ key }) => ({ providerId: `sim-${key}` }) };
}
