import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';
import type { Tally, Task, Told } from './load.ts';

/** What the callers found, and what was counted beside them while they were measured. */
export type Heard<T> = {
  tallies: Tally[];
  /** Processors that the callers themselves kept busy. */
  clientCpu: number;
  /** `sample` at the beginning and at the end of the window. */
  begin: T;
  end: T;
};

/** The process that calls. One for a whole run, so that it is as warm for the first row as for the last. */
export class Callers {
  readonly #child: ChildProcess;

  constructor() {
    this.#child = fork(join(import.meta.dirname, 'load.ts'));
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Throws where the callers could not even connect. */
  call<T>(task: Task, sample: () => T): Promise<Heard<T>> {
    return new Promise((resolve, reject) => {
      let begin = sample();
      let end = begin;
      const finish = () => {
        this.#child.off('message', hear);
        this.#child.off('exit', gone);
      };
      const hear = (told: Told) => {
        if ('window' in told) {
          if (told.window === 'begins') begin = sample();
          else end = sample();
          return;
        }
        finish();
        if ('failed' in told) reject(new Error(`the callers failed: ${told.failed}`));
        else resolve({ tallies: told.done, clientCpu: told.clientCpu, begin, end });
      };
      const gone = () => {
        finish();
        reject(new Error('the callers are gone'));
      };
      this.#child.on('message', hear);
      this.#child.on('exit', gone);
      this.#child.send(task);
    });
  }

  stop(): void {
    this.#child.kill('SIGKILL');
  }
}
