import { execFile, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import t, { type Test } from 'tap';
import { parse } from 'yaml';
import { z } from 'zod';
import { EFFECTS } from '../src/effects/effect.ts';
import type { Known } from '../src/flow/plan.ts';
import { parseMenu } from '../src/menus.ts';
import { environment, post, startGateway, temporaryDirectory } from './support/gateway.ts';
import { database, freePort } from './support/postgres.ts';
import { hasTerminal } from './support/terminal.ts';

/** What people use beside the running service: the checks, the schema, the pictures, the phone. */

const ROOT = join(import.meta.dirname, '..');
const SERVICES = join(ROOT, 'src', 'services');

type Ran = { code: number; out: string; err: string };

/** Runs a tool in a process of its own, with an empty environment, and types `input`. */
function run(tool: string, words: string[], input = ''): Promise<Ran> {
  const { promise, resolve } = Promise.withResolvers<Ran>();
  const options = { env: environment({}), timeout: 60_000 };
  const child = execFile(
    process.execPath,
    [join(ROOT, 'src', 'tools', tool), ...words],
    options,
    (error, out, err) => resolve({ code: error === null ? 0 : Number(error.code ?? -1), out, err }),
  );
  child.stdin?.end(input);
  return promise;
}

const CLINIC = `service: clinic
languages: [en, fr]
root: welcome
nodes:
  welcome:
    choose: { en: "Clinic <hours> & more", fr: Heures }
    options:
      - { key: 1, label: Today, to: today }
      - { key: 2, label: A PIN, to: secret }
      - { key: "*", label: Exit, to: bye }
  today:
    say: Open from 8 to 17.
    options:
      - { key: 0, label: Back, to: back }
  secret:
    ask: Your PIN
    answer: { kind: pin }
    to:
      - { when: { verdict: right }, to: bye, effects: [{ logIn: {} }, { sms: { text: Hello } }] }
      - { to: secret, invalid: Wrong }
    options:
      - { key: 0, label: Back, to: back }
  bye:
    end: Stay well.
`;

function folderOf(t: Test, documents: Record<string, string>): string {
  const folder = temporaryDirectory(t);
  for (const [name, text] of Object.entries(documents)) {
    mkdirSync(join(folder, name));
    if (text !== '') writeFileSync(join(folder, name, 'menu.yaml'), text);
  }
  return folder;
}

t.test('menus:check', async (t) => {
  t.test('finds the services of the project sound', async (t) => {
    const { code, out } = await run('check.ts', []);
    t.equal(code, 0, out);
    t.match(out, /^sound {4}ixo: \d+ screens in en, fr$/m);
  });

  t.test('names file, line, node, fault and keys of a bad one, and still finds the good one', async (t) => {
    const folder = folderOf(t, {
      clinic: CLINIC,
      dead: CLINIC.replace('service: clinic', 'service: dead').replace('to: back', 'to: nowhere'),
      torn: 'service: torn\nnodes: {',
      other: CLINIC,
      none: '',
    });
    const { code, out } = await run('check.ts', [folder]);
    t.equal(code, 1);
    t.match(out, /^sound {4}clinic: 4 screens in en, fr$/m);
    t.match(out, /^error {4}\S+dead\/menu\.yaml:\d+: today: key 0 leads to nowhere.* \(reached by 1\)$/m);
    t.match(out, /^error {4}\S+torn\/menu\.yaml:\d+: /m);
    t.match(out, /^error {4}\S+other\/menu\.yaml:1: service: is clinic: name it other/m);
    t.match(out, /^error {4}\S+none\/menu\.yaml: there is no such file/m);
    t.match(out, /^1 of 5 services are sound, refused: dead, none, other, torn$/m);
    for (const line of out.trim().split('\n'))
      t.match(line, /^(error|warning|sound) {2,4}\S|services are sound/);
  });

  t.test('warnings do not make it fail', async (t) => {
    const options = Array.from({ length: 8 }, (_, n) => `      - { key: ${n + 1}, label: Day, to: today }\n`);
    const many = CLINIC.replace(/ {6}- \{ key: 1,.*\n {6}- \{ key: 2,.*\n/, options.join('')).replace(
      / {2}secret:[\s\S]*(?= {2}bye)/,
      '',
    );
    const { code, out } = await run('check.ts', [folderOf(t, { clinic: many })]);
    t.equal(code, 0, out);
    t.match(out, /^warning {2}\S+:\d+: welcome: has \d choices/m);
  });

  t.test('a folder without services, and none at all', async (t) => {
    t.equal((await run('check.ts', [folderOf(t, {})])).code, 1);
    t.match(await run('check.ts', ['/nowhere/at/all']), {
      code: 1,
      err: /^there is no \/nowhere\/at\/all: name /,
    });
  });

  t.test('one document, or the folder of one service', async (t) => {
    const folder = folderOf(t, { clinic: CLINIC, torn: 'nodes: {' });
    for (const place of ['clinic', 'clinic/', 'clinic/menu.yaml'])
      t.match(
        await run('check.ts', [join(folder, place)]),
        { code: 0, out: /^sound {4}clinic: .*\n$/ },
        place,
      );
    t.match(await run('check.ts', [join(folder, 'torn', 'menu.yaml')]), { code: 1, out: /^error .*torn/ });
    const wrong = await run('check.ts', [join(ROOT, 'package.json')]);
    t.match(wrong, {
      code: 1,
      err: /package\.json is no menu\.yaml: a service is a folder with a menu\.yaml\n$/,
    });
    const drawn = await run('draw.ts', [join(folder, 'clinic', 'menu.yaml')]);
    t.match(drawn, { code: 1, err: /menu\.yaml is not a directory; name a directory/ });
    t.notMatch(wrong.err + drawn.err, /^ +at /m, 'without a stack');
  });
});

t.test('menu.schema.json is current, and the documents name it', async (t) => {
  const file = join(temporaryDirectory(t), 'schema.json');
  t.equal((await run('schema.ts', [file])).code, 0);
  const kept = readFileSync(join(ROOT, 'menu.schema.json'), 'utf8');
  t.equal(kept, readFileSync(file, 'utf8'), 'npm run menus:schema');

  const schema = z.fromJSONSchema(JSON.parse(kept));
  const text = readFileSync(join(SERVICES, 'ixo', 'menu.yaml'), 'utf8');
  t.match(text, /^# yaml-language-server: \$schema=\.\.\/\.\.\/\.\.\/menu\.schema\.json\n/);
  t.ok(schema.safeParse(parse(text)).success, 'it takes a good document');
  t.notOk(schema.safeParse(parse(text.replace('choose:', 'chose:'))).success, 'and no bad one');
});

t.test('the examples of docs/menus.md are sound', async (t) => {
  const page = readFileSync(join(ROOT, 'docs', 'menus.md'), 'utf8');
  const blocks = (kind: string) =>
    [...page.matchAll(/^( *)```yaml(.*)\n([\s\S]*?)^ *```$/gm)].flatMap(
      ([, indent = '', name = '', text = '']) =>
        name.trim() === kind ? [text.replaceAll(new RegExp(`^${indent}`, 'gm'), '')] : [],
    );
  const [whole = ''] = blocks('');
  const known: Known = {
    facts: {
      goods: { values: { name: 20, price: 6 }, rows: 30 },
      wallet: { values: { balance: 9, open: 3 } },
    },
    effects: EFFECTS,
  };
  const market = whole.replace(/^nodes: .*$/m, `nodes:\n${blocks('node').join('')}`);
  t.match(parseMenu(market, 'docs/menus.md', known), { problems: undefined, warnings: [] });
  const [clinic = ''] = blocks('clinic');
  t.match(parseMenu(clinic, 'docs/menus.md', known), { problems: undefined, warnings: [] });
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
  t.ok(readme.includes(clinic.trim()), 'the README has the same');
});

t.test('menus:draw writes well-formed pictures with every screen once', async (t) => {
  const folder = temporaryDirectory(t);
  const services = folderOf(t, { clinic: CLINIC });
  t.equal((await run('draw.ts', [folder])).code, 0);
  t.equal((await run('draw.ts', [folder, '--services', services])).code, 0);
  const ixo = parse(readFileSync(join(SERVICES, 'ixo', 'menu.yaml'), 'utf8')) as { nodes: object };
  const clinic = parse(CLINIC) as { nodes: object };
  for (const [name, { nodes }] of Object.entries({ ixo, clinic })) {
    const svg = readFileSync(join(folder, `${name}.svg`), 'utf8');
    t.equal(faultIn(svg), undefined, name);
    const drawn = [...svg.matchAll(/ id="node-(\w+)"/g)].map(([, node]) => node);
    t.same(drawn.toSorted(), Object.keys(nodes).toSorted(), 'every node, each once');
    t.notMatch(svg, /NaN|undefined|Infinity/);
  }
  const svg = readFileSync(join(folder, 'clinic.svg'), 'utf8');
  t.match(svg, '! logIn, sms');
  t.match(svg, 'ask: SECRET');
  t.match(svg, /class="end"/);
  t.match(svg, /class="on"[^>]*>2</, 'an arrow with its key');
  t.match(svg, /&lt; back</, 'back is a mark');
  t.match(svg, 'fr: Heures', 'the other languages are there to point at');

  const bad = folderOf(t, { clinic: CLINIC.replace('to: back', 'to: nowhere') });
  t.match(await run('draw.ts', [folder, '--services', bad]), { code: 1, err: /leads to nowhere/ });
});

/** What is not well-formed about an XML text without comments and entities of its own. */
function faultIn(xml: string): string | undefined {
  const open: string[] = [];
  const rest = xml.replaceAll(
    /<(\/?)([\w:]+)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/g,
    (_, end, name, _attributes, empty) => {
      if (end === '/' && open.pop() !== name) open.push(`</${name}>`);
      if (end === '' && empty === '') open.push(name);
      return '';
    },
  );
  const loose = /[<>]|&(?!(amp|lt|gt|quot|#\d+);)/.exec(rest);
  if (loose) return rest.slice(loose.index, loose.index + 40);
  return open.length > 0 ? `not closed: ${open.join(', ')}` : undefined;
}

/** The screens of a phone in the terminal, as they were drawn. */
function screensIn(out: string): string[] {
  const frames = out.matchAll(/├─+┤\n([\s\S]*?) {2}├─+┤/g);
  return [...frames].map(([, lines = '']) =>
    lines
      .trimEnd()
      .split('\n')
      .map((line) => line.replace(/^ *│ /, '').replace(/ *│$/, ''))
      .join('\n'),
  );
}

t.test('a phone in this process', async (t) => {
  t.test('dials again, dials through, in the language of the phone', async (t) => {
    const { code, out } = await run('dial.ts', ['*1234#', '--lang', 'fr', '--through', '*1*2'], '*\n\nq\n');
    t.equal(code, 0);
    const screens = screensIn(out);
    t.match(screens[0], /^Tarifs\n/);
    t.match(screens[1], /^Merci/);
    t.match(screens[2], /^Tarifs\n/);
    t.match(out, /\*1234\*1\*2#/);
    t.match(out, /hung up/);
  });

  t.test(
    'walks to a page and out, never shows a secret, and writes down what is to be played again',
    async (t) => {
      const file = join(temporaryDirectory(t), 'new-account.txt');
      const walk = ['1', '2', '*', ''];
      const typed = [...walk, '2', '2', 'Ann Phiri', '00', '48213', '48213', '', '2', '1', 'q'];
      const { code, out, err } = await run('dial.ts', ['*1234#', '--record', file], typed.join('\n'));
      t.equal(code, 0, err);
      const [first, second, third, last] = screensIn(out);
      t.equal(first, 'Welcome to IXO USSD\n1. Know More\n2. Account Menu\n*. Exit');
      t.match(second, /^Information Center\n1\. /);
      t.match(third, /^Pricing\n/);
      t.equal(last, 'Thank you for using IXO USSD.\nGoodbye.');
      t.match(out, /open +56\/160 septets of 182/);
      t.match(out, /^ {2}text: 1\*2\*\*$/m);
      t.notMatch(out, '48213');
      t.match(out, /^ {2}text: 2\*2\*Ann Phiri\*00\*•{5}\*•{5}$/m);
      const [, customerId] = /Customer ID: (C\w{8})/.exec(out) ?? [];
      t.match(out, `SMS to +254711000111: Welcome to IXO. Your Customer ID is ${customerId}`);
      const kept = readFileSync(file, 'utf8');
      t.match(kept, /^phone \+254711000111\ndial \*1234#\nCON Welcome to IXO USSD\n1\. Know More\n/);
      t.match(
        kept,
        /\n> 48213\nEND Your account is open\.\nCustomer ID: \{customerId\}\n.*\n\ndial \*1234#\nCON /,
      );
      t.equal(statSync(file).mode & 0o777, 0o600);
    },
  );

  t.test('says what is wrong with what it was given', async (t) => {
    const table: [string[], RegExp][] = [
      [[], /in quotes/],
      [['*1234#', '--phone', '0971'], /--phone/],
      [['*1234#', '--through', '1*2'], /--through/],
      [['*1234#', '--lang', 'de'], /ixo speaks en, fr/],
      [['*1234#', '--service', 'none'], /there is no service none/],
      [['*1234#', '--server', 'localhost'], /--server/],
      [['*1234#', '--server', `http://127.0.0.1:${await freePort()}`], /does not answer \(ECONNREFUSED\)/],
      [['*1234#', '--server', 'http://127.0.0.1:9'], /port 9 is blocked by the Fetch standard/],
      [
        ['*1234#', '--server', 'http://127.0.0.1:6000'],
        /:6000: port 6000 is blocked .* another port \(PORT\)/,
      ],
      [['*1234#', '--loud'], /--loud/],
    ];
    for (const [words, said] of table) {
      const { code, err } = await run('dial.ts', words);
      t.equal(code, 1, words.join(' '));
      t.match(err, said);
      t.notMatch(err, /\n +at /, 'no stack');
    }
    const { code, out } = await run('dial.ts', ['--help']);
    t.equal(code, 0);
    t.match(out, /--record[\s\S]*PINs too/);
  });
});

t.test('whoever reads no further ends a tool', async (t) => {
  // Against a server: the engine in its own process would make a database first.
  const { url } = await startGateway(t);
  for (const [tool, ...words] of [['dial.ts', '*1234#', '--server', url], ['check.ts']] as [
    string,
    ...string[],
  ][]) {
    const child = spawn(process.execPath, [join(ROOT, 'src', 'tools', tool), ...words], {
      env: environment({}),
    });
    child.stdout.destroy();
    let err = '';
    child.stderr.on('data', (chunk: Buffer) => (err += chunk));
    const ended = new Promise((resolve) => child.on('close', resolve));
    child.stdin.end('1\n1\nq\n');
    t.equal(await ended, 0, tool);
    t.equal(err, '', 'without a word');
  }
});

t.test('a phone on a running server, and its transcript played again', async (t) => {
  const { url: DATABASE_URL } = await database(t);
  const { url } = await startGateway(t, { DATABASE_URL });
  const file = join(temporaryDirectory(t), 'walk.txt');
  const typed = ['1', '9', '', '1', '0', '*', '*1234*2#', '1', 'C23456789', '48213', '0', 'q'];
  const { code, out, err } = await run(
    'dial.ts',
    ['*1234#', '--server', url, '--record', file],
    typed.join('\n'),
  );
  t.equal(code, 0, err);
  t.notMatch(out, '48213');
  t.match(out, /^ {2}text: 1\*C23456789\*•{5}$/m);

  let fields = { sessionId: '', serviceCode: '', phoneNumber: '' };
  let inputs: string[] = [];
  const said: string[] = [];
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const [, kind, word = ''] = /^(phone|dial|>) ?(.*)$/.exec(line) ?? [];
    if (kind === undefined || kind === 'phone') {
      if (kind === undefined) said.push(line);
      else fields = { ...fields, phoneNumber: word };
      continue;
    }
    if (kind === 'dial') {
      fields = { ...fields, sessionId: `again-${said.length}`, serviceCode: word };
      inputs = [];
    } else inputs.push(word);
    const { body } = await post(url, { ...fields, text: inputs.join('*') });
    said.push(body);
  }
  // Each reply stands before the lines of its screen in the file.
  for (let rest = said.filter((text) => text !== ''); rest.length > 0; ) {
    const [reply = '', ...lines] = rest;
    const count = reply.split('\n').length;
    t.equal(reply, lines.slice(0, count).join('\n'));
    rest = lines.slice(count);
  }
  t.ok(said.length > 30);
});

/** A terminal with a program in it: tmux where there is one, else a bare one by util-linux' script. */
function terminal(t: Test, words: string[]): { type(text: string): void; screen(): string } | undefined {
  // The shell is named: that of a service's user may be one that runs nothing.
  const env = environment({ TERM: 'xterm-256color', LANG: 'C.UTF-8', SHELL: '/bin/sh' });
  const command = words.map((word) => `'${word}'`).join(' ');
  if (spawnSync('tmux', ['-V']).status === 0) {
    const tmux = (...rest: string[]) =>
      spawnSync('tmux', ['-u', '-L', `ussd-${process.pid}`, '-f', '/dev/null', ...rest], {
        env,
        encoding: 'utf8',
      }).stdout;
    tmux('new-session', '-d', '-x', '100', '-y', '200', `${command}; echo exit $?; sleep 60`);
    t.teardown(() => tmux('kill-server'));
    return {
      type: (text) => {
        tmux('send-keys', '-l', text);
      },
      screen: () => tmux('capture-pane', '-p').trimEnd(),
    };
  }
  if (!hasTerminal()) return undefined;
  const child = spawn('script', ['-qec', `${command}; echo exit $?`, '/dev/null'], { env });
  t.teardown(() => child.kill('SIGKILL'));
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  return {
    type: (text) => child.stdin.write(text),
    screen: () => stripVTControlCharacters(output).replaceAll('\r', '').trimEnd(),
  };
}

t.test('a phone in a real terminal', async (t) => {
  const { url } = await startGateway(t);
  const dial = join(ROOT, 'src', 'tools', 'dial.ts');
  const real = terminal(t, [process.execPath, dial, '*1234#', '--server', url]);
  if (real === undefined) return t.pass('there is no terminal to be had here');
  const until = async (seen: RegExp) => {
    for (let tries = 0; tries < 300 && !seen.test(real.screen()); tries += 1)
      await new Promise((resolve) => setTimeout(resolve, 100));
    t.match(real.screen(), seen);
  };
  await until(/Welcome to IXO USSD[\s\S]* > *$/);
  real.type('2\r');
  await until(/text: 2\n/);
  real.type('1\r');
  await until(/text: 2\*1\n/);
  real.type('C23456789\r');
  await until(/\(not shown\) >/);
  real.type('4829\x7f13\r');
  await until(/text: 2\*1\*C23456789\*•{5}\n/);
  // The port may hold the digits of the PIN.
  const shown = real.screen().replaceAll(new URL(url).host, '');
  t.notMatch(shown, /48(29|2)/, 'a PIN is not echoed');
  t.match(real.screen(), 'The Customer ID or PIN is wrong.');
  real.type('\x03');
  await until(/hung up[\s\S]*exit 0/);
});
