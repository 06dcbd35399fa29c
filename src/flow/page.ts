import type { ScreenOption } from './screen.ts';
import { fits } from './text.ts';

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

type Draft = { words: string[]; items: string[]; options: ScreenOption[] };

/**
 * A sheet as pages that fit, in order, nothing left out: one where it fits whole, else as many lines as
 * there is room for with the fixed options and those that turn the page. Lines are kept whole where they
 * fit a page of their own, an option always with its key; a longer line is broken at a space.
 */
export function pagesOf(sheet: Sheet, paging: Paging): Page[] {
  const { items } = sheet;
  const plain = (stays: boolean) => sheet.options.filter((option) => option.stays === stays).map(keyAndLabel);
  const whole: Draft = { words: linesOf(sheet.words), items, options: sheet.options.map(keyAndLabel) };
  const alone = paging.ends ? { ...paging, notices: [] } : paging;
  if (items.length <= paging.most && hasRoom(whole, [], alone)) return finished([whole], [], paging);

  // Which page is the last is known at the end only, so room is kept on each for both ways of turning.
  const fixed = plain(true);
  const around = [paging.more, paging.previous, ...fixed];
  const holds = (draft: Draft) => draft.items.length <= paging.most && hasRoom(draft, around, paging);
  const pages: Draft[] = [];
  let page = EMPTY;
  const put = (add: (to: Draft) => Draft) => {
    if (page !== EMPTY && !holds(add(page))) {
      pages.push(page);
      page = EMPTY;
    }
    page = add(page);
  };
  for (const line of whole.words.flatMap((words) =>
    broken(words, (part) => holds({ ...EMPTY, words: [part] })),
  )) {
    put((to) => ({ ...to, words: [...to.words, line] }));
  }
  for (const item of items) put((to) => ({ ...to, items: [...to.items, item] }));
  for (const option of plain(false)) put((to) => ({ ...to, options: [...to.options, option] }));
  return finished([...pages, page], fixed, paging);
}

const EMPTY: Draft = { words: [], items: [], options: [] };

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

function hasRoom(
  { words, items, options }: Draft,
  around: ScreenOption[],
  { budget, notices }: Paging,
): boolean {
  const lines = [...numbered(items), ...options, ...around].map(({ key, label }) => `${key}. ${label}`);
  const text = [...words, ...lines].join('\n');
  return fits(text, budget) && notices.every((notice) => fits(`${notice}\n${text}`, budget));
}

function linesOf(text: string): string[] {
  return text === '' ? [] : text.split('\n');
}

/**
 * A line in parts that each fit a page, broken at spaces, or within a word that fits no page. Where a page has
 * no room at all the line stays whole: lint refuses such a document, and a screen is shown all the same.
 */
function broken(line: string, fitsPage: (part: string) => boolean): string[] {
  const parts: string[] = [];
  let rest = [...line];
  while (rest.length > 1 && !fitsPage(rest.join(''))) {
    const end = longestThatFits(rest, fitsPage);
    if (end === 0) break;
    const space = rest.lastIndexOf(' ', end);
    const cut = space > 0 ? space : end;
    parts.push(rest.slice(0, cut).join(''));
    rest = rest.slice(rest[cut] === ' ' ? cut + 1 : cut);
  }
  return rest.length === 0 && parts.length > 0 ? parts : [...parts, rest.join('')];
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
