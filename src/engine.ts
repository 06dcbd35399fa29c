import { sql } from 'kysely';
import type { Database } from './db/database.ts';
import { SqlState, sqlState, within } from './db/sql.ts';
import { buyAirtime } from './effects/buy-airtime.ts';
import { changePin } from './effects/change-pin.ts';
import { createAccount } from './effects/create-account.ts';
import type { Enqueue } from './effects/delivery.ts';
import { linkPhone, makeLinkCode } from './effects/link-phone.ts';
import { logIn } from './effects/log-in.ts';
import { openTask } from './effects/open-task.ts';
import { rememberLanguage } from './effects/remember-language.ts';
import { sms } from './effects/sms.ts';
import { buyStock, sellStock } from './effects/trade.ts';
import type { TakeTurn } from './flow/heard.ts';
import type { Menu } from './flow/menu.ts';
import type { TakeNotice } from './flow/notice.ts';
import type { ServiceCodes } from './flow/service-code.ts';
import { CHECKED, makeJudge } from './judge.ts';
import { Menus } from './menus.ts';
import { Box } from './seal/box.ts';
import { Digests } from './seal/digests.ts';
import type { KeyRing } from './seal/keys.ts';
import { PendingPins, PinSlots, randomCode } from './seal/pin.ts';
import { airtimeFacts } from './services/airtime/facts.ts';
import type { Fact } from './services/facts.ts';
import { shippedCatalogue } from './services/invest/catalogue.ts';
import { investFacts } from './services/invest/facts.ts';
import { ixoFacts } from './services/ixo/facts.ts';
import { supportFacts } from './services/support/facts.ts';
import { Accounts } from './store/accounts.ts';
import { Airtime, type AirtimeCurrencies } from './store/airtime.ts';
import { ApiKeys } from './store/api-keys.ts';
import { Attempts } from './store/attempts.ts';
import { FarTasks, type FarTaskTimes } from './store/far-tasks.ts';
import { IncomingMessages } from './store/incoming.ts';
import { seedInstruments } from './store/instruments.ts';
import { digestRoot } from './store/keyring.ts';
import { type Book, Ledger } from './store/ledger.ts';
import { Lookups } from './store/lookups.ts';
import { loadMenu, storeMenu } from './store/menus.ts';
import { MessageView } from './store/message-view.ts';
import { type MessageLimits, Messages } from './store/messages.ts';
import { Notices } from './store/notices.ts';
import { OptOuts } from './store/opt-outs.ts';
import { Orders } from './store/orders.ts';
import { makePartitions, missingPartitions } from './store/partitions.ts';
import { Sessions } from './store/sessions.ts';
import { Subscriptions } from './store/subscriptions.ts';
import { Switches } from './store/switches.ts';
import { TaskRows } from './store/task-rows.ts';
import { Tasks } from './store/tasks.ts';
import { Turns } from './store/turns.ts';
import { makeTakeTurn } from './turn.ts';

/** Openings this close to midnight UTC, in seconds, are taken under a lock (decision 18). */
const MIDNIGHT_SECONDS = 10;

export type EngineSettings = {
  ring: KeyRing;
  /** Where it is given; otherwise one is made and kept in the database. */
  digestKey?: Buffer | undefined;
  documents: Menu[];
  codes: ServiceCodes;
  /** Idle sessions expire after this; in milliseconds. */
  ttl: number;
  midnightSeconds?: number;
  /** Whether a turn may follow one that this instance has just taken without a look-up (decision 22). */
  recalls?: boolean;
  messages: MessageLimits;
  /** Whose money wallets hold: the simulator's, where no provider is set up. */
  book: Book;
  /** Which numbers airtime is sold to, by currency; `KES=+254` where it is not said. */
  airtimeCurrencies?: AirtimeCurrencies | undefined;
  enqueue: Enqueue;
  /** Facts of further services, by service and name. */
  facts?: Record<string, Record<string, Fact>>;
  /** log2 of the cost of a new PIN's hash; default `PIN_COST`. */
  pinCost?: number;
  /** How long one process speaks to the task router about a task. Default: those of `src/store/far-tasks.ts`. */
  farTaskTimes?: FarTaskTimes;
  /** How many turns may wait for the database before newcomers are shed. Default: that of `Lane`. */
  mostWaiting?: number;
  /** Letters of an alphabet at random, for Customer IDs. */
  randomCode?: (alphabet: string, length: number) => string;
};

export type Engine = Keeping & {
  takeTurn: TakeTurn;
  takeNotice: TakeNotice;
  sessions: Sessions;
  menus: Menus;
  /** Read once; a gateway goes on reading them. */
  switches: Switches;
  /** Closes the newest dial of a session without an END, where it is open and this caller's. */
  closeSession(sessionKey: Buffer, caller: Buffer): Promise<void>;
  /** How many checks of PINs have come to which verdict since this engine was opened. */
  pinChecks: ReadonlyMap<string, number>;
};

/** What keeps people's things: opened by the commands too, which take no turns. */
export type Keeping = {
  digests: Digests;
  /** Seals columns. */
  columns: Box;
  accounts: Accounts;
  attempts: Attempts;
  messages: Messages;
  messageView: MessageView;
  incoming: IncomingMessages;
  optOuts: OptOuts;
  subscriptions: Subscriptions;
  ledger: Ledger;
  airtime: Airtime;
  orders: Orders;
  tasks: Tasks;
  farTasks: FarTasks;
  notices: Notices;
  apiKeys: ApiKeys;
  lookups: Lookups;
};

