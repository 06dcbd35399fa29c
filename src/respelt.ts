import type { Yaml } from './documents.ts';

type Path = PropertyKey[];

/**
 * Reads a document as it was meant: keys that are spelt wrongly stand for the nearest known ones, and values for those
 * that are advised in their place. Paths hold the keys that were meant; lines are those of the file.
 */
export class Respelt {
  readonly #yaml: Yaml;
  /** Keys as they are written, by the path that holds them as they were meant. */
  readonly #written = new Map<string, string>();
  /** Keys as they were meant, by the path that ends in them as they are written. */
  readonly #meant = new Map<string, string>();
  readonly #values = new Map<string, unknown>();

  constructor(yaml: Yaml) {
    this.#yaml = yaml;
  }

  /** Takes a key of the map at a path for another one, which the map does not have. */
  takeKey(path: Path, written: string, meant: string): void {
    this.#written.set(placed([...path, meant]), written);
    this.#meant.set(placed([...path, written]), meant);
  }

  /** Takes another value for the one at a path. */
  takeValue(path: Path, value: unknown): void {
    this.#values.set(placed(path), value);
  }

  /** Returns the document as it was meant, as far as it is known by now. */
  read(): Yaml {
    const yaml = this.#yaml;
    return {
      plain: this.#plain(yaml.plain, []),
      lineOf: (path) => yaml.lineOf(this.#inFile(path)),
      lineOfKey: (path, key) => yaml.lineOfKey(this.#inFile(path), this.#keyInFile(path, key)),
      writtenAt: (path) => yaml.writtenAt(this.#inFile(path)),
      lostAt: (path) => yaml.lostAt(this.#inFile(path)),
      commentBehind: (path) => yaml.commentBehind(this.#inFile(path)),
      numberOfKey: (path, key) => yaml.numberOfKey(this.#inFile(path), this.#keyInFile(path, key)),
    };
  }

  #keyInFile(path: Path, key: string): string {
    return this.#written.get(placed([...path, key])) ?? key;
  }

  #inFile(path: Path): Path {
    if (this.#written.size === 0) return path;
    return path.map((key, index) => this.#written.get(placed(path.slice(0, index + 1))) ?? key);
  }

  #plain(value: unknown, path: Path): unknown {
    if (this.#meant.size === 0 && this.#values.size === 0) return value;
    const at = placed(path);
    if (this.#values.has(at)) return this.#values.get(at);
    if (Array.isArray(value)) return value.map((each, index) => this.#plain(each, [...path, index]));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([written, each]) => {
        const key = this.#meant.get(placed([...path, written])) ?? written;
        return [key, this.#plain(each, [...path, key])];
      }),
    );
  }
}

/** A path as one word, in which the index 0 and the key "0" differ. */
function placed(path: Path): string {
  return JSON.stringify(path);
}
