import type { Menu } from '../../src/flow/menu.ts';
import type { State, Step } from '../../src/flow/state.ts';
import { written } from '../../src/gateways/screens.ts';
import { begun as begin, stepped as step } from './engine.ts';

/** The contract as plainly as it can be said: maps of texts in memory, one request at a time. */

type Row = { state: State; reply: string; ended: boolean; mark?: boolean; at: number };
type Dial = {
  phone: string;
  code: string;
  opened: number;
  rows: Map<string, Row>;
  endedAt?: number;
  closed?: boolean;
};
type Request = { phone: string; code: string; text: string };

const EXPIRED = 'END Session expired. Please dial again.';

abstract class Clock {
  protected now = 0;
  /** Which rule answered last; a test counts them. */
  rule = '';
  pass(by: number): void {
    this.now += by;
  }
  protected say(rule: string, answer: string): string {
    this.rule = rule;
    return answer;
  }
}

const rowOf = ({ state, screen }: Step, at: number): Row => ({
  state,
  reply: written(screen),
  ended: screen.end,
  at,
});

export class CumulativeModel extends Clock {
  static readonly rules = [
    'first dial',
    'after a day',
    'stranger',
    'start again',
    'start again after an END',
    'new dial',
    'expired for a stranger',
    'replay',
    'the END again',
    'expired',
    'closed',
    'closed again',
    'too many pieces',
    'a turn',
    'a walk',
    'dialled through',
  ];
  readonly #menu: Menu;
  readonly #ttl: number;
  readonly #through: string[];
  #dial: Dial | undefined;

  constructor(menu: Menu, ttl: number, through: string[]) {
    super();
    this.#menu = menu;
    this.#ttl = ttl;
    this.#through = through;
  }

  /** The gateway says that the session is over: of the newest dial, where this phone opened it. */
  close(phone: string): string {
    this.pass(1);
    const dial = this.#dial;
    if (dial === undefined || dial.phone !== phone) return 'unmatched';
    if (dial.endedAt === undefined) dial.closed = true;
    return 'stored';
  }

  hear({ phone, code, text }: Request): string {
    this.pass(1);
    // Another code than the story's has nothing behind it that is dialled through.
    const through = code === '*8#' ? [] : this.#through;
    const whole = [...through, ...(text === '' ? [] : [text])].join('*');
    const dial = this.#dial;
    if (dial === undefined) return this.#open('first dial', phone, code, whole);
    if (this.now - dial.opened > 24 * 3_600_000) return this.#open('after a day', phone, code, whole);

    const last = Math.max(...[...dial.rows.values()].filter((row) => !row.mark).map((row) => row.at));
    const expired = this.now - last > this.#ttl;
    const opener = dial.phone === phone && dial.code === code;
    if (!expired && !opener) return this.say('stranger', 'invalid');
    const known = dial.rows.get(whole);

    if (text === '') {
      const ended = dial.endedAt !== undefined;
      const opening = dial.rows.get(whole);
      const again = ended
        ? this.now - (dial.endedAt ?? 0) <= 5_000
        : !expired && !dial.closed && (opening?.at === last || this.now - dial.opened <= 30_000);
      if (again && opener && opening) {
        return this.say(ended ? 'start again after an END' : 'start again', `replay ${opening.reply}`);
      }
      return this.#open('new dial', phone, code, whole);
    }
    if (!opener) return this.say('expired for a stranger', `ok ${EXPIRED}`);
    if (known) return this.say(dial.closed ? 'closed again' : 'replay', `replay ${known.reply}`);
    if (dial.endedAt !== undefined) {
      const end = [...dial.rows.values()].find((row) => row.ended && !row.mark);
      return this.say('the END again', `replay ${end?.reply}`);
    }
    const parent = this.#parent(dial, whole);
    if (expired || dial.closed) {
      dial.rows.set(whole, {
        state: parent.row.state,
        reply: EXPIRED,
        ended: true,
        mark: true,
        at: this.now,
      });
      return this.say(dial.closed ? 'closed' : 'expired', `ok ${EXPIRED}`);
    }
    const passed = this.#walk(whole, parent.text, parent.row.state, false);
    if (passed === undefined) return this.say('too many pieces', 'invalid');
    return this.#keep(dial, passed, passed.length > 1 ? 'a walk' : 'a turn');
  }

  #open(rule: string, phone: string, code: string, whole: string): string {
    const first = begin(this.#menu);
    const passed: [string, Row][] = [['', rowOf(first, this.now)]];
    if (whole !== '') {
      const walked = this.#walk(whole, '', first.state, true);
      if (walked === undefined) return this.say('too many pieces', 'invalid');
      passed.push(...walked);
    }
    this.#dial = { phone, code, opened: this.now, rows: new Map() };
    return this.#keep(this.#dial, passed, rule === 'first dial' && whole !== '' ? 'dialled through' : rule);
  }

