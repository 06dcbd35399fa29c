/**
 * `npm run audit`: known holes of high or critical severity in what is deployed fail it. A registry that has no audit
 * endpoint (mirrors, machines without a network) is said to have none, and does not.
 */
import { spawnSync } from 'node:child_process';
import { z } from 'zod';

const Report = z.object({
  vulnerabilities: z.record(z.string(), z.object({ severity: z.string(), range: z.string() })),
  metadata: z.object({ vulnerabilities: z.object({ high: z.int(), critical: z.int() }) }),
});

/** What `npm audit --json` found: the packages with grave holes, or nothing where it could not be asked. */
export function graveIn(report: string): string[] | undefined {
  const read = Report.safeParse(parsed(report));
  if (!read.success) return undefined;
  const { high, critical } = read.data.metadata.vulnerabilities;
  if (high + critical === 0) return [];
  return Object.entries(read.data.vulnerabilities)
    .filter(([, { severity }]) => severity === 'high' || severity === 'critical')
    .map(([name, { severity, range }]) => `${severity}: ${name} ${range}`);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

if (import.meta.main) {
  const { stdout } = spawnSync('npm', ['audit', '--omit=dev', '--json'], {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    timeout: 120_000,
  });
  const grave = graveIn(stdout ?? '');
  if (grave === undefined) console.log('audit not available here');
  else if (grave.length === 0) console.log('no known hole of high or critical severity in what is deployed');
  else {
    console.error(grave.join('\n'));
    process.exitCode = 1;
  }
}
