import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { screenText } from '../flow/screen.ts';
import type { Guard } from '../guard.ts';
import type { Session } from '../store/sessions.ts';

export type DebugParts = {
  guard: Guard;
  /** The ids of active sessions, newest first, and how many there are. */
  active(limit: number): Promise<string[]>;
  count(): Promise<number>;
  /**
   * The newest dial of a session id, whatever the gateway; undefined where unknown or expired. `hidden`: its service
   * is private, and neither who called nor what they read is shown.
   */
  find(sessionId: string): Promise<(Session & { hidden: boolean }) | undefined>;
};

/** More ids than this help nobody; \`count\` is the whole number. */
const MOST_LISTED = 1_000;

/** What stands for the number, the node and the screen of a private service. */
const HIDDEN = 'private';

const Active = z.array(z.string());

const Debug = z.object({
  sessionId: z.string(),
  debugInfo: z.object({
    state: z.string().describe('The node on which the session is.'),
    context: z.object({
      sessionId: z.string(),
      phoneNumber: z.string(),
      message: z.string().describe('The last screen.'),
      isAuthenticated: z.boolean(),
    }),
    status: z.enum(['active', 'ended']),
  }),
  activeSessions: Active,
});

const Failure = z.object({ error: z.string() });

/** How the guard, and a database that is away, answer. */
const REFUSALS = { 401: Failure, 403: Failure, 429: Failure, 503: Failure };

/** What an operator may look at (ixo-ussd-gateway-api): sessions, never what was typed in them. */
export async function debug(app: FastifyInstance, parts: DebugParts): Promise<void> {
  const typed = app.withTypeProvider<ZodTypeProvider>();
  const onRequest = parts.guard('read');
  const described = { tags: ['operator'], security: [{ operator: [] }] };

  typed.get(
    '/api/ussd/debug/:sessionId',
    {
      onRequest,
      schema: {
        ...described,
        summary: 'One session: where it is, and its last screen',
        params: z.object({ sessionId: z.string() }),
        response: { 200: Debug, 404: Failure, ...REFUSALS },
      },
    },
    async (request, reply) => {
      const { sessionId } = request.params;
      const session = await parts.find(sessionId);
      if (session === undefined) return reply.code(404).send({ error: 'Session not found' });
      const { opening, last, ended, hidden } = session;
      return {
        sessionId,
        debugInfo: {
          state: hidden ? HIDDEN : last.state.node,
          context: {
            sessionId,
            phoneNumber: hidden ? HIDDEN : (opening.opening?.msisdn ?? ''),
            message: hidden ? HIDDEN : screenText(last.screen),
            isAuthenticated: !ended && last.state.account !== undefined,
          },
          status: ended ? ('ended' as const) : ('active' as const),
        },
        activeSessions: await parts.active(MOST_LISTED),
      };
    },
  );

  typed.get(
    '/api/ussd/sessions',
    {
      onRequest,
      schema: {
        ...described,
        summary: 'Active sessions, newest first',
        response: { 200: z.object({ activeSessions: Active, count: z.int() }), ...REFUSALS },
      },
    },
    async () => {
      const [activeSessions, count] = await Promise.all([parts.active(MOST_LISTED), parts.count()]);
      return { activeSessions, count };
    },
  );
}
