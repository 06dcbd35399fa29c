/**
 * What was made lately, by the name that it was made of. In two generations, so that the memory is bounded and nothing
 * has to be sorted: what is asked for again is young again, and at most `2 * most` are kept.
 */
export class Recent<T> {
  readonly #most: number;
  #young = new Map<string, T>();
  #old = new Map<string, T>();

  constructor(most: number) {
    this.#most = most;
  }

  /** What was made of this name, or is made now. */
  of(name: string, make: (name: string) => T): T {
    const young = this.#young.get(name);
    if (young !== undefined) return young;
    const made = this.#old.get(name) ?? make(name);
    if (this.#young.size >= this.#most) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(name, made);
    return made;
  }
}
