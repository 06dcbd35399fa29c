import type { ScreenOption } from './screen.ts';
import { type Cost, costOf, fitsCost, joined, NO_LINES } from './text.ts';

/** What there is to show, before it is known whether it fits. */
export type Sheet = {
  words: string;
  /** Labels of what is listed: they are numbered from 1 on each page. */
  items: string[];
  /** Options in the order of the document; those that stay stand on every page. */
  options: (ScreenOption & { stays: boolean })[];
};

/** `items` says which of the sheet's items stand on the page, under the keys 1, 2, 3… */
export type Page = { words: string; options: ScreenOption[]; items: { from: number; to: number } };

/** How pages are made: what turns them, how much fits, and what may come to stand above any of them. */
export type Paging = {
  more: ScreenOption;
  previous: ScreenOption;
  /** Septets. */
  budget: number;
  /** Room is kept for any of them, so that an invalid answer does not move the pages. */
  notices: string[];
  /** Items on one page at the most. */
  most: number;
  /** It is an END: in one piece nothing is answered to it, so no notice comes to stand above it. */
  ends: boolean;
};

/** A page in the making, and what its lines cost so far: counted anew for every line it was most of a step's time. */
type Draft = { words: string[]; items: string[]; options: ScreenOption[]; cost: Cost };

/**
 * A sheet as pages that fit, in order, nothing left out: one where it fits whole, else as many lines as
 * there is room for with the fixed options and those that turn the page. Lines are kept whole where they
 * fit a page of their own, an option always with its key; a longer line is broken at a space.
 */
export function pagesOf(sheet: Sheet, paging: Paging): Page[] {
  const { items } = sheet;
  const plain = (stays: boolean) => sheet.options.filter((option) => option.stays === stays).map(keyAndLabel);
  const options = sheet.options.map(keyAndLabel);
  const lines = linesOf(sheet.words);
  const notices = paging.notices.map(costOf);
  const hasRoom = (cost: Cost, above: Cost[]) =>
    [NO_LINES, ...above].every((notice) => fitsCost(joined(notice, cost), paging.budget));
  if (items.length <= paging.most) {
    const cost = joined(costOfAll(lines), costOfAll(linesOfOptions([...numbered(items), ...options])));
    if (hasRoom(cost, paging.ends ? [] : notices))
      return finished([{ words: lines, items, options, cost }], [], paging);
  }

  // Which page is the last is known at the end only, so room is kept on each for both ways of turning.
  const fixed = plain(true);
  const around = costOfAll(linesOfOptions([paging.more, paging.previous, ...fixed]));
  const holds = ({ items, cost }: Draft) =>
    items.length <= paging.most && hasRoom(joined(cost, around), notices);
  const pages: Draft[] = [];
  let page = EMPTY;
  const put = (add: (to: Draft) => Draft) => {
    if (page !== EMPTY && !holds(add(page))) {
      pages.push(page);
      page = EMPTY;
    }
    page = add(page);
  };
  const fitsPage = (part: string) => holds({ ...EMPTY, words: [part], cost: costOf(part) });
  for (const line of lines.flatMap((words) => broken(words, paging.budget, fitsPage))) {
    put((to) => ({ ...to, words: [...to.words, line], cost: joined(to.cost, costOf(line)) }));
  }
  for (const item of items) {
    put((to) => {
      const [line = ''] = linesOfOptions([{ key: String(to.items.length + 1), label: item }]);
      return { ...to, items: [...to.items, item], cost: joined(to.cost, costOf(line)) };
    });
  }
  for (const option of plain(false)) {
    const cost = costOfAll(linesOfOptions([option]));
    put((to) => ({ ...to, options: [...to.options, option], cost: joined(to.cost, cost) }));
  }
  return finished([...pages, page], fixed, paging);
}

const EMPTY: Draft = { words: [], items: [], options: [], cost: NO_LINES };

function finished(drafts: Draft[], fixed: ScreenOption[], { more, previous }: Paging): Page[] {
  let from = 0;
  return drafts.map((draft, index) => {
    const items = { from, to: from + draft.items.length };
    from = items.to;
    const turning = [...(index < drafts.length - 1 ? [more] : []), ...(index > 0 ? [previous] : [])];
    const options = [...numbered(draft.items), ...draft.options, ...turning, ...fixed];
    return { words: draft.words.join('\n'), options, items };
  });
}

function keyAndLabel({ key, label }: ScreenOption): ScreenOption {
  return { key, label };
}

function numbered(items: string[]): ScreenOption[] {
  return items.map((label, index) => ({ key: String(index + 1), label }));
}

function linesOfOptions(options: ScreenOption[]): string[] {
  return options.map(({ key, label }) => `${key}. ${label}`);
}

function costOfAll(lines: string[]): Cost {
  return lines.map(costOf).reduce(joined, NO_LINES);
}

function linesOf(text: string): string[] {
  return text === '' ? [] : text.split('\n');
}

/**
 * A line in parts that each fit a page, broken at spaces, or within a word that fits no page. Where a page has
 * no room at all the line stays whole: lint refuses such a document, and a screen is shown all the same.
 * A character costs a septet at least, so no more than the budget's are ever tried.
 */
function broken(line: string, budget: number, fitsPage: (part: string) => boolean): string[] {
  const characters = [...line];
  const parts: string[] = [];
  let from = 0;
  for (;;) {
    const rest = characters.slice(from, from + budget + 1);
    if (rest.length <= 1 || (rest.length <= budget && fitsPage(rest.join('')))) break;
    const end = longestThatFits(rest, fitsPage);
    if (end === 0) break;
    const space = rest.lastIndexOf(' ', end);
    const cut = space > 0 ? space : end;
    parts.push(rest.slice(0, cut).join(''));
    from += rest[cut] === ' ' ? cut + 1 : cut;
  }
  const last = characters.slice(from).join('');
  return last === '' && parts.length > 0 ? parts : [...parts, last];
}

/** How many characters of a line that does not fit do; what fits, fits with less. */
function longestThatFits(line: string[], fitsPage: (part: string) => boolean): number {
  let fitting = 0;
  let tooMany = line.length;
  while (tooMany - fitting > 1) {
    const middle = Math.floor((fitting + tooMany) / 2);
    if (fitsPage(line.slice(0, middle).join(''))) fitting = middle;
    else tooMany = middle;
  }
  return fitting;
}
