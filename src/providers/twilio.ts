import { z } from 'zod';
import { type Answer, exchange, StatusError } from './call.ts';
import { ProviderError } from './provider.ts';
import type { TaskAttributes, TaskRouter } from './task-router.ts';

/**
 * Whose account, which workspace of it, and how long one thing that is asked may take as a whole, however many
 * calls it needs (in milliseconds). `workflowSid` may be left out where the workspace has one workflow.
 * `taskChannel`: the unique name or the SID. The base URL (`https://taskrouter.twilio.com`) has no slash at the end.
 */
export type Twilio = {
  accountSid: string;
  authToken: string;
  workspaceSid: string;
  workflowSid?: string;
  taskChannel: string;
  baseUrl: string;
  timeoutMs: number;
};

/**
 * Two weeks, in seconds: the most that can be asked. A task that no worker has taken by then is cancelled; without a
 * word
 * of ours it would be after one day, and a request for help would be over because it was a holiday.
 */
const LONGEST_WAIT = 1_209_600;

/** Twilio's number for what is not there. A 404 without it comes from another server: the address is wrong. */
const NOT_FOUND = 20404;

/** Looks and steps before giving up on a task that others change at the same time. */
const TRIES = 3;

/** What we say a task by: letters and digits. It stands in an expression, and those have no way to escape a quote. */
const REFERENCE = /^[0-9A-Za-z]{1,64}$/;
const SID = /^WT[0-9a-f]{32}$/i;
const OVER = new Set(['completed', 'canceled']);

/** Of a task, what is read. `attributes` is JSON in a string, and may be left out of a list. */
const Task = z.object({
  sid: z.string().regex(SID),
  assignment_status: z.string(),
  attributes: z.string().nullish(),
});
const Tasks = z.object({ tasks: z.array(z.unknown()) });
type Task = z.infer<typeof Task>;

/**
 * Twilio's TaskRouter over its HTTP API (https://www.twilio.com/docs/taskrouter/api/task). A task is `pending`,
 * `reserved` for a worker, `assigned`, `wrapping`, and then `completed`; until it is assigned it can be `canceled`.
 * Five minutes after either end it is gone (…/docs/taskrouter/lifecycle-task-state).
 *
 * Whatever TaskRouter answers is worth another try: what it refuses it refuses because of the account, the
 * workspace, the workflow or the channel, and an operator can mend each; a request for help is not dropped for it.
 * The code of a refusal ends in Twilio's number for it, `http_400_20001` (https://www.twilio.com/docs/api/errors).
 * Only `refused_reference` is final, and it is ours: nothing was asked.
 */
export function twilioTaskRouter(twilio: Twilio): TaskRouter {
  const { workflowSid, taskChannel, workspaceSid, baseUrl } = twilio;
  const tasks = `${baseUrl}/v1/Workspaces/${workspaceSid}/Tasks`;
  const taskAt = (id: string) => `${tasks}/${id}`;

  return {
    name: 'twilio',

    async create({ attributes, priority }) {
      const call = callerOf(twilio);
      // One that could not be looked for afterwards would be there twice after a lost answer.
      requireReference(attributes.reference);
      const fields = {
        Attributes: JSON.stringify(nineOf(attributes)),
        ...(workflowSid !== undefined && { WorkflowSid: workflowSid }),
        TaskChannel: taskChannel,
        Priority: `${priority}`,
        Timeout: `${LONGEST_WAIT}`,
      };
      return taskIn(await call(tasks, { fields }).catch(refused)).sid;
    },

    /** Asked by the reference alone: the number would stand in a URL, and URLs are what every log keeps. */
    async find({ reference, from }) {
      const call = callerOf(twilio);
      requireReference(reference);
      const query = new URLSearchParams({
        EvaluateTaskAttributes: `reference == "${reference}"`,
        Ordering: 'DateCreated:asc',
      });
      const { json } = await call(`${tasks}?${query}`).catch(refused);
      const list = Tasks.safeParse(json);
      if (!list.success) throw new ProviderError('malformed', true);
      for (const each of list.data.tasks) {
        const { data: listed } = Task.safeParse(each);
        if (listed === undefined) continue;
        const whole = listed.attributes == null ? await lookAt(call, taskAt(listed.sid)) : { task: listed };
        if (whole === undefined || OVER.has(whole.task.assignment_status)) continue;
        const said = attributesOf(whole.task);
        if (said.reference === reference && said.from === from) return listed.sid;
      }
      return undefined;
    },

    /** What others wrote into the attributes (Flex, its plugins) is kept, and nothing of it is overwritten unseen. */
    async update(id, attributes) {
      const call = callerOf(twilio);
      for (let left = TRIES; ; left--) {
        const seen = SID.test(id) ? await lookAt(call, taskAt(id)) : undefined;
        if (seen === undefined || OVER.has(seen.task.assignment_status)) return false;
        const { task, etag } = seen;
        const fields = { Attributes: JSON.stringify({ ...attributesOf(task), ...nineOf(attributes) }) };
        const headers: Record<string, string> = etag === undefined ? {} : { 'If-Match': etag };
        const answer = await call(taskAt(id), { fields, headers }).catch(changed(left));
        if (answer !== undefined) return !OVER.has(taskIn(answer).assignment_status);
      }
    },

    async close(id, reason) {
      const call = callerOf(twilio);
      for (let left = TRIES; ; left--) {
        const seen = SID.test(id) ? await lookAt(call, taskAt(id)) : undefined;
        if (seen === undefined || OVER.has(seen.task.assignment_status)) return;
        const waits = ['pending', 'reserved'].includes(seen.task.assignment_status);
        const fields = { AssignmentStatus: waits ? 'canceled' : 'completed', Reason: reason };
        if ((await call(taskAt(id), { fields }).catch(changed(left))) !== undefined) return;
      }
    },
  };
}

