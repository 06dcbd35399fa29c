/**
 * Keeps the compiled code of this project and its packages below `node_modules/.cache`: with it, loading takes half the
 * processor time (docs/performance.md). Node checks each entry against its source, writes them as the process ends, and
 * does without where nothing can be written.
 *
 * Plain JavaScript that Node 14.0 can parse and run, for `src/preflight.cjs` and the script `prepare`.
 */
'use strict';

// biome-ignore lint/style/useNodejsImportProtocol: Node 14.0 does not know the prefix.
const { enableCompileCache } = require('module');
// biome-ignore lint/style/useNodejsImportProtocol: Node 14.0 does not know the prefix.
const path = require('path');

// Code from a cache is counted less exactly by a coverage.
if (process.env.NODE_V8_COVERAGE === undefined && enableCompileCache !== undefined)
  enableCompileCache(path.join(__dirname, '..', 'node_modules', '.cache', 'ussd-gateway', 'code'));
