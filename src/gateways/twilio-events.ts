import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { deadlineIn } from '../deadline.ts';
import type { Deadline } from '../flow/heard.ts';
import { acknowledge, inWords, tooMany } from './callbacks.ts';
import { ANSWER_MS, dropped, refuseOthers } from './screens.ts';
import { isSigned } from './twilio-signature.ts';

const ROUTE = '/twilio/task-events';

declare module 'fastify' {
  interface FastifyRequest {
    /** It bears Twilio's signature. */
    signed?: boolean;
  }
}

/** The name under which tasks are kept that TaskRouter has. */
const ROUTER = 'twilio';

/**
 * An event names the task, its worker, queue and workflow, each with what was written of it: 4,096 characters of
 * attributes each, of up to twelve bytes in a form.
 */
const BODY_BYTES = 256 * 1024;

/** A clock that is ahead by more than this is wrong; in milliseconds. Else nothing later would be heard any more. */
const AHEAD_MS = 60_000;

/** A text without control characters: a database takes no NUL, and a name has no other. */
const line = (most: number) =>
  z
    .string()
    .max(most)
    .regex(/^\P{Cc}*$/u);

/** What TaskRouter posts, as far as it moves a task; everything else that it says is dropped. */
const Event = z.object({
  EventType: z.string().max(60),
  TaskSid: dropped(z.string().regex(/^WT[0-9A-Za-z]{1,64}$/)),
  WorkspaceSid: z.string().max(70),
  TimestampMs: dropped(z.string().regex(/^\d{13}$/)),
  TaskAttributes: dropped(z.string().max(4_096)),
  TaskAssignmentStatus: dropped(line(30)),
  TaskCanceledReason: dropped(line(500)),
  Reason: dropped(line(500)),
  WorkerName: dropped(line(200)),
});

/** What a task is known by, in its attributes. */
const About = z.object({ reference: z.string().regex(/^\d{1,10}$/), from: z.string().max(20) });

/** What follows from an event: `lost` where a task ended and was not dealt with. */
type Move = 'assigned' | 'released' | 'closed' | 'lost';

export type TaskEvent = {
  router: string;
  routerId: string;
  about?: { reference: string; from: string };
  at: number;
  move: Move;
  worker?: string;
};

export type TwilioEventsParts = {
  /** Without them every request is refused. */
  signed?: { authToken: string; workspaceSid: string; url?: string };
  /** Moves the task; it is `stale` where something newer was heard. */
  hear(event: TaskEvent, deadline: Deadline): Promise<'stored' | 'stale' | 'unmatched'>;
  /** Seconds to wait for an address that has sent too much that was not signed. */
  limit(request: FastifyRequest): Promise<number | undefined>;
};

/**
 * `POST /twilio/task-events`: what TaskRouter says of its tasks, a form signed with `X-Twilio-Signature`
 * (twilio.com/docs/usage/security, …/taskrouter/api/event/reference). What is signed is believed wherever it comes from, and is
 * not counted by address; what is not is refused.
 */
