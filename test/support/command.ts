import { runCommand } from '../../src/command.ts';
import { readConfig } from '../../src/config.ts';
import { inWords } from '../../src/in-words.ts';
import { makeLog } from '../../src/log.ts';
import { environment, shippedMenus, TEST_KEY } from './gateway.ts';

/** What a command came to, as its process would tell it: exit code, standard output and the lines of a refusal. */
export type Ran = { code: number; said: string; complained: string };

/**
 * Runs a command of an operator's (`unlock`, `pins:rotate`, `erase` …) inside this process, on the database of
 * `settings`, without its pauses. Throws what a process would log as a fault.
 */
export async function command(
  settings: Record<string, string>,
  [name = '', ...words]: string[],
): Promise<Ran> {
  let said = '';
  try {
    const services = shippedMenus().map((menu) => menu.service);
    const config = readConfig(environment({ PIN_ENCRYPTION_KEY: TEST_KEY, ...settings }), services);
    const say = (line: string) => {
      said += `${line}\n`;
    };
    const pause = async () => {};
    await runCommand({ config, log: makeLog('silent'), services, say, pause }, name, words);
    return { code: 0, said, complained: '' };
  } catch (error) {
    const lines = inWords(error);
    if (lines === undefined) throw error;
    return { code: 1, said, complained: lines.join('\n') };
  }
}
