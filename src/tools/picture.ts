import type { Menu } from '../flow/menu.ts';
import { wrapped } from './handset.ts';
import { type Arrow, HEAD, layOut, type Placed } from './layout.ts';
import { type Card, cardsOf, type Row } from './map.ts';

const CARD = 300;
const BETWEEN = 96;
const LINE = 17;
const ROW = 22;
const MARGIN = 28;
const TITLE = 92;
/** The longest line above the cards. */
const LEGEND = 880;
/** Characters of 12 px of a monospaced font in a line of a card. */
const CHARACTERS = 38;
const LETTER = 7.3;

const COLOURS: Record<Card['kind'], { head: string; edge: string }> = {
  choose: { head: '#dbeafe', edge: '#3b82f6' },
  list: { head: '#cffafe', edge: '#0891b2' },
  say: { head: '#f1f5f9', edge: '#64748b' },
  ask: { head: '#fef3c7', edge: '#d97706' },
  end: { head: '#334155', edge: '#0f172a' },
};
const SECRET = { head: '#fce7f3', edge: '#be185d' };

const STYLE = `
  text { font: 12px "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #0f172a; white-space: pre }
  .name { font-weight: bold } .kind { fill: #475569; font-size: 11px; text-anchor: end }
  .end .name, .end .kind { fill: #fff }
  .key { font-weight: bold; text-anchor: middle } .said { fill: #475569; font-size: 11px }
  .mark { fill: #475569; font-size: 11px; text-anchor: end } .effect { fill: #9a3412; font-size: 11px }
  .arrow { fill: none; stroke: #475569; stroke-width: 1.4 } .on { font-weight: bold; fill: #1d4ed8; paint-order: stroke; stroke: #fff; stroke-width: 4px }
  .title { font-size: 20px; font-weight: bold }
`;

/** A document as one SVG: screens as cards, what is typed as arrows, everything in its first language. */
export function picture(menu: Menu): string {
  const { placed, arrows } = layOut(menu, cardsOf(menu), sizeOf);
  const x = ({ column }: Placed) => MARGIN + column * (CARD + BETWEEN);
  const y = (card: Placed) => TITLE + card.y;
  const width = Math.max(...placed.map((card) => x(card) + CARD), LEGEND) + MARGIN;
  const height = Math.max(...placed.map((card) => y(card) + card.height)) + MARGIN;
  const drawn = new Set(arrows.map(({ from, row }) => from.rows[row]));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${round(height)}" viewBox="0 0 ${width} ${round(height)}">`,
    `<title>${xml(menu.service)}</title>`,
    `<style>${xml(STYLE)}</style>`,
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">',
    '<path d="M0 0 L8 4 L0 8 z" fill="#475569"/></marker></defs>',
    '<rect width="100%" height="100%" fill="#fff"/>',
    ...legend(menu),
    ...arrows.map((arrow) => drawArrow(arrow, x, y)),
    ...placed.map((card) =>
      drawCard(card, x(card), y(card), card.name === menu.root, (row) => drawn.has(row)),
    ),
    '</svg>\n',
  ].join('\n');
}

function legend({ service, languages, budget, keys, carrierKeys, resume }: Menu): string[] {
  const spoken =
    languages.length === 1
      ? ''
      : ` | drawn in ${languages[0]}; point at a text for ${languages.slice(1).join(', ')}`;
  const goesOn = resume === undefined ? '' : ` | goes on within ${resume} s`;
  const carriers = carrierKeys.length === 0 ? '' : ` | the carrier's: ${carrierKeys.join(', ')}`;
  const lines = [
    `${keys.back} back, ${keys.home} home, ${keys.more} more, ${keys.previous} previous${carriers} | ${budget} septets a screen${goesOn}${spoken}`,
    'An arrow leads on; "to …" names a screen that is drawn elsewhere, "again" counts as an invalid answer; ! is an effect.',
  ];
  return [
    `<text class="title" x="${MARGIN}" y="36">${xml(service)}</text>`,
    ...lines.map(
      (line, index) => `<text class="said" x="${MARGIN}" y="${58 + index * 16}">${xml(line)}</text>`,
    ),
  ];
}

function wordLines({ words }: Card): string[] {
  return words.split('\n').flatMap((line) => wrapped(line, CHARACTERS));
}

/** What is said of a row below its label: when it is taken, and what happens. */
function notesOf({ condition, effects }: Row): { text: string; effect: boolean }[] {
  return [
    ...(condition === '' ? [] : [{ text: condition, effect: false }]),
    ...(effects.length === 0
      ? []
      : wrapped(`! ${effects.join(', ')}`, CHARACTERS - 6).map((text) => ({ text, effect: true }))),
  ];
}

function linesIn(row: Row): number {
  return (row.key === '' ? 0 : 1) + notesOf(row).length;
}

/** Where a row leads stands beside its condition; without one beside what is typed. */
function leadLine(row: Row): number {
  return row.key !== '' && row.condition !== '' ? 1 : 0;
}

function sizeOf(card: Card): { height: number; tops: number[] } {
  let at = 2 * HEAD + 8 + (wordLines(card).length + (card.asks === '' ? 0 : 1)) * LINE + 6;
  const tops = card.rows.map((row) => {
    const top = at + ROW / 2 + leadLine(row) * LINE;
    at += ROW + (linesIn(row) - 1) * LINE;
    return top;
  });
  return { height: at + 6, tops };
}

