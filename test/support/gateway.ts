import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { parse } from 'yaml';
import { CheckedMenus } from '../../src/checked-menus.ts';
import { readConfig, SETTINGS } from '../../src/config.ts';
import { Menu } from '../../src/flow/menu.ts';
import { inWords } from '../../src/in-words.ts';
import { makeLog } from '../../src/log.ts';
import { readMenus } from '../../src/menus.ts';
import { knownOf, SERVICES, type Served, type ServeOptions, serve } from '../../src/serve.ts';
import { WAIT } from '../../src/sms/senders.ts';
import { database } from './postgres.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'main.ts');
const SERVING = join(import.meta.dirname, 'serving.ts');
/** A cold start of the embedded database on a busy machine; in milliseconds. */
const START_MS = 60_000;

/** The key that the tests' instances share. */
export const TEST_KEY = 'k1:0123456789abcdef0123456789abcdef';
/** log2 of the cost of a PIN's hash in tests: production's 14 would be half of the suite's time. */
export const TEST_PIN_COST = 4;
/** How soon a gateway inside this process looks for what it has queued; in milliseconds. */
export const TEST_WAKE_MS = 25;

/**
 * Makes a gateway try again at once what could not be delivered, and not give it up: a test is over long before the
 * two hours or more that the tries take in production.
 */
export const TRIED_SOON: ServeOptions = {
  queue: { wakeMs: 100, backoff: { retryDelayMax: 0 }, retries: 1_000 },
};

/** A gateway that answers over a real socket. */
export type Gateway = {
  url: string;
  port: number;
  /** Everything that was logged (of a process: what it wrote to both streams). */
  output(): string;
  /** Ends it in good order. Of a process: by SIGTERM. Safe to call twice. */
  stop(): Promise<unknown>;
};

/** A gateway in a process of its own, for what only a process shows: signals, kill -9, exit codes, the start. */
export type GatewayProcess = Gateway & {
  child: ChildProcess;
  /** The exit code, once it has ended; null where a signal ended it. */
  exited: Promise<number | null>;
  /** SIGTERM, and the exit code. */
  stop(): Promise<number | null>;
  /** kill -9, and gone. */
  kill(): Promise<void>;
};

/** The environment of a gateway under test: nothing of the caller's own settings gets in. */
export function environment(settings: Record<string, string>): Record<string, string> {
  const { PATH = '', HOME = '', TMPDIR = '', NODE_COMPILE_CACHE = '' } = process.env;
  return {
    // Set to nothing, a setting is not taken from the `.env` of whoever runs the tests.
    ...Object.fromEntries(SETTINGS.map((name) => [name, ''])),
    PATH,
    HOME,
    ...(TMPDIR && { TMPDIR }),
    ...(NODE_COMPILE_CACHE && { NODE_COMPILE_CACHE }),
    PORT: '0',
    LOG_LEVEL: 'trace',
    RATE_LIMIT_MAX: '1000000',
    ...settings,
  };
}

/** Completes the settings: a data directory that goes with the test, and the shared key with `DATABASE_URL`. */
function withPlace(t: Test, settings: Record<string, string>): Record<string, string> {
  const own = { DATA_DIR: temporaryDirectory(t), ...settings };
  return settings.DATABASE_URL === undefined ? own : { PIN_ENCRYPTION_KEY: TEST_KEY, ...own };
}

/** The shipped documents, read once for all gateways of a test file. */
let shipped: Menu[] | undefined;

export function shippedMenus(): Menu[] {
  shipped ??= readMenus(SERVICES, knownOf, new CheckedMenus());
  return shipped;
}

/** Documents of a test, which are not checked: test/tools.test.ts does it, and so does every start of a process. */
function menusOf(folder: string): Menu[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => Menu.parse(parse(readFileSync(join(folder, name, 'menu.yaml'), 'utf8'))));
}

/**
 * Starts a gateway inside this process, on a free port and a real socket: everything of `src/serve.ts`, without the
 * second and a half that a process costs. It is shut down in the test's teardown, without the pauses of a real exit.
 * Without `DATABASE_URL` it gets a migrated database of its own on the test's Postgres; the embedded database costs
 * ten seconds of CPU to make and is opened only for a `DATA_DIR` (see `embeddedDirectory`).
 * `options` are the seams of `serve`; without them it hashes PINs cheaply and delivers what is queued at once.
 */
