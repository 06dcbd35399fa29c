/**
 * Africa's Talking as far as we use it, over a real socket: `POST /version1/messaging` (bulk and two-way) and
 * `POST /version1/airtime/send`, with whatever can go wrong between two machines. Several processes may call
 * it at once; the test that started it looks at what it was asked and at what it did.
 *
 * What it does it does at once, when a request has been read; chaos and delay only concern the answer. So
 * after any answer, or none, the records are complete, and no test has to wait by the clock.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { type NoticeOptions, Notices } from './fake-notices.ts';
import { FarSide, type FarSideOptions, randomFrom, tell } from './far-side.ts';

/**
 * What becomes of one call:
 * `answer`; `fail`: 500, nothing is done; `drop`: done, and the connection ends without an answer; `hang`:
 * done, and no answer ever comes; `twice`: done, answered, and its notices are sent twice; `malformed` and
 * `truncated`: done, and the answer is no JSON, or ends before its end.
 */
export type Fate = 'answer' | 'fail' | 'drop' | 'hang' | 'twice' | 'malformed' | 'truncated';

export type FakeOptions = FarSideOptions<Fate> & {
  /** How long an answer takes, at least and at most; in milliseconds. */
  delayMs?: [number, number];
  /** Does a call again whose key it knows: for the test that must fail then. */
  ignoreKeys?: boolean;
  /**
   * What a call whose key it knows is told: `first`, what the first one was told; `refuse`, that there was a
   * duplicate, as the airtime endpoint says within five minutes.
   */
  repeat?: 'first' | 'refuse';
  notices?: NoticeOptions;
};

export type Asked = {
  path: string;
  headers: Record<string, string>;
  fields: Record<string, string>;
  fate: string;
};
export type Purchase = { key: string; phoneNumber: string; amount: string; requestId: string };
export type Message = {
  key: string;
  number: string;
  text: string;
  from?: string;
  statusCode: number;
  messageId: string;
  fields: Record<string, string>;
};

type Done = { body: string; notify: () => void };

const STATUS: Record<number, string> = {
  100: 'Success',
  101: 'Success',
  102: 'Success',
  401: 'RiskHold',
  402: 'InvalidSenderId',
  403: 'InvalidPhoneNumber',
  404: 'UnsupportedNumberType',
  405: 'InsufficientBalance',
  406: 'UserInBlacklist',
  407: 'CouldNotRoute',
  409: 'DoNotDisturbRejection',
  500: 'InternalServerError',
  501: 'GatewayError',
  502: 'RejectedByGateway',
};
const DUPLICATE = 'A duplicate request was received within the last 5 minutes';

/** Starts the fake on a free port; it goes with the test. */
export async function fakeAfricasTalking(t: Test, options: FakeOptions = {}): Promise<FakeAfricasTalking> {
  const fake = new FakeAfricasTalking(options);
  t.teardown(() => fake.close());
  await fake.up();
  return fake;
}

export class FakeAfricasTalking extends FarSide<Fate> {
  readonly username = 'sandbox';
  readonly apiKey = 'atsk_hush_hush';
  /** Every request, in the order of arrival. */
  readonly requests: Asked[] = [];
  /** What was bought, and every recipient that was answered for, once for each time it was done. */
  readonly purchases: Purchase[] = [];
  readonly messages: Message[] = [];
  /** By phone number: the status code of its messages; why it gets no airtime. */
  readonly smsCodes = new Map<string, number>();
  readonly airtimeErrors = new Map<string, string>();
  /** Why nobody gets airtime: the error of whole calls. */
  airtimeRefusal: string | undefined;
  readonly notices: Notices;

  readonly #options: FakeOptions;
  readonly #done = new Map<string, Done>();
  readonly #closing = new AbortController();
  #ids = 0;

  constructor(options: FakeOptions) {
    super(options);
    this.#options = options;
    this.notices = new Notices(options.notices ?? {}, randomFrom((options.seed ?? 1) + 1), () => this.look());
  }

  /** For a gateway that is to use it. */
  get environment(): Record<string, string> {
    return { AT_USERNAME: this.username, AT_API_KEY: this.apiKey, AT_BASE_URL: this.url };
  }

  get requestCount(): number {
    return this.requests.length;
  }

  purchasesOf(key: string): Purchase[] {
    return this.purchases.filter((purchase) => purchase.key === key);
  }

  /** Messages that were taken; those that a status code refused are only in `messages`. */
  messagesOf({ key, number }: { key?: string; number?: string }): Message[] {
    return this.messages.filter(
      (message) =>
        message.statusCode < 200 &&
        (key === undefined || message.key === key) &&
        (number === undefined || message.number === number),
    );
  }

  override async close(): Promise<void> {
    this.#closing.abort();
    this.notices.stop();
    await super.close();
  }

