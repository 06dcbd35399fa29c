/**
 * Twilio's TaskRouter as far as we use it, over a real socket: tasks of one workspace are created, listed, fetched
 * and updated, with whatever can go wrong between two machines; and the callbacks that it posts of its events.
 * Several processes may call it at once; the test that started it looks at what it was asked and moves the tasks.
 *
 * What it does it does at once, when a request has been read; fates only concern the answer. So after any answer,
 * or none, the records are complete, and no test has to wait by the clock.
 */
import { createHmac } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { FarSide, type FarSideOptions, tell } from './far-side.ts';

/**
 * What becomes of one call: `answer`; `fail`: 500, nothing is done; `busy`: 429, nothing is done; `drop`: done,
 * and the connection ends without an answer; `hang`: done, and no answer ever comes; `malformed` and `truncated`:
 * done, and the answer is no JSON, or ends before its end.
 */
export type Fate = 'answer' | 'fail' | 'busy' | 'drop' | 'hang' | 'malformed' | 'truncated';

export type FakeTwilioOptions = FarSideOptions<Fate> & {
  /** How long every answer takes, after its call was done; in milliseconds. */
  delayMs?: number;
  /** Leaves `attributes` out of lists, as the API's description says, and its examples do not. */
  barren?: boolean;
};

export type Status = 'pending' | 'reserved' | 'assigned' | 'wrapping' | 'completed' | 'canceled';

export type FakeTask = {
  sid: string;
  status: Status;
  /** The JSON as it was given, and what it says. */
  json: string;
  attributes: Record<string, unknown>;
  priority: number;
  timeout: number;
  taskChannel: string;
  workflowSid: string;
  reason: string | null;
  version: number;
  createdAt: Date;
};

export type Asked = {
  /** `POST /v1/Workspaces/…/Tasks`, without the query. */
  path: string;
  query: Record<string, string>;
  headers: Record<string, string>;
  fields: Record<string, string>;
  /** The form as it was sent. */
  body: string;
  authorized: boolean;
  fate: string;
};

/** A callback as it is posted: the fields, the form, and its headers with the signature. */
export type Signed = { fields: Record<string, string>; body: string; headers: Record<string, string> };

type Told = { status: number; body: unknown; etag?: string };

const DAY_SECONDS = 86_400;

/** Starts the fake on a free port; it goes with the test. */
export async function fakeTwilio(t: Test, options: FakeTwilioOptions = {}): Promise<FakeTwilio> {
  const fake = new FakeTwilio(options);
  t.teardown(() => fake.close());
  await fake.up();
  return fake;
}

export class FakeTwilio extends FarSide<Fate> {
  readonly accountSid = sid('AC', 1);
  readonly authToken = 'twilio_hush_hush';
  readonly workspaceSid = sid('WS', 2);
  readonly workflowSid = sid('WW', 3);
  /** Every request, in the order of arrival. */
  readonly requests: Asked[] = [];
  /** Every task that was created, in that order; those that are over stay until they are removed. */
  readonly tasks: FakeTask[] = [];
  /** Called once when a request has been read and before it is done: what others do at that moment. */
  before: (() => void) | undefined;

  readonly #options: FakeTwilioOptions;
  #made = 0;

  constructor(options: FakeTwilioOptions) {
    super(options);
    this.#options = options;
  }

  /** For a gateway that is to use it. */
  get environment(): Record<string, string> {
    return {
      TWILIO_ACCOUNT_SID: this.accountSid,
      TWILIO_AUTH_TOKEN: this.authToken,
      TWILIO_WORKSPACE_SID: this.workspaceSid,
      TWILIO_WORKFLOW_SID: this.workflowSid,
      TWILIO_BASE_URL: this.url,
    };
  }

  /** Tasks with these attributes, whatever their status. */
  tasksOf(wanted: Record<string, string>): FakeTask[] {
    return this.tasks.filter(({ attributes }) =>
      Object.entries(wanted).every(([name, value]) => attributes[name] === value),
    );
  }

  task(sid: string): FakeTask {
    const task = this.tasks.find((each) => each.sid === sid);
    if (task === undefined) throw new Error(`there is no task ${sid}`);
    return task;
  }

  setStatus(sid: string, status: Status, reason?: string): void {
    Object.assign(this.task(sid), { status, ...(reason !== undefined && { reason }) });
    this.task(sid).version++;
  }

  /** What a worker or a plugin writes into the task beside what is there. */
  annotate(sid: string, more: Record<string, unknown>): void {
    const task = this.task(sid);
    write(task, JSON.stringify({ ...task.attributes, ...more }));
  }

  /** As happens five minutes after a task was completed or cancelled. */
  remove(sid: string): void {
    this.tasks.splice(this.tasks.indexOf(this.task(sid)), 1);
  }

