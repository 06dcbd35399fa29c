/** Where a storm rages: two instances, a provider that has its own troubles, and a database that can be broken. */
import pg from 'pg';
import type { Test } from 'tap';
import type { ServeOptions } from '../../src/serve.ts';
import { type Asked, callerOf, type Storm, startStorm } from './chaos.ts';
import { type FakeOptions, fakeAfricasTalking } from './fake-africastalking.ts';
import { type GatewayProcess, startProcess, startQuickProcess } from './gateway.ts';
import { eventually } from './phone.ts';
import { database, type Postgres, startPostgres } from './postgres.ts';
import { credit, type Shop } from './shop.ts';

/** The root of the digests, so that the checker can name the rows of a session. */
export const DIGEST_KEY = 'fedcba9876543210fedcba9876543210';
/** What a subscriber has, in hundredths: enough for all that is bought at random. */
const RICH = 100_000_000;

/** A shop whose instances can be lost and come back; `url` is its database. */
export type Stage = Shop<GatewayProcess> & {
  url: string;
  seed: number;
  restart(instance: number, settings?: Record<string, string>): Promise<void>;
};

export type StageOptions = {
  fake?: FakeOptions;
  /** The server that is about to be broken; else the one that all tests share. */
  server?: Postgres;
  settings?: Record<string, string>;
  /** Intervals of the instances. Default: production's, by `src/main.ts`. */
  serve?: ServeOptions;
};

/** The seed of this run: `FAULTS_SEED`, else another one each time. */
export const SEED = Number(process.env.FAULTS_SEED ?? Math.floor(Math.random() * 1_000_000));

export async function setStage(t: Test, options: StageOptions = {}): Promise<Stage> {
  t.comment(`FAULTS_SEED=${SEED}`);
  const { url } = await database(t, options.server ? { server: options.server.url } : {});
  const fake = await fakeAfricasTalking(t, {
    seed: SEED,
    chaos: { fail: 0.1, drop: 0.1, twice: 0.1, truncated: 0.05 },
    ...options.fake,
  });
  const { serve } = options;
  const start = (more: Record<string, string> = {}) => {
    const settings = {
      DATABASE_URL: url,
      DIGEST_KEY,
      OPERATOR_TOKEN: 'a-token-for-this-test',
      GATEWAYS: 'latest=latest',
      SESSION_TTL_SECONDS: '3600',
      LOG_LEVEL: 'info',
      ...fake.environment,
      ...options.settings,
      ...more,
    };
    return serve === undefined ? startProcess(t, settings) : startQuickProcess(t, settings, serve);
  };
  const gateways: GatewayProcess[] = await Promise.all([start(), start()]);
  // A pool, because connections are among what is broken.
  const pool = new pg.Pool({ connectionString: url, max: 1, application_name: 'the test' });
  pool.on('error', () => {});
  t.teardown(() => pool.end());
  return {
    url,
    seed: SEED,
    fake,
    gateways,
    get urls() {
      return gateways.map((gateway) => gateway.url);
    },
    rows: async <T extends object>(sql: string) => (await pool.query(sql)).rows as T[],
    restart: async (instance, more) => {
      gateways[instance] = await start(more);
    },
  };
}

/** A server of our own that keeps what it has acknowledged; `data` as in test/support/postgres.ts. */
export async function ownServer(
  t: Test,
  settings: Record<string, string> = {},
  data?: string,
): Promise<Postgres> {
  const server = await startPostgres({ own: true, fsync: true, settings, ...(data && { data }) });
  t.teardown(() => server.stop());
  return server;
}

/** A connection of somebody who is not the gateway. */
export async function stranger(t: Test, url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => {});
  await client.connect();
  t.teardown(() => client.end().catch(() => {}));
  return client;
}

/** Everybody is given money, and begins. */
export async function unleash(stage: Stage, subscribers: number, dials: number): Promise<Storm> {
  const phones = Array.from({ length: subscribers }, (_, who) => callerOf(who));
  await Promise.all(phones.map((phone) => credit(stage, phone, RICH)));
  return startStorm({ urls: () => stage.urls, seed: stage.seed, subscribers, dials });
}

export const isAcknowledged = ({ outcome }: Asked) => outcome === 'ok' || outcome === 'replay';

/** Waits for so many answers more than there are. */
export async function answers(storm: Storm, more: number): Promise<void> {
  const count = () => storm.history.filter(isAcknowledged).length;
  const wanted = count() + more;
  await eventually(`${more} answers more`, async () => count() >= wanted);
}
