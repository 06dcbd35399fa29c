/** `npm run dial -- '*1234#'`: a phone in the terminal. */
import { randomBytes } from 'node:crypto';
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { parseArgs } from 'node:util';
import { type Menu, sameKey } from '../flow/menu.ts';
import { route, USUAL_CODES } from '../flow/service-code.ts';
import { UssdRequest } from '../gateways/screens.ts';
import { handset, wrapped } from './handset.ts';
import { type Line, LineBroken, lineHere, lineTo, type Told } from './line.ts';
import { endWithReader, findServices, giveUp, SERVICES } from './project.ts';
import { Transcript } from './transcript.ts';

const HELP = `usage: npm run dial -- '*1234#' [options]

A phone in the terminal. It speaks to the engine in this process, on a database in memory that is gone
afterwards; with --server to a running gateway.

  --phone +254711000111    whose phone it is
  --service name           the service that the code leads to, where it is another than usual; in this process only
  --lang fr                the language that the phone chose before; in this process only
  --through '*1*2'         dialled behind the code: *1234*1*2#
  --server http://…        a running gateway; its SERVICE_CODES say where the code leads
  --record file            writes the conversation as test/transcripts/ has it. Everything that you type
                           stands in the file as you typed it, PINs too: record with PINs of no worth

Type what a subscriber would. q (or Ctrl-C) hangs up; after the last words Enter dials again, and another
code dials that.`;

/** What can be dialled: as `POST /api/ussd` takes it. */
const CODE = /^\*\d{1,10}(\*\d{1,10})*#$/;

function readWords() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        phone: { type: 'string', default: '+254711000111' },
        service: { type: 'string' },
        lang: { type: 'string' },
        through: { type: 'string', default: '' },
        server: { type: 'string' },
        record: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    });
    return { ...values, code: positionals[0], extra: positionals.slice(1) };
  } catch (error) {
    return giveUp(`${(error as Error).message}\n\n${HELP}`);
  }
}

