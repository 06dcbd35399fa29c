import { longestAnswer } from './answer.ts';
import { inLanguage, type Menu, optionsOf, PLACES, type Text, waysFrom, waysOf, wordsOf } from './menu.ts';
import { screenText } from './screen.ts';
import { fits, measure } from './text.ts';

/** What is wrong with a document: where, and what to do about it. */
export type Finding = { node: string; problem: string };

/**
 * What must hold before a document may answer anybody: known targets, no key twice, every text in every
 * language, and every screen within the budget even with the line of an invalid answer above it.
 */
export function lint(menu: Menu): Finding[] {
  const findings = [...references(menu), ...translations(menu)];
  return findings.length > 0 ? findings : lengths(menu);
}

function references(menu: Menu): Finding[] {
  const findings: Finding[] = [];
  const known = (target: string) => target in menu.nodes || PLACES.some((place) => place === target);
  if (!(menu.root in menu.nodes)) findings.push({ node: menu.root, problem: 'the root is no node' });
  for (const [node, content] of Object.entries(menu.nodes)) {
    if (PLACES.some((place) => place === node)) {
      findings.push({ node, problem: `${node} is a place of the engine: give the node another name` });
    }
    const keys = new Set<string>();
    for (const option of optionsOf(content)) {
      for (const { to, effects } of waysOf(option.to)) {
        if (!known(to))
          findings.push({ node, problem: `key ${option.key} leads to ${to}, which is no node` });
        // A dialled-through code reaches the root's options without anybody having read a screen.
        if (node === menu.root && effects !== undefined) {
          findings.push({
            node,
            problem: `key ${option.key} of the root has an effect: put a screen before it`,
          });
        }
      }
      if (keys.has(option.key)) findings.push({ node, problem: `key ${option.key} stands twice` });
      keys.add(option.key);
    }
    if (!('ask' in content)) continue;
    for (const { to } of waysOf(content.to)) {
      if (!known(to)) findings.push({ node, problem: `the answer leads to ${to}, which is no node` });
    }
  }
  return findings;
}

function translations(menu: Menu): Finding[] {
  const findings: Finding[] = [];
  const check = (node: string, text: Text) => {
    if (typeof text === 'string') return;
    for (const language of menu.languages) {
      if (!(language in text)) findings.push({ node, problem: `a text has no ${language}` });
    }
  };
  check('invalid', menu.invalid);
  check('farewell', menu.farewell);
  for (const [node, content] of Object.entries(menu.nodes)) {
    check(node, wordsOf(content));
    for (const option of optionsOf(content)) check(node, option.label);
    for (const way of waysFrom(content)) {
      if (way.invalid !== undefined) check(node, way.invalid);
      for (const effect of way.effects ?? []) {
        for (const args of Object.values(effect)) for (const text of Object.values(args)) check(node, text);
      }
    }
    if ('ask' in content && content.invalid !== undefined) check(node, content.invalid);
  }
  return findings;
}

/** The longest values that placeholders stand for; facts and variables longer than this are a mistake. */
const LONGEST_VALUE = 60;

function lengths(menu: Menu): Finding[] {
  const findings: Finding[] = [];
  const check = (node: string, language: string, text: string) => {
    if (fits(text, menu.budget)) return;
    const { alphabet, units } = measure(text);
    const unit = alphabet === 'gsm' ? `septets of ${menu.budget}` : 'UCS-2 characters of 80';
    findings.push({ node, problem: `the screen in ${language} takes ${units} ${unit}` });
  };
  const notices = noticesAbove(menu);
  for (const language of menu.languages) {
    check('farewell', language, inLanguage(menu.farewell, language));
    for (const [node, content] of Object.entries(menu.nodes)) {
      const filled = (text: Text) => worst(menu, inLanguage(text, language));
      const options = optionsOf(content).map(({ key, label }) => ({ key, label: filled(label) }));
      const screen = { end: 'end' in content, node, words: filled(wordsOf(content)), options };
      const above = 'end' in content ? [undefined] : (notices.get(node) ?? [menu.invalid]);
      for (const notice of above) {
        check(
          node,
          language,
          screenText(notice === undefined ? screen : { ...screen, notice: filled(notice) }),
        );
      }
    }
  }
  return findings;
}

/** Every line that can stand above a screen: its own, the document's, and those of ways that lead to it. */
function noticesAbove(menu: Menu): Map<string, Text[]> {
  const notices = new Map<string, Text[]>();
  const add = (node: string, text: Text) => notices.set(node, [...(notices.get(node) ?? []), text]);
  for (const [node, content] of Object.entries(menu.nodes)) {
    add(node, 'ask' in content && content.invalid !== undefined ? content.invalid : menu.invalid);
    for (const way of waysFrom(content)) if (way.invalid !== undefined) add(way.to, way.invalid);
  }
  return notices;
}

/** A text with every placeholder at its longest: what the answer that is kept under the name allows. */
function worst(menu: Menu, text: string): string {
  const kept = new Map<string, number>();
  for (const node of Object.values(menu.nodes)) {
    if ('ask' in node && node.save !== undefined) kept.set(node.save, longestAnswer(node.answer));
  }
  return text.replaceAll(/\{([\w.]+)\}/g, (_, name: string) => {
    const value = name.slice(name.indexOf('.') + 1);
    return 'm'.repeat(kept.get(value) ?? (/Id$|phone|code/.test(value) ? 16 : LONGEST_VALUE));
  });
}
