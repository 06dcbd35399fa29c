import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { type Cursor, pageOf } from '../db/cursor.ts';
import type { Guard } from '../guard.ts';
import { Failure, paging, REFUSALS } from '../listed.ts';
import type { TaskState } from '../store/task-rows.ts';
import type { Task, TaskEvent } from '../store/tasks.ts';

export type Closing = { note: string; by: string; requests?: number | undefined };
export type Assigning = { to: string; by: string; instead: boolean };

export type DeskParts = {
  guard: Guard;
  list(wanted: { states: readonly TaskState[]; after?: Cursor | undefined }, limit: number): Promise<Task[]>;
  find(reference: string): Promise<{ task: Task; events: TaskEvent[] } | undefined>;
  assign(
    reference: string,
    wanted: Assigning,
  ): Promise<'assigned' | 'unknown' | 'closed' | 'taken' | 'elsewhere'>;
  close(reference: string, wanted: Closing): Promise<'done' | 'again' | 'unknown' | 'closed' | 'asked'>;
};

const STATES = ['open', 'assigned', 'closed'] as const;

const Task_ = z.object({
  ref: z.string().describe('What the caller was told.'),
  state: z.enum(STATES),
  from: z.string().describe('Who asks to be called, E.164.'),
  to: z.string().describe('What was dialled.'),
  language: z.string(),
  location: z.string(),
  supportType: z.string(),
  source: z.enum(['ussd', 'telerivet']),
  priority: z.int().describe('Higher ones first.'),
  requests: z.int().describe('How often it was asked for.'),
  openedAt: z.string(),
  askedAt: z.string().describe('For the last time.'),
  closedAt: z.string().nullable(),
  assignee: z.string().nullable(),
  router: z.string().nullable().describe('Who else has it: twilio, or nobody.'),
});

const Whole = Task_.extend({
  events: z.array(
    z.object({ at: z.string(), kind: z.string(), by: z.string(), note: z.string().nullable() }),
  ),
});

const Wanted = z.object({
  state: z.enum(STATES).optional().describe('Those that are not closed, where it is left out.'),
  ...paging,
});

const Reference = z.object({ ref: z.string().regex(/^\d{1,10}$/) });

/** A person's name or a team's, for the trail: one line without control characters. */
const Worker = z
  .string()
  .trim()
  .regex(/^[\p{L}\p{N} '.@_-]{1,60}$/u);

const Assign = z.object({
  to: Worker.describe('Who takes it.'),
  instead: z.boolean().default(false).describe('Also where somebody else has taken it.'),
});

const Note = z.string().trim().min(1).max(500);

const CONFLICTS = {
  closed: 'The task is closed',
  asked: 'The caller has asked again meanwhile: look at the task once more',
  taken: 'Somebody else has taken the task: say instead: true to take it over',
  elsewhere: 'The task is with the task router, which gives it to its own workers',
} as const;

/** The desk: requests for help and what becomes of them. Every look at one is logged under the operator's name. */
export async function desk(app: FastifyInstance, parts: DeskParts): Promise<void> {
  const typed = app.withTypeProvider<ZodTypeProvider>();
  const described = { tags: ['desk'], security: [{ operator: [] }] };
  const onRequest = parts.guard('desk');
  app.addHook('onSend', async (_request, reply) => {
    reply.header('cache-control', 'no-store');
  });

  /** The task after what was done to it, or why it was not done. */
  const answer = async (
    request: FastifyRequest,
    reply: FastifyReply,
    [what, ref, outcome]: [string, string, string],
  ) => {
    request.log.info({ operator: request.operator, ref, outcome }, what);
    if (Object.hasOwn(CONFLICTS, outcome))
      return reply.code(409).send({ error: CONFLICTS[outcome as keyof typeof CONFLICTS] });
    const found = await parts.find(ref);
    return found === undefined ? reply.code(404).send({ error: 'No such task' }) : whole(found);
  };

  typed.get(
    '/api/desk/tasks',
    {
      onRequest,
      schema: {
        ...described,
        summary: 'Requests for help, those that have waited longest first',
        querystring: Wanted,
        response: { 200: z.object({ tasks: z.array(Task_), next: z.string().nullable() }), ...REFUSALS },
      },
    },
    async (request) => {
      const { state, limit, cursor } = request.query;
      const states: readonly TaskState[] = state === undefined ? ['open', 'assigned'] : [state];
      const rows = await parts.list({ states, after: cursor }, limit + 1);
      const { page, next } = pageOf(rows, limit, ({ openedAt, id }) => ({ at: openedAt, id }));
      request.log.info({ operator: request.operator, shown: page.length }, 'desk tasks listed');
      return { tasks: page.map(seen), next };
    },
  );

  typed.get(
    '/api/desk/tasks/:ref',
    {
      onRequest,
      schema: {
        ...described,
        summary: 'One request for help, and what became of it',
        params: Reference,
        response: { 200: Whole, ...REFUSALS },
      },
    },
    async (request, reply) => answer(request, reply, ['desk task read', request.params.ref, 'read']),
  );

  typed.post(
    '/api/desk/tasks/:ref/assign',
    {
      onRequest,
      schema: {
        ...described,
        summary: 'Somebody takes it',
        params: Reference,
        body: Assign,
        response: { 200: Whole, 409: Failure.describe('Closed, taken, or elsewhere'), ...REFUSALS },
      },
    },
    async (request, reply) => {
      const { ref } = request.params;
      const outcome = await parts.assign(ref, { ...request.body, by: request.operator ?? '' });
      return answer(request, reply, ['desk task assigned', ref, outcome]);
    },
  );

  typed.post(
    '/api/desk/tasks/:ref/close',
    {
      onRequest,
      schema: {
        ...described,
        summary: 'It has been dealt with',
        params: Reference,
        body: z.object({
          note: Note.describe('What was done. Sealed, and shown here only.'),
          requests: z
            .int()
            .min(1)
            .optional()
            .describe('As it was seen: 409 where the caller has asked again since.'),
        }),
        response: { 200: Whole, 409: Failure.describe('Somebody else has closed it'), ...REFUSALS },
      },
    },
    async (request, reply) => {
      const { ref } = request.params;
      const outcome = await parts.close(ref, { ...request.body, by: request.operator ?? '' });
      return answer(request, reply, ['desk task closed', ref, outcome]);
    },
  );
}

function seen({ id: _, reference: ref, ...task }: Task): z.output<typeof Task_> {
  return { ref, ...task };
}

function whole({ task, events }: { task: Task; events: TaskEvent[] }): z.output<typeof Whole> {
  return { ...seen(task), events };
}
