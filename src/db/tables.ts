import type { ColumnType, Generated } from 'kysely';
import type { Notice } from '../flow/notice.ts';

/** Where a message is; it only ever moves on. */
export type MessageState =
  | 'promised'
  | 'queued'
  | 'sent'
  | 'submitted'
  | 'buffered'
  | 'delivered'
  | 'failed'
  | 'rejected'
  | 'expired';

/** What a provider reports of a message. */
export type ReportStatus =
  | 'Sent'
  | 'Submitted'
  | 'Buffered'
  | 'Rejected'
  | 'Success'
  | 'Failed'
  | 'AbsentSubscriber'
  | 'Expired';

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
  accounts: {
    id: Generated<string>;
    customer: Uint8Array;
    customer_id: Uint8Array;
    name: Uint8Array;
    email: Uint8Array | null;
    pin: Uint8Array;
    pin_must_change: Generated<boolean>;
    pin_version: Generated<number>;
    created_at: Generated<Date>;
  };
  account_phones: { account_id: string; phone: Uint8Array; msisdn: Uint8Array; bound_at: Generated<Date> };
  link_codes: {
    code: Uint8Array;
    account_id: string;
    phone: Uint8Array;
    expires_at: Date;
    used_at: Date | null;
  };
  pin_attempts: { turn: Uint8Array; locked: boolean; at: Generated<Date> };
  pin_counters: {
    key: Uint8Array;
    tries: Generated<number>;
    locked_until: Date | null;
    nobody: boolean;
    at: Generated<Date>;
  };
  effects: {
    session_key: Uint8Array;
    day: string;
    dial: number;
    shown: Uint8Array;
    ordinal: number;
    kind: string;
    address: Uint8Array;
    at: Generated<Date>;
  };
  api_keys: {
    id: Generated<number>;
    name: string;
    digest: Uint8Array;
    may_assert_phone: boolean;
    created_at: Generated<Date>;
    revoked_at: Date | null;
  };
  subscribers: { phone: Uint8Array; language: string; updated_at: Generated<Date> };
  messages: {
    id: string;
    phone: Uint8Array;
    msisdn: Uint8Array;
    call_id: string;
    cause: 'subscriber' | 'support' | 'operator';
    state: Generated<MessageState>;
    provider: string | null;
    provider_id: string | null;
    created_at: Generated<Date>;
    sent_at: Date | null;
    code: Generated<string | null>;
    status_code: Generated<number | null>;
    cost: Generated<string | null>;
    currency: Generated<string | null>;
    network: Generated<number | null>;
    ended_at: Generated<Date | null>;
  };
  sms_days: { day: string; count: number };
  sms_calls: {
    id: string;
    key: string;
    body: Uint8Array | null;
    kind: 'single' | 'bulk' | 'twoWay';
    sender: string | null;
    keyword: string | null;
    link_id: string | null;
    segments: number;
    request_id: string | null;
    created_at: Generated<Date>;
  };
  sms_requests: { key: Uint8Array; id: string; asked: Uint8Array; at: Generated<Date> };
  sms_reports: {
    provider_id: string;
    phone: Uint8Array;
    status: ReportStatus;
    reason: string | null;
    network: number | null;
    at: Generated<Date>;
  };
  sms_opt_outs: {
    phone: Uint8Array;
    sender: string;
    since: Generated<Date>;
    said_at: Date | null;
    ended_at: Generated<Date | null>;
  };
  sms_incoming: {
    id: Uint8Array;
    phone: Uint8Array;
    sealed: Uint8Array;
    short_code: string;
    link_id: string | null;
    word: 'stop' | 'start' | null;
    answer: string;
    sent_at: Date | null;
    at: Generated<Date>;
  };
  sms_subscriptions: {
    id: Generated<string>;
    phone: Uint8Array;
    msisdn: Uint8Array;
    short_code: string;
    keyword: string;
    active: boolean;
    at: Generated<Date>;
  };
  sms_counts: { day: string; part: number; count: number };
  outbox: {
    id: string;
    kind: string;
    state: Generated<'queued' | 'done' | 'refused' | 'dead'>;
    attempts: Generated<number>;
    error: Generated<string | null>;
    queued_at: Generated<Date>;
    tried_at: Generated<Date | null>;
    ended_at: Generated<Date | null>;
  };
  // Whole numbers of 64 bits are asked for as text: drivers disagree on what else they are.
  ledger_accounts: {
    id: Generated<string>;
    book: 'real' | 'sandbox' | 'demo';
    kind: string;
    owner: Uint8Array;
    currency: string;
    balance: string | null;
    created_at: Generated<Date>;
  };
  ledger_entries: { id: string; kind: string; at: Generated<Date> };
  ledger_postings: { entry_id: string; account_id: string; amount: string };
  holds: {
    id: string;
    account_id: string;
    amount: string;
    state: Generated<'open' | 'settled' | 'released'>;
    opened_at: Generated<Date>;
    closed_at: Generated<Date | null>;
  };
  wallet_credits: {
    key: Uint8Array;
    id: string;
    asked: Uint8Array;
    reason: Uint8Array;
    operator: string;
    balance: string;
    at: Generated<Date>;
  };
  airtime_orders: {
    id: string;
    ref: string;
    buyer: Uint8Array;
    recipient: Uint8Array;
    sealed: Uint8Array;
    currency: string;
    amount: string;
    hold_id: string;
    message_id: string | null;
    state: Generated<'queued' | 'sent' | 'confirmed' | 'failed' | 'refunded'>;
    asked_at: Generated<Date | null>;
    provider: string | null;
    provider_id: string | null;
    ordered_at: Generated<Date>;
    ended_at: Date | null;
    asked_times: Generated<number>;
    denied_times: Generated<number>;
    attributed: Generated<boolean>;
    displaced_id: Generated<string | null>;
    told: Generated<'sent' | 'failed' | null>;
    told_before: Generated<'sent' | 'failed' | null>;
  };
  airtime_reports: {
    provider_id: string;
    recipient: Uint8Array;
    status: 'Success' | 'Failed';
    authenticated: boolean;
    currency: string | null;
    amount: string | null;
    at: Generated<Date>;
  };
  airtime_strays: { provider_id: string; currency: string | null; amount: string | null; at: Date };
  airtime_simulated: { provider_id: string; currency: string; amount: string; at: Generated<Date> };
  airtime_reconciliations: {
    id: Generated<string>;
    ran_at: Generated<Date>;
    provider: string;
    source: 'list' | 'reports' | 'statement';
    orders_from: Date;
    orders_until: Date;
    orders: number;
    sales: number;
    orders_without_sale: number;
    sales_without_order: number;
  };
  instruments: {
    id: string;
    symbol: string;
    name: string;
    detail: string;
    currency: Generated<string>;
    price_minor: string;
    searched: string;
    updated_at: Generated<Date>;
  };
  stock_orders: {
    id: string;
    ref: string;
    owner: Uint8Array;
    sealed: Uint8Array;
    instrument: string;
    side: 'buy' | 'sell';
    units: string;
    price_minor: string;
    amount_minor: string;
    hold_id: string;
    message_id: string | null;
    state: Generated<'queued' | 'filled' | 'rejected'>;
    provider: string | null;
    code: string | null;
    ordered_at: Generated<Date>;
    ended_at: Date | null;
  };
  tasks: {
    id: string;
    reference: string;
    phone: Uint8Array;
    matter: Uint8Array;
    sealed: Uint8Array;
    source: 'ussd' | 'telerivet';
    priority: number;
    state: Generated<'open' | 'assigned' | 'closed'>;
    requests: Generated<number>;
    opened_at: Generated<Date>;
    asked_at: Generated<Date>;
    changed_at: Generated<Date>;
    assignee: string | null;
    closed_at: Date | null;
    router: string | null;
    router_id: string | null;
    tried_at: Date | null;
    leased_until: Date | null;
    version: Generated<number>;
    told: Generated<number>;
    former_ids: Generated<string[]>;
    heard_at: Date | null;
  };
  task_events: {
    id: string;
    task_id: string;
    at: Generated<Date>;
    kind: 'opened' | 'repeated' | 'handed' | 'assigned' | 'released' | 'closed' | 'reopened' | 'queued';
    version: number;
    by: string;
    sealed: Uint8Array | null;
  };
  lookups: {
    id: string;
    at: Generated<Date>;
    operator: string;
    phone: Uint8Array;
    sealed: Uint8Array;
  };
  service_switches: {
    service: string;
    off_at: Date;
  };
  housekeeping: { step: string; succeeded_at: Date; failed_at: Date | null; code: string | null };
  ussd_notices: {
    id: Generated<string>;
    gateway: string;
    session_key: Uint8Array;
    phone: Uint8Array;
    ended_at: ColumnType<Date, string, never>;
    received_at: Generated<Date>;
    day: string | null;
    dial: number | null;
    closed: boolean;
    service_code: string | null;
    network: number | null;
    status: Notice['status'];
    cost: string | null;
    currency: string | null;
    duration_ms: number | null;
    hops: number | null;
    error: Uint8Array | null;
  };
};