  protected async hear(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await request.toArray().catch(() => undefined);
    if (body === undefined) return;
    await this.moving();
    const headers = request.headers as Record<string, string>;
    const fields = Object.fromEntries(new URLSearchParams(Buffer.concat(body).toString()));
    const path = `${request.method} ${request.url}`;
    const fate = this.deal();
    this.requests.push({ path, headers, fields, fate: typeof fate === 'string' ? fate : `${fate.status}` });
    this.look();
    const wrong = this.#wrongWith(path, headers, fields);
    if (wrong !== undefined) {
      response.writeHead(wrong.status).end(wrong.body);
    } else if (typeof fate !== 'string') {
      if (fate.does) this.#take(path, headers, fields);
      response.writeHead(fate.status, fate.headers ?? {}).end(fate.body ?? '');
    } else if (fate === 'fail') {
      response.writeHead(this.isUnavailable ? 503 : 500).end('<html>Internal Server Error</html>');
    } else {
      const done = this.#take(path, headers, fields);
      done.notify();
      if (fate === 'twice') done.notify();
      await this.notices.before();
      await this.#delay();
      tell(response, fate, { status: 201, body: done.body });
    }
    this.look();
  }

  #wrongWith(
    path: string,
    headers: Record<string, string>,
    fields: Record<string, string>,
  ): { status: number; body: string } | undefined {
    const needed = {
      'POST /version1/messaging': ['to', 'message'],
      'POST /version1/airtime/send': ['recipients'],
    };
    const names = (needed as Record<string, string[]>)[path];
    if (names === undefined) return { status: 404, body: 'The requested resource could not be found.' };
    if (headers.apikey !== this.apiKey || fields.username !== this.username)
      return { status: 401, body: 'The supplied authentication is invalid' };
    const missing = names.find((name) => (fields[name] ?? '') === '');
    return missing === undefined
      ? undefined
      : { status: 400, body: `Request is missing required form field '${missing}'` };
  }

  /** Does what is asked, once per key; what was refused is not remembered, so a later try may succeed. */
  #take(path: string, headers: Record<string, string>, fields: Record<string, string>): Done {
    const given = headers['idempotency-key'];
    const key = given ?? `none-${++this.#ids}`;
    const airtime = path.endsWith('/airtime/send');
    const before = this.#options.ignoreKeys ? undefined : this.#done.get(`${path} ${key}`);
    if (before !== undefined) {
      const refuse = airtime && this.#options.repeat === 'refuse';
      return { body: refuse ? refusal(DUPLICATE) : before.body, notify: () => {} };
    }
    const { done, kept } = airtime ? this.#sell(key, fields) : this.#send(key, fields);
    if (kept) this.#done.set(`${path} ${key}`, done);
    return done;
  }

  #sell(key: string, fields: Record<string, string>): { done: Done; kept: boolean } {
    if (this.airtimeRefusal !== undefined)
      return { done: { body: refusal(this.airtimeRefusal), notify: () => {} }, kept: false };
    const asked = JSON.parse(fields.recipients ?? '[]') as { phoneNumber: string; amount: string }[];
    const sold: Purchase[] = [];
    const responses = asked.map(({ phoneNumber, amount }) => {
      const errorMessage = this.airtimeErrors.get(phoneNumber);
      if (errorMessage !== undefined)
        return { phoneNumber, amount, status: 'Failed', requestId: 'None', discount: '0', errorMessage };
      const requestId = `ATQid_${++this.#ids}`;
      sold.push({ key, phoneNumber, amount, requestId });
      return { phoneNumber, amount, status: 'Sent', requestId, discount: 'KES 0.6000', errorMessage: 'None' };
    });
    this.purchases.push(...sold);
    const body = {
      errorMessage: 'None',
      numSent: sold.length,
      totalAmount: '0',
      totalDiscount: '0',
      responses,
    };
    const notify = () => this.notices.ofAirtime(sold);
    return { done: { body: JSON.stringify(body), notify }, kept: sold.length > 0 };
  }

  #send(key: string, fields: Record<string, string>): { done: Done; kept: boolean } {
    const sent = (fields.to ?? '').split(',').map((number): Message => {
      const statusCode = this.smsCodes.get(number) ?? 101;
      const messageId = statusCode < 200 ? `ATXid_${++this.#ids}` : 'None';
      const { from, message: text = '' } = fields;
      return { key, number, text, statusCode, messageId, fields, ...(from !== undefined && { from }) };
    });
    this.messages.push(...sent);
    const taken = sent.filter(({ statusCode }) => statusCode < 200);
    const Recipients = sent.map(({ number, statusCode, messageId }) => ({
      statusCode,
      number,
      status: STATUS[statusCode] ?? 'Unheard',
      cost: statusCode < 200 ? 'KES 0.8000' : '0',
      messageId,
    }));
    const Message = `Sent to ${taken.length}/${sent.length} Total Cost: KES ${(taken.length * 8) / 10}`;
    const notify = () => this.notices.ofMessages(taken);
    const body = JSON.stringify({ SMSMessageData: { Message, Recipients } });
    return { done: { body, notify }, kept: taken.length > 0 };
  }

  async #delay(): Promise<void> {
    const [least, most] = this.#options.delayMs ?? [0, 0];
    if (most === 0) return;
    const ms = least + this.random() * (most - least);
    await sleep(ms, undefined, { signal: this.#closing.signal }).catch(() => {});
  }
}

function refusal(errorMessage: string): string {
  return JSON.stringify({ errorMessage, numSent: 0, totalAmount: '0', totalDiscount: '0', responses: [] });
}
