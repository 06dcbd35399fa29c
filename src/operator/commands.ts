import { readFileSync } from 'node:fs';
import type { Db } from '../db/db.ts';
import type { Enqueue } from '../effects/delivery.ts';
import type { Box } from '../seal/box.ts';
import type { Digests } from '../seal/digests.ts';
import type { KeyRing } from '../seal/keys.ts';
import { hashPin, oneTimePin } from '../seal/pin.ts';
import type { Accounts } from '../store/accounts.ts';
import type { Airtime } from '../store/airtime.ts';
import type { ApiKeys, ListedKey } from '../store/api-keys.ts';
import type { Attempts } from '../store/attempts.ts';
import { CatalogueError, readCatalogue } from '../store/catalogue.ts';
import { type Erased, EraseRefused, erase } from '../store/erase.ts';
import type { IncomingMessages } from '../store/incoming.ts';
import { type Listing, loadInstruments } from '../store/instruments.ts';
import { rewrapDigestKey } from '../store/keyring.ts';
import { resealCredits } from '../store/ledger.ts';
import type { Lookups } from '../store/lookups.ts';
import type { Messages } from '../store/messages.ts';
import type { Notices } from '../store/notices.ts';
import type { Orders } from '../store/orders.ts';
import type { Subscriptions } from '../store/subscriptions.ts';
import { switchedOff, switchOff, switchOn } from '../store/switches.ts';
import type { Tasks } from '../store/tasks.ts';
import { reconcileCommand, type SaleList, WordsRefused } from './reconcile.ts';

/** A command that cannot be carried out; what is said is for a person. */
export class CommandRefused extends Error {
  readonly code = 'command_refused';
}

export type CommandParts = {
  db: Db;
  ring: KeyRing;
  accounts: Accounts;
  attempts: Attempts;
  messages: Messages;
  incoming: IncomingMessages;
  subscriptions: Subscriptions;
  notices: Notices;
  digests: Digests;
  airtime: Airtime;
  orders: Orders;
  tasks: Tasks;
  columns: Box;
  apiKeys: ApiKeys;
  lookups: Lookups;
  /** The services that can be dialled. */
  services: string[];
  /** The daily housekeeping, at once: what it removed, by kind. */
  house(): Promise<{
    removed: Record<string, number>;
    unclosed: number;
    failures?: { step: string; code: string }[];
  }>;
  enqueue: Enqueue;
  /** What the provider of airtime says it sold; not there where no airtime is sold. */
  sales?: SaleList;
  /** Says something to the operator at once, before the command has ended. */
  say(words: string): void;
  /** Waits inside of `erase`; in milliseconds. Default: by the clock. */
  pause?(milliseconds: number): Promise<unknown>;
};

/** Runs and returns what to tell the operator. Every command is safe to run twice. */
export type Command = (parts: CommandParts, words: string[]) => Promise<string>;

/** A pass finds what was written under an older key while the one before it ran. */
const MOST_PASSES = 10;

/** Seals everything but turns again under the active key, beside the running service (decision 26). */
const rotate: Command = async (parts, words) => {
  if (words.length > 0) throw new CommandRefused('say `pins:rotate` alone');
  const { db, ring, accounts, messages, incoming, subscriptions, notices } = parts;
  const { airtime, orders, tasks, columns, lookups } = parts;
  let count = (await rewrapDigestKey(db, ring)) ? 1 : 0;
  for (let pass = 1; ; pass += 1) {
    const found =
      (await accounts.reseal(db)) +
      (await messages.reseal(db)) +
      (await incoming.reseal(db)) +
      (await subscriptions.reseal(db)) +
      (await notices.reseal(db)) +
      (await airtime.reseal(db)) +
      (await orders.reseal(db)) +
      (await tasks.reseal(db)) +
      (await lookups.reseal(db)) +
      (await resealCredits(db, columns));
    count += found;
    if (found === 0) break;
    if (pass === MOST_PASSES) throw new CommandRefused('records are still being written under an older key');
  }
  return `${count} records are sealed under ${ring.active} now. Turns keep their key until they are dropped.`;
};

