import {
  accessSync,
  constants,
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { type Database, openEmbeddedDatabase, openPostgres, type Pooler } from './db/database.ts';
import { DirectoryInUse } from './db/embedded.ts';
import { deadlineIn } from './deadline.ts';
import { keyFile } from './kept.ts';
import { type Progress, preparing, urlFileProblems } from './opening.ts';
import { examine, examineRedis, type Finding, inLines, ok } from './operator/doctor.ts';
import { chooseProviders } from './providers/choose.ts';
import { type KeyRing, parseKeyRing } from './seal/keys.ts';

/** What is asked of a database is over by then; in milliseconds. */
const DATABASE_MS = 10_000;

/** What is looked at: so much of the configuration. */
export type Examined = {
  environment: string;
  /** Absent: the embedded database in `dataDir`. */
  databaseUrl?: string;
  /** The same server as the owner of the tables; absent: `databaseUrl` is the owner's. */
  databaseAdminUrl?: string;
  databasePooler: Pooler;
  dataDir: string;
  keyRing?: KeyRing;
  digestKey?: Buffer;
  redisUrl?: string;
  /** Who may call gateway routes and callbacks: through the secret, or from these networks. */
  callbackSecret?: string;
  gatewayAllow: { empty: boolean };
  africasTalking?: NonNullable<Parameters<typeof chooseProviders>[0]>;
  /** Absent: requests for help stay at the desk. */
  twilio?: object;
  /** Files that settings were read from. */
  settings: readonly string[];
  /** Variables that are not read although they look like a setting. */
  warnings: readonly string[];
};

export type CheckupParts = {
  /** Reads the documents and the configuration, and throws where either cannot be used. */
  read(): Examined;
  /** What a person is told of an error of `read`; undefined where it is none of theirs. */
  inWords(error: unknown): string[] | undefined;
  /** The folder of the migrations of this code. */
  migrations: string;
  /** Tells a person at a terminal what is being done. */
  progress?: Progress;
};

/**
 * Prints what `npm run doctor` finds and ends the process: one line per check, and exit code 1 where one fails. Runs
 * also where nothing else would, and changes nothing.
 */
export async function checkUp(parts: CheckupParts): Promise<void> {
  const { code, said } = await report(parts);
  // Whatever still waits for a database that hangs is not waited for.
  process.stdout.write(said, () => process.exit(code));
}

/**
 * Returns the lines of `npm run doctor` and its exit code. What is asked of a database is over after `databaseMs`
 * (default: `DATABASE_MS`).
 */
export async function report(
  parts: CheckupParts,
  databaseMs = DATABASE_MS,
): Promise<{ code: number; said: string }> {
  const findings = await examineAll(parts, databaseMs).catch((error: unknown): Finding[] => {
    const problems = parts.inWords(error);
    if (problems === undefined) throw error;
    const remedy = 'mend these; nothing else can be looked at without a configuration (.env.example)';
    return [{ name: 'configuration', state: 'FAIL', said: problems.join('; '), remedy }];
  });
  const code = findings.some(({ state }) => state === 'FAIL') ? 1 : 0;
  return { code, said: `${inLines(findings)}\n` };
}

async function examineAll(
  { read, migrations, progress }: CheckupParts,
  databaseMs: number,
): Promise<Finding[]> {
  const examined = read();
  const redis = examined.redisUrl === undefined ? undefined : examineRedis(examined.redisUrl);
  return [
    examineConfiguration(examined),
    examineProviders(examined),
    examineGateways(examined),
    ...(await examineDatabase(examined, migrations, databaseMs, progress)),
    ...(redis === undefined ? [] : [await redis]),
  ];
}

function examineConfiguration({ environment, settings, warnings }: Examined): Finding {
  const files = settings.map((file) => `, with the settings of ${file}`).join('');
  const found = ok('configuration', `is readable (${environment})${files}`);
  return warnings.length === 0 ? found : { ...found, state: 'warn', remedy: warnings.join('; ') };
}

function examineProviders({ africasTalking, twilio, environment }: Examined): Finding {
  const { by } = chooseProviders(africasTalking);
  const router = twilio === undefined ? 'stay at the desk' : 'go to Twilio TaskRouter';
  const simulated = africasTalking === undefined && environment === 'production';
  return {
    ...ok('providers', `SMS and airtime by ${by}; requests for help ${router}`),
    ...(simulated && {
      state: 'warn',
      remedy: 'set AT_USERNAME and AT_API_KEY: nothing leaves the simulator',
    }),
  };
}

/** Who may call gateway routes and callbacks (decision 29). */
function examineGateways({ callbackSecret, gatewayAllow, environment }: Examined): Finding {
  const ways = [
    ...(callbackSecret === undefined ? [] : ['through the secret path']),
    ...(gatewayAllow.empty ? [] : ['from the networks of GATEWAY_ALLOW']),
  ];
  if (ways.length > 0) return ok('gateways', `routes and callbacks answer ${ways.join(' and ')} only`);
  if (environment !== 'production') return ok('gateways', 'anyone may call the gateway routes');
  return {
    name: 'gateways',
    state: 'warn',
    said: 'anyone may call the gateway routes, and callbacks are acknowledged and dropped',
    remedy: 'set GATEWAY_ALLOW to the networks of your aggregators, or CALLBACK_SECRET (docs/security.md)',
  };
}

/** The types of /proc and /sys (statfs(2)). */
const KERNEL = [0x9fa0, 0x62656572];

/** Where the embedded database is to be made: in a directory, or below the nearest one that is there already. */
function examinePlace(dataDir: string): Finding {
  let place = resolve(dataDir);
  // A link that leads nowhere is there, and nothing can be made of it.
  while (!isThere(place) && dirname(place) !== place) place = dirname(place);
  const remedy = 'name a directory that can be written in DATA_DIR, or a server in DATABASE_URL';
  const failed = (said: string): Finding => ({ name: 'database', state: 'FAIL', said, remedy });
  if (statSync(place, { throwIfNoEntry: false })?.isDirectory() !== true)
    return failed(`embedded, and cannot be made in ${dataDir}: ${place} is no directory`);
  try {
    accessSync(place, constants.W_OK | constants.X_OK);
  } catch {
    return failed(`embedded, and cannot be made in ${dataDir}: ${place} cannot be written`);
  }
  // Access checks say that root may write there, but the kernel lets no process create a file.
  if (KERNEL.includes(statfsSync(place).type))
    return failed(`embedded, and cannot be made in ${dataDir}: ${place} is a file system of the kernel's`);
  return ok('database', `embedded; the first start makes it in ${dataDir}`);
}

function isThere(place: string): boolean {
  try {
    return lstatSync(place) !== undefined;
  } catch {
    return false;
  }
}

async function examineDatabase(
  examined: Examined,
  migrations: string,
  databaseMs: number,
  progress?: Progress,
): Promise<Finding[]> {
  const { databaseUrl, databaseAdminUrl, databasePooler, dataDir, keyRing, digestKey } = examined;
  if (databaseUrl === undefined && !existsSync(join(dataDir, 'postgres'))) return [examinePlace(dataDir)];
  const files = urlFileProblems(examined);
  if (files.length > 0) {
    const remedy = 'mend the URL; nothing else of the database can be looked at';
    return [{ name: 'database', state: 'FAIL', said: files.join('; '), remedy }];
  }
  const file = keyFile(dataDir);
  const isKept = databaseUrl === undefined && existsSync(file);
  const ring = keyRing ?? (isKept ? parseKeyRing(readFileSync(file, 'utf8').trim()) : undefined);
  let database: Database;
  if (databaseUrl === undefined) progress?.(preparing(dataDir));
  try {
    database =
      databaseUrl === undefined
        ? await openEmbeddedDatabase(dataDir)
        : openPostgres(databaseUrl, () => {}, databasePooler, databaseAdminUrl);
  } catch (error) {
    if (!(error instanceof DirectoryInUse)) throw error;
    const remedy = 'look at /health of that process, or stop it and ask again';
    return [{ name: 'database', state: 'warn', said: error.message, remedy }];
  }
  const findings = await examine({
    database,
    migrations: readdirSync(migrations).map((name) => name.replace(/\.ts$/, '')),
    deadline: deadlineIn(databaseMs),
    ...(ring !== undefined && { ring }),
    ...(digestKey !== undefined && { digestKey }),
  });
  const closed = database.close().catch(() => {});
  // The directory of an embedded database is given free; a server that hangs is not waited for.
  if (databaseUrl === undefined) await closed;
  return findings;
}
