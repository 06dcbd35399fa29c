import { folded } from './typed.ts';

/**
 * Where a dialled code leads: the service, the code that is registered for it, where one is, and the segments
 * behind that, which are dialled through.
 */
export type Route = { service: string; code?: string; through: string[] };

/** The codes in service, by their segments: `*384*1#` is `384`, `1`. */
export type ServiceCodes = { codes: ReadonlyMap<string, string>; fallback: string };

/** The service of each code unless SERVICES says otherwise (docs/contract.md section 8). */
export const USUAL_CODES: ReadonlyMap<string, string> = new Map([
  ['*1234#', 'ixo'],
  ['*123#', 'demo'],
  ['*144#', 'airtime'],
  ['*384#', 'invest'],
  ['*555#', 'support'],
]);

/** Spaces that a carrier may put around a code. */
const MOST_SPACES = 4;

/**
 * Whether a text is the dialled code itself, which some carriers send as the first text of a session: as dialled, or
 * without the `*` in front of it or the `#` behind it (decision 38).
 */
export function isDialledCode(text: string, serviceCode: string): boolean {
  if (text === '' || text.length > serviceCode.length + MOST_SPACES) return false;
  // As every key is read: spaces around it and full-width forms are the carrier's.
  const said = folded(text);
  const extra = said.length - serviceCode.length;
  if (said === '' || extra > 0 || extra < -2) return false;
  const from = said.startsWith('*') ? 0 : 1;
  return serviceCode.startsWith(said, from) && serviceCode.length - from - said.length <= 1;
}

/**
 * The longest registered code that is a segment-wise prefix wins; further segments are dialled through.
 * No match: the default service (decision 5).
 */
export function route(dialled: string, services: ServiceCodes): Route {
  const segments = dialled.slice(1, -1).split('*');
  for (let length = segments.length; length > 0; length -= 1) {
    const code = `*${segments.slice(0, length).join('*')}#`;
    const service = services.codes.get(code);
    if (service !== undefined) return { service, code, through: segments.slice(length) };
  }
  return { service: services.fallback, through: [] };
}
