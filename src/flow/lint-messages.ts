import { type Finding, nodesOf } from './finding.ts';
import { fill } from './format.ts';
import { inLanguage, type Menu, waysFrom } from './menu.ts';
import { type Known, worstStates, worstWorld } from './plan.ts';
import { scopeOf } from './show.ts';
import { segmentsOf } from './text.ts';

/** What an automatic reply may take as well (src/sms/replies.ts). Each SMS costs; the tenth is the last that is sent. */
const MANY_SEGMENTS = 4;

/** Warns of messages of the effect `sms` that take many SMS where every value in them is at its longest. */
export function messages(menu: Menu, known: Known): Finding[] {
  const stateAt = worstStates(menu, known);
  const world = worstWorld(known);
  return nodesOf(menu).flatMap(([name, node]) => {
    const texts = waysFrom(node).flatMap(({ effects }) => (effects ?? []).map(({ sms }) => sms?.text));
    return menu.languages.flatMap((language) =>
      texts.flatMap((text): Finding[] => {
        if (text === undefined) return [];
        const taken = segmentsOf(fill(inLanguage(text, language), scopeOf(stateAt(name, language), world)));
        if (taken <= MANY_SEGMENTS) return [];
        const problem = `the message in ${language} can take ${taken} SMS, over ${MANY_SEGMENTS}: shorten it`;
        return [{ level: 'warning', node: name, problem }];
      }),
    );
  });
}
