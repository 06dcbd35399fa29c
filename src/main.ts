import type { Logger } from 'pino';
import { checkUp } from './checkup.ts';
import { type Config, ConfigError, readConfig } from './config.ts';
import { openKeeping } from './engine.ts';
import { keepHouse } from './housekeeping.ts';
import { KeyLost } from './kept.ts';
import { lastWords, leaveAtOnce, leaveOnSignal } from './leaving.ts';
import { makeLog } from './log.ts';
import { MenuError, readMenus } from './menus.ts';
import { migrateAlone, openDatabase, StartRefused } from './opening.ts';
import { COMMANDS, CommandRefused } from './operator/commands.ts';
import { chooseProviders } from './providers/choose.ts';
import { startQueue } from './queue.ts';
import { KeyError } from './seal/keys.ts';
import { bookOf, daysOf, knownOf, MIGRATIONS, REPLIES, SERVICES, serve } from './serve.ts';
import { RepliesError, readReplies } from './sms/replies.ts';
import { DirectoryInUse } from './store/embedded.ts';
import { WrongKeys } from './store/keyring.ts';
import { RightsMissing } from './store/migrate.ts';
import { simulatedTill } from './store/reconciliation.ts';

async function main(): Promise<void> {
  const [command, ...words] = process.argv.slice(2);
  if ((command === 'doctor' || command === 'migrate') && words.length > 0)
    throw new StartRefused(`say \`${command}\` alone`);
  if (command === 'doctor') return checkUp({ read: readExamined, inWords, migrations: MIGRATIONS });
  const documents = readMenus(SERVICES, knownOf);
  const services = documents.map((menu) => menu.service);
  const config = readConfig(process.env, services);
  const log = makeLog(config.logLevel);
  lastWords(log);
  process.once('SIGTERM', leaveAtOnce);
  const place = { ...config, migrations: MIGRATIONS };
  if (command === 'migrate') return void (await migrateAlone(place, log));
  if (command !== undefined) return runCommand({ config, log, services }, command, words);

  leaveOnSignal(await serve(config, documents, log));
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
  const { database, ring } = await openDatabase({ ...config, migrations: MIGRATIONS }, log);
  const queue = await startQueue(database, (error) =>
    log.warn({ err: error }, 'the queue could not reach the database'),
  );
  try {
    const keeping = await openKeeping(database, {
      ring,
      digestKey: config.digestKey,
      messages: config.messages,
      book: bookOf(config),
      airtimeCurrencies: config.airtimeCurrencies,
    });
    const house = () => keepHouse({ ...keeping, ...daysOf(config), house: database.house });
    const { airtime: seller } = chooseProviders(config.africasTalking, simulatedTill(database.kysely));
    const sales = { provider: seller.name, listSales: seller.listSales };
    const say = (said: string) => void process.stdout.write(`${said}\n`);
    say(
      await run(
        { ...keeping, services, house, db: database.kysely, ring, enqueue: queue.enqueue, sales, say },
        words,
      ),
    );
  } finally {
    await queue.stop();
    await database.close();
  }
}

/** What a start would read before it opens anything. */
function readExamined(): Config {
  const services = readMenus(SERVICES, knownOf).map((menu) => menu.service);
  const config = readConfig(process.env, services);
  readReplies(config.smsReplies ?? REPLIES, config.smsFrom);
  return config;
}

/** What a person is told who started this, where the fault is theirs to mend. */
function inWords(error: unknown): string[] | undefined {
  const listed = [ConfigError, MenuError, RepliesError].find((kind) => error instanceof kind);
  if (listed !== undefined) return (error as { problems: string[] }).problems;
  const plain = [KeyError, WrongKeys, DirectoryInUse, RightsMissing, KeyLost, StartRefused, CommandRefused];
  if (plain.some((kind) => error instanceof kind)) return [(error as Error).message];
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
