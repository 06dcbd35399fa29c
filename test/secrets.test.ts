/** Nothing that is kept in git opens anything, and what is deployed has no hole that is known to be grave. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { graveIn } from './support/audit.ts';

const ROOT = join(import.meta.dirname, '..');

/** What keys look like; the last one is whatever is given to a name that says secret. */
const KINDS: [kind: string, looks: RegExp][] = [
  ['a private key', /-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----/g],
  ["a key of Africa's Talking", /\batsk_[0-9a-z]{32,}/gi],
  ['an account of Twilio', /\bAC[0-9a-f]{32}\b/g],
  ['a key of Twilio', /\bSK[0-9a-f]{32}\b/g],
  ['a token of GitHub', /\b(?:gh[opsur]_[0-9A-Za-z]{36}|github_pat_[0-9A-Za-z_]{40,})/g],
  ['credentials of npm', /\b_(?:auth|authToken|password)\s*=/g],
  ['a token of npm', /\bnpm_[0-9A-Za-z]{36}\b/g],
  ['a key of AWS', /\b(?:AKIA|ASIA)[0-9A-Z]{16}\b/g],
  ['a token of Slack', /\bxox[abprs]-[0-9A-Za-z-]{10,}/g],
  ['a JSON web token', /\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}/g],
  ['a password in a URL', /\b[a-z][a-z+]*:\/\/[^\s:/@'"`$<{]+:[^\s:/@'"`$<{]{3,}@[^\s'"`]+/g],
  [
    'a secret in a setting',
    /\b[A-Z_]*(?:TOKEN|SECRET|API_KEY|ENCRYPTION_KEY|DIGEST_KEY|PASSWORD)['"]?\s*[:=]\s*['"]?[\w+/=:-]{20,}/g,
  ],
];

/**
 * Made up, and open to everybody: the keys of the tests, and what the manuals say where yours is to stand.
 */
const ALLOWED = [
  '0123456789abcdef',
  'fedcba9876543210',
  'abcdef0123456789',
  'a-long-random-string',
  'postgres://user:password@',
  'postgres://ussd:ussd@',
  '://user:hush@',
  '://ussd:hush@',
  '://app:hush@',
  '://o:hush@',
  '://a:hush@',
  '://ussd:abc123@',
  '://user:p%23ss@',
  '://user:p#ss@',
  '://app:p%40ss@',
  '://u:a b%2Fc@',
  '://u:a%20b%2Fc@',
  'se#cret@',
  'se%23cret@',
];

/** Letters of both sizes and digits that change as those of hex and base64 do: no words, and nothing counted up. */
function isRandom(text: string): boolean {
  const kinds = [...text].map((sign) =>
    /[0-9]/.test(sign) ? 0 : /[a-z]/.test(sign) ? 1 : /[A-Z]/.test(sign) ? 2 : 3,
  );
  const changes = kinds.filter(
    (kind, at) => at > 0 && kind < 3 && (kinds[at - 1] ?? 3) < 3 && kind !== kinds[at - 1],
  );
  return changes.length > kinds.length / 5;
}

/** Lines that look like they hold a secret, by their kind and never with their words. */
function secretsIn(text: string): string[] {
  return KINDS.flatMap(([kind, looks]) =>
    [...text.matchAll(looks)]
      .filter(([found]) => !ALLOWED.some((allowed) => found.includes(allowed)))
      .filter(
        ([found]) => kind !== 'a secret in a setting' || isRandom(found.replace(/^[A-Z_]+['"]?\s*[:=]/, '')),
      )
      .map(({ index }) => `${text.slice(0, index).split('\n').length}: ${kind}`),
  );
}

t.test('the scan finds what it is for', async (t) => {
  const hex = (bytes: number) =>
    createHash('sha256')
      .update('nobody')
      .digest('hex')
      .slice(0, bytes * 2);
  for (const [kind, line] of [
    ['a private key', ['-----BEGIN', 'RSA PRIVATE KEY-----'].join(' ')],
    ["a key of Africa's Talking", `key: atsk${'_'}${hex(32)}`],
    ['an account of Twilio', `AC${hex(16)}`],
    ['a token of GitHub', `ghp${'_'}${hex(18)}`],
    ['a key of AWS', `AKIA${'Q'.repeat(16)}`],
    ['a password in a URL', `postgres://me:${hex(8)}@db.example/ussd`],
    ['a secret in a setting', `TWILIO_AUTH_TOKEN=${hex(16)}`],
    ['a secret in a setting', `PIN_ENCRYPTION_KEY: 'k1:${hex(16)}'`],
  ] as const)
    t.match(secretsIn(`\n${line}\n`), [`2: ${kind}`], kind);
  t.same(
    secretsIn('PIN_ENCRYPTION_KEY=k1:0123456789abcdef0123456789abcdef'),
    [],
    'and lets the keys of tests be',
  );
});

t.test('no file in git holds a secret', async (t) => {
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  const files = listed.split('\0').filter((file) => file !== '' && file !== 'package-lock.json');
  t.ok(files.length > 150, `${files.length} files`);
  const found: string[] = [];
  for (const file of files) {
    const text = textOf(join(ROOT, file));
    for (const where of secretsIn(text)) found.push(`${file}:${where}`);
    if (/(^|\/)(\.env|.*\.pem|.*\.p12|id_[a-z0-9]+)$/.test(file)) found.push(`${file}: by its name`);
  }
  t.same(found, []);
});

/** A file that was removed and is still in the index has no text. */
function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

t.test('the audit: what fails it and what does not', async (t) => {
  const report = (severity: string) =>
    JSON.stringify({
      auditReportVersion: 2,
      vulnerabilities: { left: { name: 'left', severity, range: '<2.0.0' } },
      metadata: { vulnerabilities: { low: 1, high: 0, critical: 0, [severity]: 1 } },
    });
  t.same(graveIn(report('high')), ['high: left <2.0.0']);
  t.same(graveIn(report('critical')), ['critical: left <2.0.0']);
  t.same(graveIn(report('moderate')), []);
  const refused = { message: '405 Method Not Allowed', statusCode: 405, error: { summary: '', detail: '' } };
  for (const said of [JSON.stringify(refused), '', 'npm error'])
    t.equal(graveIn(said), undefined, 'where nobody could be asked');
});
