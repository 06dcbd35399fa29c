import { readFileSync } from 'node:fs';

/** A file of settings cannot be used; every problem stands in `problems`, with its line and without any value. */
export class EnvFileError extends Error {
  readonly code = 'env_file_refused';
  readonly problems: string[];
  constructor(problems: string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/**
 * Reads a file of `NAME=value` lines; undefined where there is no such file (or a directory of that name: Python keeps
 * its environments in one). Throws `EnvFileError`.
 *
 * Docker Compose reads the same file, and a value is the same in both or refused here: `#` begins a comment at the start
 * of a line or behind white space, so that `SERVICE_CODES=*1234#=ixo` is whole; `$` and backticks are refused where
 * Compose reads them otherwise. Node's own `--env-file` cuts that value at the `#` and passes over lines that it cannot
 * read, which is why it is not used.
 */
export function readEnvFile(file: string): Record<string, string> | undefined {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'EISDIR') return undefined;
    throw new EnvFileError([`${file}: cannot be read (${code}): let this user read it, or take it away`]);
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new EnvFileError([`${file}: is not UTF-8: save it as UTF-8`]);
  }
  if (text.includes('\0')) throw new EnvFileError([`${file}: is not UTF-8: save it as UTF-8`]);
  const { values, problems } = parseEnvFile(text);
  if (problems.length > 0) throw new EnvFileError(problems.map((problem) => `${file} ${problem}`));
  return values;
}

const ENTRY = /^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=[ \t]*(.*)$/;
const COMMENT = /^\s*(#.*)?$/;

/**
 * Parses `NAME=value` lines: with or without `export`, the value bare, or in '…' or "…" over several lines; in "…"
 * alone `\n`, `\r`, `\t`, `\"` and `\\` are escapes. The last entry of a name counts. Problems begin with `line 3:`.
 */
export function parseEnvFile(text: string): { values: Record<string, string>; problems: string[] } {
  const lines = text.replace(/^\uFEFF/, '').split(/\r\n|\r|\n/);
  const values: Record<string, string> = Object.create(null);
  const problems: string[] = [];
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at] ?? '';
    if (COMMENT.test(line)) continue;
    const [, name, rest = ''] = ENTRY.exec(line) ?? [];
    if (name === undefined) {
      problems.push(`line ${at + 1}: expected NAME=value, with a name of letters, digits and _`);
      continue;
    }
    const quote = rest[0] ?? '';
    if (quote === '`') {
      problems.push(
        `line ${at + 1}: the value of ${name} begins with a backtick, which Compose keeps: use ' or "`,
      );
      // The lines of the value are no entries.
      at += readQuoted([rest, ...lines.slice(at + 1)].join('\n'), quote)?.lines ?? 0;
      continue;
    }
    if (quote === '' || !`"'`.includes(quote)) {
      const value = rest.replace(/(^|\s+)#.*$/, '').trim();
      if (SUBSTITUTED.test(value)) problems.push(dollarProblem(at + 1, name, value));
      values[name] = value;
      continue;
    }
    const quoted = readQuoted([rest, ...lines.slice(at + 1)].join('\n'), quote);
    if (quoted === undefined) {
      problems.push(`line ${at + 1}: the quote that begins the value of ${name} is not closed: add ${quote}`);
      continue;
    }
    const last = at + quoted.lines;
    if (!COMMENT.test(quoted.behind))
      problems.push(`line ${last + 1}: text behind the closing quote of ${name}: quote the whole value`);
    if (quote === '"' && SUBSTITUTED.test(quoted.value))
      problems.push(dollarProblem(at + 1, name, quoted.value));
    values[name] = quoted.value;
    at = last;
  }
  return { values, problems };
}

/** What Compose puts the value of a variable in place of, and `$$`, of which it leaves one; not within '…'. */
const SUBSTITUTED = /\$[A-Za-z_{$]/;

function dollarProblem(line: number, name: string, value: string): string {
  const remedy = value.includes("'")
    ? "choose one without $, or without ' and put it in single quotes"
    : 'put the value in single quotes';
  return `line ${line}: the value of ${name} has a $ that Compose takes for a variable: ${remedy}`;
}

/** Reads the quoted value that a text begins with: how many line ends are in it, and what its last line goes on with. */
function readQuoted(
  text: string,
  quote: string,
): { value: string; lines: number; behind: string } | undefined {
  const form = quote === '"' ? /^"((?:[^"\\]|\\[\s\S])*)"/ : new RegExp(`^${quote}([^${quote}]*)${quote}`);
  const [whole, inside = ''] = form.exec(text) ?? [];
  if (whole === undefined) return undefined;
  const escapes: Record<string, string> = { n: '\n', r: '\r', t: '\t', '"': '"', '\\': '\\' };
  const value =
    quote === '"' ? inside.replace(/\\([nrt"\\])/g, (_, letter: string) => escapes[letter] ?? '') : inside;
  const behind = text.slice(whole.length).split('\n', 1)[0] ?? '';
  return { value, lines: whole.split('\n').length - 1, behind };
}