/** A PIN for one use, by SMS to the first phone of the account, to be changed at once (decision 17). */
const reset: Command = async ({ db, accounts, attempts, messages, enqueue }, words) => {
  const { account, msisdn, phones } = await find({ db, accounts }, words);
  const pin = oneTimePin(msisdn);
  const verifier = await hashPin(pin);
  await db.transaction().execute(async (tx) => {
    await accounts.changePin(tx, account, verifier, true);
    await attempts.clear(tx, [account.customer, ...phones]);
    const body = `Your one-time PIN is ${pin}. Dial and log in: you will be asked to choose a new one. Tell nobody.`;
    await enqueue(tx, 'sms', { id: await messages.add(tx, { msisdn, body, cause: 'support' }) });
  });
  return 'A one-time PIN is on its way to the first phone of the account.';
};

/** Clears the counts of an account and of its phones, or of one phone (decision 17). */
const unlock: Command = async ({ db, accounts, attempts, digests }, words) => {
  const [phone = '', ...more] = words;
  if (more.length === 0 && /^\+[1-9]\d{1,14}$/.test(phone)) {
    await attempts.clear(db, [digests.phone(phone)]);
    return 'The phone is unlocked.';
  }
  const { account, phones } = await find({ db, accounts }, words);
  await attempts.clear(db, [account.customer, ...phones]);
  return 'The account and its phones are unlocked.';
};

/** Takes a catalogue over, a CSV file: all of it, or nothing where a line is wrong (docs/invest.md). */
const instruments: Command = async ({ db }, [what, file, ...more]) => {
  if (what !== 'load' || file === undefined || more.length > 0)
    throw new CommandRefused('say `instruments load <file.csv>`');
  const listings = catalogueIn(file);
  const { added, changed } = await loadInstruments(db, listings);
  return `${listings.length} instruments read: ${added} added, ${changed} changed. Prices hold from now on.`;
};

function catalogueIn(file: string): Listing[] {
  try {
    return readCatalogue(readFileSync(file));
  } catch (error) {
    const { syscall, message } = error as NodeJS.ErrnoException;
    if (syscall !== undefined) throw new CommandRefused(message);
    if (!(error instanceof CatalogueError)) throw error;
    throw new CommandRefused([`${file}: nothing of it was loaded`, ...error.problems].join('\n  '));
  }
}

async function find({ db, accounts }: Pick<CommandParts, 'db' | 'accounts'>, words: string[]) {
  const [customerId = '', ...more] = words;
  if (more.length > 0 || !/^[A-Za-z0-9]{9}$/.test(customerId))
    throw new CommandRefused('name the account by its Customer ID, and one at a time');
  const found = await accounts.forSupport(db, customerId.toUpperCase());
  if (found === undefined) throw new CommandRefused('there is no such account');
  return found;
}

const KEYS = 'write: keys create <name> [--may-assert-phone], keys list, or keys revoke <name or number>';

/** The API keys of partners (docs/contract.md section 6): a new one is shown once and never again. */
const keys: Command = async ({ db, apiKeys }, [what, name = '', ...options]) => {
  const isName = /^[a-z][a-z0-9-]{0,29}$/.test(name);
  if (what === 'list' && name === '')
    return (await apiKeys.list(db)).map(listed).join('\n') || 'There is no key.';
  if (what === 'create') {
    const known = options.every((option) => option === '--may-assert-phone');
    if (!known) throw new CommandRefused(KEYS);
    if (!isName) throw new CommandRefused('a name is a small letter and up to 29 small letters, digits or -');
    const key = await apiKeys.create(db, name, options.length > 0);
    const believed = options.length > 0 ? 'Phone numbers that it names are believed.' : '';
    return `${key}\nThis is the key of ${name}. It is kept nowhere: write it down now. ${believed}`.trimEnd();
  }
  if (what === 'revoke' && options.length === 0 && (isName || /^\d{1,9}$/.test(name))) {
    const count = await apiKeys.revoke(db, isName ? name : Number(name));
    if (count === 0) throw new CommandRefused('there is no such key that is not revoked');
    return count === 1 ? 'The key is revoked.' : `${count} keys are revoked.`;
  }
  throw new CommandRefused(KEYS);
};

function listed({ id, name, mayAssertPhone, createdAt, revokedAt }: ListedKey): string {
  const words = [
    `${id}  ${name}`,
    ...(mayAssertPhone ? ['may assert phones'] : []),
    `made ${createdAt.toISOString().slice(0, 10)}`,
    ...(revokedAt === null ? [] : [`revoked ${revokedAt.toISOString().slice(0, 10)}`]),
  ];
  return words.join(', ');
}

