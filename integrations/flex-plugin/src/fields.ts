/** What is said of a request, as text: everything odd in a task's attributes ends here. */

export type Field = { label: string; value: string };

/** A label, the attribute it stands for, and whether its absence is worth a word. */
const FIELDS: [label: string, attribute: string, always: boolean][] = [
  ['From', 'from', true],
  ['Type', 'type', true],
  ['Language', 'language', true],
  ['Location', 'location', true],
  ['Support Type', 'support_type', true],
  ['Callback Requested', 'callback', true],
  ['Reference', 'reference', false],
];

export const ABSENT = 'Not given';

/** Longer than any answer of ours; whoever else writes tasks cannot push the rest off the screen. */
const LONGEST = 120;

function readable(value: unknown): string {
  if (value === true) return 'Yes';
  if (value === false) return 'No';
  if (typeof value !== 'string' && typeof value !== 'number') return ABSENT;
  const text = `${value}`.trim();
  if (!text) return ABSENT;
  const characters = [...text];
  return characters.length > LONGEST ? `${characters.slice(0, LONGEST).join('')}…` : text;
}

/** The fields in the order in which an agent needs them; none for a task that no USSD support menu made. */
export function fields(attributes: unknown): Field[] {
  if (typeof attributes !== 'object' || attributes === null) return [];
  const given = attributes as Record<string, unknown>;
  if (given.type !== 'support' || given.channel !== 'ussd') return [];
  return FIELDS.map(([label, attribute, always]) => ({ label, value: readable(given[attribute]), always }))
    .filter(({ value, always }) => always || value !== ABSENT)
    .map(({ label, value }) => ({ label, value }));
}
