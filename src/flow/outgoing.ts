/** What a text that leaves us must not hold: what it is called, and how it is told. */
const FORBIDDEN: [name: string, found: RegExp][] = [
  ['a lone surrogate', /\p{Cs}/u],
  ['a control character', /(?!\n)\p{Cc}/u],
  // docs/contract.md section 1, and those that Unicode has withdrawn.
  ['a bidirectional control', /[\u202A-\u202E\u2066-\u2069]/u],
  ['a line separator', /[\u2028\u2029]/u],
  ['a letter that was lost when the file was converted', /\uFFFD/u],
  ['a code point that is no character', /[\p{Noncharacter_Code_Point}\u206A-\u206F\uFFF9-\uFFFB]/u],
];

/** What most texts are, and nothing is wrong with. */
const PLAIN = /^[\n -~\u00A0-\u024F]*$/;

/** What shows nothing: spaces, controls, what Unicode says to ignore, and the Braille pattern without dots. */
const NOTHING = /[\s\p{Z}\p{C}\p{Default_Ignorable_Code_Point}\u2800]/gu;

/**
 * Says what keeps a text from being sent to a handset, and the remedy; undefined where nothing does. Line feeds are
 * allowed: a text may have several lines.
 */
export function unsendable(text: string): string | undefined {
  if (PLAIN.test(text)) return undefined;
  for (const [name, found] of FORBIDDEN) {
    const [character] = found.exec(text) ?? [];
    if (character !== undefined) return `holds ${name} (${codePoint(character)}): take it out`;
  }
  return undefined;
}

/** Whether a text would show as nothing at all. */
export function isBlank(text: string): boolean {
  return text.replaceAll(NOTHING, '') === '';
}

/** Everything that ends a line, or that a terminal or a handset may take for its end. */
const LINE_ENDS = /[\n\v\f\r\u0085\u2028\u2029]+/gu;
const HIDDEN = /[\p{Cc}\p{Cs}\u202A-\u202E\u2066-\u2069\u206A-\u206F\uFFF9-\uFFFB]/gu;

/**
 * A value as it may be filled into a text: one line without anything hidden. Facts come from databases and backends, and
 * a name with a line feed in it would make an option that does not exist (`Ann\n9. Free`). Never longer than the value.
 */
export function asValue(value: string): string {
  return /^[ -~]*$/.test(value) ? value : value.replaceAll(LINE_ENDS, ' ').replaceAll(HIDDEN, '');
}

/** `U+202E`. */
function codePoint(character: string): string {
  return `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`;
}
