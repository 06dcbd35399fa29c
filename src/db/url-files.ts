import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import pg from 'pg';

/**
 * Checks the files that a Postgres URL names: those of TLS and the directory of its Unix socket. The driver reports a
 * missing one with the same code as a server that is away (ENOENT), and waiting mends neither.
 */

/** The parameters that name a file, each with its option of Node's TLS. */
const FILES = { sslrootcert: 'ca', sslcert: 'cert', sslkey: 'key' } as const;

/** Says which file of a URL cannot be used, one line each; `name` is the setting that the URL is from. */
export function fileProblems(name: string, url: string): string[] {
  const said = Object.fromEntries(new URLSearchParams(/\?([^#]*)/.exec(url)?.[1] ?? ''));
  const problems = Object.entries(FILES).flatMap(([parameter, option]) => {
    const path = said[parameter] ?? '';
    const problem = path === '' ? undefined : pemProblem(parameter, path, option);
    return problem === undefined ? [] : [`${name}: ${parameter}=${path} ${problem}`];
  });
  // The driver reads the files itself where it is made.
  if (problems.length > 0) return problems;
  const problem = socketProblem(url);
  return problem === undefined ? [] : [`${name}: ${problem}`];
}

function pemProblem(parameter: string, path: string, option: 'ca' | 'cert' | 'key'): string | undefined {
  if (path === 'system' && parameter === 'sslrootcert')
    return "is a word of libpq's: leave it out, the certificate authorities of Node then hold";
  const kind = option === 'key' ? 'key' : 'certificate';
  const remedy = `write the path of a ${kind} in PEM that this user can read`;
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    return `${reasonOf(error)}: ${remedy}`;
  }
  try {
    // Of certificate authorities Node passes over what it cannot read, and trusts none.
    if (option === 'ca' && !text.includes('-----BEGIN ')) throw new Error('no PEM');
    createSecureContext({ [option]: text });
  } catch {
    return `is not a ${kind} in PEM: ${remedy}`;
  }
  return undefined;
}

/** Says why the socket directory of a URL cannot hold a socket. One without its socket is a server that is starting. */
function socketProblem(url: string): string | undefined {
  // The driver's own answer: it reads the URL, its `host` parameter and PGHOST.
  const { host } = new pg.Client({ connectionString: url });
  if (!host.startsWith('/')) return undefined;
  const remedy = 'write the directory of the socket, such as host=/var/run/postgresql';
  try {
    const found = statSync(host);
    if (found.isSocket()) return `the host ${host} is the socket itself: ${remedy}`;
    if (!found.isDirectory()) return `the host ${host} is not a directory: ${remedy}`;
    accessSync(host, constants.X_OK);
  } catch (error) {
    return `the host ${host} ${reasonOf(error)}: ${remedy}`;
  }
  return undefined;
}

function reasonOf(error: unknown): string {
  const { code = '' } = error as NodeJS.ErrnoException;
  const reasons: Record<string, string> = {
    ENOENT: 'is not there',
    ENOTDIR: 'is not there, because a part of its path is a file',
    EISDIR: 'is a directory',
    EACCES: 'cannot be read by this user',
  };
  return reasons[code] ?? `cannot be read (${code})`;
}
