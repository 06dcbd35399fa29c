import { Redis } from 'ioredis';
import type { Kysely } from 'kysely';
import type { Database } from '../db/database.ts';
import { missingGrants, missingRights } from '../db/rights.ts';
import { type Row, within } from '../db/sql.ts';
import type { Deadline } from '../flow/heard.ts';
import type { KeyRing } from '../seal/keys.ts';
import { type StepState, stepStates } from '../store/housekeeping.ts';
import { keysFit, WrongKeys } from '../store/keyring.ts';
import { leftPartitions, missingPartitions, RETENTION_DAYS } from '../store/partitions.ts';

/** One line of the doctor's. What is not well has a remedy. */
export type Finding = { name: string; state: 'ok' | 'warn' | 'FAIL'; said: string; remedy?: string };

export type DoctorParts = {
  database: Database;
  /** Absent where none has been made yet. */
  ring?: KeyRing;
  digestKey?: Buffer;
  /** The names of the migrations of this code. */
  migrations: string[];
  /** When all of it is to be over. */
  deadline: Deadline;
};

/** Servers older than this are not tried. */
const OLDEST_VERSION = 15;
/** A database that takes longer for one number is slow; in milliseconds. */
const SLOW_MS = 250;
/** Clocks that differ by more are not kept; in milliseconds. */
const SKEW_MS = 2_000;
/** A job that has been due for longer is not being worked on; in seconds. */
const WAITED_SECONDS = 300;
/** A transaction that has been open for longer holds up what would clean behind it; in seconds. */
const LONG_SECONDS = 60;
/** Of the connections of the server. */
const FULL = 0.8;
/** Housekeeping runs daily: a step that has not succeeded for longer is late; in hours. */
const LATE_HOURS = 36;
const REDIS_MS = 2_000;

/** What can be told of a database, in order; changes nothing. Where it is not reached nothing else is asked. */
export async function examine(parts: DoctorParts): Promise<Finding[]> {
  const reached = await check('database', parts, reach);
  if (reached.state === 'FAIL') return [reached];
  const findings = [reached];
  for (const [name, run] of CHECKS) findings.push(await check(name, parts, run));
  return findings;
}

