/**
 * Telerivet as far as a USSD script sees it: the Cloud Script API over a script file that runs as it would there, anew
 * in a fresh realm for every screen, with nothing in it but what that API gives. What a step leaves in `state.vars` is
 * there in the next, and in the next session of the same phone; `call.vars` go with the session.
 *
 * `httpClient.request` is synchronous there, so the script runs in a thread that sleeps while this one makes the
 * request, over a real socket. No clock of ours ends a request: a test calls `timeOut`, and the script's clock goes on.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import vm from 'node:vm';
import {
  MessageChannel,
  type MessagePort,
  parentPort,
  receiveMessageOnPort,
  Worker,
  workerData,
} from 'node:worker_threads';
import type { Test } from 'tap';

/** How long Telerivet itself waits for an answer is not documented: well beyond what a USSD session lasts. */
const TIME_LIMIT_MS = 30_000;

/** Custom variables are these and no objects. */
type Vars = Record<string, string | number | boolean | null>;

type Step = {
  source: string;
  call: { id: string; from_number: string; to_number: string; vars: Vars };
  state: { vars: Vars };
  /** What was typed, and the handler it is for; without them the session begins. */
  answer?: { handler: string; input: string };
};

type Stepped = {
  screen: string;
  /** The handler of what is typed next; none where the session has ended. */
  prompt?: string;
  logs: string[];
  call: Vars;
  state: Vars;
};

type Request = { url: string; options: { method?: string; headers?: Record<string, string>; data?: string } };
/** `took`: how far the script's clock goes on. */
type Answered = { took: number; response?: { status: number; content: string }; error?: string };

export type Session = {
  /** Every screen so far, the first one included. */
  screens: string[];
  /** Whether the last screen was the end. */
  ended: boolean;
  /** Types this; the screen that follows. */
  press(input: string): Promise<string>;
};

export type Telerivet = {
  /** A session on the USSD code. */
  dial(from?: string): Promise<Session>;
  /** Every screen of every session, and every line that the script logged. */
  screens: string[];
  logs: string[];
  /** What is kept of a phone, when no session is open. */
  stateOf(from: string): Vars;
  /** The requests that the script has made. */
  requests: Request[];
  /** Telerivet's patience with the request under way ends. */
  timeOut(): void;
};

/** A phone, and the code that it dials. */
export const CALLER = '+221770000001';
export const CODE = '*555#';

/**
 * Starts it with a script in which the words of `filledIn` have been replaced, as whoever deploys it does; each must
 * stand in it once.
 */
export async function telerivet(
  t: Test,
  script: string,
  filledIn: Record<string, string>,
): Promise<Telerivet> {
  let source = readFileSync(script, 'utf8');
  for (const [placeholder, value] of Object.entries(filledIn)) {
    const parts = source.split(placeholder);
    if (parts.length !== 2) throw new Error(`${placeholder} stands ${parts.length - 1} times in ${script}`);
    source = parts.join(value);
  }
  const asleep = new SharedArrayBuffer(4);
  const requests = new MessageChannel();
  const worker = new Worker(new URL(import.meta.url), {
    // Not the loaders of the test's own process, which would put a second tap in the thread.
    execArgv: [],
    workerData: { telerivet: { asleep, requests: requests.port2 } },
    transferList: [requests.port2],
  });
  t.teardown(() => worker.terminate());

  const contacts = new Map<string, Vars>();
  let calls = 0;
  let patience = new AbortController();
  const cloud: Telerivet = {
    screens: [],
    logs: [],
    requests: [],
    stateOf: (from) => contacts.get(from) ?? {},
    timeOut: () => patience.abort(),
    dial: async (from = CALLER) => {
      calls += 1;
      const call: Step['call'] = { id: `call-${calls}`, from_number: from, to_number: CODE, vars: {} };
      let prompt: string | undefined;
      const session: Session = {
        screens: [],
        ended: false,
        press: async (input) => {
          if (prompt === undefined) throw new Error('the session has ended');
          return go({ handler: prompt, input });
        },
      };
      const go = async (answer?: Step['answer']) => {
        const state = { vars: contacts.get(from) ?? {} };
        worker.postMessage({ source, call, state, ...(answer && { answer }) } satisfies Step);
        const [told] = (await once(worker, 'message')) as [Stepped | { error: string }];
        if ('error' in told) throw new Error(told.error);
        call.vars = told.call;
        contacts.set(from, told.state);
        prompt = told.prompt;
        session.ended = prompt === undefined;
        session.screens.push(told.screen);
        cloud.screens.push(told.screen);
        cloud.logs.push(...told.logs);
        return told.screen;
      };
      await go();
      return session;
    },
  };
  requests.port1.on('message', async (request: Request) => {
    cloud.requests.push(request);
    patience = new AbortController();
    requests.port1.postMessage(await perform(request, patience.signal));
    Atomics.store(new Int32Array(asleep), 0, 1);
    Atomics.notify(new Int32Array(asleep), 0);
  });
  return cloud;
}

