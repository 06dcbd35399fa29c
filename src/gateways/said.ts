import { z } from 'zod';

/**
 * Fields as providers spell them in callbacks. A callback that is refused does not come again, so that what is plainly
 * meant is read.
 */

/** Returns a schema for a text that JSON may give as a whole number. */
export const written = <T extends z.ZodType<unknown, string>>(text: T) =>
  z.union([z.int().transform(String), z.string()]).pipe(text);

/** Returns a schema for one of some words, in whatever case. */
export const oneOf = <const T extends string>(words: readonly T[]) =>
  z
    .string()
    .transform((word) => words.find((known) => known.toLowerCase() === word.trim().toLowerCase()) ?? word)
    .pipe(z.enum(words));

/** E.164 with its plus, or without: then long enough that it is no short code. An unescaped plus is a space. */
const PHONE = /^[+ ]?[1-9]\d{8,14}$|^\+[1-9]\d{1,14}$/;

/** A phone number in whichever of these spellings, as E.164 with its plus. */
export const SaidPhone = written(z.string().regex(PHONE).transform(withPlus)).meta({
  description: 'E.164, with or without its plus.',
  example: '+254711000111',
});

/** Reads a phone number; undefined where it is another name, such as a short code. */
export function phoneIn(said: string): string | undefined {
  return PHONE.test(said) ? withPlus(said) : undefined;
}

function withPlus(phone: string): string {
  return `+${phone.replace(/^[+ ]/, '')}`;
}