type Asked = { fields?: Record<string, string>; headers?: Record<string, string> };
type Caller = (url: string, asked?: Asked) => Promise<Answer>;

/** Makes the calls of one thing that is asked: what one of them took is not left for the next. */
function callerOf({ accountSid, authToken, timeoutMs }: Twilio): Caller {
  const until = performance.now() + timeoutMs;
  const authorization = `Basic ${Buffer.from(`${accountSid}:${authToken}`).toString('base64')}`;
  return async (url, { fields, headers } = {}) => {
    const left = Math.ceil(until - performance.now());
    if (left <= 0) throw new ProviderError('timeout', true);
    const call = { url, headers: { ...headers, authorization }, timeoutMs: left, reasons: true };
    return exchange(fields === undefined ? call : { ...call, fields });
  };
}

/** The task and its version; undefined where there is none. */
async function lookAt(call: Caller, url: string): Promise<{ task: Task; etag?: string } | undefined> {
  try {
    const answer = await call(url);
    return { task: taskIn(answer), ...(answer.etag !== undefined && { etag: answer.etag }) };
  } catch (error) {
    if (error instanceof StatusError && error.status === 404 && error.reason === NOT_FOUND) return undefined;
    return refused(error);
  }
}

/**
 * After a refusal that says that the task is another one by now: 412, its version; 400, its state does not allow
 * the step; 404, it is gone. Undefined, so that it is looked at again, while tries are left.
 */
function changed(left: number): (error: unknown) => undefined {
  return (error) => {
    const again = error instanceof StatusError && [400, 404, 409, 412].includes(error.status) && left > 1;
    return again ? undefined : refused(error);
  };
}

/** See `twilioTaskRouter` for why nothing here is the last word. */
function refused(error: unknown): never {
  if (!(error instanceof StatusError)) throw error;
  const { code, reason } = error;
  throw new ProviderError(reason === undefined ? code : `${code}_${Math.abs(reason) % 1_000_000}`, true);
}

function taskIn({ json }: Answer): Task {
  const { data } = Task.safeParse(json);
  // Without its id a new task cannot be told of; it is there, and will be found by its reference.
  if (data === undefined) throw new ProviderError('malformed', true);
  return data;
}

function attributesOf({ attributes }: Task): Record<string, unknown> {
  try {
    const said: unknown = JSON.parse(attributes ?? '{}');
    return typeof said === 'object' && said !== null && !Array.isArray(said) ? { ...said } : {};
  } catch {
    return {};
  }
}

/** These and no others, whatever else the object carries (decision 33). */
function nineOf(attributes: TaskAttributes): TaskAttributes {
  const { type, channel, to, from, language, location, callback, support_type, reference } = attributes;
  return { type, channel, to, from, language, location, callback, support_type, reference };
}

function requireReference(reference: string): void {
  if (!REFERENCE.test(reference)) throw new ProviderError('refused_reference', false);
}
