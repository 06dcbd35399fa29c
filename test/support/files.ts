/**
 * Runs test files side by side, each in a process of its own, and writes one TAP report: tap's own `spawn`, without
 * the loaders of its command line, which cost a second and a half of processor time a file and serve nothing here
 * (Node strips the types itself). Called by test/support/run.ts: `files.ts <jobs> <limit in ms> <file[::name]> …`; with
 * a name only the tests run that have it in theirs.
 */
import t from 'tap';

type Stdio = ['ignore', 'pipe', 'inherit'];

/**
 * Starts a program without the loader that `t.spawn` puts into NODE_OPTIONS. It measures coverage, which nothing here
 * reads, with a thread of its own that every import asks: 6 % of the processor time of the whole suite.
 */
const WITHOUT_COVERAGE = ['/bin/sh', '-c', 'NODE_OPTIONS=$USSD_NODE_OPTIONS exec "$0" "$@"'];

const [jobs, limit, ...files] = process.argv.slice(2);
t.jobs = Number(jobs);
t.setTimeout(0);
// Under its own name the filter would be applied to the names of the files as well.
const grep = process.env.USSD_TEST_GREP;
const env = {
  ...process.env,
  USSD_FILE_LIMIT_MS: limit,
  USSD_NODE_OPTIONS: process.env.NODE_OPTIONS ?? '',
  // On Windows, where there is no such shell, the loader stays and measures nothing.
  _TAPJS_PROCESSINFO_COVERAGE_: '0',
  ...(grep !== undefined && { TAP_GREP: grep }),
};
const options = { buffered: true, diagnostic: false, stdio: ['ignore', 'pipe', 'inherit'] as Stdio };
for (const chosen of files) {
  const [file = '', name] = chosen.split('::');
  const node = [process.execPath, `--import=${new URL('limit.ts', import.meta.url)}`, file];
  const [command = '', ...words] = process.platform === 'win32' ? node : [...WITHOUT_COVERAGE, ...node];
  const only = name === undefined ? env : { ...env, TAP_GREP: `/${name}/` };
  t.spawn(command, words, { ...options, env: only }, file);
}
