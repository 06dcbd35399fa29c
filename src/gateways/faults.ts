import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod';
import { REASONS, type Reason } from '../flow/heard.ts';

/** The fault of a body that cannot be read as fields at all: missing, too large, not JSON, of another type. */
const WHOLE_BODY = 'body';

/** What a route says of the fields of its body: an object, or one that is changed once it is read. */
type BodySchema = { shape?: object; in?: BodySchema } | undefined;

/**
 * Names the fields of a request that are out of rule, for the log (decision 39): fields of the route's own schema
 * only, because a key that the caller chose can be a phone number or a PIN.
 */
export function faultOf(error: Error, { routeOptions }: { routeOptions: { schema?: unknown } }): string[] {
  const { body } = (routeOptions.schema ?? {}) as { body?: BodySchema };
  const known = Object.keys(body?.shape ?? body?.in?.shape ?? {});
  const { keys } = error as { keys?: unknown };
  const named = hasZodFastifySchemaValidationErrors(error)
    ? error.validation.map(({ instancePath }) => instancePath.split('/')[1])
    : Array.isArray(keys)
      ? keys
      : [];
  const fields = known.filter((field) => named.includes(field));
  return fields.length === 0 ? [WHOLE_BODY] : fields;
}

/** In words, what is wrong with a request and which fields are out of rule; never what stands in them. */
export function whatIsWrong(error: Error, status: number): string {
  if (status === 413) return 'The body is too large';
  if (status === 415) return 'The body must be JSON or a form';
  if ((error as { code?: unknown }).code === 'key_twice') return 'A key stands twice';
  if (!hasZodFastifySchemaValidationErrors(error))
    return status === 400 ? 'The request cannot be read' : 'Bad request';
  const fields = error.validation.map(({ instancePath }) => instancePath.slice(1).replaceAll('/', '.'));
  const named = [...new Set(fields)].filter((field) => /^[A-Za-z][\w.]{0,59}$/.test(field));
  return named.length === 0
    ? 'The body is no object of fields'
    : `Out of rule or missing: ${named.join(', ')}`;
}

/** Why an error left a turn without its answer: by the code that it carries. */
export function reasonOf(error: unknown): Reason {
  const { code } = (error ?? {}) as { code?: unknown };
  return REASONS.find((reason) => reason === code) ?? 'other';
}
