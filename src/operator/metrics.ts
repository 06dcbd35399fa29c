import type { FastifyInstance } from 'fastify';
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { REASONS, type Reason } from '../flow/heard.ts';
import type { Guard } from '../guard.ts';

/** What one turn adds to the counts. No label ever holds a phone number, a session id or anything typed. */
export type CountedTurn = {
  gateway: string;
  outcome: string;
  /** Of what is `unavailable`. */
  reason?: Reason;
  service?: string;
  node?: string;
};

export type MetricsParts = {
  guard: Guard;
  activeSessions(): Promise<number>;
  /** What has not been delivered, by kind and state, and how many seconds the oldest has been there. */
  deliveries(): Promise<{ kind: string; state: string; count: number; oldest: number }[]>;
  /** Requests for help that are not closed, by state, and how many seconds the oldest has waited. */
  tasks(): Promise<{ state: string; count: number; oldest: number }[]>;
  connections(): { total: number; idle: number; waiting: number };
  /** Every service, and whether it is switched off. */
  services(): { service: string; off: boolean }[];
  /** When each step of the housekeeping succeeded last; in milliseconds since 1970. */
  housekeeping?(): Promise<{ step: string; succeededAt: number }[]>;
  /** The newest comparison of airtime orders with sales by source; `ranAt` in seconds since 1970. */
  reconciled?(): Promise<
    { source: string; ranAt: number; ordersWithoutSale: number; salesWithoutOrder: number }[]
  >;
  /** How many checks of PINs have come to which verdict since the start. */
  pinChecks(): ReadonlyMap<string, number>;
  /** Whether anyone may call gateway routes and callbacks: neither CALLBACK_SECRET nor GATEWAY_ALLOW is set. */
  gatewaysOpen?(): boolean;
};

/** The process's metrics (Prometheus text format), and the functions that count turns and callbacks. */
export function makeMetrics(parts: MetricsParts) {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const deliveries = shared(parts.deliveries);
  const tasks = shared(parts.tasks);
  // Counted in tables of our own, which one key finds, and published when they are asked for.
  const counted = { turns: new Tally('gateway', 'outcome'), screens: new Tally('service', 'node') };
  new Counter({
    name: 'ussd_turns_total',
    help: 'Turns by gateway and outcome',
    labelNames: ['gateway', 'outcome'],
    registers,
    collect() {
      counted.turns.publish(this);
    },
  });
  const unavailable = new Counter({
    name: 'ussd_unavailable_total',
    help: 'Turns answered that the service is unavailable, by reason',
    labelNames: ['reason'],
    registers,
  });
  // From the start: of a series that begins with its first failure no increase is seen.
  for (const reason of REASONS) unavailable.inc({ reason }, 0);
  new Counter({
    name: 'ussd_pin_checks_total',
    help: 'Checks of the PIN of an account by what they came to; new PINs are not counted, copies that race are',
    labelNames: ['verdict'],
    registers,
    collect() {
      this.reset();
      for (const [verdict, count] of parts.pinChecks()) this.inc({ verdict }, count);
    },
  });
  const durations = new Durations();
  new Counter({
    name: 'ussd_screens_total',
    help: 'Screens shown, replays left out',
    labelNames: ['service', 'node'],
    registers,
    collect() {
      counted.screens.publish(this);
    },
  });
  const callbacks = new Counter({
    name: 'ussd_callbacks_total',
    help: 'Callbacks of providers by route and outcome',
    labelNames: ['route', 'outcome'],
    registers,
  });
  const incoming = new Counter({
    name: 'ussd_sms_incoming_total',
    help: 'Messages that came in, by what was answered or why nothing was',
    labelNames: ['answer'],
    registers,
  });
  new Gauge({
    name: 'ussd_active_sessions',
    help: 'Sessions that have neither ended nor expired',
    registers,
    async collect() {
      this.set(await parts.activeSessions().catch(() => Number.NaN));
    },
  });
  new Gauge({
    name: 'ussd_outbox',
    help: 'What is to leave the house and has not, by kind and state; dead wants an operator',
    labelNames: ['kind', 'state'],
    registers,
    async collect() {
      const counts = await deliveries();
      this.reset();
      for (const { kind, state, count } of counts ?? []) this.set({ kind, state }, count);
    },
  });
  new Gauge({
    name: 'ussd_outbox_oldest_seconds',
    help:
      'How long the oldest queued delivery of each kind has waited since it was first queued, tries and the waits ' +
      'between them included; one that an operator queues again counts from then too',
    labelNames: ['kind'],
    registers,
    async collect() {
      const counts = await deliveries();
      this.reset();
      for (const { kind, state, oldest } of counts ?? []) if (state === 'queued') this.set({ kind }, oldest);
    },
  });
  for (const [name, help, value] of [
    ['ussd_desk_tasks', 'Requests for help that are not closed, by state', 'count'],
    ['ussd_desk_oldest_seconds', 'How long the oldest request for help of each state has waited', 'oldest'],
  ] as const) {
    new Gauge({
      name,
      help,
      labelNames: ['state'],
      registers,
      async collect() {
        const waiting = await tasks();
        this.reset();
        for (const { state, ...task } of waiting ?? []) this.set({ state }, task[value]);
      },
    });
  }
  new Gauge({
    name: 'ussd_housekeeping_last_success_timestamp_seconds',
    help: 'When each step of the housekeeping last left nothing undone (Unix time); of one that never did, its first run',
    labelNames: ['step'],
    registers,
    async collect() {
      const steps = (await parts.housekeeping?.().catch(() => [])) ?? [];
      this.reset();
      for (const { step, succeededAt } of steps) this.set({ step }, succeededAt / 1000);
    },
  });
  new Gauge({
    name: 'ussd_database_connections',
    help: 'Connections of the pools by state; waiting counts those who want one',
    labelNames: ['state'],
    registers,
    collect() {
      for (const [state, count] of Object.entries(parts.connections())) this.set({ state }, count);
    },
  });

  const reconciled = shared(async () => (await parts.reconciled?.()) ?? []);
  new Gauge({
    name: 'ussd_airtime_unreconciled',
    help: 'What the newest comparison of airtime orders with sales found, by source and kind; needs an operator',
    labelNames: ['source', 'kind'],
    registers,
    async collect() {
      const newest = await reconciled();
      this.reset();
      for (const { source, ordersWithoutSale, salesWithoutOrder } of newest ?? []) {
        this.set({ source, kind: 'order_without_sale' }, ordersWithoutSale);
        this.set({ source, kind: 'sale_without_order' }, salesWithoutOrder);
      }
    },
  });
  new Gauge({
    name: 'ussd_airtime_reconciled_timestamp_seconds',
    help: 'When airtime orders were last compared with sales, by source, in seconds since 1970',
    labelNames: ['source'],
    registers,
    async collect() {
      const newest = await reconciled();
      this.reset();
      for (const { source, ranAt } of newest ?? []) this.set({ source }, ranAt);
    },
  });

  new Gauge({
    name: 'ussd_service_off',
    help: '1 where an operator has switched the service off: new dials of it end at once',
    labelNames: ['service'],
    registers,
    collect() {
      this.reset();
      for (const { service, off } of parts.services()) this.set({ service }, off ? 1 : 0);
    },
  });

  new Gauge({
    name: 'ussd_gateways_open',
    help: '1 where anyone may call gateway routes: neither CALLBACK_SECRET nor GATEWAY_ALLOW is set',
    registers,
    collect() {
      this.set(parts.gatewaysOpen?.() === true ? 1 : 0);
    },
  });

  const count = ({ gateway, outcome, reason = 'other', service, node }: CountedTurn, seconds: number) => {
    counted.turns.add(gateway, outcome);
    if (outcome === 'unavailable') unavailable.inc({ reason });
    durations.add(outcome, seconds);
    if (outcome === 'ok' && service !== undefined && node !== undefined) counted.screens.add(service, node);
  };

  /** `route` as it is documented, without the secret that it may stand below. */
  const countCallback = (route: string, outcome: string, answer?: string) => {
    callbacks.inc({ route, outcome });
    if (answer !== undefined) incoming.inc({ answer });
  };

  const routes = async (app: FastifyInstance): Promise<void> => {
    app.get(
      '/metrics',
      {
        onRequest: parts.guard('read'),
        schema: { summary: 'Prometheus metrics', tags: ['operator'], security: [{ operator: [] }] },
      },
      async (_request, reply) =>
        reply.type(registry.contentType).send(`${await registry.metrics()}\n${durations.text()}`),
    );
  };

  return { count, countCallback, routes };
}

