/** The bare route behind the schema of our own route: what validation costs, and nothing else. */
import { fastify } from 'fastify';
import { serializerCompiler, validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { UssdRequest } from '../../src/gateways/screens.ts';
import { FIXED } from '../walks.ts';

const app = fastify();
app.setValidatorCompiler(validatorCompiler);
app.setSerializerCompiler(serializerCompiler);
app
  .withTypeProvider<ZodTypeProvider>()
  .post('/api/ussd', { schema: { body: UssdRequest, response: { 200: z.string() } } }, (_request, reply) => {
    reply.header('content-type', 'text/plain; charset=utf-8').send(FIXED);
  });
await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' });