endWithReader();
const words = readWords();
if (words.help) {
  process.stdout.write(`${HELP}\n`);
  process.exit(0);
}
const code = checked();
const recorder = words.record === undefined ? undefined : new Transcript(words.record, words.phone);
const keyboard = openKeyboard();
let line: Line | undefined;
try {
  line = await connect();
  for (
    let next: string | undefined = code.replace('#', `${words.through}#`);
    next !== undefined;
    next = await call(line, next)
  );
} catch (error) {
  if (!(error instanceof LineBroken)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
} finally {
  keyboard.close();
  await line?.close();
}

/** The code as it was given. Ends the process where something that was given is no good. */
function checked(): string {
  const { phone, through, server, lang, service, extra } = words;
  const given = words.code ?? '';
  if (!CODE.test(given) || extra.length > 0) giveUp(`dial a code like '*1234#', in quotes\n\n${HELP}`);
  if (!UssdRequest.shape.phoneNumber.safeParse(phone).success)
    giveUp(`--phone ${phone} is none: give it in full, like +254711000111`);
  if (!/^(\*\d{1,10})*$/.test(through)) giveUp(`--through ${through} cannot be dialled: give it like '*1*2'`);
  if (server !== undefined && !/^https?:\/\/[^/]/.test(server))
    giveUp(`--server ${server} is no address: give it like http://localhost:3000`);
  if (server !== undefined && (lang !== undefined || service !== undefined))
    giveUp('--lang and --service are for the engine in this process: a server knows its own');
  return given;
}

function connect(): Promise<Line> | Line {
  const found = findServices(SERVICES);
  const menus = found.flatMap(({ read }) => (read.menu === undefined ? [] : [read.menu]));
  if (words.server !== undefined) return lineTo(words.server, menus);
  const name = words.service ?? route(code, { codes: USUAL_CODES, fallback: 'ixo' }).service;
  const chosen = found.find(({ service }) => service === name);
  if (chosen === undefined)
    giveUp(`there is no service ${name}: ${found.map(({ service }) => service).join(', ')}`);
  if (chosen.read.menu === undefined) giveUp(chosen.read.problems.join('\n'));
  const { menu } = chosen.read;
  if (process.stderr.isTTY) process.stderr.write('preparing a database in memory …\n');
  return lineHere({ menu, code, phone: words.phone, ...language(menu) });
}

function language({ languages, service }: Menu): { language?: string } {
  const { lang } = words;
  if (lang === undefined) return {};
  if (!languages.includes(lang)) giveUp(`${service} speaks ${languages.join(', ')}, not ${lang}`);
  return { language: lang };
}

/** One session, from the dial to the last words or the hanging up. Returns the code that is dialled next. */
async function call(line: Line, serviceCode: string): Promise<string | undefined> {
  const sessionId = `player-${randomBytes(6).toString('hex')}`;
  const inputs: string[] = [];
  const shown: string[] = [];
  const say = () => line.say({ sessionId, serviceCode, phoneNumber: words.phone, text: inputs.join('*') });
  let told = await say();
  recorder?.dialled(serviceCode, told.body);
  for (;;) {
    draw(told, serviceCode, shown.join('*'));
    const end = told.body.startsWith('END');
    const secret = !end && told.secret;
    const prompt = end ? '  Enter dials again, q leaves > ' : secret ? '  (not shown) > ' : '  > ';
    const typed = await keyboard.read(prompt, secret, (input) => mask(told, input));
    if (typed === undefined || typed === 'q') {
      process.stdout.write(end ? '' : '  hung up\n');
      return undefined;
    }
    if (end) {
      if (typed === '' || CODE.test(typed)) return typed || serviceCode;
      continue;
    }
    inputs.push(typed);
    shown.push(mask(told, typed));
    told = await say();
    recorder?.typed(typed, told.body);
  }
}

function draw({ body, budget, name, messages }: Told, code: string, text: string): void {
  const sent = messages.flatMap((message) => wrapped(`SMS to ${message}`, 76).map((part) => `  ${part}`));
  const lines = ['', handset(body, { code, name, budget }), ...sent, `  text: ${text}`];
  process.stdout.write(`${lines.join('\n')}\n`);
}

/** An input as it may be shown: what answers a secret is dots, a key that stands on the screen is not. */
function mask({ body, secret }: Told, input: string): string {
  const printed = [...body.matchAll(/^(\S+)\. /gm)].map(([, key]) => key);
  return secret && !printed.some((key = '') => sameKey(key, input)) ? '•'.repeat([...input].length) : input;
}

type Keyboard = {
  /** The next line, without an echo where it is `hidden`; undefined once there is none. */
  read(prompt: string, hidden: boolean, shown: (input: string) => string): Promise<string | undefined>;
  close(): void;
};

function openKeyboard(): Keyboard {
  const { stdin, stdout } = process;
  let hidden = false;
  const output = new Writable({
    write(chunk, _encoding, done) {
      if (!hidden) stdout.write(chunk);
      done();
    },
  });
  const terminal = stdin.isTTY === true;
  const typing = createInterface({ input: stdin, output, terminal, historySize: 0 });
  // Lines of a pipe arrive all at once, before they are asked for.
  const waiting: string[] = [];
  let closed = false;
  let wake = () => {};
  typing.on('line', (text) => {
    waiting.push(text);
    wake();
  });
  typing.on('close', () => {
    closed = true;
    wake();
  });
  typing.on('SIGINT', () => typing.close());
  return {
    read: async (prompt, hide, shown) => {
      typing.setPrompt(prompt);
      if (terminal) typing.prompt();
      hidden = hide;
      while (waiting.length === 0 && !closed) await new Promise<void>((resolve) => (wake = resolve));
      const typed = waiting.shift();
      hidden = false;
      if (!terminal) stdout.write(`${prompt}${typed === undefined ? '' : shown(typed)}\n`);
      else if (hide || typed === undefined) stdout.write('\n');
      return typed;
    },
    close: () => typing.close(),
  };
}
