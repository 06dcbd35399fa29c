/** What must be nowhere: how it is looked for in logs, answers and everything that is stored. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';

/** A needle as it is, as hex, and as base64 wherever it may begin in its three bytes. */
function disguises(needle: string): string[] {
  const found = [needle, Buffer.from(needle).toString('hex'), Buffer.from(needle, 'utf16le').toString('hex')];
  for (const before of [0, 1, 2]) {
    const base64 = Buffer.concat([Buffer.alloc(before), Buffer.from(needle)]).toString('base64');
    // The first and the last group depend on the neighbours.
    found.push(base64.slice(before === 0 ? 0 : 4, Math.floor((before + needle.length) / 3) * 4));
  }
  return found;
}

/** The needles that stand somewhere in a text, in any disguise. */
export function foundIn(haystack: string | Buffer, needles: string[]): string[] {
  const text = (typeof haystack === 'string' ? haystack : haystack.toString('latin1')).toLowerCase();
  return needles.filter((needle) => disguises(needle).some((form) => text.includes(form.toLowerCase())));
}

/**
 * The PINs that stand somewhere in a text. Five digits alone are found in any long number or digest, so
 * they count where no digit is beside them; as hex and base64 they are long enough to be told from chance.
 */
export function pinsIn(haystack: string, pins: string[]): string[] {
  return pins.filter((pin) => {
    if (new RegExp(`(?<![0-9a-f.])${pin}(?![0-9a-f])`, 'i').test(haystack)) return true;
    return inBinary(pin).some((form) => haystack.includes(form));
  });
}

/** As hex, and as the whole characters of base64 wherever it may begin. */
function inBinary(needle: string): string[] {
  const base64 = [0, 1, 2].map((before) => {
    const text = Buffer.concat([Buffer.alloc(before), Buffer.from(needle)]).toString('base64');
    return text.slice(Math.ceil((before * 8) / 6), Math.floor(((before + needle.length) * 8) / 6));
  });
  return [Buffer.from(needle).toString('hex'), Buffer.from(needle, 'utf16le').toString('hex'), ...base64];
}

/** Every table of the database as text, `bytea` as hex, as base64 and as it is. */
export async function tables(url: string): Promise<string> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows: columns } = await client.query<{ name: string; column: string; binary: boolean }>(`
      select format('%I.%I', table_schema, table_name) as name, format('%I', column_name) as column, data_type = 'bytea' as binary
      from information_schema.columns where table_schema not in ('pg_catalog', 'information_schema')`);
    const found: string[] = [];
    for (const { name, column, binary } of columns) {
      const forms = binary
        ? [`encode(${column}, 'hex')`, `encode(${column}, 'base64')`, `encode(${column}, 'escape')`]
        : [`${column}::text`];
      const { rows } = await client.query<{ all: string | null }>(
        `select string_agg(concat_ws(' ', ${forms.join(', ')}), chr(10)) as all from ${name}`,
      );
      found.push(`${name}.${column}\n${rows[0]?.all ?? ''}`);
    }
    return found.join('\n');
  } finally {
    await client.end();
  }
}

/** `pg_dump`, where there is one that can read this server. */
export function dump(url: string): string | undefined {
  const installed = '/usr/lib/postgresql';
  const versions = existsSync(installed)
    ? readdirSync(installed).map((version) => join(installed, version, 'bin'))
    : [];
  for (const directory of ['', ...versions]) {
    const { status, stdout } = spawnSync(join(directory, 'pg_dump'), ['--dbname', url], {
      encoding: 'utf8',
      maxBuffer: 256 * 1024 * 1024,
    });
    if (status === 0) return stdout;
  }
  return undefined;
}
