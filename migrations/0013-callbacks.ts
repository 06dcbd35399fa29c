import { type Kysely, sql } from 'kysely';

/**
 * What callbacks say of more than was documented: the end of a session with any status, and an opt-out that names no
 * sender, which has an empty one and stops bulk messages like any other.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table ussd_notices drop constraint ussd_notices_status_check`.execute(db);
  await sql`
    alter table ussd_notices add constraint ussd_notices_status_check
    check (char_length(status) between 1 and 40)`.execute(db);
  await sql`
    comment on column sms_opt_outs.sender is 'sender id or short code; empty where none was named'`.execute(
    db,
  );
}
