import type { FastifyInstance } from 'fastify';
import { type NoticeParts, noticesOfAfricastalking } from './africastalking-notices.ts';
import { inWords } from './callbacks.ts';
import { answerPlainly, mountTurns, refuseOthers, type ScreenParts, UssdRequest } from './screens.ts';

/** The gateway's name, and that of its session space. */
export const AFRICASTALKING = 'africastalking';

const DESCRIPTION = `Africa's Talking: answers \`CON\` and a screen, or \`END\` and the last words. The same text is the same
turn; where there is none it is the first request.

The header \`x-ussd-outcome\` says how it went: \`ok\`, \`replay\`, \`invalid\`, \`unavailable\` or \`limited\`;
\`at-ussd-hop-metadata\` names the screen.`;

/** A missing text is an empty one; input is cumulative, so no id of the request is heard. */
const Session = UssdRequest.omit({ requestId: true }).extend({ text: UssdRequest.shape.text.default('') });

export type AfricastalkingParts = ScreenParts & NoticeParts;

/**
 * Africa's Talking (africastalking-ussd): `GET /ussd/`, `POST /ussd/session` and, when a session is over,
 * `POST /ussd/status`. A turn is what it is on `/api/ussd`; Africa's Talking echoes and charts the header
 * `at-ussd-hop-metadata` (at most 99 characters, no `|`), which names the screen and nothing of the subscriber.
 */
export async function africastalkingGateway(app: FastifyInstance, parts: AfricastalkingParts): Promise<void> {
  app.get(
    '/ussd/',
    { schema: { summary: "Whether Africa's Talking reaches us", tags: ['ussd'], produces: ['text/plain'] } },
    async (_request, reply) => inWords(reply, 200, 'Welcome to the USSD service'),
  );
  refuseOthers(app, '/ussd/', ['GET', 'HEAD']);

  await app.register(async (scope) => {
    answerPlainly(scope, AFRICASTALKING);
    mountTurns(scope, parts, {
      url: '/ussd/session',
      gateway: AFRICASTALKING,
      description: DESCRIPTION,
      body: Session,
      from: () => ({ name: AFRICASTALKING, mode: 'cumulative' }),
      nodeHeader: 'at-ussd-hop-metadata',
    });
  });
  await app.register(noticesOfAfricastalking, { ...parts, gateway: AFRICASTALKING });
}
