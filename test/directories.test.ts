/** Directories that a setting names: made one level at a time, or refused with the setting and the reason. */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import { DirectoryRefused, inDirectory, makeDirectory } from '../src/directories.ts';
import { inWords } from '../src/in-words.ts';
import { keptToken } from '../src/kept.ts';
import { environment, temporaryDirectory } from './support/gateway.ts';

const SRC = join(import.meta.dirname, '..', 'src');

/** Directories that cannot be made below `base`, each with what is said of it. */
function unusable(base: string): [string, RegExp][] {
  const file = join(base, 'file');
  const link = join(base, 'link');
  const circle = join(base, 'circle');
  writeFileSync(file, '');
  symlinkSync(join(base, 'nowhere'), link);
  symlinkSync(circle, circle);
  return [
    [file, /^DATA_DIR: \S+\/file cannot be used: \S+\/file is not a directory; name a directory that/],
    [join(file, 'a', 'b'), /^DATA_DIR: \S+\/file\/a\/b cannot be used: \S+\/file is not a directory/],
    [link, /\/link is a link that leads nowhere/],
    [join(circle, 'a'), /its links lead in a circle \(ELOOP/],
    [join(base, 'x'.repeat(300)), /the path is too long \(ENAMETOOLONG/],
    ...(existsSync('/proc/self')
      ? ([
          ['/proc/x', /^DATA_DIR: \/proc\/x cannot be used: (\/proc takes no directories|this user may not)/],
          ['/proc/x/y', /^DATA_DIR: \/proc\/x\/y cannot be used: (\/proc takes no|this user may not)/],
        ] as [string, RegExp][])
      : []),
  ];
}

test('levels that are missing are made, with their mode', async (t) => {
  const base = temporaryDirectory(t);
  const directory = join(base, 'a', 'b', 'c');
  makeDirectory('DATA_DIR', directory, 0o700);
  makeDirectory('DATA_DIR', directory, 0o700);
  for (const path of [join(base, 'a'), directory]) t.equal(statSync(path).mode & 0o777, 0o700, path);
  mkdirSync(join(base, 'own'));
  symlinkSync(join(base, 'own'), join(base, 'link'));
  makeDirectory('DATA_DIR', join(base, 'link', 'inner'));
  t.ok(statSync(join(base, 'own', 'inner')).isDirectory(), 'behind a link');
});

test('a directory that cannot be made is refused at once', async (t) => {
  for (const [directory, said] of unusable(temporaryDirectory(t))) {
    for (const run of [() => makeDirectory('DATA_DIR', directory), () => keptToken(directory)]) {
      try {
        run();
        t.fail(`${directory} is refused`);
      } catch (error) {
        t.ok(error instanceof DirectoryRefused, directory);
        t.same(inWords(error), [(error as Error).message]);
        t.match((error as Error).message, said);
      }
    }
  }
});

test('a file that cannot be written in it names the setting', async (t) => {
  const directory = temporaryDirectory(t);
  mkdirSync(join(directory, 'operator-token'));
  t.throws(() => keptToken(directory), { message: /^DATA_DIR: \S+ cannot be used: EISDIR/ });
  const other = new Error('other');
  t.throws(
    () =>
      inDirectory('DATA_DIR', directory, () => {
        throw other;
      }),
    other,
  );
});

test('the start says so in one sentence and does not hang', async (t) => {
  const file = join(temporaryDirectory(t), 'file');
  writeFileSync(file, '');
  for (const DATA_DIR of [file, ...(existsSync('/proc/self') ? ['/proc/x'] : [])]) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [join(SRC, 'main.ts')], {
      env: environment({ DATA_DIR, PORT: '0' }),
      encoding: 'utf8',
      timeout: 30_000,
      killSignal: 'SIGKILL',
    });
    t.equal(status, 1, `${DATA_DIR}: ${stdout}${stderr}`);
    t.match(
      stderr,
      new RegExp(`^ussd gateway cannot start:\n  DATA_DIR: ${DATA_DIR} cannot be used: [^\n]+\n$`),
    );
  }
});

test('no source uses the recursive form of mkdir', async (t) => {
  for (const name of readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((each) =>
    /\.ts$/.test(each),
  )) {
    t.notMatch(readFileSync(join(SRC, name), 'utf8'), /mkdir(Sync)?\([^;]*recursive: true/, name);
  }
});
