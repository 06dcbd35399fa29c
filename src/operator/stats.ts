import { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import type { Guard } from '../guard.ts';
import { REFUSALS } from '../listed.ts';
import type { SessionRecord } from '../store/records.ts';
import { type Counts, type Funnel, NOBODY } from '../store/stats.ts';
import { headerLine, lineOf } from './csv.ts';

export type StatsParts = {
  guard: Guard;
  /** The nodes of a service in the order of its document, none where it is private; undefined where there is none. */
  nodesOf(service: string): { nodes: string[]; hidden: boolean } | undefined;
  funnel(wanted: { service: string; from: Date; until: Date }): Promise<Funnel>;
  /** Page by page. */
  records(day: string): AsyncGenerator<SessionRecord[]>;
};

const DAY_MS = 86_400_000;
/** Nine statements at the most, one for each UTC day that is touched. */
const MOST_DAYS = 8;

const time = z.iso
  .datetime({ offset: true })
  .transform((text) => new Date(text))
  // The year 0 is none of Postgres'.
  .refine((date) => date.getTime() > 0, 'before 1970')
  // An offset may lead out of what ISO 8601 writes with four digits, and out of what Postgres reads.
  .refine((date) => date.getUTCFullYear() <= 9999, 'after 9999')
  .optional()
  .meta({ type: 'string', format: 'date-time' });

const Counted = {
  ended: z.int().describe('The service said END.'),
  gaveUp: z.int().describe('It did so after too many invalid answers.'),
  left: z.int().describe('Without an END: idle for longer than SESSION_TTL_SECONDS, or closed by a notice.'),
  continued: z.int().describe('Gone on with in a later dial.'),
  open: z.int().describe('Not over yet.'),
};

const Answer = z.object({
  service: z.string(),
  from: z.string(),
  until: z.string(),
  totals: z.object({ dials: z.int(), ...Counted }),
  nodes: z
    .array(
      z.object({
        node: z.string(),
        reached: z.int().describe('Dials that came to it.'),
        share: z.number().describe('Of all dials, from 0 to 1.'),
        ...Counted,
      }),
    )
    .describe('In the order of the document, those of older versions last. None of a private service.'),
});

/** A stream, which no schema turns into text. */
const Csv = z.any().meta({ type: 'string' });

/** What operators count: how far dials come, and the sessions of a day beside what the aggregator says of them. */
export async function stats(app: FastifyInstance, parts: StatsParts): Promise<void> {
  const typed = app.withTypeProvider<ZodTypeProvider>();
  const onRequest = parts.guard('read');
  const described = { tags: ['operator'], security: [{ operator: [] }] };

  typed.get(
    '/api/stats/funnel',
    {
      onRequest,
      schema: {
        ...described,
        summary: 'How far the dials of a service come, and where they are left',
        querystring: z.object({ service: z.string().max(64), from: time, until: time }),
        response: { 200: Answer, ...REFUSALS },
      },
    },
    async (request, reply) => {
      const { service, until = new Date() } = request.query;
      const from = request.query.from ?? new Date(until.getTime() - DAY_MS);
      const span = until.getTime() - from.getTime();
      if (span <= 0 || span > MOST_DAYS * DAY_MS)
        return reply.code(400).send({ error: `from is before until, and by ${MOST_DAYS} days at the most` });
      const known = parts.nodesOf(service);
      if (known === undefined) return reply.code(404).send({ error: 'Service not found' });
      const { dials, nodes } = await parts.funnel({ service, from, until });
      const { reached: all, ...totals } = dials;
      return {
        service,
        from: from.toISOString(),
        until: until.toISOString(),
        totals: { dials: all, ...totals },
        nodes: known.hidden ? [] : inOrder(known.nodes, nodes).map((node) => shareOf(all, node)),
      };
    },
  );

  typed.get(
    '/api/stats/sessions.csv',
    {
      onRequest,
      schema: {
        ...described,
        summary: 'The sessions of a UTC day beside the notices of the aggregator, as CSV',
        querystring: z.object({
          day: z.iso.date().refine((day) => !day.startsWith('0000'), 'there is no year 0'),
        }),
        response: {
          200: { description: 'RFC 4180', content: { 'text/csv': { schema: Csv } } },
          ...REFUSALS,
        },
      },
    },
    async (request, reply) => {
      const { day } = request.query;
      const pages = parts.records(day);
      // Before anything is sent: a database that is away is a 503, and no file that ends early.
      const first = await pages.next();
      reply
        .type('text/csv; charset=utf-8')
        .header('cache-control', 'no-store')
        .header('content-disposition', `attachment; filename="sessions-${day}.csv"`);
      return reply.send(Readable.from(linesOf(first, pages)));
    },
  );
}

async function* linesOf(first: IteratorResult<SessionRecord[]>, rest: AsyncGenerator<SessionRecord[]>) {
  yield headerLine;
  if (first.done === true) return;
  yield first.value.map(lineOf).join('');
  for await (const page of rest) yield page.map(lineOf).join('');
}

function inOrder(names: string[], counts: Map<string, Counts>): [string, Counts][] {
  const former = [...counts.keys()].filter((name) => !names.includes(name)).toSorted();
  return [...names, ...former].map((name) => [name, counts.get(name) ?? NOBODY]);
}

function shareOf(all: number, [node, counts]: [string, Counts]) {
  return { node, ...counts, share: all === 0 ? 0 : Math.round((counts.reached / all) * 10_000) / 10_000 };
}
