import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import type { Database } from './db/database.ts';
import type { Queue } from './queue.ts';

/** Between SIGTERM and the closed door: answers say `connection: close`, and balancers see `/health`. */
const GOODBYE_MS = 1_000;
/**
 * Longer than any answer takes: a connection that is open after that has no request. (A connection on which
 * nothing was ever asked does not count as idle, and would be waited for.)
 */
const LAST_ANSWER_MS = 5_000;
/** From SIGTERM to the exit at the most; in milliseconds. The contract promises 10 s. */
export const EXIT_MS = 9_000;

/** What is to be brought to its end. */
export type Running = {
  app: FastifyInstance;
  drain(): void;
  /** Stops the timers that look at documents and switches. */
  stopLooking(): void;
  queue: Queue;
  database: Database;
};

/** The pauses of a shutdown; in milliseconds. A test that is not about them passes shorter ones. */
export type Waits = { goodbyeMs?: number; lastAnswerMs?: number };

/**
 * Stops a gateway: announces the end, finishes the requests under way, stops the queue, closes the database.
 * Never rejects; what does not stop cleanly is logged.
 */
export async function shutDown(
  log: Logger,
  { app, drain, stopLooking, queue, database }: Running,
  { goodbyeMs = GOODBYE_MS, lastAnswerMs = LAST_ANSWER_MS }: Waits = {},
): Promise<void> {
  log.info('draining');
  drain();
  await queue.rest().catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, goodbyeMs));
  setTimeout(() => app.server.closeAllConnections(), lastAnswerMs).unref();
  await app.close();
  stopLooking();
  await queue.stop().catch((error: unknown) => log.warn({ err: error }, 'the queue did not stop cleanly'));
  await database
    .close()
    .catch((error: unknown) => log.warn({ err: error }, 'the database did not close cleanly'));
  log.info('stopped');
}

/** Shuts down at SIGTERM and SIGINT and exits with 0 within `EXIT_MS`. A second signal changes nothing. */
export function leaveOnSignal({ shutDown }: { shutDown(): Promise<void> }): void {
  let leaving = false;
  const leave = async () => {
    if (leaving) return;
    leaving = true;
    setTimeout(() => process.exit(0), EXIT_MS).unref();
    await shutDown();
    process.exit(0);
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => void leave());
    // Removed after the new listener is there: without any, Node forgets a signal that it has noted and not told yet.
    process.off(signal, leaveAtOnce);
  }
}

/** Until there is anything to finish, leaving is all there is to it. */
export function leaveAtOnce(): void {
  process.exit(0);
}

/** Logs an uncaught error like any other, without its message, and ends the process. */
export function lastWords(log: Logger): void {
  const end = (error: unknown) => {
    log.fatal({ err: error }, 'an error that nobody caught');
    process.exit(1);
  };
  process.on('uncaughtException', end);
  process.on('unhandledRejection', end);
}
