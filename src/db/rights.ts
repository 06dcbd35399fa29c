import { type Kysely, sql } from 'kysely';

/**
 * What a superuser has to run so that the role of this connection may make, keep and drop what a database of ours
 * consists of; empty where it may. To be asked before anything is made: what fails inside of a transaction ends it, and
 * all that is said after that is 25P02. Names are quoted where they have to be.
 *
 * The right to create is wanted for good, because a partition is made every week; the database's only until the queue's
 * schema and the extension are there. The extension has to be on the search_path only while its index is made. What is
 * there already belongs to somebody, and only who that is, or who is granted to be, attaches partitions to it.
 */
export async function missingRights(db: Kysely<unknown>): Promise<string[]> {
  const { rows } = await sql<{
    name: string;
    role: string;
    schema: string | null;
    creates: boolean;
    begun: boolean;
    owners: string[];
    elsewhere: string | null;
  }>`
    select quote_ident(current_database()) as name, quote_ident(current_user) as role,
      quote_ident(current_schema()) as schema,
      coalesce(has_schema_privilege(current_schema(), 'create'), false) as creates,
      has_database_privilege(current_database(), 'create') or (
        exists (select from pg_namespace where nspname = 'pgboss') and
        exists (select from pg_extension where extname = 'pg_trgm')) as begun,
      array(select distinct quote_ident(pg_get_userbyid(owner)) from (
        select relowner as owner from pg_class where oid = to_regclass('turns')
        union all select nspowner from pg_namespace where nspname = 'pgboss') as ours
        where not pg_has_role(owner, 'usage')) as owners,
      (select quote_ident(nspname) from pg_extension join pg_namespace on pg_namespace.oid = extnamespace
        where extname = 'pg_trgm' and nspname <> all (current_schemas(true))
          and to_regclass('instruments_searched') is null) as elsewhere`.execute(db);
  const [row] = rows;
  if (row === undefined) return [];
  const { name, role, schema, creates, begun, owners, elsewhere } = row;
  // Its search_path leads to no schema, or to none that it may use.
  if (schema === null)
    return [
      `grant usage, create on schema public to ${role}`,
      `alter role ${role} in database ${name} set search_path = public`,
    ];
  // A member of the owner's role may do what the owner may.
  if (owners.length > 0) return owners.map((owner) => `grant ${owner} to ${role}`);
  return [
    ...(begun ? [] : [`grant create on database ${name} to ${role}`]),
    ...(creates ? [] : [`grant create on schema ${schema} to ${role}`]),
    ...(elsewhere === null
      ? []
      : [`alter role ${role} in database ${name} set search_path = ${schema}, ${elsewhere}`]),
  ];
}

/**
 * What the owner of the tables has to run so that the role of this connection may read and write all of them; empty
 * where it may, undefined where there are no tables yet. Such a role serves, and makes or drops nothing: migrations
 * and weeks of turns are the owner's then (docs/postgres.md).
 */
export async function missingGrants(db: Kysely<unknown>): Promise<string[] | undefined> {
  const { rows } = await sql<{ role: string; schema: string; missing: boolean }>`
    select quote_ident(current_user) as role, quote_ident(n.nspname) as schema,
      not has_schema_privilege(n.oid, 'usage') or exists (
        select from pg_class c where c.relnamespace = n.oid and c.relkind in ('r', 'p') and not c.relispartition
          and c.relowner = (select relowner from pg_class where oid = to_regclass('turns'))
          and not (has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert')
            and has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete'))) as missing
    from pg_namespace n
    where n.nspname = 'pgboss' or n.oid = (select relnamespace from pg_class where oid = to_regclass('turns'))
    order by n.nspname = 'pgboss'`.execute(db);
  if (rows.length < 2) return undefined;
  return rows
    .filter(({ missing }) => missing)
    .flatMap(({ role, schema }) => [
      `grant usage on schema ${schema} to ${role}`,
      `grant select, insert, update, delete on all tables in schema ${schema} to ${role}`,
    ]);
}
