import { type Db, lockDigest } from './db/db.ts';
import { type Sql, Unavailable } from './db/sql.ts';
import type { Enqueue } from './effects/delivery.ts';
import type { EffectKind } from './effects/effect.ts';
import { Outcome } from './flow/dial.ts';
import type { Answer, Deadline, Heard, Standing } from './flow/heard.ts';
import type { Memory } from './flow/memory.ts';
import type { Menu } from './flow/menu.ts';
import type { Screen } from './flow/screen.ts';
import type { Course } from './flow/state.ts';
import type { Heeded, Place } from './hear.ts';
import type { Located } from './locate.ts';
import { claimEffect, type EffectKey, whoDid } from './store/effects.ts';
import type { NewTurn } from './store/new-turn.ts';
import type { Turns } from './store/turns.ts';

/** What committing a turn needs. */
export type Committed = {
  heard: Heard;
  caller: Buffer;
  /** The code as it is registered, without what was dialled through behind it; as dialled where it is not. */
  serviceCode: string;
  deadline: Deadline;
  turns: Turns;
  db: Db;
  /** Effects by kind. */
  effects: Record<string, EffectKind>;
  enqueue: Enqueue;
  /** Runs in one transaction. */
  transact<T>(run: (tx: Db, sql: Sql) => Promise<T>): Promise<T>;
};

const OUTCOMES: Record<Course, Outcome> = {
  moved: Outcome.shown,
  ended: Outcome.ended,
  invalid: Outcome.invalid,
  gaveUp: Outcome.gaveUp,
};

/**
 * Inserts a row for every text that was passed, each with its own reply, all or none; and what goes with
 * the first of them, `also`.
 */
export async function commit(
  turn: Committed,
  located: Located,
  heeded: Heeded[],
  place: Place,
  parent?: Buffer,
  also: (turn: NewTurn) => NewTurn[] = () => [],
): Promise<Answer | 'contested'> {
  const last = heeded.at(-1);
  if (last === undefined) throw new Error('a turn heard nothing');
  const heard = rowsOf(turn, located, heeded, place, parent);
  const rows = [...heard, ...heard.slice(0, 1).flatMap(also)];
  const [first, ...more] = rows;
  if (first === undefined || turn.deadline.left() <= 0) throw new Unavailable('deadline');
  const { step, resume } = last;
  const taken: Taken = {
    state: step.state,
    screen: step.screen,
    menu: place.menu.id,
    offer: resume !== undefined,
  };
  if (heeded.some(({ step: { effects } }) => effects.length > 0)) {
    return commitEffects(turn, rows, heeded, (at) => told(place.service, taken, at));
  }
  const at = await (more.length === 0 ? turn.turns.insert(first, turn.deadline) : turn.turns.insertAll(rows));
  return at === undefined ? 'contested' : told(place.service, taken, at);
}

/** What a turn came to, but for its time. */
type Taken = Omit<Standing, 'at'> & { screen: Screen };

function told(service: string, { screen, ...standing }: Taken, at: number): Answer {
  return { outcome: 'ok', service, screen, standing: { ...standing, at } };
}

/** What one dial makes happen, one thing behind the other. */
const DIAL_LOCK = 7_010;

/** Another copy, or another way of saying the same, has done it. */
class DoneBefore extends Error {
  readonly key: EffectKey;
  constructor(key: EffectKey) {
    super('done before');
    this.key = key;
  }
}
/** One of the rows exists already. */
class Contested extends Error {}

/**
 * The rows and everything that they make happen, in one transaction, the rows first. What was done before
 * by answering the same screen is not done again: this turn gets the reply of the one that did it.
 */
