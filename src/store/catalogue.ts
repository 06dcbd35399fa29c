import { measure, spelt } from '../flow/text.ts';
import { decodeUtf8 } from '../flow/utf8.ts';
import type { Listing } from './instruments.ts';

/** A catalogue that cannot be taken, with every problem found: line and reason. */
export class CatalogueError extends Error {
  readonly code = 'catalogue_refused';
  readonly problems: string[];
  constructor(problems: string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/** The first line of a catalogue. */
const COLUMNS = ['symbol', 'name', 'sector', 'price_minor'];

/** What the table and the screens have room for. */
const LONGEST_TEXT = 40;
const MOST_LISTINGS = 10_000;
/** A file of which everything is wrong has one mistake. */
const MOST_PROBLEMS = 20;

const SYMBOL = /^[A-Z0-9][A-Z0-9.-]{0,9}$/;
const PRICE = /^[1-9]\d{0,8}$/;

/**
 * Reads a catalogue, a CSV file in UTF-8: `symbol,name,sector,price_minor`, the price of a share in hundredths of a
 * US dollar. Throws `CatalogueError`.
 */
export function readCatalogue(file: Uint8Array): Listing[] {
  const [header, ...records] = parseCsv(textOf(file));
  if (header?.fields.join() !== COLUMNS.join())
    throw new CatalogueError([`line 1: the first line has to be ${COLUMNS.join()}`]);
  if (records.length === 0) throw new CatalogueError(['there is nothing in it']);
  if (records.length > MOST_LISTINGS)
    throw new CatalogueError([`there are more than ${MOST_LISTINGS} lines in it`]);
  const problems: string[] = [];
  const lines = new Map<string, number>();
  const listings: Listing[] = [];
  for (const { line, fields } of records) {
    const wrong = wrongIn(fields);
    const [symbol = '', name = '', detail = '', price = ''] = fields;
    const before = lines.get(symbol);
    if (wrong.length === 0 && before !== undefined) wrong.push(`${symbol} stands in line ${before} already`);
    problems.push(...wrong.map((reason) => `line ${line}: ${reason}`));
    if (wrong.length > 0) continue;
    lines.set(symbol, line);
    listings.push({ symbol, name, detail, priceMinor: BigInt(price) });
  }
  if (problems.length > 0) {
    const more = problems.length - MOST_PROBLEMS;
    throw new CatalogueError([
      ...problems.slice(0, MOST_PROBLEMS),
      ...(more > 0 ? [`and ${more} more like these`] : []),
    ]);
  }
  return listings;
}

function wrongIn(fields: string[]): string[] {
  const [symbol = '', name = '', sector = '', price = ''] = fields;
  if (fields.length !== COLUMNS.length)
    return [`${COLUMNS.length} columns are wanted, ${fields.length} are there`];
  const wrong: string[] = [];
  if (!SYMBOL.test(symbol)) wrong.push('symbol: 1 to 10 of A-Z, 0-9, dot and hyphen');
  if (!fitsScreen(name) || name === '')
    wrong.push(`name: 1 to ${LONGEST_TEXT} characters that a screen can show`);
  if (!fitsScreen(sector)) wrong.push(`sector: at most ${LONGEST_TEXT} characters that a screen can show`);
  if (!PRICE.test(price)) wrong.push('price_minor: a whole number of cents from 1 to 999999999');
  return wrong;
}

/** Whether a text is one line without spaces around it, and as long on a screen as facts promise. */
function fitsScreen(text: string): boolean {
  const shown = spelt(text);
  return (
    text === text.trim() &&
    !/\p{C}/u.test(text) &&
    [...text].length <= LONGEST_TEXT &&
    measure(shown).units <= LONGEST_TEXT &&
    (shown !== '' || text === '')
  );
}

function textOf(file: Uint8Array): string {
  const decoded = decodeUtf8(file);
  if (decoded.problem !== undefined) throw new CatalogueError([`line ${decoded.line}: ${decoded.problem}`]);
  return decoded.text;
}

/** A record of a CSV file, and the line it begins on. */
type CsvRecord = { line: number; fields: string[] };

/** What stands at one place of a CSV file: a field in quotes or a bare one, and what ends it. */
const FIELD = /(?:"([^"]*(?:""[^"]*)*)"|([^",\r\n]*))(,|\r\n|\n|\r|$)/y;

/** The records of a CSV file (RFC 4180); lines with nothing on them are none. Throws `CatalogueError`. */
export function parseCsv(text: string): CsvRecord[] {
  const records: CsvRecord[] = [];
  let line = 1;
  let record: CsvRecord = { line, fields: [] };
  FIELD.lastIndex = 0;
  while (FIELD.lastIndex < text.length || record.fields.length > 0) {
    const found = FIELD.exec(text);
    if (found === null) throw new CatalogueError([`line ${line}: a quote is missing, or one too many`]);
    const [all, quoted, bare = '', end] = found;
    record.fields.push(quoted?.replaceAll('""', '"') ?? bare);
    line += all.match(/\r\n|\n|\r/g)?.length ?? 0;
    if (end === ',') continue;
    if (record.fields.join('') !== '' || record.fields.length > 1) records.push(record);
    record = { line, fields: [] };
  }
  return records;
}