/** Upper bounds of the buckets of durations, in seconds. */
const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];

/**
 * `ussd_turn_duration_seconds` by outcome. Counted here and not by prom-client, whose histogram names its labels anew for
 * every turn (docs/performance.md).
 */
class Durations {
  readonly #byOutcome = new Map<string, { counts: number[]; sum: number }>();

  add(outcome: string, seconds: number): void {
    let of = this.#byOutcome.get(outcome);
    if (of === undefined) {
      of = { counts: new Array<number>(BUCKETS.length + 1).fill(0), sum: 0 };
      this.#byOutcome.set(outcome, of);
    }
    let bucket = 0;
    while (bucket < BUCKETS.length && seconds > (BUCKETS[bucket] as number)) bucket += 1;
    of.counts[bucket] = (of.counts[bucket] as number) + 1;
    of.sum += seconds;
  }

  /** Returns the metric in Prometheus' text format: buckets add up those below them. */
  text(): string {
    const name = 'ussd_turn_duration_seconds';
    const lines = [`# HELP ${name} From the request to its answer`, `# TYPE ${name} histogram`];
    for (const [outcome, { counts, sum }] of this.#byOutcome) {
      let count = 0;
      for (const [i, more] of counts.entries()) {
        count += more;
        lines.push(`${name}_bucket{le="${BUCKETS[i] ?? '+Inf'}",outcome="${outcome}"} ${count}`);
      }
      lines.push(`${name}_sum{outcome="${outcome}"} ${sum}`, `${name}_count{outcome="${outcome}"} ${count}`);
    }
    return `${lines.join('\n')}\n`;
  }
}

/** Counts by two labels. */
class Tally {
  readonly #names: [string, string];
  readonly #counts = new Map<string, Map<string, number>>();

  constructor(...names: [string, string]) {
    this.#names = names;
  }

  add(one: string, other: string): void {
    const counts = this.#counts.get(one) ?? new Map<string, number>();
    if (counts.size === 0) this.#counts.set(one, counts);
    counts.set(other, (counts.get(other) ?? 0) + 1);
  }

  /** Sets a counter to these counts. */
  publish(counter: Counter): void {
    const [first, second] = this.#names;
    counter.reset();
    for (const [one, counts] of this.#counts)
      for (const [other, count] of counts) counter.inc({ [first]: one, [second]: other }, count);
  }
}

/** One question for all metrics of a scrape that want its answer; undefined where there is none. */
function shared<T>(ask: () => Promise<T>): () => Promise<T | undefined> {
  let asked: Promise<T | undefined> | undefined;
  return () => {
    asked ??= ask()
      .catch(() => undefined)
      .finally(() => {
        asked = undefined;
      });
    return asked;
  };
}
