/**
 * Keeps which documents the check has passed, below `node_modules/.cache`, so that a start need not repeat it: for the
 * shipped documents it is a third of the start's processor time. Only what passed is kept, under a name that is made of
 * the document and of the program; a document or a program that differs in anything is checked again.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from './directories.ts';

/** Where a process keeps them. */
const DIRECTORY = join(import.meta.dirname, '..', 'node_modules', '.cache', 'ussd-gateway', 'menus');
/** npm writes it anew whenever a package changes: the check uses some. */
const PACKAGES = join(import.meta.dirname, '..', 'node_modules', '.package-lock.json');
/** More files than this are of documents and programs that are gone: all are removed. */
const MOST = 64;

export class CheckedMenus {
  readonly #directory: string;
  readonly #program: string;

  /** `program` is the directory whose files are the check and all it knows. */
  constructor(directory = DIRECTORY, program = import.meta.dirname) {
    this.#directory = directory;
    this.#program = stampOf(program);
  }

  /** Returns the parsed document, or undefined where this program has not passed these bytes of this service. */
  find(service: string, bytes: Uint8Array): unknown {
    try {
      return JSON.parse(readFileSync(this.#fileOf(service, bytes), 'utf8'));
    } catch {
      return undefined;
    }
  }

  /** Keeps a document that passed. Where nothing can be written, nothing is kept. */
  keep(service: string, bytes: Uint8Array, document: unknown): void {
    const file = this.#fileOf(service, bytes);
    try {
      makeDirectory('directory', this.#directory);
      const kept = readdirSync(this.#directory);
      if (kept.length >= MOST) for (const name of kept) rmSync(join(this.#directory, name), { force: true });
      // Whole or not at all, also where two processes start at once.
      writeFileSync(`${file}.${process.pid}`, JSON.stringify(document));
      renameSync(`${file}.${process.pid}`, file);
    } catch {
      // Read-only, or another owner's.
    }
  }

  #fileOf(service: string, bytes: Uint8Array): string {
    const hash = createHash('sha256').update(`${this.#program}\0${service}\0`).update(bytes);
    return join(this.#directory, `${hash.digest('hex').slice(0, 32)}.json`);
  }
}

/** Names a program by the path, size and time of its files and its packages: an edit or an update changes one of them. */
function stampOf(folder: string): string {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.[cm]?[jt]s$/.test(name))
    .sort()
    .map((name) => join(folder, name));
  const stamps = [...files, PACKAGES].map((file) => {
    const stat = statSync(file, { throwIfNoEntry: false });
    return `${file} ${stat?.size} ${stat?.mtimeMs}`;
  });
  return createHash('sha256')
    .update([process.version, ...stamps].join('\n'))
    .digest('hex');
}
