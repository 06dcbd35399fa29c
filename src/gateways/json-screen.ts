import { z } from 'zod';
import type { Standing } from '../flow/heard.ts';
import type { Menu } from '../flow/menu.ts';
import { onwardFrom } from '../flow/onward.ts';
import type { Screen } from '../flow/screen.ts';

/** The structure of json-menu-response: keys in the order of the reference. */
const Option = z.strictObject({
  key: z.string().describe('What to send as the choice.'),
  label: z.string(),
  nextState: z.string().optional().describe('The state it leads to, where that is one whatever else is so.'),
  data: z
    .record(z.string(), z.string())
    .optional()
    .describe('What is kept of an item of a list when it is chosen.'),
});

const MenuOfScreen = z.strictObject({
  state: z.string(),
  text: z.string().describe('The words to show, without the options; a line about the last choice first.'),
  options: z
    .array(Option)
    .describe('What can be chosen on this page; empty at an end, and where text is asked.'),
  isEndState: z.boolean().describe('The session is over with this screen.'),
});

/** The answer of every request that shows a screen. */
export const JsonScreen = z.strictObject({
  message: z.string(),
  data: z.strictObject({
    sessionId: z.string(),
    currentState: z.string(),
    menu: MenuOfScreen,
    ussdText: z.string().describe('Text, a blank line, and the options, to be shown as they are.'),
    expiresAt: z.iso.datetime().describe('Moves with every new turn, not with a repeat.'),
  }),
});

export type JsonScreen = z.infer<typeof JsonScreen>;

/** What there is to show of a session. `ttl`: how long it may be idle, in milliseconds. */
export type Shown = { sessionId: string; screen: Screen; standing: Standing; menu: Menu; ttl: number };

/** A screen as the reference writes it. Options and `ussdText` are of the same page (decision 31). */
export function jsonScreen(message: string, { sessionId, screen, standing, menu, ttl }: Shown): JsonScreen {
  const { state, offer, at } = standing;
  const text = [screen.notice ?? [], screen.words === '' ? [] : screen.words].flat().join('\n');
  const onward = offer ? screen.options : onwardFrom(menu, state, screen);
  const options = (screen.end ? [] : onward).map(written);
  const lines = options.map(({ key, label }) => `${key}. ${label}`).join('\n');
  return {
    message,
    data: {
      sessionId,
      currentState: screen.node,
      menu: { state: screen.node, text, options, isEndState: screen.end },
      ussdText: [text, lines].filter((part) => part !== '').join('\n\n'),
      expiresAt: new Date(at + ttl).toISOString(),
    },
  };
}

function written({ key, label, next, keeps }: ReturnType<typeof onwardFrom>[number]): z.infer<typeof Option> {
  return { key, label, ...(next !== undefined && { nextState: next }), ...(keeps && { data: { ...keeps } }) };
}
