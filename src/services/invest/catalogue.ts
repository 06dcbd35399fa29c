import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readCatalogue } from '../../store/catalogue.ts';
import type { Listing } from '../../store/instruments.ts';

/** The companies that the service comes with, until an operator loads others. */
export function shippedCatalogue(): Listing[] {
  return readCatalogue(readFileSync(join(import.meta.dirname, 'catalogue.csv')));
}
