/**
 * Runs test files side by side, each in a process of its own, and writes one TAP report: tap's own `spawn`, without
 * the loaders of its command line, which cost a second and a half of processor time a file and serve nothing here
 * (Node strips the types itself). Called by test/support/run.ts: `files.ts <jobs> <limit in ms> <file> …`.
 */
import t from 'tap';

const [jobs, limit, ...files] = process.argv.slice(2);
t.jobs = Number(jobs);
t.setTimeout(0);
// Under its own name the filter would be applied to the names of the files as well.
const grep = process.env.USSD_TEST_GREP;
const env = {
  ...process.env,
  USSD_FILE_LIMIT_MS: limit,
  ...(grep !== undefined && { TAP_GREP: grep }),
};
for (const file of files) {
  const options = { buffered: true, diagnostic: false };
  const words = [`--import=${new URL('limit.ts', import.meta.url)}`, file];
  t.spawn(process.execPath, words, { ...options, env, stdio: ['ignore', 'pipe', 'inherit'] }, file);
}
