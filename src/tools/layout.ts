import type { Menu } from '../flow/menu.ts';
import type { Card, Row } from './map.ts';

/** A card with its place; `tops` are the middles of its rows, from its own top. */
export type Placed = Card & { column: number; y: number; height: number; tops: number[] };

/** A row that is drawn as an arrow; the others say in words where they lead. */
export type Arrow = { from: Placed; row: number; to: Placed };

/** More arrows than this into one END would cover everything: the shortest is drawn, the others are said. */
const MOST_INTO_END = 3;
const GAP = 26;
const ROUNDS = 24;

/**
 * Columns by the shortest way from the first screen, so that an arrow leads at most one column on; within a
 * column the order of what leads there, which leaves few crossings, and each card as near as there is room
 * to the arrows that reach it.
 */
export function layOut(
  menu: Menu,
  cards: Card[],
  size: (card: Card) => { height: number; tops: number[] },
): { placed: Placed[]; arrows: Arrow[] } {
  const byName = new Map(cards.map((card) => [card.name, card]));
  const depths = depthsOf(menu.root, byName);
  const last = Math.max(...depths.values());
  const placed = new Map(
    cards.map((card) => [
      card.name,
      { ...card, ...size(card), column: depths.get(card.name) ?? last + 1, y: 0 } satisfies Placed,
    ]),
  );
  const arrows = arrowsOf([...placed.values()], placed);
  const columns = Map.groupBy(orderOf(menu.root, byName, placed), ({ column }) => column);
  for (const column of columns.values()) stack(column);
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const column of columns.values()) {
      settle(column, (card) => {
        const into = arrows
          .filter(({ to }) => to === card)
          .map(({ from, row }) => from.y + (from.tops[row] ?? 0));
        const out = arrows
          .filter(({ from }) => from === card)
          .map(({ row, to }) => to.y + HEAD - (card.tops[row] ?? 0));
        const wanted = [...into.map((y) => y - HEAD), ...(round < ROUNDS / 2 ? out : [])];
        return wanted.length === 0 ? card.y : wanted.reduce((sum, y) => sum + y, 0) / wanted.length;
      });
    }
  }
  const top = Math.min(...[...placed.values()].map(({ y }) => y));
  for (const card of placed.values()) card.y -= top;
  return { placed: [...placed.values()], arrows };
}

/** Where an arrow meets a card: the middle of its name. */
export const HEAD = 16;

function depthsOf(root: string, cards: Map<string, Card>): Map<string, number> {
  const depths = new Map([[root, 0]]);
  for (const [name, depth] of depths) {
    for (const { to } of cards.get(name)?.rows ?? []) {
      if (cards.has(to) && !depths.has(to)) depths.set(to, depth + 1);
    }
  }
  return depths;
}

function arrowsOf(cards: Placed[], byName: Map<string, Placed>): Arrow[] {
  const all = cards.flatMap((from) =>
    from.rows.flatMap(({ to: name, invalid }, row): Arrow[] => {
      const to = byName.get(name);
      return to === undefined || invalid || to.column <= from.column ? [] : [{ from, row, to }];
    }),
  );
  return all.filter((arrow) => {
    const leading = cards.flatMap(({ rows }) => rows).filter(({ to }) => to === arrow.to.name);
    const many = arrow.to.kind === 'end' && leading.length > MOST_INTO_END;
    return !many || all.find(({ to }) => to === arrow.to) === arrow;
  });
}

/** Cards in the order in which a reader meets them: depth first, by the rows of each card. */
function orderOf(root: string, cards: Map<string, Card>, placed: Map<string, Placed>): Placed[] {
  const seen = new Set<string>();
  const visit = (name: string): void => {
    if (seen.has(name)) return;
    seen.add(name);
    const next = (cards.get(name)?.rows ?? []).map(({ to }: Row) => to);
    const column = placed.get(name)?.column ?? 0;
    for (const to of next) if (placed.get(to)?.column === column + 1) visit(to);
  };
  visit(root);
  for (const name of cards.keys()) visit(name);
  return [...seen].flatMap((name) => placed.get(name) ?? []);
}

function stack(cards: Placed[]): void {
  let y = 0;
  for (const card of cards) {
    card.y = y;
    y += card.height + GAP;
  }
}

/**
 * Moves the cards of a column to where they want to be, in their order, none over another: cards that would
 * overlap move as one block, around the mean of what each wants.
 */
function settle(cards: Placed[], wanted: (card: Placed) => number): void {
  type Block = { cards: Placed[]; height: number; sum: number };
  const startOf = ({ cards, sum }: Block) => sum / cards.length;
  const blocks: Block[] = [];
  for (const card of cards) {
    let block: Block = { cards: [card], height: card.height + GAP, sum: wanted(card) };
    for (
      let before = blocks.at(-1);
      before && startOf(before) + before.height > startOf(block);
      before = blocks.at(-1)
    ) {
      blocks.pop();
      block = {
        cards: [...before.cards, ...block.cards],
        height: before.height + block.height,
        // What the lower ones want, seen from the top of the block.
        sum: before.sum + block.sum - block.cards.length * before.height,
      };
    }
    blocks.push(block);
  }
  for (const block of blocks) {
    let y = startOf(block);
    for (const card of block.cards) {
      card.y = y;
      y += card.height + GAP;
    }
  }
}
