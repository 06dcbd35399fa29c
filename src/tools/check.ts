/**
 * `npm run menus:check [-- place]`, a folder of services, the folder of one, or its menu.yaml: every problem and warning of every document, one line each: file and
 * line, node, what is wrong and its remedy, the keys that lead there; one line for a document that is sound, and nothing
 * else where all of them are. Exits 1 where a document is refused.
 */
import { parseArgs } from 'node:util';
import { endWithReader, findServices, giveUp, SERVICES } from './project.ts';

endWithReader();

const [folder = SERVICES, ...others] = parseArgs({ allowPositionals: true }).positionals;
if (others.length > 0) giveUp(`usage: npm run menus:check [-- place], and not also ${others.join(' ')}`);

const found = findServices(folder);
const lines = found.flatMap(({ service, read }) => {
  if (read.menu === undefined) return read.problems.map((problem) => `error    ${problem}`);
  const { nodes, languages } = read.menu;
  const warnings = read.warnings.map((warning) => `warning  ${warning}`);
  return [
    ...warnings,
    `sound    ${service}: ${Object.keys(nodes).length} screens in ${languages.join(', ')}`,
  ];
});
const refused = found.filter(({ read }) => read.menu === undefined).map(({ service }) => service);
// Where all is sound each document has said so itself.
if (refused.length > 0) {
  const sound = found.length - refused.length;
  lines.push(`${sound} of ${found.length} services are sound, refused: ${refused.join(', ')}`);
}
if (found.length === 0)
  lines.push(`there is no service in ${folder}: a service is a folder with a menu.yaml`);
process.stdout.write(`${lines.join('\n')}\n`);
process.exitCode = found.length === 0 || refused.length > 0 ? 1 : 0;
