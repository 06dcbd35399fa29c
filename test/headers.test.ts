/** What answers say of themselves, and how much of a body is read (docs/security.md). */
import t from 'tap';
import { DEFAULTS, send, startGateway } from './support/gateway.ts';

const TOKEN = 'test-token-of-an-operator';
const JSON_TYPE = { 'content-type': 'application/json' };
/** A body may have so many bytes. */
const MOST = 8 * 1024;

t.test('headers and bodies', async (t) => {
  const gateway = await startGateway(t, { OPERATOR_TOKEN: TOKEN });
  const authorization = `Bearer ${TOKEN}`;

  await t.test(
    'a browser takes what operators are shown for nothing else, and shows it nowhere else',
    async (t) => {
      for (const path of ['/', '/health', '/metrics', '/api/ussd/sessions', '/api/effects']) {
        const { status, headers } = await fetch(gateway.url + path, { headers: { authorization } });
        t.equal(status, 200, path);
        t.match(Object.fromEntries(headers), {
          'x-content-type-options': 'nosniff',
          'x-frame-options': 'SAMEORIGIN',
          'content-security-policy': /default-src 'self'/,
          'strict-transport-security': /max-age=\d+/,
          'referrer-policy': 'no-referrer',
        });
      }
    },
  );

  await t.test('no answer says what it was made by, or lets another site read it', async (t) => {
    for (const [method, path] of [
      ['GET', '/'],
      ['GET', '/metrics'],
      ['GET', '/nowhere'],
      ['POST', '/api/ussd'],
      ['OPTIONS', '/api/effects'],
    ] as const) {
      const { headers } = await fetch(gateway.url + path, {
        method,
        headers: { origin: 'https://elsewhere.example' },
      });
      t.match(headers.get('x-request-id'), /^[0-9a-f-]{36}$/, `${method} ${path}`);
      for (const name of ['server', 'x-powered-by', 'access-control-allow-origin', 'set-cookie'])
        t.equal(headers.get(name), null, name);
    }
  });

  await t.test('more than 8 KiB is not read', async (t) => {
    const body = (length: number) => {
      const fields = JSON.stringify({ ...DEFAULTS, more: '' });
      return fields.replace('"more":""', `"more":"${'x'.repeat(length - fields.length)}"`);
    };
    const whole = await send(`${gateway.url}/api/ussd`, body(MOST), JSON_TYPE);
    t.match(whole, { status: 200, outcome: 'ok' }, 'to the byte');
    const over = await send(`${gateway.url}/api/ussd`, body(MOST + 1), JSON_TYPE);
    t.match(over, { status: 200, outcome: 'invalid' }, 'a byte more, from a telecom gateway');
    for (const [path, refusal] of [
      ['/sms/invoke-bulk-sms', 400],
      ['/api/wallet/credits', 413],
    ] as const) {
      const { status } = await send(gateway.url + path, body(MOST + 1), { ...JSON_TYPE, authorization });
      t.equal(status, refusal, `${path} by an operator`);
      const stranger = await send(gateway.url + path, body(MOST + 1), JSON_TYPE);
      t.equal(stranger.status, 401, `${path} by nobody: not even looked at`);
    }
  });
});
