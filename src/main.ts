import { CheckedMenus } from './checked-menus.ts';
import { checkUp } from './checkup.ts';
import { runCommand } from './command.ts';
import { type Config, readConfig } from './config.ts';
import { readEnvFile } from './env-file.ts';
import { inWords } from './in-words.ts';
import { lastWords, leaveAtOnce, leaveOnSignal } from './leaving.ts';
import { makeLog } from './log.ts';
import { readMenus } from './menus.ts';
import { migrateAlone, StartRefused } from './opening.ts';
import { CommandRefused } from './operator/commands.ts';
import { knownOf, MIGRATIONS, REPLIES, SERVICES, serve } from './serve.ts';
import { readReplies } from './sms/replies.ts';

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
  const documents = readMenus(SERVICES, knownOf, new CheckedMenus());
  const services = documents.map((menu) => menu.service);
  const config = readConfig(process.env, services);
  const log = makeLog(config.logLevel);
  lastWords(log);
  process.once('SIGTERM', leaveAtOnce);
  const place = { ...config, migrations: MIGRATIONS, ...waiting };
  if (command === 'migrate') return void (await migrateAlone(place, log));
  if (command !== undefined) {
    const say = (said: string) => void process.stdout.write(`${said}\n`);
    return runCommand({ config, log, services, say, ...waiting }, command, words);
  }

  process.once('SIGINT', leaveAtOnce);
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

/** What a start would read before it opens anything. */
function readExamined(): Config & { settings: string[] } {
  const settings = addEnvFile();
  const services = readMenus(SERVICES, knownOf, new CheckedMenus()).map((menu) => menu.service);
  const config = readConfig(process.env, services);
  readReplies(config.smsReplies ?? REPLIES, config.smsFrom);
  return { ...config, settings };
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
