import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, linkSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inDirectory, makeDirectory } from './directories.ts';

/** Secrets that are made where none is given, and kept in the data directory. */

/** The key of an embedded database is gone; what is said of it is for a person. */
export class KeyLost extends Error {}

/** Where the generated key of an embedded database is. */
export function keyFile(directory: string): string {
  return join(directory, 'key');
}

/** The generated key of an embedded database, made once: there whole, or not there. Throws `KeyLost`, `DirectoryRefused`. */
export function keptKey(directory: string, isNew: boolean): string {
  const file = keyFile(directory);
  if (!existsSync(file) && !isNew)
    throw new KeyLost(`${file} is missing: without it nothing in ${directory} can be read`);
  const make = () => randomBytes(32).toString('base64');
  return inDirectory('DATA_DIR', directory, () => keptSecret(file, make));
}

/** Where the generated token of an operator is. */
export function tokenFile(directory: string): string {
  return join(directory, 'operator-token');
}

/** The generated token of an operator, made once; the directory too. Throws `DirectoryRefused`. */
export function keptToken(directory: string): string {
  makeDirectory('DATA_DIR', directory, 0o700);
  const make = () => randomBytes(18).toString('base64url');
  return inDirectory('DATA_DIR', directory, () => keptSecret(tokenFile(directory), make));
}

/** A secret in a file, made once: there whole, or not there. */
function keptSecret(file: string, make: () => string): string {
  if (!existsSync(file)) {
    const aside = `${file}.${process.pid}`;
    writeFileSync(aside, `${make()}\n`, { mode: 0o600 });
    try {
      // Not a rename: of two processes that start at once, the later one takes what the first one made.
      linkSync(aside, file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    } finally {
      rmSync(aside, { force: true });
    }
  }
  // It may have been copied here, or restored, with the mode of another file.
  if ((statSync(file).mode & 0o077) !== 0) chmodSync(file, 0o600);
  return readFileSync(file, 'utf8').trim();
}
