import type { Deadline } from '../flow/heard.ts';

/**
 * When sessions were last answered by this process. Whoever asked before that has not seen the answer, and the row of
 * the turn cannot tell: it is older than its answer. Nothing is remembered for longer than a request may take.
 */
export class Answered {
  readonly #at = new Map<string, number>();
  readonly #keep: number;

  /** @param keep the longest that a request may take, in milliseconds */
  constructor(keep: number) {
    this.#keep = keep;
  }

  /** It is being answered now. */
  note(sessionId: string): void {
    const now = performance.now();
    this.#at.delete(sessionId);
    this.#at.set(sessionId, now);
    for (const [old, at] of this.#at) {
      if (now - at <= this.#keep) break;
      this.#at.delete(old);
    }
  }

  /** Whether it was answered since a request came. */
  since(sessionId: string, request: Deadline): boolean {
    const at = this.#at.get(sessionId);
    return at !== undefined && performance.now() - at < request.elapsed();
  }
}
