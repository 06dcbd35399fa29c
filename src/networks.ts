import { BlockList, isIP } from 'node:net';
import { Recent } from './recent.ts';

/** Addresses of which it is kept whether they are in a list: an aggregator has few, and each of its turns asks. */
const MOST_KNOWN = 1_024;

/** A list of networks in CIDR notation, or of single addresses. */
export type Networks = { has(ip: string | undefined): boolean; empty: boolean };

/** Reads `a.b.c.d/n`, `x::y/n` or a bare address, comma-separated; the problem is thrown as an Error. */
export function parseNetworks(text: string): Networks {
  const list = new BlockList();
  const entries = text.split(',').map((entry) => entry.trim());
  const named = entries.filter((entry) => entry !== '');
  // An empty list lets everybody in, so it is not to come about by a stray comma.
  if (named.length === 0 && text !== '') throw new Error('names no network');
  for (const entry of named) {
    const [address = '', length, more] = entry.split('/');
    const family = isIP(address);
    const bits = family === 6 ? 128 : 32;
    const prefix = length === undefined ? bits : Number(length);
    const good = family !== 0 && more === undefined && /^\d{1,3}$/.test(length ?? '0') && prefix <= bits;
    if (!good) throw new Error(`${entry} is no network: write 196.201.214.0/24 or a single address`);
    list.addSubnet(address, prefix, family === 6 ? 'ipv6' : 'ipv4');
  }
  const known = new Recent<boolean>(MOST_KNOWN);
  return {
    empty: named.length === 0,
    has: (ip = '') => known.of(ip, isListed),
  };

  function isListed(ip: string): boolean {
    const plain = ip.startsWith('::ffff:') && isIP(ip.slice(7)) === 4 ? ip.slice(7) : ip;
    const family = isIP(plain);
    return family !== 0 && list.check(plain, family === 6 ? 'ipv6' : 'ipv4');
  }
}

/** Ports that `fetch` refuses before it connects (https://fetch.spec.whatwg.org/#bad-port), and 0, which none has. */
const BLOCKED_PORTS = new Set([
  0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104,
  109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515,
  526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049,
  3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
]);

/** Whether a URL with this port cannot be fetched. */
export function isBlockedPort(port: number): boolean {
  return BLOCKED_PORTS.has(port);
}