  /**
   * The callback of an event (`task.created`, `task.updated`, `task.canceled`, `task.completed`, `task.deleted`,
   * `reservation.accepted`, …) as it would be posted now, signed for `url`. An override replaces a field; one that
   * is undefined leaves it out.
   * https://www.twilio.com/docs/taskrouter/api/event/reference
   */
  event(
    sid: string,
    type: string,
    url: string,
    overrides: Record<string, string | undefined> = {},
    authToken = this.authToken,
  ): Signed {
    const task = this.task(sid);
    const at = Date.now();
    const resource = type.startsWith('reservation.') ? 'reservation' : 'task';
    const reservation = `WR${sid.slice(2)}`;
    const all: Record<string, string | undefined> = {
      Sid: `EV${`${at}`.padStart(32, '0')}`,
      EventType: type,
      AccountSid: this.accountSid,
      WorkspaceSid: this.workspaceSid,
      WorkspaceName: 'Flex Task Assignment',
      EventDescription: `${type} of ${sid}`,
      ResourceType: resource,
      ResourceSid: resource === 'task' ? sid : reservation,
      Timestamp: `${Math.floor(at / 1_000)}`,
      TimestampMs: `${at}`,
      TaskSid: sid,
      TaskAttributes: task.json,
      TaskAge: `${Math.floor((at - task.createdAt.getTime()) / 1_000)}`,
      TaskPriority: `${task.priority}`,
      TaskAssignmentStatus: task.status,
      TaskChannelUniqueName: task.taskChannel,
      WorkflowSid: task.workflowSid,
      ...(type === 'task.canceled' && { TaskCanceledReason: task.reason ?? '' }),
      ...(type === 'task.completed' && { TaskCompletedReason: task.reason ?? '' }),
      ...(resource === 'reservation' && {
        ReservationSid: reservation,
        WorkerSid: `WK${sid.slice(2)}`,
        WorkerName: 'amina',
      }),
      ...overrides,
    };
    const given = Object.entries(all).filter((field): field is [string, string] => field[1] !== undefined);
    const said = [...given].sort(([one], [other]) => (one < other ? -1 : 1)).flat();
    const signature = createHmac('sha1', authToken)
      .update([url, ...said].join(''), 'utf8')
      .digest('base64');
    return {
      fields: Object.fromEntries(given),
      body: new URLSearchParams(given).toString(),
      headers: {
        'content-type': 'application/x-www-form-urlencoded; charset=UTF-8',
        'x-twilio-signature': signature,
      },
    };
  }

  /** Posts an event to `to`, signed for the URL that Twilio was told where a proxy makes that another one. */
  async tell(
    sid: string,
    type: string,
    to: string,
    { url = to, overrides = {} }: { url?: string; overrides?: Record<string, string | undefined> } = {},
  ): Promise<number> {
    const { body, headers } = this.event(sid, type, url, overrides);
    const response = await fetch(to, { method: 'POST', headers, body });
    await response.arrayBuffer();
    return response.status;
  }

  protected async hear(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const read = await request.toArray().catch(() => undefined);
    if (read === undefined) return;
    await this.moving();
    const body = Buffer.concat(read).toString();
    const { pathname, searchParams } = new URL(request.url ?? '', this.url);
    const headers = request.headers as Record<string, string>;
    const asked: Asked = {
      path: `${request.method} ${pathname}`,
      query: Object.fromEntries(searchParams),
      headers,
      fields: Object.fromEntries(new URLSearchParams(body)),
      body,
      authorized:
        headers.authorization ===
        `Basic ${Buffer.from(`${this.accountSid}:${this.authToken}`).toString('base64')}`,
      fate: '',
    };
    const fate = this.deal();
    asked.fate = typeof fate === 'string' ? fate : `${fate.status}`;
    this.requests.push(asked);
    const { before } = this;
    this.before = undefined;
    before?.();
    if (!asked.authorized) say(response, 'answer', error(401, 20003, 'Authenticate'));
    else if (typeof fate !== 'string') {
      if (fate.does) this.#take(asked);
      response.writeHead(fate.status, fate.headers ?? {}).end(fate.body ?? '');
    } else if (fate === 'fail') {
      const status = this.isUnavailable ? 503 : 500;
      say(response, 'answer', error(status, 20500, 'Internal Server Error'));
    } else if (fate === 'busy') say(response, 'answer', error(429, 20429, 'Too Many Requests'));
    else {
      const done = this.#take(asked);
      await sleep(this.#options.delayMs ?? 0);
      say(response, fate, done);
    }
    this.look();
  }

  #take({ path, query, headers, fields }: Asked): Told {
    const tasks = `/v1/Workspaces/${this.workspaceSid}/Tasks`;
    const [, method, where, id] = /^(GET|POST) (\/.*\/Tasks)(?:\/([^/]+))?$/.exec(path) ?? [];
    if (where !== tasks) return missing(path);
    if (id === undefined) return method === 'POST' ? this.#create(fields) : this.#list(query);
    const task = this.tasks.find((each) => each.sid === id);
    if (task === undefined) return missing(path);
    return method === 'GET' ? this.#one(task) : this.#update(task, fields, headers['if-match']);
  }

