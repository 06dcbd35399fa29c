import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import type { Queue } from './queue.ts';
import type { Database } from './store/database.ts';

/** Between SIGTERM and the closed door: answers say `connection: close`, and balancers see `/health`. */
const GOODBYE_MS = 1_000;
/**
 * Longer than any answer takes: whoever is connected after that asks nothing. (A connection on which
 * nothing was ever asked does not count as idle, and would be waited for.)
 */
const LAST_ANSWER_MS = 5_000;
/** From SIGTERM to the exit at the most; in milliseconds. The contract promises 10 s. */
export const EXIT_MS = 9_000;

/** What is to be brought to its end. */
export type Running = {
  app: FastifyInstance;
  drain(): void;
  /** No more looks at the switches. */
  stopLooking(): void;
  queue: Queue;
  database: Database;
};

/** SIGTERM and SIGINT: say goodbye, finish what is under way, exit 0. A second signal changes nothing. */
export function leaveWell(log: Logger, { app, drain, stopLooking, queue, database }: Running): void {
  let leaving = false;
  const leave = async () => {
    if (leaving) return;
    leaving = true;
    log.info('draining');
    setTimeout(() => process.exit(0), EXIT_MS).unref();
    drain();
    await queue.rest().catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, GOODBYE_MS));
    setTimeout(() => app.server.closeAllConnections(), LAST_ANSWER_MS).unref();
    await app.close();
    stopLooking();
    await queue.stop().catch((error: unknown) => log.warn({ err: error }, 'the queue did not stop cleanly'));
    await database
      .close()
      .catch((error: unknown) => log.warn({ err: error }, 'the database did not close cleanly'));
    log.info('stopped');
    process.exit(0);
  };
  process.off('SIGTERM', leaveAtOnce);
  process.on('SIGTERM', () => void leave());
  process.on('SIGINT', () => void leave());
}

/** Until there is anything to finish, leaving is all there is to it. */
export function leaveAtOnce(): void {
  process.exit(0);
}

/** What nobody caught is logged like any error, without its message, and ends the process. */
export function lastWords(log: Logger): void {
  const end = (error: unknown) => {
    log.fatal({ err: error }, 'an error that nobody caught');
    process.exit(1);
  };
  process.on('uncaughtException', end);
  process.on('unhandledRejection', end);
}