/** Whether the Redis that shares the counts answers. */
export async function examineRedis(url: string): Promise<Finding> {
  const redis = new Redis(url, {
    lazyConnect: true,
    connectTimeout: REDIS_MS,
    commandTimeout: REDIS_MS,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  redis.on('error', () => {});
  try {
    await redis.connect();
    await redis.ping();
    return ok('redis', 'answers');
  } catch {
    const remedy = 'start it, or mend REDIS_URL; until then every instance counts for itself';
    return { name: 'redis', state: 'warn', said: 'does not answer', remedy };
  } finally {
    redis.disconnect();
  }
}

export function ok(name: string, said: string): Finding {
  return { name, state: 'ok', said };
}

/** The findings as they are printed, one line each and a line for each remedy. */
export function inLines(findings: readonly Finding[]): string {
  const wide = Math.max(...findings.map(({ name }) => name.length));
  return findings
    .flatMap(({ name, state, said, remedy }) => [
      `${state.padEnd(4)}  ${name.padEnd(wide)}  ${said}`,
      ...(remedy === undefined ? [] : [`${' '.repeat(8 + wide)}-> ${remedy}`]),
    ])
    .join('\n');
}

type Told = Omit<Finding, 'name'>;
type Check = (parts: DoctorParts) => Promise<Told>;

/** One check; one that fails itself is said by its code, because messages of the driver quote values. */
async function check(name: string, parts: DoctorParts, run: Check): Promise<Finding> {
  try {
    return { name, ...(await within(parts.deadline, run(parts))) };
  } catch (error) {
    const { code } = error as { code?: unknown };
    const said = typeof code === 'string' ? `cannot be asked (${code})` : 'does not answer';
    const remedy =
      name === 'database'
        ? 'start it, or mend DATABASE_URL; the network between may be shut (docs/postgres.md)'
        : 'mend what stands above first; then the role may lack rights (docs/postgres.md)';
    return { name, state: 'FAIL', said, remedy };
  }
}

async function one({ database }: DoctorParts, name: string, text: string): Promise<Row> {
  const [row] = await database.sql(`doctor_${name}`, text, []);
  return row ?? {};
}

const reach: Check = async (parts) => {
  // The first question pays for the connection.
  const { version } = await one(
    parts,
    'version',
    `select current_setting('server_version_num')::int as version`,
  );
  const began = performance.now();
  await one(parts, 'one', 'select 1 as one');
  const took = performance.now() - began;
  const major = Math.floor(Number(version) / 10_000);
  const said = `Postgres ${major}, ${parts.database.kind}, answers in ${took.toFixed(1)} ms`;
  if (major < OLDEST_VERSION)
    return { state: 'FAIL', said, remedy: `use Postgres ${OLDEST_VERSION} or newer` };
  if (took > SLOW_MS) return { state: 'warn', said, remedy: 'put it nearer, or look at its load' };
  return { state: 'ok', said };
};

const clock: Check = async (parts) => {
  const before = Date.now();
  const row = await one(parts, 'clock', 'select extract(epoch from clock_timestamp())::float8 * 1000 as now');
  const skew = Number(row.now) - (before + Date.now()) / 2;
  const said = `the database is ${Math.abs(skew / 1000).toFixed(1)} s ${skew < 0 ? 'behind' : 'ahead'}`;
  if (Math.abs(skew) <= SKEW_MS) return { state: 'ok', said };
  return { state: 'warn', said, remedy: 'keep both machines by NTP' };
};

const rights: Check = async ({ database }) => {
  // Of whatever tables there are.
  const wanted = await database.asOwner((db) => missingRights(db as unknown as Kysely<unknown>));
  const grants = await missingGrants(database.kysely as unknown as Kysely<unknown>);
  if (wanted.length === 0 && (grants ?? []).length === 0)
    return { state: 'ok', said: 'the role may make, keep and drop what is needed' };
  if (wanted.length === 0)
    return {
      state: 'FAIL',
      said: 'the role of DATABASE_URL may not read and write everything',
      remedy: `the owner has to run: ${grants?.join('; ')}`,
    };
  if (grants?.length === 0)
    return {
      state: 'ok',
      said: 'the role reads and writes; its owner migrates, and makes and drops weeks of turns (docs/postgres.md)',
    };
  return {
    state: 'FAIL',
    said: 'the role lacks some',
    remedy: `a superuser has to run: ${wanted.join('; ')}`,
  };
};

const migrated: Check = async (parts) => {
  const { there } = await one(
    parts,
    'migrated',
    `select to_regclass('kysely_migration') is not null as there`,
  );
  const rows = there
    ? await parts.database.sql('doctor_migrations', 'select name from kysely_migration', [])
    : [];
  const applied = rows.map(({ name }) => String(name));
  const newer = applied.filter((name) => !parts.migrations.includes(name));
  const missing = parts.migrations.filter((name) => !applied.includes(name));
  if (newer.length > 0) {
    const said = `the database is newer than this code: ${newer.join(', ')}`;
    return { state: 'FAIL', said, remedy: 'run the version that made them, or a newer one' };
  }
  if (missing.length > 0)
    return { state: 'FAIL', said: `missing: ${missing.join(', ')}`, remedy: 'npm run migrate' };
  return { state: 'ok', said: `all ${applied.length} are applied` };
};

const keys: Check = async ({ database, ring, digestKey }) => {
  const remedy = 'set PIN_ENCRYPTION_KEY and DIGEST_KEY as on the instance that set this database up';
  if (ring === undefined)
    return { state: 'FAIL', said: 'there is no key to read this database with', remedy };
  try {
    const fit = await keysFit(database.kysely, ring, digestKey);
    return { state: 'ok', said: fit ? 'fit the database' : 'none are in the database yet' };
  } catch (error) {
    if (!(error instanceof WrongKeys)) throw error;
    return { state: 'FAIL', said: error.message, remedy };
  }
};

const weeks: Check = async ({ database }) => {
  const { names, today } = await missingPartitions(database.kysely);
  if (names.length === 0) return { state: 'ok', said: 'of turns are there for a month ahead' };
  const remedy = 'npm run retention makes them; the daily housekeeping should have';
  return { state: today ? 'FAIL' : 'warn', said: `of turns are missing: ${names.join(', ')}`, remedy };
};

const housekeeping: Check = async ({ database }) => {
  const remedy =
    'npm run retention runs it at once and says what fails (docs/operations.md, UssdHousekeeping)';
  const states = await stepStates(database.kysely);
  const left = await leftPartitions(database.kysely, RETENTION_DAYS);
  const late = states.filter(({ succeededAt }) => Date.now() - succeededAt > LATE_HOURS * 3_600_000);
  const wrong = states.filter((state) => state.code !== null || late.includes(state)).map(inStepWords);
  const half = left.map(({ name, state }) => `${name} is ${state} and not dropped`);
  if (wrong.length + half.length > 0) return { state: 'warn', said: [...wrong, ...half].join('; '), remedy };
  const [oldest] = states;
  if (oldest === undefined) return { state: 'ok', said: 'has not run yet; it runs every night' };
  return { state: 'ok', said: `all ${states.length} steps succeeded since ${isoMinute(oldest.succeededAt)}` };
};

function inStepWords({ step, code, succeededAt }: StepState): string {
  const how = code === null ? 'has not run' : `failed (${code})`;
  return `${step} ${how}, succeeded last at ${isoMinute(succeededAt)}`;
}

function isoMinute(at: number): string {
  return `${new Date(at).toISOString().slice(0, 16)}Z`;
}

const queue: Check = async (parts) => {
  const { there } = await one(parts, 'boss', `select to_regclass('pgboss.job') is not null as there`);
  if (!there) return { state: 'warn', said: 'has no tables yet', remedy: 'the first start makes them' };
  const { waiting, oldest } = await one(
    parts,
    'jobs',
    `select count(*)::int as waiting, coalesce(max(extract(epoch from now() - start_after)), 0)::int as oldest
      from pgboss.job where state in ('created', 'retry') and start_after <= now()`,
  );
  const { dead } = await one(parts, 'dead', `select count(*)::int as dead from outbox where state = 'dead'`);
  const said = `${waiting} jobs are due, the oldest for ${oldest} s; ${dead} were given up`;
  if (Number(oldest) > WAITED_SECONDS)
    return { state: 'warn', said, remedy: 'no instance works on them: start one, or look at its log' };
  if (Number(dead) > 0)
    return {
      state: 'warn',
      said,
      remedy: 'GET /api/effects?state=dead lists them; mend the cause, then retry',
    };
  return { state: 'ok', said };
};

const connections: Check = async (parts) => {
  const row = await one(
    parts,
    'connections',
    `select count(*)::int as used, current_setting('max_connections')::int as most
      from pg_stat_activity where backend_type = 'client backend'`,
  );
  const said = `${row.used} of ${row.most} are used`;
  if (Number(row.used) < Number(row.most) * FULL) return { state: 'ok', said };
  return { state: 'warn', said, remedy: 'fewer instances, a pooler, or a higher max_connections' };
};

const transactions: Check = async (parts) => {
  const row = await one(
    parts,
    'transactions',
    `select count(*)::int as long, coalesce(max(extract(epoch from now() - xact_start)), 0)::int as oldest
      from pg_stat_activity where backend_type = 'client backend' and datname = current_database()
        and pid <> pg_backend_pid() and xact_start < now() - ${LONG_SECONDS} * interval '1 s'`,
  );
  if (row.long === 0) return { state: 'ok', said: `none is open for more than ${LONG_SECONDS} s` };
  const remedy = 'find who holds it in pg_stat_activity, and end it with pg_terminate_backend(pid)';
  return { state: 'warn', said: `${row.long} open for long, the oldest for ${row.oldest} s`, remedy };
};

const CHECKS: [string, Check][] = [
  ['clock', clock],
  ['rights', rights],
  ['migrations', migrated],
  ['keys', keys],
  ['partitions', weeks],
  ['housekeeping', housekeeping],
  ['queue', queue],
  ['connections', connections],
  ['transactions', transactions],
];
