import { error, type Finding, nodesOf } from './finding.ts';
import { fill } from './format.ts';
import { inLanguage, type Menu, type Text, waysFrom } from './menu.ts';
import { type Known, worstStates, worstWorld } from './plan.ts';
import { scopeOf } from './show.ts';
import { segmentsOf } from './text.ts';

/** What an automatic reply may take as well (src/sms/replies.ts): each SMS costs. */
const MANY_SEGMENTS = 4;
/** The last one that is sent (src/store/messages.ts); an operator's message has the same limit. */
const MOST_SEGMENTS = 10;

/**
 * Measures the messages of effects with every value in them at its longest. Warns of more than 4 SMS, and refuses more
 * than 10, because the rest would be cut off.
 */
export function messages(menu: Menu, known: Known): Finding[] {
  const stateAt = worstStates(menu, known);
  const world = worstWorld(known);
  return nodesOf(menu).flatMap(([name, node]) => {
    const texts = waysFrom(node).flatMap(({ effects }) =>
      (effects ?? []).flatMap((effect) => messagesOf(effect, known)),
    );
    return menu.languages.flatMap((language) =>
      texts.flatMap((text): Finding[] => {
        const taken = segmentsOf(fill(inLanguage(text, language), scopeOf(stateAt(name, language), world)));
        if (taken <= MANY_SEGMENTS) return [];
        const takes = `the message in ${language} can take ${taken} SMS`;
        if (taken > MOST_SEGMENTS)
          return [error(name, `${takes}, and ${MOST_SEGMENTS} are sent at most: shorten it`)];
        return [{ level: 'warning', node: name, problem: `${takes}, over ${MANY_SEGMENTS}: shorten it` }];
      }),
    );
  });
}

function messagesOf(effect: Record<string, Record<string, Text>>, { messages = new Map() }: Known): Text[] {
  return Object.entries(effect).flatMap(([kind, args]) =>
    (messages.get(kind) ?? []).flatMap((name) => (args[name] === undefined ? [] : [args[name]])),
  );
}