function drawCard(card: Placed, x: number, y: number, root: boolean, isDrawn: (row: Row) => boolean): string {
  const { head, edge } = card.secret ? SECRET : COLOURS[card.kind];
  const thick = root || card.kind === 'end' ? 2.6 : 1.3;
  const lines = wordLines(card);
  const box = `width="${CARD}" height="${round(card.height)}" rx="8"`;
  return [
    `<g id="node-${card.name}" class="${card.kind}" transform="translate(${x} ${round(y)})">`,
    // A list is a pile of pages.
    card.kind === 'list' ? `<rect x="5" y="5" ${box} fill="#fff" stroke="${edge}"/>` : '',
    `<rect ${box} fill="#fff" stroke="${edge}" stroke-width="${thick}"/>`,
    `<path d="M0 ${2 * HEAD} V8 Q0 0 8 0 H${CARD - 8} Q${CARD} 0 ${CARD} 8 V${2 * HEAD} z" fill="${head}" stroke="${edge}" stroke-width="${thick}"/>`,
    `<text class="name" x="12" y="${HEAD + 4}">${xml(card.name)}</text>`,
    `<text class="kind" x="${CARD - 12}" y="${HEAD + 4}">${xml(kindSaid(card, root))}</text>`,
    `<g><title>${xml(card.all)}</title>`,
    ...lines.map((line, index) => `<text x="12" y="${2 * HEAD + 20 + index * LINE}">${xml(line)}</text>`),
    '</g>',
    card.asks === ''
      ? ''
      : `<text class="said" x="12" y="${2 * HEAD + 20 + lines.length * LINE}">${xml(card.asks)}</text>`,
    ...card.rows.map((row, index) =>
      drawRow(row, card.tops[index] ?? 0, isDrawn(row) ? '' : leadSaid(card, row)),
    ),
    '</g>',
  ]
    .filter((part) => part !== '')
    .join('\n');
}

function kindSaid({ kind, secret }: Card, root: boolean): string {
  const said = kind === 'end' ? 'END' : secret ? 'ask: SECRET' : kind;
  return root ? `START, ${said}` : said;
}

/** Where a row leads that has no arrow. */
function leadSaid(card: Card, { to, invalid }: Row): string {
  if (invalid) return to === card.name ? 'again' : `again: ${to}`;
  return to === 'back' || to === 'home' ? `< ${to}` : `to ${to}`;
}

function drawRow(row: Row, lead: number, mark: string): string {
  const middle = lead - leadLine(row) * LINE;
  const notes = notesOf(row);
  const indent = row.key === 'answer' ? 12 : 46;
  const first = row.key === '' ? 0 : 1;
  const chip = Math.max(24, row.key.length * LETTER + 10);
  const room = CHARACTERS - Math.ceil(indent / LETTER) - (leadLine(row) === 0 ? mark.length : 0);
  const label = cut(row.label, room);
  // What stands at the right edge of a condition's line takes its room.
  const free = CHARACTERS - 3 - (row.condition === '' ? 0 : mark.length);
  const typed =
    row.key === ''
      ? []
      : [
          `<rect x="12" y="${middle - 9}" width="${round(chip)}" height="18" rx="4" fill="#eef2ff" stroke="#a5b4fc"/>`,
          `<text class="key" x="${round(12 + chip / 2)}" y="${middle + 4}">${xml(row.key)}</text>`,
          `<text x="${Math.max(46, round(12 + chip + 8))}" y="${middle + 4}">${xml(label)}</text>`,
        ];
  return [
    `<g><title>${xml([row.all, row.condition, ...row.effects.map((effect) => `! ${effect}`)].filter(Boolean).join('\n'))}</title>`,
    ...typed,
    ...notes.map(
      ({ text, effect }, index) =>
        `<text class="${effect ? 'effect' : 'said'}" x="46" y="${middle + 4 + (index + first) * LINE}">${xml(index === 0 ? cut(text, free) : text)}</text>`,
    ),
    mark === '' ? '' : `<text class="mark" x="${CARD - 10}" y="${lead + 4}">${xml(mark)}</text>`,
    '</g>',
  ].join('');
}

function drawArrow(
  { from, row, to }: Arrow,
  x: (card: Placed) => number,
  y: (card: Placed) => number,
): string {
  const [x1, y1] = [x(from) + CARD, round(y(from) + (from.tops[row] ?? 0))];
  const [x2, y2] = [x(to) - 2, round(y(to) + HEAD)];
  const bend = (x2 - x1) / 2;
  const { key = '' } = from.rows.slice(0, row + 1).findLast(({ key }) => key !== '') ?? {};
  return [
    `<path class="arrow" d="M${x1} ${y1} C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}" marker-end="url(#tip)"/>`,
    key === 'answer' ? '' : `<text class="on" x="${x1 + 6}" y="${y1 - 4}">${xml(key)}</text>`,
  ].join('');
}

function cut(text: string, room: number): string {
  return text.length > room ? `${text.slice(0, Math.max(1, room - 1))}…` : text;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

/** Text inside an element or an attribute (XML 1.0 §2.4). */
function xml(text: string): string {
  return text.replaceAll(/[&<>"]/g, (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[sign] ?? '&quot;');
}