export async function startGateway(
  t: Test,
  settings: Record<string, string> = {},
  options: ServeOptions = {},
): Promise<Gateway> {
  const documents = options.services === undefined ? shippedMenus() : menusOf(options.services);
  const services = documents.map((menu) => menu.service);
  const embedded = settings.DATA_DIR !== undefined;
  const place =
    embedded || settings.DATABASE_URL ? settings : { DATABASE_URL: (await database(t)).url, ...settings };
  const config = readConfig(environment(withPlace(t, place)), services);
  let output = '';
  const log = makeLog(config.logLevel, {
    write: (line) => {
      output += line;
    },
  });
  const start = () =>
    serve(config, documents, log, {
      pinCost: TEST_PIN_COST,
      smsWait: { forMs: WAIT.forMs, everyMs: TEST_WAKE_MS },
      ...options,
      queue: { wakeMs: TEST_WAKE_MS, ...options.queue },
    });
  let served: Served;
  try {
    // On a busy machine a connection may take longer than the gateway waits for it.
    served = await start().catch((error: Error) => {
      if (!/connection timeout|timeout exceeded|read timeout/.test(error.message)) throw error;
      return start();
    });
  } catch (error) {
    throw new Error(`the gateway did not start: ${(error as Error).message}\n${output}`, { cause: error });
  }
  let stopped: Promise<void> | undefined;
  const stop = () => {
    stopped ??= served.shutDown({ goodbyeMs: 0, lastAnswerMs: 200 });
    return stopped;
  };
  t.teardown(stop);
  return { url: `http://127.0.0.1:${served.port}`, port: served.port, output: () => output, stop };
}

/** What a start that is refused says, by the lines that it would print, and all that it logged before. */
export type Refused = { said: string[] | undefined; output: string };

/** Starts a gateway inside this process, which is to be refused. Throws where it starts. */
export async function refusalOf(t: Test, settings: Record<string, string>): Promise<Refused> {
  try {
    await startGateway(t, settings);
  } catch (error) {
    const { cause, message } = error as Error;
    return { said: inWords(cause ?? error), output: message };
  }
  throw new Error('the gateway started');
}

/**
 * Starts `src/main.ts` as a process of its own on a free port and waits for its start line. Without
 * `DATABASE_URL` it gets a data directory that goes with the test.
 */
export async function startProcess(
  t: Test,
  settings: Record<string, string> = {},
  main = MAIN,
): Promise<GatewayProcess> {
  const own = withPlace(t, settings);
  const child = spawn(process.execPath, [main], { env: environment(own), stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  const { promise: port, resolve, reject } = Promise.withResolvers<number>();
  const read = (chunk: Buffer) => {
    output += chunk.toString();
    const listening = /ussd gateway on http:\/\/[^"|]*:(\d+)/.exec(output)?.[1];
    if (listening !== undefined) resolve(Number(listening));
  };
  child.stdout.on('data', read);
  child.stderr.on('data', read);
  const exited = new Promise<number | null>((done) => child.on('exit', (code) => done(code)));
  exited.then((code) => reject(new Error(`the gateway ended with ${code}:\n${output}`)));
  const timer = setTimeout(() => reject(new Error(`the gateway did not start:\n${output}`)), START_MS);
  t.teardown(async () => {
    child.kill('SIGKILL');
    await exited;
  });
  const listening = await port.finally(() => clearTimeout(timer));
  return {
    url: `http://127.0.0.1:${listening}`,
    port: listening,
    child,
    output: () => output,
    exited,
    stop: () => {
      child.kill('SIGTERM');
      return exited;
    },
    kill: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

/**
 * Starts test/support/serving.ts as a process of its own: a gateway that is killed like any, with the intervals of
 * `options` instead of production's.
 */
export function startQuickProcess(
  t: Test,
  settings: Record<string, string> = {},
  options: ServeOptions = {},
): Promise<GatewayProcess> {
  const quick = { pinCost: TEST_PIN_COST, ...options, queue: { wakeMs: TEST_WAKE_MS, ...options.queue } };
  return startProcess(t, { ...settings, SERVE_OPTIONS: JSON.stringify(quick) }, SERVING);
}

/** A directory that goes with the test. */
export function temporaryDirectory(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'ussd-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export type Fields = { sessionId?: string; serviceCode?: string; phoneNumber?: string; text?: string };

export type Reply = { status: number; outcome: string | null; body: string; headers: Headers };

/** Posts one turn as JSON. */
export async function post(
  url: string,
  fields: Fields & Record<string, unknown>,
  path = '/api/ussd',
): Promise<Reply> {
  return send(url + path, JSON.stringify({ ...DEFAULTS, ...fields }), { 'content-type': 'application/json' });
}

/** Posts any bytes. */
export async function send(
  url: string,
  body: RequestInit['body'],
  headers: Record<string, string>,
): Promise<Reply> {
  const response = await fetch(url, { method: 'POST', body, headers, signal: AbortSignal.timeout(30_000) });
  return {
    status: response.status,
    outcome: response.headers.get('x-ussd-outcome'),
    body: await response.text(),
    headers: response.headers,
  };
}

export const DEFAULTS = {
  sessionId: 'session-001',
  serviceCode: '*1234#',
  phoneNumber: '+260971234567',
  text: '',
} satisfies Fields;
