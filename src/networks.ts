import { BlockList, isIP } from 'node:net';

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
  return {
    empty: named.length === 0,
    has: (ip = '') => {
      const plain = ip.startsWith('::ffff:') && isIP(ip.slice(7)) === 4 ? ip.slice(7) : ip;
      const family = isIP(plain);
      return family !== 0 && list.check(plain, family === 6 ? 'ipv6' : 'ipv4');
    },
  };
}
