import anyAscii from 'any-ascii';

/** The basic table of the GSM default alphabet, one septet each (3GPP TS 23.038 §6.2.1). */
const BASIC = new Set(
  '@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&\'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà',
);

/** The extension table: an escape and a character, so two septets each (3GPP TS 23.038 §6.2.1.1). */
const EXTENSION = new Set('^{}\\[]~|€\f');

/** 160 octets carry 80 UCS-2 code units (3GPP TS 23.038 §6.1.2.3). */
export const UCS2_LIMIT = 80;
/** 160 octets carry 182 septets (3GPP TS 23.038 §6.1.2.3). */
export const SEPTET_LIMIT = 182;
/** What a screen may use unless its service says otherwise: several aggregators cut at 160. */
export const SEPTET_BUDGET = 160;

export type Measure = { alphabet: 'gsm' | 'ucs2'; units: number };

/**
 * What a text costs on the air: septets while every character is in the GSM alphabet, else UCS-2
 * code units for the whole text, because one foreign character changes the alphabet of all of it.
 */
export function measure(text: string): Measure {
  let septets = 0;
  for (const character of text) {
    if (BASIC.has(character)) septets += 1;
    else if (EXTENSION.has(character)) septets += 2;
    else return { alphabet: 'ucs2', units: text.length };
  }
  return { alphabet: 'gsm', units: septets };
}

/**
 * What lines cost together, in either alphabet, so that it can be added up line by line. `septets` counts for nothing
 * where a character is foreign.
 */
export type Cost = { lines: boolean; isGsm: boolean; septets: number; units: number };

export const NO_LINES: Cost = { lines: false, isGsm: true, septets: 0, units: 0 };

export function costOf(line: string): Cost {
  const { alphabet, units } = measure(line);
  return { lines: true, isGsm: alphabet === 'gsm', septets: units, units: line.length };
}

/** Two costs, with the line feed between them. */
export function joined(a: Cost, b: Cost): Cost {
  if (!a.lines) return b;
  if (!b.lines) return a;
  return {
    lines: true,
    isGsm: a.isGsm && b.isGsm,
    septets: a.septets + 1 + b.septets,
    units: a.units + 1 + b.units,
  };
}

/** The same as `fits`, by the cost. */
export function fitsCost({ isGsm, septets, units }: Cost, budget: number): boolean {
  return isGsm ? septets <= budget : units <= ucs2Budget(budget);
}

/**
 * Whether a screen text fits `budget` septets, or as many UCS-2 code units as are left of it: 80, and of a
 * small budget half, so that a text never comes to fit by a foreign character.
 */
export function fits(text: string, budget = SEPTET_BUDGET): boolean {
  const { alphabet, units } = measure(text);
  return units <= (alphabet === 'gsm' ? budget : ucs2Budget(budget));
}

/** The UCS-2 code units of a screen whose budget is so many septets. */
export function ucs2Budget(budget: number): number {
  return Math.min(UCS2_LIMIT, Math.floor(budget / 2));
}

/**
 * What a subscriber typed, as a screen shows it: a character outside the GSM alphabet would halve the
 * screen for everybody's text, so it is spelt in letters of the basic table. `speltAtMost` says how long
 * that can be.
 */
export function spelt(value: string): string {
  if (measure(value).alphabet === 'gsm') return value;
  const characters = [...value.normalize('NFC')];
  const letters = characters.map((character) => (isGsm(character) ? character : basic(character))).join('');
  // Some scripts take several letters for one of theirs; a screen has room for what was counted.
  let room = Math.max(septetsAsTyped(characters), SHORTEST_SPELLING);
  let end = 0;
  for (const letter of letters) {
    room -= septetsOf(letter);
    if (room < 0) break;
    end += letter.length;
  }
  return letters.slice(0, end);
}

/** The most septets that a value of so many septets takes when it is spelt, where it is in any script. */
export function speltAtMost(septets: number): number {
  return Math.max(septets, SHORTEST_SPELLING);
}

/** Short values may grow when they are spelt: a name of four signs is a whole name. */
const SHORTEST_SPELLING = 24;

/** ASCII characters that are in the extension table, or in none, and what stands for them in a spelling. */
const PLAIN: Record<string, string> = {
  '[': '(',
  ']': ')',
  '{': '(',
  '}': ')',
  '\\': '/',
  '|': '/',
  '~': '-',
  '`': "'",
};

/** A character in letters of the basic table; what is no letter, sign or space is left out. */
function basic(character: string): string {
  const ascii = [...anyAscii(character)].map((letter) => PLAIN[letter] ?? letter);
  return ascii.filter((letter) => BASIC.has(letter)).join('');
}

function septetsAsTyped(characters: string[]): number {
  return characters.reduce((sum, character) => sum + septetsOf(character), 0);
}

function septetsOf(character: string): number {
  return EXTENSION.has(character) ? 2 : 1;
}

function isGsm(character: string): boolean {
  return BASIC.has(character) || EXTENSION.has(character);
}

/** One SMS carries 160 septets or 70 UCS-2 code units; one of several 153 or 67 (3GPP TS 23.040 §9.2.3.24.1). */
const SEGMENT = { gsm: { alone: 160, joined: 153 }, ucs2: { alone: 70, joined: 67 } };

/** How many SMS a text takes. No character is cut in two: an escape, or a surrogate pair, moves on as a whole. */
export function segmentsOf(text: string): number {
  const { alphabet, units } = measure(text);
  const { alone, joined } = SEGMENT[alphabet];
  if (units <= alone) return 1;
  let segments = 1;
  let room = joined;
  for (const character of text) {
    const size = alphabet === 'gsm' ? septetsOf(character) : character.length;
    if (size > room) {
      segments += 1;
      room = joined;
    }
    room -= size;
  }
  return segments;
}

/** What a reader takes for one sign: an emoji of several characters, or a character with its marks (UAX #29, roughly). */
const SIGN = /(?:\p{RGI_Emoji}|[\s\S])[\p{M}\u200D\uFE0F]*/gv;

/**
 * The beginning of a text for which `within` takes at most `most` SMS, with `...` behind it; all of it where that fits.
 * `within` puts the part where it is to stand. No character is cut in two, nor a sign of several characters.
 */
export function cutToSegments(text: string, most: number, within = (part: string) => part): string {
  const whole = within(text);
  if (segmentsOf(whole) <= most) return whole;
  const signs = text.match(SIGN) ?? [];
  const cut = (count: number) => within(`${signs.slice(0, count).join('').trimEnd()}...`);
  // A longer part never takes fewer SMS.
  let [fitting, tooMany] = [-1, signs.length];
  while (tooMany - fitting > 1) {
    const middle = (fitting + tooMany) >> 1;
    if (segmentsOf(cut(middle)) <= most) fitting = middle;
    else tooMany = middle;
  }
  return fitting < 0 ? within('') : cut(fitting);
}