/** Removes a person everywhere (decision 34, docs/privacy.md). Their number is never said. */
const erasePerson: Command = async (parts, [option, msisdn = '', ...more]) => {
  if (option !== '--phone' || more.length > 0 || !/^\+[1-9]\d{6,14}$/.test(msisdn))
    throw new CommandRefused('say `erase --phone <number>`, the number as +221770000001');
  try {
    const left = (elsewhere: string[]) =>
      parts.say(`The task router has, or may have: ${elsewhere.join(', ')}. Delete them there.`);
    return erasedInWords(await erase(parts.db, { ...parts, left }, msisdn));
  } catch (error) {
    if (error instanceof EraseRefused) throw new CommandRefused(`nothing was erased: ${error.message}`);
    throw error;
  }
};

function erasedInWords({ removed, cut, stillTyping, unswept }: Erased): string {
  const list = (counts: Record<string, number>) =>
    Object.entries(counts)
      .map(([kind, count]) => `${count} ${kind}`)
      .join(', ');
  const words = [
    list(removed) && `Removed: ${list(removed)}.`,
    list(cut) && `Cut out of what stays: ${list(cut)}.`,
  ].filter(Boolean);
  if (words.length === 0) words.push('Nothing of this phone was found.');
  if (stillTyping)
    words.push('Somebody is still typing in a session of this phone: say it again when it is over.');
  if (unswept.length > 0)
    words.push(`The server clears away by itself what was in ${unswept.join(', ')} (autovacuum).`);
  words.push('Backups and archived logs of the database keep all of it until they expire.');
  return words.join('\n');
}

const SERVICE = 'write: service, service off <name>, or service on <name>';

/** Switches a service off for new dials, or on again; alone it lists them. Sessions that are open go on. */
const service: Command = async ({ db, services }, [what, name = '', ...more]) => {
  const off = await switchedOff(db);
  const names = [...new Set([...services, ...off.keys()])].sort();
  if (what === undefined) {
    const wide = Math.max(...names.map(({ length }) => length));
    const state = (since: Date | undefined) =>
      since === undefined ? 'on' : `off since ${since.toISOString()}`;
    return names.map((each) => `${each.padEnd(wide)}  ${state(off.get(each))}`).join('\n');
  }
  if ((what !== 'off' && what !== 'on') || name === '' || more.length > 0) throw new CommandRefused(SERVICE);
  if (!names.includes(name)) throw new CommandRefused(`there is no such service: ${names.join(', ')}`);
  if (what === 'on') {
    await switchOn(db, name);
    return `${name} is on. Every instance sees it within 2 s.`;
  }
  await switchOff(db, name);
  return `${name} is off for new dials; sessions that are open go on. Every instance sees it within 2 s.`;
};

/** What the housekeeping does every night, now (docs/privacy.md says how long things are kept). */
const retention: Command = async ({ house }, words) => {
  if (words.length > 0) throw new CommandRefused('say `retention` alone');
  const { removed, unclosed, failures = [] } = await house();
  const counts = Object.entries(removed).map(([kind, count]) => `${count} ${kind}`);
  const also = unclosed > 0 ? ` Of the tasks ${unclosed} had been closed by nobody.` : '';
  const said = `Removed: ${counts.join(', ')}.${also}`;
  if (failures.length === 0) return said;
  const steps = failures.map(({ step, code }) => `${step} (${code})`);
  throw new CommandRefused(
    `these steps failed and are to be tried again: ${steps.join(', ')} (docs/operations.md). ${said}`,
  );
};

/** Compares airtime orders with what the provider sold (docs/airtime.md). */
const reconcile: Command = async ({ sales, ...parts }, words) => {
  if (sales === undefined) throw new CommandRefused('there is no provider of airtime to compare with');
  try {
    return await reconcileCommand({ ...parts, sales }, words);
  } catch (error) {
    if (error instanceof WordsRefused) throw new CommandRefused(error.message);
    throw error;
  }
};

/** What an operator may run beside the service. */
export const COMMANDS: Record<string, Command> = {
  'pins:rotate': rotate,
  'pins:reset': reset,
  unlock,
  instruments,
  keys,
  erase: erasePerson,
  service,
  retention,
  reconcile,
};
