/** The request of a caller, in the panel beside a task and in the line above it. */
import * as React from 'react';
import { ABSENT, type Field, fields } from './fields.ts';
import type { TaskProps } from './flex.ts';

const TITLE = 'USSD request';

// Colours of its own on a ground of its own: readable in the light and in the dark theme (17:1 and 7:1,
// WCAG 2.2 asks for 4.5:1). In the page, not in a style sheet, so that nothing of Flex's can match it.
const CARD: React.CSSProperties = {
  margin: '12px 0',
  padding: '12px',
  border: '1px solid #8891aa',
  borderRadius: '4px',
  color: '#121c2d',
  background: '#ffffff',
  fontSize: '14px',
  lineHeight: '20px',
};
const HEADING: React.CSSProperties = { margin: '0 0 8px', fontSize: '16px', fontWeight: 700 };
const TABLE: React.CSSProperties = { margin: 0 };
const ROW: React.CSSProperties = { display: 'flex', gap: '8px', padding: '4px 0' };
const ROW_LABEL: React.CSSProperties = { flex: '0 0 45%', color: '#4b5671' };
const ROW_VALUE: React.CSSProperties = {
  flex: '1 1 0',
  minWidth: 0,
  margin: 0,
  fontWeight: 700,
  overflowWrap: 'anywhere',
};

const LINE: React.CSSProperties = {
  display: 'flex',
  flexWrap: 'wrap',
  gap: '0 12px',
  margin: '4px 0',
  padding: '2px 8px',
  borderRadius: '4px',
  color: '#121c2d',
  background: '#ffffff',
  fontSize: '12px',
  lineHeight: '16px',
};
const ITEM: React.CSSProperties = { display: 'flex', gap: '4px', minWidth: 0 };
const ITEM_LABEL: React.CSSProperties = { flex: 'none', color: '#4b5671' };
const ITEM_VALUE: React.CSSProperties = {
  minWidth: 0,
  margin: 0,
  fontWeight: 700,
  overflowWrap: 'anywhere',
};

/** The block in the panel: every field has its row, so that an agent sees what was not answered. */
export function RequestPanel({ task }: TaskProps) {
  const all = fields(task?.attributes);
  if (!all.length) return null;
  return (
    <section lang="en" aria-label={TITLE} style={CARD}>
      <h2 style={HEADING}>{TITLE}</h2>
      <dl style={TABLE}>{all.map((field) => entry(field, ROW, ROW_LABEL, ROW_VALUE))}</dl>
    </section>
  );
}

/** The line in the header: there is little room, so only what was answered. */
export function RequestLine({ task }: TaskProps) {
  const given = fields(task?.attributes).filter(({ value }) => value !== ABSENT);
  if (!given.length) return null;
  return (
    <dl lang="en" aria-label={TITLE} style={LINE}>
      {given.map((field) => entry(field, ITEM, ITEM_LABEL, ITEM_VALUE))}
    </dl>
  );
}

/** `bdi`: a value that turns the direction of writing turns itself at most, not its neighbours. */
function entry(
  { label, value }: Field,
  row: React.CSSProperties,
  name: React.CSSProperties,
  content: React.CSSProperties,
) {
  return (
    <div key={label} style={row}>
      <dt style={name}>{label}</dt>
      <dd style={content}>
        <bdi>{value}</bdi>
      </dd>
    </div>
  );
}
