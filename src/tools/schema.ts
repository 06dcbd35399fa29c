/**
 * `npm run menus:schema [-- file]` writes the JSON Schema of menu documents, from the schema that reads them.
 * Documents name it in their first line, so that editors complete and check them while they are typed.
 */
import { writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { Menu } from '../flow/menu.ts';
import { ROOT } from './project.ts';

/** What editors show beside a key; docs/menus.md says the rest. */
const SAID = {
  service: 'The name of its folder.',
  languages: 'Languages of every text; a dial begins in the first one.',
  root: 'The first screen.',
  needsPhone: 'False for a service that callers without a phone, the customers of partners, may use too.',
  budget: 'Septets that a screen may use: 160, or up to 182 where every carrier shows them.',
  invalid: 'The line above a screen that is shown again because the choice was not on it.',
  tries: 'So many invalid answers in a row end the session.',
  farewell: 'The last words after too many invalid answers in a row.',
  keys: "The engine's own keys, where carriers take some for themselves; false for back or home: there is none.",
  carrierKeys: 'Keys that carriers answer themselves: nothing of ours may be on them.',
  more: 'What turns to the next page.',
  previous: 'What turns to the page before.',
  resume: 'Whoever was cut off is asked for so many seconds whether to go on.',
  cutOff: 'The words of that question.',
  goOn: 'Its first choice.',
  startAgain: 'Its second choice.',
  nodes: 'The screens. New ones of a published service go at the end.',
} as const;

const KINDS: Record<string, string> = {
  choose: 'CON: a question with fixed answers.',
  list: 'CON: options from a fact, numbered from 1, in pages.',
  say: 'CON: something to read, with ways onward.',
  ask: 'CON: a typed answer, kept in the session under `save`.',
  end: 'END: the last words.',
};

/** The JSON Schema as it is kept, with a line feed at its end. */
function schemaOfMenus(): string {
  const said = z.registry<{ title?: string; description?: string }>();
  for (const [name, description] of Object.entries(SAID)) {
    said.add(Menu.shape[name as keyof typeof SAID], { description });
  }
  for (const node of Menu.shape.nodes.valueType.options) {
    const kind = Object.keys(KINDS).find((name) => name in node.shape) ?? '';
    said.add(node, { title: kind, description: KINDS[kind] ?? '' });
  }
  // Editors know draft 7 best; what is typed is described, not what it is read as.
  const schema = z.toJSONSchema(Menu, { target: 'draft-7', io: 'input', reused: 'ref', metadata: said });
  return `${JSON.stringify({ title: 'A menu document (docs/menus.md)', ...schema }, null, 2)}\n`;
}

const [file = join(ROOT, 'menu.schema.json')] = parseArgs({ allowPositionals: true }).positionals;
writeFileSync(file, schemaOfMenus());
process.stdout.write(`wrote ${relative(process.cwd(), file)}\n`);
