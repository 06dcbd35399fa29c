import { measure, SEPTET_LIMIT, ucs2Budget } from '../flow/text.ts';

/** Characters in a line of the display: a common width of simple phones, so that lines break as they do there. */
const WIDTH = 32;

/** A reply as a simple phone shows it, with what it costs on the air. `budget` is the service's, in septets. */
export function handset(body: string, about: { code: string; name: string; budget: number }): string {
  const end = body.startsWith('END');
  const text = body.replace(/^(CON|END) /, '');
  const gap = Math.max(1, WIDTH - about.code.length - about.name.length);
  const state = end ? 'ended' : 'open';
  return [
    `  ╭${'─'.repeat(WIDTH + 2)}╮`,
    row(`${about.code}${' '.repeat(gap)}${about.name}`),
    `  ├${'─'.repeat(WIDTH + 2)}┤`,
    ...text
      .split('\n')
      .flatMap((line) => wrapped(line, WIDTH))
      .map(row),
    `  ├${'─'.repeat(WIDTH + 2)}┤`,
    row(`${state}${cost(text, about.budget).padStart(WIDTH - state.length)}`),
    `  ╰${'─'.repeat(WIDTH + 2)}╯`,
  ].join('\n');
}

/** What a text costs, and what there is room for: `57/160 septets of 182`. */
export function cost(text: string, budget: number): string {
  const { alphabet, units } = measure(text);
  const limit = alphabet === 'gsm' ? budget : ucs2Budget(budget);
  const over = units > limit ? ' TOO LONG' : '';
  if (alphabet === 'ucs2') return `${units}/${limit} UCS-2${over}`;
  return budget === SEPTET_LIMIT
    ? `${units}/${SEPTET_LIMIT} septets${over}`
    : `${units}/${budget} septets of ${SEPTET_LIMIT}${over}`;
}

function row(line: string): string {
  const characters = [...line];
  return `  │ ${line}${' '.repeat(Math.max(0, WIDTH - characters.length))} │`;
}

/** A line in lines of `width` characters, broken at spaces where there are any. */
export function wrapped(line: string, width: number): string[] {
  const lines: string[] = [];
  let rest = [...line];
  while (rest.length > width) {
    const space = rest.lastIndexOf(' ', width);
    const cut = space > 0 ? space : width;
    lines.push(rest.slice(0, cut).join(''));
    rest = rest.slice(rest[cut] === ' ' ? cut + 1 : cut);
  }
  return [...lines, rest.join('')];
}