/** Opens what keeps people's things, keys checked. Throws `WrongKeys`. */
export async function openKeeping(
  { kysely }: Database,
  settings: Pick<
    EngineSettings,
    'ring' | 'digestKey' | 'messages' | 'book' | 'airtimeCurrencies' | 'farTaskTimes'
  >,
): Promise<Keeping> {
  const digests = new Digests(await digestRoot(kysely, settings.ring, settings.digestKey));
  const columns = new Box(settings.ring, 'columns');
  const messages = new Messages(columns, digests, settings.messages);
  const ledger = new Ledger(settings.book);
  const taskRows = new TaskRows(columns);
  return {
    digests,
    columns,
    accounts: new Accounts(columns, new Box(settings.ring, 'pins'), digests),
    attempts: new Attempts(kysely),
    messages,
    messageView: new MessageView(columns, digests),
    incoming: new IncomingMessages(columns, digests),
    optOuts: new OptOuts(digests),
    subscriptions: new Subscriptions(columns, digests),
    ledger,
    airtime: new Airtime(columns, digests, ledger, messages, settings.airtimeCurrencies),
    orders: new Orders(columns, ledger, messages),
    tasks: new Tasks(taskRows, digests),
    farTasks: new FarTasks(taskRows, settings.farTaskTimes),
    notices: new Notices(columns, digests),
    apiKeys: new ApiKeys(digests),
    lookups: new Lookups(columns, digests),
  };
}

/**
 * Puts a turn's parts together on a migrated database: keys checked, documents stored, partitions there, something
 * to invest in.
 * Throws `WrongKeys`.
 */
export async function openEngine(database: Database, settings: EngineSettings): Promise<Engine> {
  const { kysely } = database;
  const keeping = await openKeeping(database, settings);
  const { digests, accounts, attempts, messages, ledger, airtime, orders, tasks, notices } = keeping;
  const random = settings.randomCode ?? randomCode;
  const box = new Box(settings.ring, 'turns');
  const pending = new PendingPins(new Box(settings.ring, 'pins'));
  // However many turns find no week at the same moment: it is made once.
  let making: Promise<unknown> | undefined;
  const makeWeeks = async (): Promise<void> => {
    making ??= database.asOwner(makePartitions).finally(() => {
      making = undefined;
    });
    await making;
  };
  await makeWeeks().catch(async (error: unknown) => {
    // A role that may only read and write: the owner makes the weeks to come, and the doctor says where one is missing.
    const isWriter = sqlState(error) === SqlState.insufficientPrivilege;
    if (!isWriter || (await missingPartitions(kysely)).today) throw error;
  });
  await seedInstruments(kysely, shippedCatalogue);
  const menus = await Menus.open(
    {
      store: (hash, service, document) => storeMenu(kysely, hash, service, document),
      load: (id) => loadMenu(kysely, id),
    },
    settings.documents,
  );
  const turns = new Turns(database.sql, database.laneSql, box, {
    midnightSeconds: settings.midnightSeconds ?? MIDNIGHT_SECONDS,
    ttl: settings.ttl,
    recalls: settings.recalls ?? true,
    documents: menus,
    makePartitions: makeWeeks,
    mostWaiting: settings.mostWaiting,
  });
  const switches = new Switches(database.sql);
  await switches.look();
  const pinChecks = new Map<string, number>(CHECKED.map((verdict) => [verdict, 0]));
  const takeTurn = makeTakeTurn({
    turns,
    menus,
    digests,
    db: kysely,
    codes: settings.codes,
    ttl: settings.ttl,
    isOff: (service) => switches.isOff(service),
    judge: makeJudge({
      db: kysely,
      accounts,
      attempts,
      slots: new PinSlots(),
      pinCost: settings.pinCost,
      pending,
      digests,
      checked: (verdict) => pinChecks.set(verdict, (pinChecks.get(verdict) ?? 0) + 1),
    }),
    facts: {
      ixo: ixoFacts(accounts, messages, random),
      airtime: airtimeFacts(ledger, messages, airtime, random),
      invest: investFacts(orders, accounts, messages, random),
      support: supportFacts(tasks, random),
      ...settings.facts,
    },
    effects: {
      createAccount: createAccount(accounts, pending),
      changePin: changePin(accounts, pending),
      logIn: logIn(accounts, attempts),
      makeLinkCode: makeLinkCode(accounts),
      linkPhone: linkPhone(accounts),
      rememberLanguage,
      sms: sms(messages),
      buyAirtime: buyAirtime(airtime),
      buyStock: buyStock(orders),
      sellStock: sellStock(orders),
      openTask: openTask(tasks),
    },
    enqueue: settings.enqueue,
    transact: (run) => kysely.transaction().execute((tx) => run(tx, database.within(tx))),
    underLock: (sessionKey, run) =>
      kysely.transaction().execute(async (tx) => {
        await sql`select pg_advisory_xact_lock(hashtextextended(${sessionKey.toString('hex')}, 0))`.execute(
          tx,
        );
        return run({
          turns: turns.through(database.within(tx)),
          db: tx,
          transact: (inside) => inside(tx, database.within(tx)),
        });
      }),
  });
  const takeNotice: TakeNotice = (notice, deadline) =>
    within(
      deadline,
      kysely
        .transaction()
        .execute((tx) => notices.add(tx, turns.through(database.within(tx)), notice, settings.codes)),
    );
  const closeSession = async (sessionKey: Buffer, caller: Buffer) => {
    // Whenever it was opened: the moment of the asking is after that.
    const dial = await turns.dialAt(sessionKey, caller, 'infinity');
    if (dial !== undefined && !dial.over) await turns.close(dial);
  };
  const sessions = new Sessions(database.sql, box, menus);
  return { ...keeping, takeTurn, takeNotice, menus, switches, sessions, closeSession, pinChecks };
}
