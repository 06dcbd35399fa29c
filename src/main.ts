import type { Logger } from 'pino';
import { checkUp } from './checkup.ts';
import { type Config, readConfig } from './config.ts';
import { openKeeping } from './engine.ts';
import { keepHouse } from './housekeeping.ts';
import { lastWords, leaveAtOnce, leaveOnSignal } from './leaving.ts';
import { makeLog } from './log.ts';
import { readMenus } from './menus.ts';
import { migrateAlone, openDatabase, StartRefused } from './opening.ts';
import { COMMANDS, CommandRefused } from './operator/commands.ts';
import { startQueue } from './queue.ts';
import { bookOf, daysOf, inWords, knownOf, MIGRATIONS, REPLIES, SERVICES, serve } from './serve.ts';
import { readReplies } from './sms/replies.ts';

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
function readExamined(): Config {
  const services = readMenus(SERVICES, knownOf).map((menu) => menu.service);
  const config = readConfig(process.env, services);
  readReplies(config.smsReplies ?? REPLIES, config.smsFrom);
  return config;
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
