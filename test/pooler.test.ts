/** Behind a pooler in transaction mode nothing is expected of a connection (docs/postgres.md). */
import pg from 'pg';
import t from 'tap';
import { type Gateway, post, startGateway } from './support/gateway.ts';
import { startPooler } from './support/pooler.ts';
import { database } from './support/postgres.ts';

t.test('what a pooler does not do', async (t) => {
  const { url } = await database(t);
  const through = await startPooler(t, url);
  const limited = new pg.Client({ connectionString: through, statement_timeout: 3_000 });
  await t.rejects(limited.connect(), { message: /unsupported startup parameter/ });

  const client = new pg.Client({ connectionString: through });
  await client.connect();
  const prepared = { name: 'one', text: 'select $1::int as one', values: [1] };
  await client.query(prepared);
  await t.rejects(
    client.query(prepared),
    { code: '26000' },
    'a statement is prepared on one connection only',
  );
  t.match(await client.query('select $1::int as one', [1]), { rows: [{ one: 1 }] });
  await client.end();
});

t.test('two instances behind a pooler', async (t) => {
  const { url } = await database(t, { empty: true });
  const settings = { DATABASE_URL: await startPooler(t, url, 6), DATABASE_POOLER: 'transaction' };
  // Both find an empty database, and each waits for the other.
  const gateways: Gateway[] = await Promise.all([startGateway(t, settings), startGateway(t, settings)]);
  const at = (i: number) => (gateways[i % 2] as Gateway).url;
  const walk = async (sessionId: string, s: number) => {
    const outcomes: string[] = [];
    for (const [i, text] of ['', '1', '1*2', '1*2*0', '1*2*0*3'].entries()) {
      const copies = [post(at(s), { sessionId, text }), post(at(s + i), { sessionId, text })];
      const replies = await Promise.all(copies);
      const said = new Set(replies.map(({ body }) => body));
      outcomes.push(
        said.size === 1
          ? replies
              .map(({ outcome }) => outcome)
              .sort()
              .join()
          : [...said].join(),
      );
    }
    return outcomes;
  };
  const walks = await Promise.all(Array.from({ length: 20 }, (_, s) => walk(`pooled-${s}`, s)));
  t.same([...new Set(walks.flat())], ['ok,replay'], 'every turn once, and its copy a replay');
  const create = ['', '2', '2*2', '2*2*Ann', '2*2*Ann*00', '2*2*Ann*00*73952', '2*2*Ann*00*73952*73952'];
  let last = '';
  for (const [i, text] of create.entries()) last = (await post(at(i), { sessionId: 'account', text })).body;
  t.match(last, /^END .*C[A-Z0-9]{8}/s, 'an account, in a transaction of its own');
  for (const gateway of gateways) await gateway.stop();
});
