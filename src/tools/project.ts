import { join, relative } from 'node:path';
import { EFFECTS, NEED_PHONE, QUIET } from '../effects/effect.ts';
import type { Known } from '../flow/plan.ts';
import { type Parsed, readService, serviceFolders } from '../menus.ts';
import { SHAPES } from '../services/facts.ts';

/** Where things are in a checkout; tools know no settings. */
export const ROOT = join(import.meta.dirname, '..', '..');
export const SERVICES = join(ROOT, 'src', 'services');
export const MIGRATIONS = join(ROOT, 'migrations');

/** A service as it lies on the disk: the document, or why it is none. */
export type Found = { service: string; file: string; read: Parsed };

/** Every service of a folder, one by one, so that a bad one does not hide the others. */
export function findServices(folder: string): Found[] {
  return serviceFolders(folder).map((service) => {
    const file = relative(process.cwd(), join(folder, service, 'menu.yaml'));
    return { service, file, read: readService(folder, service, file, knownOf(service)) };
  });
}

/** What the document of a service may name. */
export function knownOf(service: string): Known {
  return { facts: SHAPES[service] ?? {}, effects: EFFECTS, needPhone: NEED_PHONE, quiet: QUIET };
}

/** Ends a tool whose output nobody reads any further, as `head` does: they have what they wanted. */
export function endWithReader(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit(0);
  });
}

/** Says why a tool cannot go on, in words for a person, and ends it. */
export function giveUp(problem: string): never {
  process.stderr.write(`${problem}\n`);
  process.exit(1);
}
