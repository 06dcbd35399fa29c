/** What case workers are shown of a request for help (decision 33): these names and no others. */
export type TaskAttributes = {
  type: 'support';
  channel: 'ussd';
  to: string;
  from: string;
  language: string;
  location: string;
  callback: string;
  support_type: string;
  reference: string;
};

/** A request for help that is handed over. `priority`: higher ones are offered first. */
export type NewTask = { attributes: TaskAttributes; priority: number };

/**
 * Where requests for help are handed over to the agents of another system. Every call has a bounded wait and throws
 * `ProviderError`; `retryable` there means as ever that it may have been done, or may be done later.
 */
export type TaskRouter = {
  name: string;
  /** Hands over a new task. Returns the far side's id of it. It knows no keys: a repeat makes a second one. */
  create(task: NewTask): Promise<string>;
  /** The id of a task that is under way with this reference and this number; undefined where there is none. */
  find(wanted: Pick<TaskAttributes, 'reference' | 'from'>): Promise<string | undefined>;
  /** Says what is known by now. False where the task is over, or is not there any more. */
  update(id: string, attributes: TaskAttributes): Promise<boolean>;
  /** Ends a task, whatever its state; one that is over or gone stays so. */
  close(id: string, reason: string): Promise<void>;
};
