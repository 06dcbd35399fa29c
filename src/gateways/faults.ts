import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod';
import { REASONS, type Reason } from '../flow/heard.ts';

/** In words, what is wrong with a request and which fields are out of rule; never what stands in them. */
export function whatIsWrong(error: Error, status: number): string {
  if (status === 413) return 'The body is too large';
  if (status === 415) return 'The body must be JSON or a form';
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
