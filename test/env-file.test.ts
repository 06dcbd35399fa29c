/** `.env` as it is parsed, and the faults that are told with their line. */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import { readConfig } from '../src/config.ts';
import { EnvFileError, parseEnvFile, readEnvFile } from '../src/env-file.ts';
import { temporaryDirectory } from './support/gateway.ts';

const SERVICES = ['ixo', 'demo', 'airtime', 'invest', 'support'];
const EXAMPLE = join(import.meta.dirname, '..', '.env.example');

test('what an entry may look like', async (t) => {
  const entries: [string, string][] = [
    ['A=1', '1'],
    ['  A = 1  ', '1'],
    ['export A=1', '1'],
    ['A=', ''],
    ['A= # nothing', ''],
    ['A=#', ''],
    ['A=one two', 'one two'],
    ['A=one # two', 'one'],
    ['A=*1234#=ixo,*123#=demo', '*1234#=ixo,*123#=demo'],
    ['A=p#ss # the password', 'p#ss'],
    ['A=a=b', 'a=b'],
    ["A=it's", "it's"],
    ["A='one # two'", 'one # two'],
    ['A="one # two" # three', 'one # two'],
    ['A="one\\ntwo\\t\\"three\\" \\\\"', 'one\ntwo\t"three" \\'],
    ["A='one\\ntwo'", 'one\\ntwo'],
    ['A="one\ntwo"', 'one\ntwo'],
    ["A='$HOME \x24{B} $$'", '$HOME \x24{B} $$'],
    ['A=5$', '5$'],
    ['A="5$ or $1"', '5$ or $1'],
    ['A=5 # $HOME', '5'],
    ['A=it`s', 'it`s'],
    ['A=1\nA=2', '2'],
    ['\uFEFFA=1\r\nB=2\r\n', '1'],
    ['# A=0\n\n   # more\nA=1', '1'],
  ];
  for (const [text, value] of entries) {
    const { values, problems } = parseEnvFile(text);
    t.same(problems, [], JSON.stringify(text));
    t.equal(values.A, value, JSON.stringify(text));
  }
  t.same({ ...parseEnvFile('A="1\n2"\nB=3').values }, { A: '1\n2', B: '3' }, 'the line behind several');
});

test('a fault is told with its line, every one, and without a value', async (t) => {
  const faults: [string, string[]][] = [
    ['A=1\nse-cret\nB=2', ['line 2: expected NAME=value']],
    ['A: se-cret', ['line 1: expected NAME=value']],
    ['=se-cret', ['line 1: expected NAME=value']],
    ['1A=se-cret', ['line 1: expected NAME=value']],
    ['PIN KEY=se-cret', ['line 1: expected NAME=value']],
    ['A=1\n\nB="se-cret\nC=2', ['line 3: the quote that begins the value of B is not closed']],
    ["A='se-cret", ['line 1: the quote that begins the value of A is not closed']],
    ['A="1\n2" se-cret', ['line 2: text behind the closing quote of A']],
    ['x\nA=1\ny', ['line 1: expected', 'line 3: expected']],
  ];
  for (const [text, expected] of faults) {
    const { problems } = parseEnvFile(text);
    t.equal(problems.length, expected.length, JSON.stringify(text));
    for (const [at, start] of expected.entries()) t.ok(problems[at]?.startsWith(start), start);
    t.notMatch(problems.join(), 'cret');
  }
});

test('what Compose would read otherwise is refused, with its line and what to write', async (t) => {
  const dollar = 'has a $ that Compose takes for a variable: put the value in single quotes';
  for (const value of [
    'abc$cret12345',
    'abc\x24{cret}',
    'abc$_cret',
    'abc$$cret',
    '$cret',
    '"abc$cret12345"',
    '"abc\x24{cret}"',
    '"abc\\$cret"',
    '"one\n$cret"',
    'abc$cret # more',
  ])
    t.same(parseEnvFile(`B=1\nA=${value}`).problems, [`line 2: the value of A ${dollar}`], value);
  t.match(parseEnvFile("A=it's$cret").problems, [
    /^line 1: the value of A has a \$ .*: choose one without \$/,
  ]);
  for (const text of ['A=`cret`', 'A=`cret\nC=cret`', 'A=`cret']) {
    const { problems } = parseEnvFile(`${text}\nB=1`);
    t.same(
      problems,
      [`line 1: the value of A begins with a backtick, which Compose keeps: use ' or "`],
      text,
    );
  }
});

test('files', async (t) => {
  const directory = temporaryDirectory(t);
  const file = join(directory, '.env');
  const refusal = (expected: RegExp) => {
    try {
      readEnvFile(file);
      t.fail('is refused');
    } catch (error) {
      t.ok(error instanceof EnvFileError);
      t.match((error as EnvFileError).problems, [expected]);
    }
  };
  t.equal(readEnvFile(file), undefined, 'none there');
  writeFileSync(file, 'A=1\nB\n');
  refusal(/\.env line 2: expected NAME=value/);
  writeFileSync(file, Buffer.from('\uFEFFA=1\n', 'utf16le'));
  refusal(/\.env: is not UTF-8/);
  writeFileSync(file, 'A=1\n');
  t.same({ ...readEnvFile(file) }, { A: '1' });
  if (process.getuid?.() !== 0) {
    chmodSync(file, 0);
    refusal(/\.env: cannot be read \(EACCES\)/);
  }
  const environment = join(directory, 'python');
  mkdirSync(environment);
  t.equal(readEnvFile(environment), undefined, 'a directory');
});

test('.env.example is a .env that changes nothing', async (t) => {
  const { values, problems } = parseEnvFile(readFileSync(EXAMPLE, 'utf8'));
  t.same(problems, []);
  t.equal(values.SERVICE_CODES, '*1234#=ixo,*123#=demo,*144#=airtime,*384#=invest,*555#=support');
  t.same(readConfig(values, SERVICES), readConfig({}, SERVICES));
});