  #keep(dial: Dial, passed: [string, Row][], rule: string): string {
    for (const [text, row] of passed) if (!dial.rows.has(text)) dial.rows.set(text, row);
    const last = passed.at(-1)?.[1] as Row;
    if (last.ended) dial.endedAt = this.now;
    return this.say(rule, `ok ${last.reply}`);
  }

  #parent(dial: Dial, whole: string): { text: string; row: Row } {
    const above = [...dial.rows].filter(([text]) => text === '' || whole.startsWith(`${text}*`));
    const [text, row] = above.sort(([a], [b]) => b.length - a.length)[0] as [string, Row];
    return { text, row };
  }

  /** Cuts what stands behind `parent` into inputs, by the rules' own words. */
  #walk(whole: string, parent: string, from: State, through: boolean): [string, Row][] | undefined {
    const passed: [string, Row][] = [];
    let state = from;
    let heard = parent;
    let rest = parent === '' ? whole : whole.slice(parent.length + 1);
    let joined = parent !== '';
    let going = true;
    for (let pieces = 1; going; pieces += 1) {
      const node = this.#menu.nodes[state.node];
      const star =
        node !== undefined && 'options' in node && node.options.some((option) => option.key === '*');
      let input: string;
      let more: string | undefined;
      if (pieces === 1 && rest === '*') [input, more] = ['*', undefined];
      else if (node !== undefined && 'ask' in node && !through) [input, more] = [rest, undefined];
      else if (star && joined && rest.startsWith('*'))
        [input, more] = ['*', rest.length > 1 ? rest.slice(1) : undefined];
      else if (star && !joined && rest.startsWith('**')) [input, more] = ['*', rest.slice(1)];
      else {
        const cut = rest.indexOf('*');
        [input, more] = cut === -1 ? [rest, undefined] : [rest.slice(0, cut), rest.slice(cut)];
      }
      const result = step(this.#menu, state, input);
      const behind = more === undefined ? '' : more;
      heard = whole.slice(0, whole.length - behind.length);
      passed.push([heard, rowOf(result, this.now)]);
      state = result.state;
      joined = behind.startsWith('*');
      rest = joined ? behind.slice(1) : behind;
      going = more !== undefined && result.course === 'moved' && pieces < 10;
      if (!going && more !== undefined) {
        if (pieces + rest.split('*').length > 10) return undefined;
        passed.push([whole, rowOf(result, this.now)]);
      }
    }
    return passed;
  }
}

type Turn = Row & { heard: string };
type Chain = Omit<Dial, 'rows'> & { chain: Turn[]; ids: Map<string, string> };

/** The newest input only: a chain of turns, each named by its parent and an id, or its place in the chain. */
export class LatestModel extends Clock {
  static readonly rules = [
    'first dial',
    'new dial',
    'stranger',
    'start again',
    'repeat',
    'id again',
    'a turn',
    'the END again',
    'expired',
  ];
  readonly #menu: Menu;
  readonly #ttl: number;
  #dial: Chain | undefined;

  constructor(menu: Menu, ttl: number) {
    super();
    this.#menu = menu;
    this.#ttl = ttl;
  }

  hear({ phone, code, text, id }: Request & { id?: string }): string {
    this.pass(1);
    const dial = this.#dial;
    if (dial === undefined) return this.#open('first dial', phone, code, text, id);
    if (this.now - dial.opened > 24 * 3_600_000) return this.#open('new dial', phone, code, text, id);
    const newest = dial.chain.at(-1) as Turn;
    const expired = this.now - newest.at > this.#ttl;
    const stranger = dial.phone !== phone;
    if (stranger && !expired) return this.say('stranger', 'invalid');
    const before = id === undefined || stranger ? undefined : dial.ids.get(id);
    if (before !== undefined) return this.say('id again', `replay ${before}`);
    const open = dial.endedAt === undefined;
    const untouched = newest.at === dial.opened && dial.chain.every((turn) => turn.at === dial.opened);
    if (text === '' && (!open || untouched)) {
      const again = open ? !expired : this.now - (dial.endedAt ?? 0) <= 5_000;
      if (again && !stranger) return this.say('start again', `replay ${dial.chain[0]?.reply}`);
      return this.#open('new dial', phone, code, text, id);
    }
    if (text === '' && expired) return this.#open('new dial', phone, code, text, id);
    if (stranger) return this.say('expired', `ok ${EXPIRED}`);
    if (id === undefined && this.now - newest.at <= 1_500 && newest.heard === text) {
      return this.say('repeat', `replay ${newest.reply}`);
    }
    if (dial.endedAt !== undefined) {
      if (id !== undefined) dial.ids.set(id, newest.reply);
      return this.say('the END again', `replay ${newest.reply}`);
    }
    if (expired) {
      const marked = `mark ${dial.chain.length}`;
      const repeated = id === undefined && dial.ids.has(marked);
      dial.ids.set(id ?? marked, EXPIRED);
      return this.say('expired', `${repeated ? 'replay' : 'ok'} ${EXPIRED}`);
    }
    return this.#add(dial, step(this.#menu, newest.state, text), text, id, 'a turn');
  }

  #open(rule: string, phone: string, code: string, text: string, id: string | undefined): string {
    const first = begin(this.#menu);
    this.#dial = { phone, code, opened: this.now, chain: [], ids: new Map() };
    const started = this.#add(this.#dial, first, text, text === '' ? id : undefined, rule);
    if (text === '') return started;
    // One input, heard piece by piece as a code that is dialled through.
    let current = first;
    const pieces = text === '*' ? ['*'] : text.split('*');
    for (const piece of pieces) {
      current = step(this.#menu, current.state, piece);
      if (current.course !== 'moved') break;
    }
    return this.#add(this.#dial, current, text, id, rule);
  }

  #add(dial: Chain, result: Step, heard: string, id: string | undefined, rule: string): string {
    const row = rowOf(result, this.now);
    dial.chain.push({ ...row, heard });
    if (id !== undefined) dial.ids.set(id, row.reply);
    if (row.ended) dial.endedAt = this.now;
    return this.say(rule, `ok ${row.reply}`);
  }
}
