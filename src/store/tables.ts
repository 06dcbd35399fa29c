import type { Generated } from 'kysely';

/** The tables as Kysely types; what they mean stands in the migrations. */
export type Tables = {
  menus: {
    id: Generated<number>;
    hash: string;
    service: string;
    document: unknown;
    stored_at: Generated<Date>;
  };
  digest_key: { single: Generated<boolean>; source: 'made' | 'given'; wrapped: Uint8Array };
  key_checks: { kid: string; check_value: Uint8Array };
};
