import type { Logger } from 'pino';
import type { Config } from './config.ts';
import { openKeeping } from './engine.ts';
import { keepHouse } from './housekeeping.ts';
import { openDatabase, type Progress, StartRefused } from './opening.ts';
import { COMMANDS } from './operator/commands.ts';
import { chooseProviders } from './providers/choose.ts';
import { startQueue } from './queue.ts';
import { bookOf, daysOf, MIGRATIONS } from './serve.ts';
import { simulatedTill } from './store/reconciliation.ts';

/** What a command is run with; `say` prints a line to the operator, `pause` waits for a test (default: by the clock). */
type Beside = {
  config: Config;
  log: Logger;
  services: string[];
  say(said: string): void;
  pause?(milliseconds: number): Promise<unknown>;
  progress?: Progress;
};

/**
 * Runs a command of an operator's beside the running service, on the same database, and says what came of it.
 * Throws `CommandRefused`, and what opening the database throws (src/opening.ts).
 */
export async function runCommand(
  { config, log, services, say, pause, progress }: Beside,
  command: string,
  words: string[],
): Promise<void> {
  const run = Object.hasOwn(COMMANDS, command) ? COMMANDS[command] : undefined;
  if (run === undefined)
    throw new StartRefused(
      `there is no command ${command}: doctor, migrate, ${Object.keys(COMMANDS).join(', ')}`,
    );
  const { database, ring } = await openDatabase(
    { ...config, migrations: MIGRATIONS, ...(progress && { progress }) },
    log,
  );
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
    say(
      await run(
        {
          ...keeping,
          services,
          house,
          db: database.kysely,
          ring,
          enqueue: queue.enqueue,
          sales,
          say,
          ...(pause && { pause }),
        },
        words,
      ),
    );
  } finally {
    await queue.stop();
    await database.close();
  }
}
