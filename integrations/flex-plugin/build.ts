/** `npm run flex:build`: the plugin as the one script that Flex loads, and its source map. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { build, type Plugin } from 'esbuild';

const ROOT = join(import.meta.dirname, '..', '..');

/** Flex hands React to its plugins as a global; a second React in the page would break its hooks. */
const reactOfFlex: Plugin = {
  name: 'react-of-flex',
  setup(bundle) {
    bundle.onResolve({ filter: /^react$/ }, () => ({ path: 'react', namespace: 'flex' }));
    bundle.onLoad({ filter: /.*/, namespace: 'flex' }, () => ({
      contents: 'module.exports = window.React;',
    }));
  },
};

/** Writes the script into `folder` and returns its path. Throws what esbuild finds wrong. */
export async function buildPlugin(folder: string): Promise<string> {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const outfile = join(folder, 'plugin-ussd-support.js');
  await build({
    entryPoints: [join(import.meta.dirname, 'src', 'index.tsx')],
    outfile,
    bundle: true,
    minify: true,
    sourcemap: 'linked',
    charset: 'ascii',
    format: 'iife',
    platform: 'browser',
    // What the browsers that Flex supports have had for years.
    target: 'es2020',
    define: { VERSION: JSON.stringify(version) },
    plugins: [reactOfFlex],
    logLevel: 'silent',
  });
  return outfile;
}

if (import.meta.main) console.log(await buildPlugin(process.argv[2] ?? join(import.meta.dirname, 'build')));