async function commitEffects(
  turn: Committed,
  rows: NewTurn[],
  heeded: Heeded[],
  tell: (at: number) => Answer,
): Promise<Answer | 'contested'> {
  const [{ sessionKey, day, dial }] = rows as [NewTurn, ...NewTurn[]];
  try {
    const at = await turn.transact(async (tx, sql) => {
      const turns = turn.turns.through(sql);
      const inserted = await turns.insertAll(rows);
      if (inserted === undefined) throw new Contested();
      // Another screen of this dial may be answered at the same moment: the second one gets the END of the first.
      await lockDigest(tx, DIAL_LOCK, sessionKey);
      const addresses = rows.map(({ address }) => address);
      if (await turns.endedByAnother(sessionKey, { day, dial }, addresses)) throw new Contested();
      for (const { address, answers, step } of heeded) {
        const committing = {
          tx,
          msisdn: turn.heard.msisdn,
          caller: turn.caller,
          serviceCode: turn.serviceCode,
          enqueue: (kind: string, data: { id: string }) => turn.enqueue(tx, kind, data),
        };
        for (const [ordinal, { kind, args, account }] of step.effects.entries()) {
          const key = { shown: answers ?? address, ordinal };
          if (!(await claimEffect(tx, key, kind, { sessionKey, day, dial, address })))
            throw new DoneBefore(key);
          await effectOf(turn, kind).commit(args, {
            ...committing,
            ...(account !== undefined && { account }),
          });
        }
      }
      return inserted;
    });
    return tell(at);
  } catch (error) {
    if (error instanceof Contested) return 'contested';
    if (!(error instanceof DoneBefore)) throw error;
    return repeatDone(turn, rows, error.key);
  }
}

function effectOf({ effects }: Committed, kind: string): EffectKind {
  const effect = effects[kind];
  if (effect === undefined) throw new Error(`there is no effect ${kind}`);
  return effect;
}

/** A sibling of the turn that did it: a row of its own, with that turn's memory. */
async function repeatDone(turn: Committed, rows: NewTurn[], key: EffectKey): Promise<Answer | 'contested'> {
  const did = await whoDid(turn.db, key);
  const doer = did && (await turn.turns.read(did.sessionKey, did, did.address));
  if (doer === undefined) return 'contested';
  const { state, screen } = doer.memory();
  const copies = rows.map((row) => ({ ...row, memory: { ...row.memory, state, screen } }));
  const at = await turn.turns.insertAll(copies);
  const { menu } = copies.at(-1) as NewTurn;
  return at === undefined ? 'contested' : told(doer.service, { state, screen, menu, offer: false }, at);
}

function rowsOf(
  turn: Committed,
  located: Located,
  heeded: Heeded[],
  place: Place,
  parent?: Buffer,
): NewTurn[] {
  const { heard, caller } = turn;
  const last = heeded.at(-1) as Heeded;
  const whole = located.text.length;
  // The whole text is an address too, where the walk stopped early; and the id of the request, where it has one.
  const stops = [
    ...heeded,
    ...(last.end === whole ? [] : [{ ...last, end: whole, address: place.addressAt(whole) }]),
    ...(located.alias === undefined ? [] : [{ ...last, address: located.alias }]),
  ];
  const rows = new Map<string, NewTurn>();
  for (const { end, address, shown, resume, step } of stops) {
    const name = address.toString('latin1');
    // An empty input on the first screen has no address of its own: it is where the walk began.
    if (rows.has(name) || (parent !== undefined && address.equals(parent))) continue;
    const memory: Memory = { state: step.state, screen: step.screen, serviceCode: heard.serviceCode };
    if (shown !== undefined) memory.shown = shown;
    if (resume !== undefined) memory.resume = resume;
    if (place.hop === 0 && rows.size === 0)
      memory.opening = {
        sessionId: heard.sessionId,
        msisdn: heard.msisdn,
        ...(heard.customer !== undefined && { customer: heard.customer }),
      };
    if (located.heardDigest !== undefined) memory.heard = located.heardDigest;
    rows.set(name, {
      sessionKey: located.sessionKey,
      day: place.day,
      dial: place.dial,
      address,
      hop: place.hop + rows.size,
      outcome: OUTCOMES[step.course],
      node: nodeNumber(place.menu.menu, step.screen.node),
      menu: place.menu.id,
      network: heard.networkCode ?? null,
      phone: caller,
      service: place.service,
      memory,
      asked: located.found.asked,
      ...(located.behind !== undefined && { behind: located.behind }),
      ...(located.opens === true && { opens: true }),
      ...(heard.mode === 'cumulative' && { text: located.text.slice(0, end) }),
    });
  }
  return [...rows.values()];
}

const NODE_NUMBERS = new WeakMap<Menu, Map<string, number>>();

/** The place of a node in its document; -1 for a screen that is no node's. */
function nodeNumber(menu: Menu, name: string): number {
  let numbers = NODE_NUMBERS.get(menu);
  if (numbers === undefined) {
    numbers = new Map(Object.keys(menu.nodes).map((node, number) => [node, number]));
    NODE_NUMBERS.set(menu, numbers);
  }
  return numbers.get(name) ?? -1;
}
