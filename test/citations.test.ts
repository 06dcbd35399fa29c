/** What code and documents cite is there: decisions by number and item, sections of the contract, files of the project. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'tap';

const ROOT = join(import.meta.dirname, '..');
const DECISIONS = join(ROOT, 'docs', 'decisions');
const FOLDERS = ['src', 'test', 'bench', 'migrations', 'docs', 'integrations', 'deploy'];
const LOOSE = ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', '.env.example'];

const below = FOLDERS.flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(ts|cjs|md|ya?ml)$/.test(name) && !name.includes('node_modules'))
    .map((name) => join(folder, name)),
);
const files = [...below, ...LOOSE].map((name) => ({ name, text: readFileSync(join(ROOT, name), 'utf8') }));

const pages = new Map(
  readdirSync(DECISIONS)
    .filter((name) => /^\d\d-[a-z0-9-]+\.md$/.test(name))
    .map((name) => [Number(name.slice(0, 2)), readFileSync(join(DECISIONS, name), 'utf8')]),
);

test('every decision that is cited has a page, and the item is in its list', async (t) => {
  t.ok(pages.size > 50);
  let cited = 0;
  for (const { name, text } of files)
    for (const [citation, list = ''] of text.matchAll(
      /\bdecisions? ((?:\d{1,2}(?:\.\d)?)(?:, \d{1,2}|(?: and \d{1,2}))*)/g,
    ))
      for (const [, number, item] of list.matchAll(/(\d{1,2})(?:\.(\d))?/g)) {
        cited += 1;
        const page = pages.get(Number(number));
        if (page === undefined) t.fail(`${name}: ${citation}: there is no page`);
        else if (item !== undefined && !new RegExp(`^${item}\\. `, 'm').test(page))
          t.fail(`${name}: ${citation}: the page has no item ${item}`);
      }
  t.ok(cited > 150, `${cited} citations`);
});

test('every section of the contract that is cited is there', async (t) => {
  const contract = readFileSync(join(ROOT, 'docs', 'contract.md'), 'utf8');
  let cited = 0;
  for (const { name, text } of files)
    for (const [, list = ''] of text.matchAll(/docs\/contract\.md sections? (\d(?:, \d)*(?: and \d)?)/g))
      for (const [section] of list.matchAll(/\d/g)) {
        cited += 1;
        if (!new RegExp(`^## ${section}\\. `, 'm').test(contract)) t.fail(`${name}: section ${section}`);
      }
  t.ok(cited > 40, `${cited} citations`);
});

/** Examples of what somebody makes. */
const MADE = ['src/services/clinic/menu.yaml', 'docs/decisions/NN-slug.md'];

test('files that the documents name exist', async (t) => {
  const documents = files.filter(({ name }) => name.endsWith('.md') && name !== 'CHANGELOG.md');
  for (const { name, text } of documents) {
    for (const [, path = ''] of text.matchAll(
      /`((?:src|test|bench|migrations|docs)\/[\w./-]+\.(?:ts|cjs|md|yaml))`/g,
    ))
      if (
        !MADE.includes(path) &&
        ![ROOT, join(ROOT, dirname(name))].some((from) => existsSync(join(from, path)))
      )
        t.fail(`${name}: ${path}`);
    for (const [, path = ''] of text.matchAll(/\]\((?!https?:)([^)#\s]+)[^)]*\)/g))
      if (!existsSync(join(ROOT, dirname(name), path))) t.fail(`${name}: the link ${path}`);
  }
  t.ok(documents.length > 60);
});
