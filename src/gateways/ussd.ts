import type { FastifyInstance } from 'fastify';
import { isSameSecret } from '../http/same-secret.ts';
import { answerPlainly, mountTurns, type ScreenParts, type UssdGateway, UssdRequest } from './screens.ts';

const DESCRIPTION = `Answers \`CON\` and a screen, or \`END\` and the last words. The same text is the same turn.

The header \`x-ussd-outcome\` says how it went: \`ok\`, \`replay\`, \`invalid\`, \`unavailable\` or \`limited\`.
A gateway that sends only the newest input may send \`Idempotency-Key\` instead of \`requestId\`; a gateway with a
secret sends it as \`x-gateway-secret\` or as the last piece of the path.`;

export type UssdParts = ScreenParts & {
  /** `/api/ussd` itself, and those under `/api/ussd/via/`. */
  own: UssdGateway;
  via: UssdGateway[];
};

/** The wire format of `POST /api/ussd`, on its own path and for every named gateway on `…/via/:gateway`. */
export async function ussdGateway(app: FastifyInstance, parts: UssdParts): Promise<void> {
  answerPlainly(app, parts.own.name);
  const named = new Map(parts.via.map((gateway) => [gateway.name, gateway]));
  const format = { gateway: parts.own.name, description: DESCRIPTION, body: UssdRequest };

  mountTurns(app, parts, { ...format, url: '/api/ussd', from: () => parts.own });
  for (const url of ['/api/ussd/via/:gateway', '/api/ussd/via/:gateway/:secret']) {
    mountTurns(app, parts, {
      ...format,
      url,
      from: (request) => {
        const { gateway: name = '', secret } = request.params as { gateway?: string; secret?: string };
        const gateway = named.get(name);
        const header = request.headers['x-gateway-secret'];
        const given = secret ?? (typeof header === 'string' ? header : undefined);
        return gateway !== undefined && proves(gateway, given) ? gateway : undefined;
      },
    });
  }
}

function proves(gateway: UssdGateway, given: string | undefined): boolean {
  if (gateway.secret === undefined) return given === undefined;
  return isSameSecret(given, gateway.secret);
}
