import { existsSync, statSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { EFFECT_RULES } from '../effects/effect.ts';
import type { Known } from '../flow/plan.ts';
import { type Parsed, readService, serviceFolders } from '../menus.ts';
import { SHAPES } from '../services/facts.ts';

/** Where things are in a checkout; tools know no settings. */
export const ROOT = join(import.meta.dirname, '..', '..');
export const SERVICES = join(ROOT, 'src', 'services');
export const MIGRATIONS = join(ROOT, 'migrations');

/** A service as it lies on the disk: the document, or why it is none. */
export type Found = { service: string; file: string; read: Parsed };

/**
 * Reads the services of a place: a folder of services, the folder of one, or its `menu.yaml`. One by one, so that a bad
 * one does not hide the others. Ends the tool with a sentence where the place is none of these.
 */
export function findServices(place: string): Found[] {
  const { folder, services } = servicesAt(place);
  return services.map((service) => {
    const file = relative(process.cwd(), join(folder, service, DOCUMENT));
    return { service, file, read: readService(folder, service, file, knownOf(service)) };
  });
}

const DOCUMENT = 'menu.yaml';

function servicesAt(place: string): { folder: string; services: string[] } {
  const stat = statSync(place, { throwIfNoEntry: false });
  if (stat === undefined) giveUp(`there is no ${place}: name a folder of services, or a ${DOCUMENT}`);
  const one = (at: string) => ({ folder: dirname(at), services: [basename(at)] });
  if (!stat.isDirectory()) {
    if (basename(place) === DOCUMENT) return one(dirname(resolve(place)));
    giveUp(`${place} is no ${DOCUMENT}: a service is a folder with a ${DOCUMENT}`);
  }
  return existsSync(join(place, DOCUMENT))
    ? one(resolve(place))
    : { folder: place, services: serviceFolders(place) };
}

/** What the document of a service may name. */
export function knownOf(service: string): Known {
  return { facts: SHAPES[service] ?? {}, ...EFFECT_RULES };
}

/** Ends a tool whose output is closed, as `head` does after the lines that it wants. */
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
