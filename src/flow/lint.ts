import { inLanguage, type Menu, optionsOf, PLACES, type Text, wordsOf } from './menu.ts';
import { screenText } from './screen.ts';
import { begin, step } from './step.ts';
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
      if (!known(option.to))
        findings.push({ node, problem: `key ${option.key} leads to ${option.to}, which is no node` });
      if (keys.has(option.key)) findings.push({ node, problem: `key ${option.key} stands twice` });
      keys.add(option.key);
    }
    if ('ask' in content && !known(content.to)) {
      findings.push({ node, problem: `the answer leads to ${content.to}, which is no node` });
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
  }
  return findings;
}

/** No input of anybody is this: it makes every screen show its invalid line. */
const NO_KEY = '\u0000';

function lengths(menu: Menu): Finding[] {
  const findings: Finding[] = [];
  const tooLong = (node: string, language: string, text: string) => {
    if (fits(text, menu.budget)) return;
    const { alphabet, units } = measure(text);
    const unit = alphabet === 'gsm' ? `septets of ${menu.budget}` : 'UCS-2 characters of 80';
    findings.push({ node, problem: `the screen in ${language} takes ${units} ${unit}` });
  };
  for (const language of menu.languages) {
    tooLong('farewell', language, inLanguage(menu.farewell, language));
    for (const [node, content] of Object.entries(menu.nodes)) {
      const shown = begin({ ...menu, root: node }, language);
      const invalid = 'end' in content || 'ask' in content ? shown : step(menu, shown.state, NO_KEY);
      tooLong(node, language, screenText(invalid.screen));
    }
  }
  return findings;
}
