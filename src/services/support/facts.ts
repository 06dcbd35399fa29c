import { freshReference, type Tasks } from '../../store/tasks.ts';
import type { Fact } from '../facts.ts';
import type { SUPPORT_FACTS } from './shapes.ts';

/** What the support service asks of the database. The name and shape of a published fact never change. */
export function supportFacts(
  tasks: Tasks,
  randomCode: (alphabet: string, length: number) => string,
): Record<keyof typeof SUPPORT_FACTS, Fact> {
  return {
    /** `reference`: of the request that this phone has open for the support that it has chosen, else a fresh one. */
    help: async ({ db, msisdn, vars }) => ({
      reference:
        (await tasks.openReference(db, msisdn, vars.supportType ?? '')) ?? freshReference(randomCode),
    }),
  };
}
