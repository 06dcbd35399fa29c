import { type Run, shares } from './report.ts';

const LINE = 26;
const LABELS = 310;
const BARS = 460;
const NUMBERS = 150;
const TOP = 56;

/** Bars of every row's share of the bare route, with a line from the least to the most of the rounds. */
export function plot(run: Run): string {
  const bars = run.rows.flatMap((row) => {
    const share = row.of === undefined || row.once === true ? undefined : shares(run, row.id, row.of);
    return share === undefined ? [] : [{ row, share }];
  });
  const most = Math.max(1, ...bars.map(({ share }) => share.most));
  const x = (share: number) => round(LABELS + (share / most) * BARS);
  const height = TOP + bars.length * LINE + 34;
  const width = LABELS + BARS + NUMBERS;
  const scale = Array.from({ length: Math.floor(most / 0.25) + 1 }, (_, n) => n * 0.25);
  const parts = [
    ...scale.map(
      (at) => `<line class="scale" x1="${x(at)}" y1="${TOP - 6}" x2="${x(at)}" y2="${height - 28}"/>
<text class="small" x="${x(at)}" y="${height - 12}" text-anchor="middle">${at.toFixed(2)}</text>`,
    ),
    ...bars.map(({ row, share }, n) => {
      const y = TOP + n * LINE;
      const middle = y + 9;
      const kind = row.name.startsWith('ours') ? 'ours' : 'others';
      return `<text x="${LABELS - 10}" y="${y + 13}" text-anchor="end">${escaped(`${row.name}, ${row.connections}`)}</text>
<rect class="${kind}" x="${LABELS}" y="${y}" width="${round(x(share.median) - LABELS)}" height="18" rx="2"/>
<path class="spread" d="M${x(share.least)} ${middle}H${x(share.most)}M${x(share.least)} ${middle - 5}v10M${x(share.most)} ${middle - 5}v10"/>
<text class="small" x="${round(Math.max(x(share.most), x(share.median)) + 8)}" y="${y + 13}">${share.median.toFixed(2)} · ${rateOf(run, row.id)}/s</text>`;
    }),
  ];
  const title = 'Requests or turns a second, as a share of the bare route in the same round';
  const { machine } = run;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${title}">
<style>
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.small { font-size: 11px; fill: #57606a; }
.title { font-size: 15px; font-weight: 600; }
.ours { fill: #2f81c7; }
.others { fill: #8c959f; }
.scale { stroke: #8c959f; stroke-opacity: 0.3; }
.spread { stroke: #24292f; stroke-width: 1.5; fill: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small { fill: #9ea7b1; }
  .ours { fill: #3f8fd6; }
  .others { fill: #6e7681; }
  .spread { stroke: #e6edf3; }
}
</style>
<text class="title" x="8" y="20">${title}</text>
<text class="small" x="8" y="38">${escaped(`${machine.date}, ${machine.cores} cores of ${machine.cpu}, callers, servers and Postgres together; the number behind a name is its connections`)}</text>
${parts.join('\n')}
</svg>
`;
}

function rateOf(run: Run, id: string): string {
  const rates = run.rows.find((row) => row.id === id)?.readings.map(({ rate }) => rate) ?? [];
  const middle = [...rates].sort((a, b) => a - b)[Math.floor(rates.length / 2)] ?? 0;
  return Math.round(middle).toLocaleString('en').replaceAll(',', ' ');
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
