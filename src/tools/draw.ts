/** `npm run menus:draw [-- folder]` draws every sound service as `docs/menus/<service>.svg`. */
import { writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { DirectoryRefused, makeDirectory } from '../directories.ts';
import { picture } from './picture.ts';
import { findServices, giveUp, ROOT, SERVICES } from './project.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { services: { type: 'string', default: SERVICES } },
});
const [folder = join(ROOT, 'docs', 'menus')] = positionals;

const found = findServices(values.services);
const refused = found.flatMap(({ read }) => (read.menu === undefined ? read.problems : []));
if (refused.length > 0) giveUp(refused.join('\n'));
try {
  makeDirectory('folder', folder);
} catch (error) {
  if (!(error instanceof DirectoryRefused)) throw error;
  giveUp(error.message);
}
for (const { service, read } of found) {
  if (read.menu === undefined) continue;
  const file = join(folder, `${service}.svg`);
  writeFileSync(file, picture(read.menu));
  process.stdout.write(`drew ${relative(process.cwd(), file)}\n`);
}
