import { randomBytes } from 'node:crypto';
import pg from 'pg';
import type { Test } from 'tap';
import { post, type Reply } from './gateway.ts';

/** A handset behind a gateway that sends all that was typed so far. */
export type Phone = {
  number: string;
  /** The session that is open, and all that was typed in it: for who wants to repeat or to race it. */
  session: { sessionId: string; phoneNumber: string; text: string };
  /** A new session; returns the first screen. */
  dial(serviceCode?: string): Promise<string>;
  /** Types each of these; returns the last screen. */
  type(...inputs: string[]): Promise<string>;
};

let phones = 0;

/** A phone of its own for every call; `url` is asked each time, so that a gateway may be started again. */
export function phoneOn(url: string | (() => string), number = freshNumber()): Phone {
  let code = '*1234#';
  const phone: Phone = {
    number,
    session: { sessionId: '', phoneNumber: number, text: '' },
    dial: async (serviceCode = '*1234#') => {
      code = serviceCode;
      phone.session = { sessionId: randomBytes(8).toString('hex'), phoneNumber: number, text: '' };
      return (await ask()).body;
    },
    type: async (...inputs) => {
      let body = '';
      for (const input of inputs) {
        const { text } = phone.session;
        phone.session.text = text === '' ? input : `${text}*${input}`;
        body = (await ask()).body;
      }
      return body;
    },
  };
  const ask = (): Promise<Reply> =>
    post(typeof url === 'string' ? url : url(), { ...phone.session, serviceCode: code });
  return phone;
}

/** A number that no other phone of this process has; its tail is no PIN of any test. */
export function freshNumber(): string {
  phones += 1;
  return `+26097${String(phones).padStart(2, '0')}00606`;
}

export const PIN = '48213';

/** Opens an account, from the first screen to the END; returns its Customer ID. */
export async function openAccount(
  phone: Phone,
  { name = 'Ann Phiri', email = '00', pin = PIN } = {},
): Promise<string> {
  await phone.dial();
  const end = await phone.type('2', '2', name, email, pin, pin);
  return customerIdIn(end);
}

/** The Customer ID on a screen. Throws where there is none. */
export function customerIdIn(screen: string): string {
  const id = /ID: (C[A-HJ-NP-Z2-9]{8})$/m.exec(screen)?.[1];
  if (id === undefined) throw new Error(`no Customer ID on: ${screen}`);
  return id;
}

/** Dials and logs in; returns the screen behind the PIN. */
export async function logIn(phone: Phone, id: string, pin = PIN): Promise<string> {
  await phone.dial();
  return phone.type('2', '1', id, pin);
}

export type Query = <T extends pg.QueryResultRow = pg.QueryResultRow>(
  sql: string,
  values?: unknown[],
) => Promise<T[]>;

/** A connection of the test's own, closed with it. */
export async function queryOn(t: Test, url: string): Promise<Query> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => {});
  await client.connect();
  t.teardown(() => client.end());
  return async (sql, values) => (await client.query(sql, values)).rows;
}

/** Waits for what happens soon by itself, such as a job of the queue. */
export async function eventually(
  what: string,
  happened: () => Promise<boolean>,
  milliseconds = 120_000,
): Promise<void> {
  const end = performance.now() + milliseconds;
  while (!(await happened())) {
    if (performance.now() > end) throw new Error(`waited ${milliseconds} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
