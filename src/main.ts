import { checkUp } from './checkup.ts';
import { runCommand } from './command.ts';
import { type Config, readConfig } from './config.ts';
import { lastWords, leaveAtOnce, leaveOnSignal } from './leaving.ts';
import { makeLog } from './log.ts';
import { readMenus } from './menus.ts';
import { migrateAlone, StartRefused } from './opening.ts';
import { CommandRefused } from './operator/commands.ts';
import { inWords, knownOf, MIGRATIONS, REPLIES, SERVICES, serve } from './serve.ts';
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
  if (command !== undefined) {
    const say = (said: string) => void process.stdout.write(`${said}\n`);
    return runCommand({ config, log, services, say }, command, words);
  }

  leaveOnSignal(await serve(config, documents, log));
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
