import { z } from 'zod';

/**
 * Schemas for the fields of callbacks. Providers do not send a refused callback again, so a field is read in every
 * spelling that leaves no doubt: JSON numbers, words in any case, phone numbers whose plus was not escaped in a form.
 */

/** Returns a schema that reads a JSON integer as its digits, and passes a text on as it is. */
export const textOrInteger = <T extends z.ZodType<unknown, string>>(text: T) =>
  z.union([z.int().transform(String), z.string()]).pipe(text);

/** Returns a schema for one of `words` that ignores case and surrounding spaces. */
export const wordInAnyCase = <const T extends string>(words: readonly T[]) =>
  z
    .string()
    .transform((word) => words.find((known) => known.toLowerCase() === word.trim().toLowerCase()) ?? word)
    .pipe(z.enum(words));

/** E.164 with its plus; or without, then of at least 9 digits, because a short code has fewer. An unescaped plus in a form is a space. */
const PHONE = /^[+ ]?[1-9]\d{8,14}$|^\+[1-9]\d{1,14}$/;

/** Reads a phone number of a callback as E.164 with its plus. */
export const CallbackPhone = textOrInteger(z.string().regex(PHONE).transform(withPlus)).meta({
  description: 'E.164, with or without its plus.',
  example: '+254711000111',
});

/** Returns the phone number as E.164 with its plus, or undefined where the text is something else, such as a short code. */
export function phoneIn(text: string): string | undefined {
  return PHONE.test(text) ? withPlus(text) : undefined;
}

/** Returns a phone number with a plus in front, whether it had one, an unescaped one, or none. */
export function withPlus(phone: string): string {
  return `+${phone.replace(/^[+ ]/, '')}`;
}
