/** One safeguard taken away, and the test that must notice. */
export type Mutation = {
  safeguard: string;
  file: string;
  /** Stands in the file exactly once. */
  from: string;
  to: string;
  /** The one file of tests that is run. */
  test: string;
};

/** What holds the promises of the contract up: each of these lines may not go unnoticed. */
export const MUTATIONS: readonly Mutation[] = [
  {
    safeguard: 'the unique key: a turn exists once',
    file: 'migrations/0001-turns.ts',
    from: '      sealed bytea not null,\n      primary key (session_key, day, dial, address)\n    ) partition by range (day)',
    to: '      sealed bytea not null\n    ) partition by range (day)',
    test: 'test/two-processes.test.ts',
  },
  {
    safeguard: 'a lost race is seen: whose row is there already, it is read',
    file: 'src/store/turns-sql.ts',
    from: "INSERT('on conflict (session_key, day, dial, address) do nothing')",
    to: "INSERT('on conflict (session_key, day, dial, address) do update set sealed = excluded.sealed')",
    test: 'test/two-processes.test.ts',
  },
  {
    safeguard: 'the hold: money under way is spent once',
    file: 'src/store/ledger.ts',
    from: 'if (rows[0]?.enough !== true) throw new GuardFailed();',
    to: '',
    test: 'test/ledger.test.ts',
  },
  {
    safeguard: 'a hold is closed once',
    file: 'src/store/ledger.ts',
    from: "      .where('state', '=', 'open')\n",
    to: '',
    test: 'test/ledger.test.ts',
  },
  {
    safeguard: 'the drain: what is under way is answered before the exit',
    file: 'src/leaving.ts',
    from: '  await app.close();\n',
    to: '  app.server.closeAllConnections();\n',
    test: 'test/drain.test.ts',
  },
  {
    safeguard: 'the lock-out counter: a try counts before the PIN is checked',
    file: 'src/store/attempts.ts',
    from: 'tries: sql<number>`tries + 1`',
    to: 'tries: sql<number>`tries`',
    test: 'test/pins.test.ts',
  },
  {
    safeguard: 'the lock-out counter: a locked key lets nobody through',
    file: 'src/store/attempts.ts',
    from: 'if (held.some(({ locked }) => locked)) {',
    to: 'if (held.length < 0) {',
    test: 'test/pins.test.ts',
  },
  {
    safeguard: "the queue's transaction: no job of a turn that is not there",
    file: 'src/queue.ts',
    from: 'await boss.send(kind, { id }, { db: fromKysely(tx) });',
    to: 'await boss.send(kind, { id });\n    void tx;',
    test: 'test/queue.test.ts',
  },
  {
    safeguard: 'the key check: another key under a known id is refused',
    file: 'src/store/keyring.ts',
    from: 'if (row !== undefined && !timingSafeEqual(bytes(row.check_value), proof(key))) {',
    to: 'if (row === undefined) {',
    test: 'test/seal/keyring.test.ts',
  },
  {
    safeguard: 'a recalled turn: an ended dial is not gone on with',
    file: 'src/store/turns-sql.ts',
    from: '(r.parent is null or ',
    to: '(true or ',
    test: 'test/recall.test.ts',
  },
  {
    safeguard: "migrations lock for a transaction: a pooler hands a session's lock to somebody else",
    file: 'src/db/migrate.ts',
    from: 'select pg_advisory_xact_lock(',
    to: 'select pg_advisory_lock(',
    test: 'test/pooler.test.ts',
  },
];
