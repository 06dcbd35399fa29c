import { type Logger, pino } from 'pino';

/**
 * The process's logger: JSON lines on standard output.
 *
 * Nothing of a request is serialised: fastify's own serialiser would log the URL, and a driver's error
 * quotes values in its message, `detail`, `where` and `parameters` (docs/contract.md section 1, what is never
 * in a log). Of an error only its class, its code and where it was thrown are kept.
 */
export function makeLog(level: string, destination: Destination = standardOutput()): Logger {
  const settings = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    serializers: { err: errorFacts, error: errorFacts, req: () => undefined, res: () => undefined },
    formatters: { level: (label: string) => ({ level: label }) },
    // An error given as the first argument would otherwise lend its message to the line.
    hooks: {
      logMethod(this: Logger, args: unknown[], method: (...args: unknown[]) => void) {
        const [first, second, ...rest] = args;
        if (first instanceof Error) return method.apply(this, [{ err: first }, second ?? 'error', ...rest]);
        if (typeof first === 'object' && first !== null && 'err' in first && second === undefined) {
          return method.apply(this, [first, 'error']);
        }
        return method.apply(this, args);
      },
    },
  };
  return pino(settings, destination) as Logger;
}

type Destination = { write(line: string): void; flushSync?(): void };

/** Characters of lines that are written at once, whatever is under way. */
const MOST_BUFFERED = 8 * 1024;

/**
 * Standard output, to which the lines of one turn of the event loop are written together: a system call for each line is
 * as dear as making it. What is left is written when the process exits; only `kill -9` loses the lines of that turn.
 */
function standardOutput(): Destination {
  opened ??= openStandardOutput();
  return opened;
}

let opened: Destination | undefined;

function openStandardOutput(): Destination {
  const output = pino.destination({ fd: process.stdout.fd, sync: true });
  let lines = '';
  const flushSync = () => {
    const due = lines;
    lines = '';
    if (due !== '') output.write(due);
  };
  process.once('exit', flushSync);
  return {
    write: (line) => {
      if (lines === '') setImmediate(flushSync);
      lines += line;
      if (lines.length > MOST_BUFFERED) flushSync();
    },
    flushSync,
  };
}

/** What may be said of an error: no message, because messages quote what was typed. */
export function errorFacts(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { type: typeof error };
  const { code, cause } = error as Error & { code?: unknown };
  const stack = (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line));
  return {
    type: error.name === 'Error' ? error.constructor.name : error.name,
    ...(typeof code === 'string' && /^\w{1,60}$/.test(code) ? { code } : {}),
    at: stack.slice(0, 6).map((line) => line.trim()),
    ...(cause instanceof Error ? { cause: errorFacts(cause) } : {}),
  };
}

/** What a line of a turn says; texts of letters, digits and `_ - . +` only, or it is written by pino. */
type LineFacts = Record<string, string | number | readonly string[] | undefined>;

const PLAIN = /^[\w.+-]*$/;
let second = { at: 0, text: '' };

/**
 * Returns a function that writes one line, as `log.info({ reqId, ...facts }, message)` does. A turn writes exactly one, and
 * pino's way to it costs as much as hashing what was typed; what needs escaping goes that way all the same.
 */
export function lineWriter(log: Logger, message: string): (reqId: string, facts: LineFacts) => void {
  const stream = (log as unknown as Record<symbol, { write(line: string): void }>)[pino.symbols.streamSym];
  return (reqId, facts) => {
    if (!log.isLevelEnabled('info')) return;
    let line = `{"level":"info","time":"${isoNow()}","reqId":"${reqId}"`;
    for (const name in facts) {
      const value = facts[name];
      if (value === undefined) continue;
      if (typeof value === 'number' && Number.isFinite(value)) line += `,"${name}":${value}`;
      else if (typeof value === 'string' && PLAIN.test(value)) line += `,"${name}":"${value}"`;
      else return log.info({ reqId, ...facts }, message);
    }
    stream?.write(`${line},"msg":"${message}"}\n`);
  };
}

/** Now, as in every line; the text up to the second is made once a second. */
function isoNow(): string {
  const now = Date.now();
  const at = Math.floor(now / 1000);
  if (at !== second.at) second = { at, text: new Date(at * 1000).toISOString().slice(0, 20) };
  return `${second.text}${String(now - at * 1000).padStart(3, '0')}Z`;
}
