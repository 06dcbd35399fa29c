import { type AfricasTalking, africasTalking } from './africastalking.ts';
import type { Providers } from './provider.ts';
import { simulator } from './simulator.ts';

/**
 * For a whole call to a far side; in milliseconds. Longer than they take on a bad day, and well below the
 * minute after which the queue gives a job to somebody else.
 */
const PATIENCE_MS = 20_000;

/** Who carries messages and sells airtime: whoever there are credentials for, else the simulator. */
export function chooseProviders(credentials: Omit<AfricasTalking, 'timeoutMs'> | undefined): Providers {
  return credentials === undefined ? simulator() : africasTalking({ ...credentials, timeoutMs: PATIENCE_MS });
}
