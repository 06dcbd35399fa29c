import { type AfricasTalking, africasTalking } from './africastalking.ts';
import type { Providers } from './provider.ts';
import { simulator, type Till } from './simulator.ts';

/**
 * For a whole call to a far side; in milliseconds. Below the 10 s after which the queue gives a job to somebody
 * else, and short enough to be over when a process has to leave.
 */
export const PATIENCE_MS = 8_000;

/**
 * Returns Africa's Talking where there are credentials for it, else the simulator, which writes its sales down in
 * `till`. `timeoutMs` is for a whole call.
 */
export function chooseProviders(
  credentials: Omit<AfricasTalking, 'timeoutMs'> | undefined,
  till?: Till,
  timeoutMs = PATIENCE_MS,
): Providers {
  return credentials === undefined ? simulator(till) : africasTalking({ ...credentials, timeoutMs });
}
