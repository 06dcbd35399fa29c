/**
 * Typographic variants that phones insert by themselves, each with the ASCII character that it stands for. Full-width
 * forms, digits, dashes and spaces of all scripts are folded by their Unicode properties instead.
 */
const VARIANTS = new Map<string, string>(
  Object.entries({
    "'": '\u2018\u2019\u201A\u201B\u2032\u2035\u2039\u203A\u00B4\u0060\u02B9\u02BB\u02BC\u02BD\u02C8\u02CA\u02CB\u055A\u05F3\uA78B\uA78C',
    '"': '\u201C\u201D\u201E\u201F\u2033\u2036\u00AB\u00BB\u02BA\u02EE\u05F4\u301D\u301E\u301F',
    '-': '\u2212\u02D7\u2043\u208B\u207B\uFE63\u2796',
    '*': '\u2217\u204E\u066D\u2731\u2733\u22C6\uFE61',
    '#': '\u266F\uFE5F',
    '+': '\u2795\u207A\u208A\uFE62\uFB29',
    '.': '\u066B\u3002\uFF61\u2024\uFE52',
    ',': '\u066C\u060C\u3001\uFF64\uFE50\uFE51',
    '/': '\u2044\u2215\u29F8',
    '@': '\uFE6B',
    '&': '\uFE60',
    '%': '\u066A\uFE6A',
    '(': '\uFE59',
    ')': '\uFE5A',
    ':': '\u2236\uFE55',
    _: '\uFE4D\uFE4E\uFE4F',
  }).flatMap(([plain, variants]) => [...variants].map((variant): [string, string] => [variant, plain])),
);

/** Everything that is not printable ASCII: a text without it is folded already, but for what stands around it. */
const FOREIGN = /[^ -_a-~]/u;

/**
 * Characters without a width that phones and keyboards insert: soft hyphen, combining grapheme joiner, the Mongolian
 * vowel separator, zero-width spaces, word joiners, direction marks, variation selectors, the enclosing keycap.
 * The bidirectional controls of docs/contract.md section 1 are not among them: they stay, and are invalid.
 */
const WIDTHLESS =
  /[\u00AD\u061C\u180E\u200B\u200E\u200F\u2060-\u2064\uFEFF]|\u034F|\u20E3|\p{Variation_Selector}/gu;

/**
 * Joiners where they join nothing. Between letters of scripts that are written joined, and between pictographs, they
 * are part of the spelling.
 */
const LOOSE_JOINERS =
  /(?<![[\p{L}\p{M}\p{Extended_Pictographic}\p{Emoji_Modifier}]--[\p{scx=Latn}\p{scx=Grek}\p{scx=Cyrl}]])[\u200C\u200D]+|[\u200C\u200D]+(?![[\p{L}\p{M}\p{Extended_Pictographic}]--[\p{scx=Latn}\p{scx=Grek}\p{scx=Cyrl}]])/gv;

const SPACES = /[\p{Zs}\p{Zl}\p{Zp}]/gu;
const DASHES = /\p{Pd}/gu;
const DIGITS = /(?![0-9])\p{Nd}/gu;
const FULL_WIDTH = /[\uFF01-\uFF5E]/gu;
const OTHERS = new RegExp(`[${[...VARIANTS.keys()].join('')}]`, 'gu');

/** Full-width forms stand this far behind their ASCII characters (Unicode block FF00). */
const FULL_WIDTH_OFFSET = 0xfee0;

/**
 * Folds what a person typed to the characters that a plain keypad has, the same for every kind of answer: quotes,
 * dashes, spaces, full-width forms and the digits of every script become ASCII, characters without a width go, letters
 * are composed (NFC), spaces at the ends are cut off. Letters keep their case and their accents. Control characters
 * and bidirectional controls stay as they are, so that whatever refuses them still does (docs/contract.md section 1).
 * Folding twice is folding once.
 */
export function folded(typed: string): string {
  if (!FOREIGN.test(typed)) return trimmed(typed);
  const plain = typed
    .normalize('NFC')
    .replaceAll(WIDTHLESS, '')
    .replaceAll(SPACES, ' ')
    .replaceAll(DASHES, '-')
    .replaceAll(DIGITS, digit)
    .replaceAll(FULL_WIDTH, (wide) => String.fromCharCode(wide.charCodeAt(0) - FULL_WIDTH_OFFSET))
    .replaceAll(OTHERS, (variant) => VARIANTS.get(variant) ?? variant)
    .replaceAll('\u0060', "'")
    .replaceAll(LOOSE_JOINERS, '');
  return trimmed(plain.normalize('NFC'));
}

/** Cuts off spaces, and nothing else that counts as white: a line feed is invalid wherever it stands. */
function trimmed(text: string): string {
  return text.replace(/^ +/, '').replace(/ +$/, '');
}

/** A decimal digit of any script in ASCII: they stand in unbroken runs from zero to nine (Unicode, general category Nd). */
function digit(character: string): string {
  const point = character.codePointAt(0) ?? 0;
  let from = point;
  while (/\p{Nd}/u.test(String.fromCodePoint(from - 1))) from -= 1;
  return String((point - from) % 10);
}
