/** In production a database on another machine is not spoken to without a word on TLS. */
import t from 'tap';
import { type ConfigError, readConfig } from '../src/config.ts';

const PRODUCTION = { NODE_ENV: 'production', PIN_ENCRYPTION_KEY: 'k1:0123456789abcdef0123456789abcdef' };
const problemsOf = (more: Record<string, string>): string[] => {
  try {
    readConfig({ SERVICE_CODES: '*1234#=ixo', ...PRODUCTION, ...more }, ['ixo']);
    return [];
  } catch (error) {
    return (error as ConfigError).problems;
  }
};

t.test('refused, with what to write', async (t) => {
  for (const url of [
    'postgres://ussd:hush@db.example/ussd',
    'postgres://ussd:hush@10.0.0.7:5432/ussd',
    'postgresql://ussd:hush@postgres/ussd?application_name=x',
    'postgres://ussd:hush@db.example/ussd?sslmode=',
    'postgres://ussd:hush@localhost/ussd?host=db.example',
    'postgres://ussd:hush@127.0.0.1.example/ussd',
    'postgres://ussd:hush@localhost.example/ussd',
    'postgres://ussd:hush@[2001:db8::1]/ussd',
  ]) {
    const [problem = '', ...more] = problemsOf({ DATABASE_URL: url });
    t.match(
      problem,
      /^DATABASE_URL: leads to another machine .* sslmode=verify-full .* sslmode=disable/,
      url,
    );
    t.notMatch(problem, 'hush', 'the password is not said');
    t.same(more, []);
  }
  const admin = {
    DATABASE_URL: 'postgres://127.0.0.1/ussd',
    DATABASE_ADMIN_URL: 'postgres://o:hush@db.example/ussd',
  };
  t.match(problemsOf(admin), [/^DATABASE_ADMIN_URL: leads to another machine/]);
  t.match(problemsOf({ DATABASE_URL: 'postgres:///ussd', PGHOST: 'db.example' }), [/^DATABASE_URL: leads/]);
});

t.test('what was chosen, and what does not leave the machine', async (t) => {
  for (const url of [
    'postgres://ussd:hush@db.example/ussd?sslmode=verify-full',
    'postgres://ussd:hush@db.example/ussd?sslmode=disable',
    'postgres://ussd:hush@db.example/ussd?sslrootcert=/etc/ca.pem',
    'postgres://ussd:hush@db.example/ussd?ssl=true',
    'postgres://ussd:hush@db.example/ussd?sslnegotiation=direct',
    'postgres://ussd:hush@localhost:5432/ussd',
    'postgres://ussd:hush@127.0.0.1/ussd',
    'postgres://ussd:hush@127.8.0.1/ussd',
    'postgres://ussd:hush@[::1]:5432/ussd',
    'postgres://ussd:hush@%2Fvar%2Frun%2Fpostgresql/ussd',
    'postgres:///ussd?host=/var/run/postgresql',
  ])
    t.same(problemsOf({ DATABASE_URL: url }), [], url);
  t.same(problemsOf({ DATABASE_URL: 'postgres://db.example/ussd', PGSSLMODE: 'verify-full' }), []);
  t.same(problemsOf({ DATABASE_URL: 'postgres://db.example/ussd', NODE_ENV: 'development' }), []);
  t.same(
    problemsOf({ DATABASE_URL: 'postgres://127.0.0.1/u', DATABASE_ADMIN_URL: 'postgres://127.0.0.1/u' }),
    [],
  );
});
