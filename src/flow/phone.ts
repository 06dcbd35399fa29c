import { type PhoneNumber, parsePhoneNumberFromString } from 'libphonenumber-js/max';

/** What people write between the digits of a number. */
const BETWEEN = /[ .()/-]/g;

/**
 * Reads a typed phone number, folded already, as people dial it at home or abroad: `0711000111`, `711000111`,
 * `254711000111`, `+254711000111`, `00254711000111`. Without `+` or the prefix for calls abroad it is of the caller's
 * country. Returns E.164, or undefined where no country has such a number: a digit too few or too many must not become
 * the number of another person, who then gets what was bought. The caller's own number exists, whatever the list says.
 *
 * The list of numbers is the complete one of libphonenumber (`max`, 157 kB): `min` (83 kB) knows only how long numbers
 * of a country are, `mobile` (99 kB) takes landlines for numbers that do not exist.
 */
export function readPhone(folded: string, msisdn: string): string | undefined {
  const typed = folded.replaceAll(BETWEEN, '');
  if (!/^\+?\d{4,20}$/.test(typed)) return undefined;
  const caller = parsePhoneNumberFromString(msisdn);
  const home = caller && (caller.country ? { defaultCountry: caller.country } : codeOf(caller));
  // Not every country dials 00 for abroad, and everybody knows it.
  const spellings = typed.startsWith('00') ? [`+${typed.slice(2)}`, typed] : [typed];
  for (const spelling of spellings) {
    if (!spelling.startsWith('+') && home === undefined) continue;
    const found = parsePhoneNumberFromString(spelling, { extract: false, ...home });
    if (found !== undefined && (found.number === msisdn || found.isValid())) return found.number;
  }
  return undefined;
}

/** The country code alone, where several countries share it and the number is of none in particular. */
function codeOf({ countryCallingCode }: PhoneNumber): { defaultCallingCode: string } {
  return { defaultCallingCode: countryCallingCode };
}
