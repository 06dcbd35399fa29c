import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance } from 'fastify';
import { jsonSchemaTransform } from 'fastify-type-provider-zod';

/** Collects the schemas of every route that is registered after it. */
export async function collectSchemas(app: FastifyInstance): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'USSD application gateway',
        version: '1',
        description: 'Made from the schemas that validate the requests.',
      },
      components: {
        securitySchemes: {
          operator: { type: 'http', scheme: 'bearer' },
          partner: { type: 'http', scheme: 'bearer' },
        },
      },
    },
    transform: jsonSchemaTransform,
  });
}

/** Nothing from elsewhere, and nothing turned into https: the page is also looked at on plain addresses. */
const CSP =
  "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'self'; frame-ancestors 'none'";

/** `GET /docs`: the page; `GET /docs/json`: the document. */
export async function docs(app: FastifyInstance): Promise<void> {
  await app.register(swaggerUi, { routePrefix: '/docs', staticCSP: CSP, uiConfig: { validatorUrl: null } });
}