async function perform({ url, options }: Request, signal: AbortSignal): Promise<Answered> {
  const { method = 'GET', headers = {}, data } = options;
  try {
    // Such a name leads nowhere (RFC 6761 §6.4), and no resolver is kept waiting for it.
    if (new URL(url).hostname.endsWith('.invalid')) throw new Error('no such host');
    const response = await fetch(url, { method, headers, signal, ...(data !== undefined && { body: data }) });
    return { took: 0, response: { status: response.status, content: await response.text() } };
  } catch {
    // The error repeats the request, as an engine's may: what a script must not pass on.
    const error = `no answer from ${url} to ${data}`;
    return { took: signal.aborted ? TIME_LIMIT_MS : 0, error };
  }
}

type Given = { asleep: SharedArrayBuffer; requests: MessagePort };

if (parentPort && workerData?.telerivet) {
  const main = parentPort;
  const { asleep, requests } = workerData.telerivet as Given;
  const flag = new Int32Array(asleep);
  main.on('message', (step: Step) => {
    try {
      const stepped = run(step, (request) => {
        Atomics.store(flag, 0, 0);
        requests.postMessage(request);
        Atomics.wait(flag, 0, 0);
        return receiveMessageOnPort(requests)?.message as Answered;
      });
      main.postMessage(stepped);
    } catch (error) {
      main.postMessage({ error: String(error) });
    }
  });
}

/** One screen: the script from its top, then `main` or the handler. */
function run({ source, call, state, answer }: Step, request: (request: Request) => Answered): Stepped {
  const handlers = new Map<string, (input: string) => void>();
  const texts: string[] = [];
  const logs: string[] = [];
  let prompt: string | undefined;
  let stopped = false;
  let now = 0;
  const going = () => {
    if (stopped) throw new Error('the script went on after stopRules');
  };
  class ScriptDate extends Date {
    constructor() {
      super(now);
    }
    static override now() {
      return now;
    }
  }
  const api = {
    addInputHandler: (name: string, handler: (input: string) => void) => void handlers.set(name, handler),
    sayText: (text: string) => {
      going();
      texts.push(text);
    },
    promptDigits: (name: string) => {
      going();
      prompt = name;
    },
    stopRules: () => {
      stopped = true;
    },
    console: { log: (...words: unknown[]) => void logs.push(words.join(' ')) },
    httpClient: {
      request: (url: string, options: Request['options'] = {}) => {
        // A script's objects do not leave its realm; only strings are sent as they are.
        const told = request(JSON.parse(JSON.stringify({ url, options })));
        now += told.took;
        if (told.response === undefined) throw new Error(told.error);
        return told.response;
      },
    },
    call,
    state,
    Date: ScriptDate,
  };
  const realm = vm.createContext(api, { codeGeneration: { strings: false, wasm: false } });
  vm.runInContext(source, realm, { filename: 'script.js' });
  if (answer === undefined) vm.runInContext('main()', realm);
  else {
    const handler = handlers.get(answer.handler);
    if (handler === undefined) throw new Error(`no handler for ${answer.handler}`);
    handler(answer.input);
  }
  // How several texts of a step are joined is not documented.
  if (texts.length !== 1) throw new Error(`a step with ${texts.length} screens`);
  if (prompt === undefined && !stopped) throw new Error('a step that neither asks nor stops');
  if (prompt !== undefined && stopped) throw new Error('a step that asks and stops');
  return {
    screen: texts[0] as string,
    ...(prompt !== undefined && { prompt }),
    logs,
    call: plain(call.vars),
    state: plain(state.vars),
  };
}

/** As they are kept: nothing but strings, numbers and so on, by value. */
function plain(vars: Vars): Vars {
  for (const [name, value] of Object.entries(vars)) {
    if (value !== null && !/^(string|number|boolean)$/.test(typeof value))
      throw new Error(`${name} cannot be kept: ${typeof value}`);
  }
  return { ...vars };
}
