/**
 * Every conversation of `test/transcripts/`, played against a real process as two kinds of gateway speak to
 * it: with all that was typed so far, and with the newest input only.
 *
 * `phone +260…` and `dial *1234#` begin a session, `> text` types (`>` alone: nothing), `# …` is a comment;
 * other lines are the screen that is expected. `{name}` on a screen is a Customer ID that is heard there
 * first, or the reference of an order; later it stands for the same one, on screens and in what is typed (`{name in lower case}`).
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { UNAMBIGUOUS } from '../src/flow/answer.ts';
import { post, startGateway } from './support/gateway.ts';
import { database } from './support/postgres.ts';

const FOLDER = join(import.meta.dirname, 'transcripts');

/** One request and the screen that it is answered with. */
type Line = { at: number; kind: 'phone' | 'dial' | 'type'; said: string; screen: string[] };

function read(file: string): Line[] {
  const lines: Line[] = [];
  for (const [index, text] of readFileSync(join(FOLDER, file), 'utf8').split('\n').entries()) {
    const at = index + 1;
    const [, kind, said = ''] = /^(phone|dial|>) ?(.*)$/.exec(text) ?? [];
    if (text === '' || text.startsWith('#')) continue;
    if (kind === 'phone' || kind === 'dial') lines.push({ at, kind, said, screen: [] });
    else if (kind === '>') lines.push({ at, kind: 'type', said, screen: [] });
    else lines.at(-1)?.screen.push(text);
  }
  return lines;
}

/** How a gateway sends the inputs of a session. */
type Way = { path: string; fields(inputs: string[]): { text: string; requestId?: string } };

const WAYS: Record<string, Way> = {
  'all that was typed': { path: '/api/ussd', fields: (inputs) => ({ text: inputs.join('*') }) },
  'the newest input': {
    path: '/api/ussd/via/latest',
    fields: (inputs) => ({ text: inputs.at(-1) ?? '', requestId: `press-${inputs.length}` }),
  },
};

async function play(t: Test, lines: Line[], url: string, { path, fields }: Way): Promise<void> {
  const known = new Map<string, string>();
  const filled = (text: string) =>
    text.replaceAll(/\{(\w+)( in lower case)?\}/g, (hole, name: string, lower?: string) => {
      const id = known.get(name) ?? hole;
      return lower === undefined ? id : id.toLowerCase();
    });
  let phoneNumber = '';
  let serviceCode = '';
  let session = 0;
  let inputs: string[] = [];
  for (const { at, kind, said, screen } of lines) {
    if (kind === 'phone') {
      phoneNumber = said;
      continue;
    }
    if (kind === 'dial') {
      serviceCode = said;
      session += 1;
      inputs = [];
    } else inputs.push(filled(said));
    const sessionId = `transcript-${session}`;
    const { body } = await post(url, { sessionId, serviceCode, phoneNumber, ...fields(inputs) }, path);
    const expected = filled(screen.join('\n'));
    const [, name] = /\{(\w+)\}/.exec(expected) ?? [];
    if (name !== undefined) {
      const [before = '', after = ''] = expected.split(`{${name}}`);
      const id = body.slice(before.length, body.length - after.length);
      if (new RegExp(`^C?[${UNAMBIGUOUS}]{8}$`).test(id)) known.set(name, id);
    }
    if (!t.equal(body, filled(expected), `line ${at}`)) return;
  }
}

for (const file of readdirSync(FOLDER)) {
  for (const [name, way] of Object.entries(WAYS)) {
    t.test(`${file}, by ${name}`, async (t) => {
      const { url: DATABASE_URL } = await database(t);
      const { url } = await startGateway(t, { DATABASE_URL, GATEWAYS: 'latest=latest' });
      await play(t, read(file), url, way);
    });
  }
}
