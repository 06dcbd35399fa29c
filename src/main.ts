import type { Logger } from 'pino';
import { checkUp } from './checkup.ts';
import { type Config, ConfigError, readConfig } from './config.ts';
import { openKeeping } from './engine.ts';
import { EnvFileError, readEnvFile } from './env-file.ts';
import { keepHouse } from './housekeeping.ts';
import { KeyLost } from './kept.ts';
import { lastWords, leaveAtOnce, leaveOnSignal } from './leaving.ts';
import { AddressRefused } from './listening.ts';
import { makeLog } from './log.ts';
import { MenuError, readMenus } from './menus.ts';
import { migrateAlone, openDatabase, StartRefused } from './opening.ts';
import { COMMANDS, CommandRefused } from './operator/commands.ts';
import { startQueue } from './queue.ts';
import { KeyError } from './seal/keys.ts';
import { bookOf, daysOf, knownOf, MIGRATIONS, REPLIES, SERVICES, serve } from './serve.ts';
import { RepliesError, readReplies } from './sms/replies.ts';
import { DirectoryInUse } from './store/embedded.ts';
import { WrongKeys } from './store/keyring.ts';
import { RightsMissing } from './store/migrate.ts';

/** Settings of the working directory; what the environment sets, also to nothing, stands. */
const ENV_FILE = '.env';

/** Says on a terminal what a person waits for; a log that is read later needs none of it. */
const toTerminal = (said: string) => void process.stderr.write(`${said}\n`);
const waiting = process.stderr.isTTY ? { progress: toTerminal } : {};

async function main(): Promise<void> {
  const [command, ...words] = process.argv.slice(2);
  if ((command === 'doctor' || command === 'migrate') && words.length > 0)
    throw new StartRefused(`say \`${command}\` alone`);
  if (command === 'doctor')
    return checkUp({ read: readExamined, inWords, migrations: MIGRATIONS, ...waiting });
  const settings = addEnvFile();
  const documents = readMenus(SERVICES, knownOf);
  const services = documents.map((menu) => menu.service);
  const config = readConfig(process.env, services);
  const log = makeLog(config.logLevel);
  lastWords(log);
  process.once('SIGTERM', leaveAtOnce);
  const place = { ...config, migrations: MIGRATIONS, ...waiting };
  if (command === 'migrate') return void (await migrateAlone(place, log));
  if (command !== undefined) return runCommand({ config, log, services }, command, words);

  const screen = process.stdout.isTTY
    ? { screen: (table: string) => void process.stdout.write(table) }
    : undefined;
  leaveOnSignal(await serve(config, documents, log, { ...waiting, ...screen, settings }));
}

/**
 * Adds what `.env` sets to the environment of this process, where packages (Postgres' driver) look too. Returns the
 * files that were read. Throws `EnvFileError`.
 */
function addEnvFile(): string[] {
  const values = readEnvFile(ENV_FILE);
  if (values === undefined) return [];
  for (const [name, value] of Object.entries(values)) process.env[name] ??= value;
  return [ENV_FILE];
}

/** What a command is run with. */
type Beside = { config: Config; log: Logger; services: string[] };

/** A command of an operator's: beside the running service, on the same database. */
async function runCommand(
  { config, log, services }: Beside,
  command: string,
  words: string[],
): Promise<void> {
  const run = Object.hasOwn(COMMANDS, command) ? COMMANDS[command] : undefined;
  if (run === undefined)
    throw new StartRefused(
      `there is no command ${command}: doctor, migrate, ${Object.keys(COMMANDS).join(', ')}`,
    );
  const { database, ring } = await openDatabase({ ...config, migrations: MIGRATIONS, ...waiting }, log);
  const queue = await startQueue(database, (error) =>
    log.warn({ err: error }, 'the queue could not reach the database'),
  );
  try {
    const keeping = await openKeeping(database, {
      ring,
      digestKey: config.digestKey,
      messages: config.messages,
      book: bookOf(config),
    });
    const house = () => keepHouse({ ...keeping, ...daysOf(config), db: database.kysely });
    const say = (said: string) => void process.stdout.write(`${said}\n`);
    say(
      await run(
        { ...keeping, services, house, db: database.kysely, ring, enqueue: queue.enqueue, say },
        words,
      ),
    );
  } finally {
    await queue.stop();
    await database.close();
  }
}

/** What a start would read before it opens anything. */
function readExamined(): Config & { settings: string[] } {
  const settings = addEnvFile();
  const services = readMenus(SERVICES, knownOf).map((menu) => menu.service);
  const config = readConfig(process.env, services);
  readReplies(config.smsReplies ?? REPLIES, config.smsFrom);
  return { ...config, settings };
}

/** What a person is told who started this, where the fault is theirs to mend. */
function inWords(error: unknown): string[] | undefined {
  const listed = [EnvFileError, ConfigError, MenuError, RepliesError].find((kind) => error instanceof kind);
  if (listed !== undefined) return (error as { problems: string[] }).problems;
  const plain = [KeyError, WrongKeys, DirectoryInUse, RightsMissing, KeyLost, StartRefused];
  const others = [AddressRefused, CommandRefused];
  if ([...plain, ...others].some((kind) => error instanceof kind)) return [(error as Error).message];
  // A port that is taken, a directory that cannot be made; a user or a database that the server does not
  // know (classes 28 and 3D). These name addresses and users, nothing secret.
  const { syscall, code = '', message } = error as NodeJS.ErrnoException;
  return syscall !== undefined || /^(28|3D)/.test(code) ? [message] : undefined;
}

main().catch((error: unknown) => {
  const said = inWords(error);
  if (said === undefined) {
    makeLog('info').fatal({ err: error }, 'the start failed');
  } else {
    const what = error instanceof CommandRefused ? 'this cannot be done' : 'ussd gateway cannot start';
    process.stderr.write(`${what}:\n${said.map((line) => `  ${line}\n`).join('')}`);
  }
  process.exit(1);
});