  #create(fields: Record<string, string>): Told {
    if (!isJson(fields.Attributes)) return error(400, 20001, 'Attributes JSON is not valid');
    const task: FakeTask = {
      sid: sid('WT', ++this.#made),
      status: 'pending',
      json: '',
      attributes: {},
      priority: Number(fields.Priority ?? 0),
      timeout: Number(fields.Timeout ?? DAY_SECONDS),
      taskChannel: fields.TaskChannel ?? 'default',
      workflowSid: fields.WorkflowSid ?? this.workflowSid,
      reason: null,
      version: -1,
      createdAt: new Date(),
    };
    write(task, fields.Attributes ?? '{}');
    this.tasks.push(task);
    return { ...this.#one(task), status: 201 };
  }

  /** `EvaluateTaskAttributes` as far as one is compared with a text, and such comparisons hold together. */
  #list({ EvaluateTaskAttributes: expression, Ordering = 'DateCreated:asc' }: Record<string, string>): Told {
    const wanted: [string, string][] = [];
    for (const term of expression?.split(' AND ') ?? []) {
      const [, name, text, quoted] = /^\s*(\w+) ?==? ?(?:"([^"']*)"|'([^"']*)')\s*$/.exec(term) ?? [];
      if (name === undefined) return error(400, 20001, 'EvaluateTaskAttributes is not valid');
      wanted.push([name, text ?? quoted ?? '']);
    }
    const found = this.tasksOf(Object.fromEntries(wanted));
    if (Ordering === 'DateCreated:desc') found.reverse();
    const shown = found.map((task) => ({
      ...shape(task),
      ...(this.#options.barren && { attributes: null }),
    }));
    return {
      status: 200,
      body: { meta: { key: 'tasks', page: 0, page_size: 50 }, tasks: shown.slice(0, 50) },
    };
  }

  #one(task: FakeTask): Told {
    return { status: 200, body: shape(task), etag: `"${task.version}"` };
  }

  #update(task: FakeTask, fields: Record<string, string>, ifMatch: string | undefined): Told {
    const { AssignmentStatus: status, Attributes: json, Reason: reason } = fields;
    if (ifMatch !== undefined && ifMatch !== `"${task.version}"`)
      return { status: 412, body: { message: 'Precondition Failed', status: 412 } };
    if (json !== undefined && !isJson(json)) return error(400, 20001, 'Attributes JSON is not valid');
    const where = `task ${task.sid} in workspace ${this.workspaceSid} for account ${this.accountSid} because it is not`;
    if (status === 'canceled' && !['pending', 'reserved'].includes(task.status))
      return error(400, 20001, `Cannot cancel ${where} pending or reserved.`);
    if (status === 'completed' && !['assigned', 'wrapping'].includes(task.status))
      return error(400, 20001, `Cannot complete ${where} currently assigned.`);
    if (status !== undefined && !['canceled', 'completed'].includes(status))
      return error(400, 20001, `Cannot make it ${status}`);
    if (status !== undefined && reason === undefined) return error(400, 20001, 'Reason is required');
    if (json !== undefined) write(task, json);
    if (status !== undefined) this.setStatus(task.sid, status as Status, reason);
    return this.#one(task);
  }
}

function say(response: ServerResponse, fate: string, { status, body, etag }: Told): void {
  tell(response, fate, {
    status,
    body: JSON.stringify(body),
    ...(etag !== undefined && { headers: { etag } }),
  });
}

/** https://www.twilio.com/docs/usage/twilios-response#response-formats-exceptions */
function error(status: number, code: number, message: string): Told {
  return { status, body: { code, message, more_info: `https://www.twilio.com/docs/errors/${code}`, status } };
}

function missing(path: string): Told {
  return error(404, 20404, `The requested resource ${path.replace(/^\w+ \/v1/, '')} was not found`);
}

function shape(task: FakeTask): Record<string, unknown> {
  const { sid, status, json, priority, timeout, taskChannel, workflowSid, reason, createdAt } = task;
  return {
    sid,
    assignment_status: status,
    attributes: json,
    priority,
    timeout,
    task_channel_unique_name: taskChannel,
    workflow_sid: workflowSid,
    reason,
    date_created: `${createdAt.toISOString().slice(0, 19)}Z`,
    addons: '{}',
  };
}

function write(task: FakeTask, json: string): void {
  task.json = json;
  task.attributes = JSON.parse(json) as Record<string, unknown>;
  task.version++;
}

function isJson(text: string | undefined): boolean {
  try {
    JSON.parse(text ?? '{}');
    return true;
  } catch {
    return false;
  }
}

/** A SID is two letters and 32 hexadecimal digits. */
function sid(kind: string, number: number): string {
  return `${kind}${number.toString(16).padStart(32, '0')}`;
}
