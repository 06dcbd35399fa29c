import { z } from 'zod';
import { readCursor } from './db/cursor.ts';

/** What guarded routes say when they do nothing. */
export const Failure = z.object({ error: z.string() });
export const REFUSALS = {
  400: Failure,
  401: Failure,
  403: Failure,
  404: Failure,
  429: Failure,
  503: Failure,
};

const MOST_LISTED = 100;

/** The query of a list that is read page by page: how many, and the `next` of the page before. */
export const paging = {
  limit: z.coerce.number().int().min(1).max(MOST_LISTED).default(50),
  cursor: z
    .string()
    .max(200)
    .transform((text, context) => {
      const cursor = readCursor(text);
      if (cursor === undefined) context.addIssue({ code: 'custom', message: 'no cursor of ours' });
      return cursor ?? z.NEVER;
    })
    .optional()
    .meta({ type: 'string' }),
};
