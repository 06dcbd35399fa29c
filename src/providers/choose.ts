import { type AfricasTalking, africasTalking } from './africastalking.ts';
import type { Providers } from './provider.ts';
import { simulator, type Till } from './simulator.ts';

/**
 * For a whole call to a far side; in milliseconds. Below the 10 s after which the queue gives a job to somebody
 * else, and short enough to be over when a process has to leave.
 */
const PATIENCE_MS = 8_000;

/**
 * Who carries messages and sells airtime: whoever there are credentials for, else the simulator, which writes its
 * sales down in `till`.
 */
export function chooseProviders(
  credentials: Omit<AfricasTalking, 'timeoutMs'> | undefined,
  till?: Till,
): Providers {
  return credentials === undefined
    ? simulator(till)
    : africasTalking({ ...credentials, timeoutMs: PATIENCE_MS });
}
