import type { Menu } from './menu.ts';

/** What follows from a document, a node of it and a language alone: a document does not change once it is read. */
export class Lasting<T> {
  readonly #known = new WeakMap<Menu, Map<string, T>>();

  /** What was made of these, or is made now. */
  of(menu: Menu, name: string, language: string, make: (menu: Menu, name: string, language: string) => T): T {
    const key = `${name} ${language}`;
    const known = this.#known.get(menu) ?? new Map<string, T>();
    const before = known.get(key);
    if (before !== undefined) return before;
    const made = make(menu, name, language);
    this.#known.set(menu, known.set(key, made));
    return made;
  }
}
