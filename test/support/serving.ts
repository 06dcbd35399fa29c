/**
 * Runs a gateway in a process of its own with the seams of src/serve.ts, as JSON in the variable SERVE_OPTIONS: for
 * tests that kill a process and do not wait for production's intervals (`startProcess`, test/support/gateway.ts).
 */
import { readConfig } from '../../src/config.ts';
import { lastWords } from '../../src/leaving.ts';
import { makeLog } from '../../src/log.ts';
import { type ServeOptions, serve } from '../../src/serve.ts';
import { shippedMenus } from './gateway.ts';

const { SERVE_OPTIONS = '{}', ...environment } = process.env;
const documents = shippedMenus();
const services = documents.map((menu) => menu.service);
const config = readConfig(environment, services);
const log = makeLog(config.logLevel);
lastWords(log);
const served = await serve(config, documents, log, JSON.parse(SERVE_OPTIONS) as ServeOptions);
process.on('SIGTERM', () => {
  void served.shutDown({ goodbyeMs: 0, lastAnswerMs: 200 }).then(() => process.exit(0));
});
