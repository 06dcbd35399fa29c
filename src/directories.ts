import { type MakeDirectoryOptions, mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

/** A directory cannot be made or used; the message names its setting, its path and the reason. */
export class DirectoryRefused extends Error {
  readonly code = 'directory_refused';
}

/** What the codes of the system mean for a directory. */
const REASONS: Record<string, string> = {
  EACCES: 'this user may not write there',
  EPERM: 'this user may not write there',
  EROFS: 'that file system is read-only',
  ENOSPC: 'the disk is full',
  EDQUOT: 'the quota of this user is used up',
  ENAMETOOLONG: 'the path is too long',
  ELOOP: 'its links lead in a circle',
};

/**
 * Makes a directory and those above it that are missing, one level at a time. Does nothing where it is there. Throws
 * `DirectoryRefused`.
 *
 * Not `mkdirSync` with `recursive`: where the system answers ENOENT for a name in a directory that exists (`/proc/x`),
 * Node's loop never ends and takes no signal.
 */
export function makeDirectory(setting: string, directory: string, mode?: MakeDirectoryOptions['mode']): void {
  const whole = resolve(directory);
  const missing: string[] = [];
  inDirectory(setting, directory, () => {
    let at = whole;
    for (; !isDirectory(setting, directory, at); at = dirname(at)) missing.unshift(at);
  });
  for (const each of missing) {
    try {
      mkdirSync(each, mode === undefined ? {} : { mode });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // Another process may have made it meanwhile; a link that leads nowhere is there too.
      if (code === 'EEXIST' && statSync(each, { throwIfNoEntry: false })?.isDirectory() === true) continue;
      if (code === 'EEXIST') throw refused(setting, directory, `${each} is a link that leads nowhere`);
      if (code === 'ENOENT')
        throw refused(setting, directory, `${dirname(each)} takes no directories of this user's`);
      throw asRefused(setting, directory, error);
    }
  }
}

/**
 * Runs what writes files in the directory of a setting. Throws `DirectoryRefused` for an error of the file system, and
 * any other error as it is.
 */
export function inDirectory<T>(setting: string, directory: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw asRefused(setting, directory, error);
  }
}

/** Whether a path is a directory; false where nothing is there. Throws `DirectoryRefused` for anything else. */
function isDirectory(setting: string, directory: string, path: string): boolean {
  let found: ReturnType<typeof statSync>;
  try {
    found = statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    // Behind a file; the file itself comes next, on the way up.
    if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') return false;
    throw error;
  }
  if (found === undefined || found.isDirectory()) return found !== undefined;
  throw refused(setting, directory, `${path} is not a directory`);
}

function asRefused(setting: string, directory: string, error: unknown): unknown {
  const { code, syscall, path, message } = error as NodeJS.ErrnoException;
  if (syscall === undefined || code === undefined) return error;
  const reason = REASONS[code];
  const where = path === undefined || path === directory ? '' : ` at ${path}`;
  return refused(setting, directory, reason === undefined ? message : `${reason} (${code}${where})`);
}

function refused(setting: string, directory: string, reason: string): DirectoryRefused {
  const remedy = 'name a directory that this user can write';
  return new DirectoryRefused(`${setting}: ${directory} cannot be used: ${reason}; ${remedy}`);
}
