import {
  type Answer,
  inLanguage,
  isSecret,
  type Menu,
  type Node,
  optionsOf,
  type Text,
  type To,
  type Way,
  waysOf,
  wordsOf,
} from '../flow/menu.ts';

/** One way out of a card: what is typed, under which condition, what happens, and where it leads. */
export type Row = {
  /** What stands on the screen: `1`, and `Know More`; nothing for the further ways of an option. */
  key: string;
  label: string;
  /** In every language, shown when the pointer is on it. */
  all: string;
  /** When this way is taken: `verdict = good`, `otherwise`. */
  condition: string;
  effects: string[];
  /** A node, or `back` or `home`. */
  to: string;
  /** It counts as an invalid answer. */
  invalid: boolean;
};

/** A node as it is drawn. */
export type Card = {
  name: string;
  kind: 'choose' | 'list' | 'say' | 'ask' | 'end';
  /** What may be typed: `name, at most 40`. */
  asks: string;
  secret: boolean;
  words: string;
  all: string;
  rows: Row[];
};

/** The nodes of a document as cards, in the order of the document. */
export function cardsOf(menu: Menu): Card[] {
  return Object.entries(menu.nodes).map(([name, node]) => {
    const ask = 'ask' in node ? node : undefined;
    return {
      name,
      kind: kindOf(node),
      asks: ask === undefined ? '' : asked(ask.answer),
      secret: ask !== undefined && isSecret(ask.answer),
      words: first(menu, wordsOf(node)),
      all: everywhere(menu, wordsOf(node)),
      rows: rowsOf(menu, node),
    };
  });
}

function kindOf(node: Node): Card['kind'] {
  for (const kind of ['choose', 'list', 'say', 'ask'] as const) if (kind in node) return kind;
  return 'end';
}

function rowsOf(menu: Menu, node: Node): Row[] {
  const typed = 'ask' in node ? rowsTo(menu, node.to, 'answer', '') : [];
  const listed = 'list' in node ? rowsTo(menu, node.to, `1-${node.per}`, node.label) : [];
  const options = optionsOf(node).flatMap(({ key, label, to }) => rowsTo(menu, to, key, label));
  return [...typed, ...listed, ...options];
}

/** A row for each way; only the first says what is typed. */
function rowsTo(menu: Menu, to: To, key: string, label: Text): Row[] {
  const ways = waysOf(to);
  return ways.map((way, index) => ({
    key: index === 0 ? key : '',
    label: index === 0 ? first(menu, label) : '',
    all: everywhere(menu, label),
    condition: conditionOf(way, ways.length),
    effects: (way.effects ?? []).flatMap((effect) => Object.keys(effect)),
    to: way.to,
    invalid: way.invalid !== undefined,
  }));
}

function conditionOf({ when }: Way, ways: number): string {
  const said = Object.entries(when ?? {}).map(([name, condition]) =>
    typeof condition === 'string' ? `${name} = ${condition}` : `${name} < ${condition.below}`,
  );
  return said.join(', ') || (ways > 1 ? 'otherwise' : '');
}

function first(menu: Menu, text: Text): string {
  return inLanguage(text, menu.languages[0] ?? 'en');
}

function everywhere(menu: Menu, text: Text): string {
  if (typeof text === 'string') return text;
  return menu.languages.map((language) => `${language}: ${inLanguage(text, language)}`).join('\n');
}

function asked(answer: Answer): string {
  switch (answer.kind) {
    case 'integer':
    case 'amount':
      return `${answer.kind} ${answer.min} to ${answer.max}`;
    case 'text':
    case 'name':
    case 'email':
      return `${answer.kind}, at most ${answer.max}`;
    case 'pattern':
      return `like ${answer.sample}`;
    default:
      return answer.kind;
  }
}