export async function twilioEvents(app: FastifyInstance, parts: TwilioEventsParts): Promise<void> {
  const refuse = async (request: FastifyRequest, reply: FastifyReply) => {
    request.callback = { route: ROUTE, outcome: 'refused' };
    const wait = await parts.limit(request);
    return wait === undefined ? inWords(reply, 403, 'Forbidden') : tooMany(reply, wait);
  };
  /** A body that is too long bears a signature that cannot be checked; it would come again, whatever it is. */
  const drop = async (request: FastifyRequest, reply: FastifyReply) => {
    const wait = await parts.limit(request);
    return wait === undefined ? inWords(reply, 200, 'OK') : tooMany(reply, wait);
  };
  // The signature of a body that cannot be read cannot be checked.
  acknowledge(app, ROUTE, (request, reply, isTooLong) => {
    if (request.signed === true) return undefined;
    return isTooLong ? drop(request, reply) : refuse(request, reply);
  });
  refuseOthers(app, ROUTE, ['POST'], { callback: ROUTE });
  app.withTypeProvider<ZodTypeProvider>().route({
    method: 'POST',
    url: ROUTE,
    config: { callback: ROUTE, proves: true },
    bodyLimit: BODY_BYTES,
    preValidation: async (request, reply) => {
      if (parts.signed !== undefined && isFromTwilio(request, parts.signed)) {
        request.signed = true;
        request.authenticated = true;
        return;
      }
      return refuse(request, reply);
    },
    schema: {
      summary: 'What became of a task at TaskRouter',
      description: 'Signed by Twilio. Always `OK` where it is, 503 where it could not be kept.',
      tags: ['callbacks'],
      consumes: ['application/x-www-form-urlencoded'],
      produces: ['text/plain'],
      body: Event,
      response: {
        200: z.string().describe('OK'),
        403: z.string().describe('Not signed'),
        429: z.string().describe('Too much from this address that was not signed'),
        503: z.string().describe('Not kept'),
      },
    },
    handler: async (request, reply) => {
      request.callback = { route: ROUTE, outcome: 'ignored' };
      const event = eventOf(request.body, parts.signed?.workspaceSid);
      if (event !== undefined) request.callback.outcome = await parts.hear(event, deadlineIn(ANSWER_MS));
      return inWords(reply, 200, 'OK');
    },
  });
}

/**
 * Twilio signs the URL as it is set there. Behind a proxy that ends TLS the scheme may be lost, so both are tried; a
 * proxy that changes the host or the path wants the URL in the settings.
 */
function isFromTwilio(
  request: FastifyRequest,
  { authToken, url }: NonNullable<TwilioEventsParts['signed']>,
): boolean {
  const given = request.headers['x-twilio-signature'];
  const fields = request.body;
  if (typeof given !== 'string' || typeof fields !== 'object' || fields === null) return false;
  const path = `${request.host}${request.raw.url ?? ''}`;
  const urls = url === undefined ? [`https://${path}`, `http://${path}`] : [url];
  return urls.some((signed) => isSigned(given, signed, fields as Record<string, string>, authToken));
}

function eventOf(said: z.output<typeof Event>, workspaceSid?: string): TaskEvent | undefined {
  const { TaskSid: routerId, TimestampMs: at, WorkerName: worker } = said;
  const move = moveOf(said);
  if (move === undefined || routerId === undefined || at === undefined || said.WorkspaceSid !== workspaceSid)
    return undefined;
  const about = aboutOf(said.TaskAttributes);
  return {
    router: ROUTER,
    routerId,
    at: Math.min(Number(at), Date.now() + AHEAD_MS),
    move,
    ...(about !== undefined && { about }),
    ...(worker !== undefined && { worker }),
  };
}

function moveOf(said: z.output<typeof Event>): Move | undefined {
  switch (said.EventType) {
    case 'reservation.accepted':
      return 'assigned';
    case 'reservation.canceled':
    case 'reservation.rescinded':
    case 'reservation.rejected':
    case 'reservation.timeout':
      // Of several people who were offered it, one let go: it waits only where nobody has it.
      return said.TaskAssignmentStatus === 'pending' ? 'released' : undefined;
    case 'task.completed':
      return 'closed';
    case 'task.canceled':
    case 'task.deleted':
    case 'task.system-deleted':
      return wasGivenUp(said) ? 'lost' : 'closed';
    default:
      return undefined;
  }
}

/** Nobody decided it: the task grew too old, or no worker of its workflow could take it. */
function wasGivenUp({ EventType, TaskCanceledReason, Reason }: z.output<typeof Event>): boolean {
  return (
    EventType === 'task.system-deleted' ||
    /ttl|timeout|timed out|workflow/i.test(`${TaskCanceledReason} ${Reason}`)
  );
}

function aboutOf(attributes: string | undefined): TaskEvent['about'] {
  try {
    return About.safeParse(JSON.parse(attributes ?? '')).data;
  } catch {
    return undefined;
  }
}
