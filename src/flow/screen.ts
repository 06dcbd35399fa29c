/** One line of a screen that can be chosen. */
export type ScreenOption = { key: string; label: string };

/**
 * What a subscriber is shown, before any dialect writes it: a notice (why the screen is here again),
 * the words, and the options. `end` closes the session.
 */
export type Screen = {
  end: boolean;
  node: string;
  notice?: string;
  words: string;
  options: ScreenOption[];
};

/** The screen as a handset shows it: lines joined by a line feed (3GPP TS 23.038: CR is padding). */
export function screenText(screen: Screen): string {
  const lines = screen.options.map((option) => `${option.key}. ${option.label}`);
  const notice = screen.notice === undefined ? [] : [screen.notice];
  // A further page may be options only.
  const words = screen.words === '' ? [] : [screen.words];
  return [...notice, ...words, ...lines].join('\n');
}
