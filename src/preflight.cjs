/**
 * Checks Node and the installed packages before any TypeScript is loaded, and has its compiled code kept:
 * `node -r ./src/preflight.cjs src/main.ts`.
 *
 * Without it a Node that cannot run this code ends with ERR_UNKNOWN_FILE_EXTENSION or a syntax error, and missing
 * packages with ERR_MODULE_NOT_FOUND, each with a stack. Prints one sentence to standard error and exits with 1.
 * A preload (`-r`), not a program that starts another one: signals, arguments and exit codes stay those of one process.
 *
 * Plain JavaScript that Node 14.0 can parse and run, without packages and without the `node:` prefix (14.18).
 */
'use strict';

// biome-ignore lint/style/useNodejsImportProtocol: Node 14.0 does not know the prefix.
const fs = require('fs');
// biome-ignore lint/style/useNodejsImportProtocol: Node 14.0 does not know the prefix.
const path = require('path');

const PROJECT = path.dirname(__dirname);

/** Says why the code cannot be run; undefined where it can. */
function problem() {
  const project = JSON.parse(fs.readFileSync(path.join(PROJECT, 'package.json'), 'utf8'));
  const needed = numbers(project.engines.node);
  const found = numbers(process.versions.node);
  const here = `this is Node ${process.versions.node} (${process.execPath})`;
  if (found[0] < needed[0] || (found[0] === needed[0] && found[1] < needed[1]))
    return `Node ${needed[0]}.${needed[1]} or newer is needed, and ${here}: ${remedy(project)}`;
  if (!process.features.typescript) {
    const told = (process.env.NODE_OPTIONS || '').split(' ').concat(process.execArgv);
    const option = told.find((each) => /^--no-(experimental-)?strip-types/.test(each));
    const built = `a Node that runs TypeScript is needed, and ${here} was built without that`;
    return option
      ? `Node is told not to run TypeScript: take away ${option} (NODE_OPTIONS)`
      : `${built}: ${remedy(project)}`;
  }
  const missing = Object.keys(project.dependencies).filter((name) => !isInstalled(name));
  if (missing.length > 0) {
    const named =
      missing.slice(0, 3).join(', ') + (missing.length > 3 ? ` and ${missing.length - 3} more` : '');
    return `the dependencies are not installed (missing: ${named}): run \`npm ci\``;
  }
  return undefined;
}

/** Names the ways to get a Node that can: the package `node` among the development dependencies, or a download. */
function remedy(project) {
  const major = numbers(project.devDependencies.node)[0];
  return `run \`npm ci\` without --omit=dev, which brings Node ${major} for \`npm start\`, or install Node ${major} (https://nodejs.org/en/download)`;
}

/** `>=22.18` -> [22, 18] */
function numbers(version) {
  return (/\d+(\.\d+)*/.exec(version) || ['0'])[0].split('.').concat('0').map(Number);
}

/** Looks where Node looks: in every `node_modules` from here to the root. */
function isInstalled(name) {
  return module.paths.some((place) => fs.existsSync(path.join(place, name, 'package.json')));
}

const said = problem();
if (said !== undefined) {
  process.stderr.write(`ussd gateway cannot start:\n  ${said}\n`);
  process.exit(1);
}
require('./code-cache.cjs');
// Reading the code alone takes a second, and ten on a busy machine.
if (process.stderr.isTTY && path.basename(process.argv[1] || '') === 'main.ts')
  process.stderr.write('loading the gateway …\n');
