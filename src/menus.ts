import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Document, LineCounter, parseDocument, visit } from 'yaml';
import type { Finding } from './flow/finding.ts';
import { lint } from './flow/lint.ts';
import { Menu } from './flow/menu.ts';
import type { Known } from './flow/plan.ts';

/** Documents that may not answer anybody, with every problem found: file, line where known, reason. */
export class MenuError extends Error {
  readonly code = 'menu_refused';
  readonly problems: string[];
  constructor(problems: string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/** A document in use: `id` is its number in the database, under which sessions are pinned to it. */
export type Loaded = { id: number; menu: Menu };

/** Where documents are kept; the database, in the running process. */
export type MenuStore = {
  store(hash: string, service: string, document: unknown): Promise<number>;
  load(id: number): Promise<unknown>;
};

/** The services that can be dialled, and every older version that a session may still be on. */
export class Menus {
  readonly #store: MenuStore;
  readonly #current = new Map<string, Loaded>();
  readonly #byId = new Map<number, Menu>();

  private constructor(store: MenuStore) {
    this.#store = store;
  }

  /** Stores the documents and serves them. */
  static async open(store: MenuStore, documents: Menu[]): Promise<Menus> {
    const menus = new Menus(store);
    for (const menu of documents) await menus.serve(menu);
    return menus;
  }

  /** New dials open on this version from now on; sessions that began on another stay on it. */
  async serve(menu: Menu): Promise<void> {
    const id = await this.#store.store(hashOf(menu), menu.service, menu);
    this.#byId.set(id, menu);
    this.#current.set(menu.service, { id, menu });
  }

  /** The version on which a new dial opens. Throws where there is no such service. */
  current(service: string): Loaded {
    const loaded = this.#current.get(service);
    if (loaded === undefined) throw new Error(`there is no service ${service}`);
    return loaded;
  }

  /** The version with this number, where this instance has had it. */
  known(id: number): Menu | undefined {
    return this.#byId.get(id);
  }

  /** The version with this number, from the database where another instance stored it. */
  async pinned(id: number): Promise<Menu> {
    const known = this.#byId.get(id);
    if (known !== undefined) return known;
    const menu = Menu.parse(await this.#store.load(id));
    this.#byId.set(id, menu);
    return menu;
  }

  /** The names of all services. */
  services(): string[] {
    return [...this.#current.keys()];
  }
}

/**
 * Reads every `<folder>/<service>/menu.yaml`. Throws `MenuError` with all problems of all files: a bad
 * document stops the start instead of half a service answering.
 */
export function readMenus(folder: string, knownOf: (service: string) => Known): Menu[] {
  const problems: string[] = [];
  const menus: Menu[] = [];
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    const file = join(entry.name, 'menu.yaml');
    const read = parseMenu(readFileSync(join(folder, file), 'utf8'), file, knownOf(entry.name));
    if (read.menu === undefined) problems.push(...read.problems);
    else if (read.menu.service !== entry.name)
      problems.push(`${file}: service: is not the name of its folder`);
    else menus.push(read.menu);
  }
  if (problems.length > 0) throw new MenuError(problems);
  return menus;
}

/** What is to be said of an edited document. */
export type Said = { served(service: string): void; refused(problems: string[]): void };

/** How often the documents are looked at, in milliseconds. */
const LOOK_EVERY_MS = 1_000;

/**
 * Serves a document anew when its file has changed: a good one to new dials, a bad one to nobody, so that
 * the version before it stays. Looks at the files' times rather than being told, which works on every file
 * system. Returns what ends it.
 */
export function watchMenus(
  folder: string,
  knownOf: (service: string) => Known,
  menus: Menus,
  said: Said,
  every = LOOK_EVERY_MS,
): () => void {
  const seen = new Map(
    menus.services().map((service) => [service, stampOf(join(folder, service, 'menu.yaml'))]),
  );
  const look = async () => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      if (!entry.isDirectory()) continue;
      const file = join(entry.name, 'menu.yaml');
      const stamp = stampOf(join(folder, file));
      if (stamp === undefined || seen.get(entry.name) === stamp) continue;
      seen.set(entry.name, stamp);
      const read = parseMenu(readFileSync(join(folder, file), 'utf8'), file, knownOf(entry.name));
      if (read.menu === undefined) said.refused(read.problems);
      else if (read.menu.service !== entry.name)
        said.refused([`${file}: service: is not the name of its folder`]);
      else {
        await menus.serve(read.menu);
        said.served(read.menu.service);
      }
    }
  };
  let looking = false;
  const timer = setInterval(() => {
    if (looking) return;
    looking = true;
    look()
      // The folder or the database is away: the next look finds the change again.
      .catch(() => seen.clear())
      .finally(() => {
        looking = false;
      });
  }, every);
  timer.unref();
  return () => clearInterval(timer);
}

function stampOf(file: string): string | undefined {
  const stat = statSync(file, { throwIfNoEntry: false });
  return stat && `${stat.mtimeMs} ${stat.size} ${stat.ino}`;
}

/** A document that may answer, with what is to be said of it; or why it may not. */
export type Parsed = { menu: Menu; warnings: string[] } | { menu?: undefined; problems: string[] };

/** One document from its text. Problems are `file:line: place: reason`, and the text that leads there. */
export function parseMenu(text: string, file: string, known: Known): Parsed {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const lineAt = (offset: number | undefined) =>
    offset === undefined ? '' : `:${lines.linePos(offset).line}`;
  const lineOf = (path: PropertyKey[]): string => {
    for (let length = path.length; length > 0; length -= 1) {
      const node = document.getIn(path.slice(0, length), true) as
        | { range?: [number, number, number] }
        | undefined;
      if (node?.range) return lineAt(node.range[0]);
    }
    return '';
  };
  if (document.errors.length > 0) {
    return { problems: document.errors.map((error) => `${file}${lineAt(error.pos[0])}: ${error.message}`) };
  }
  let plain: unknown;
  try {
    plain = document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    // An alias of nothing, or so many that they would fill the memory: YAML is sound by then, and says it here only.
    return { problems: [`${file}${lineAt(aliasOfNothing(document))}: ${(error as Error).message}`] };
  }
  const parsed = Menu.safeParse(plain);
  if (!parsed.success) {
    const problems = parsed.error.issues
      .flatMap(closest)
      .map(({ path, message }) => `${file}${lineOf(path)}: ${path.join('.') || 'document'}: ${message}`);
    return { problems };
  }
  const findings = lint(parsed.data, known);
  const said = (level: Finding['level']) =>
    findings
      .filter((finding) => finding.level === level)
      .map(({ node, problem, path }) => {
        const reached = path === undefined || path === '' ? '' : ` (reached by ${path})`;
        return `${file}${lineOf(['nodes', node])}: ${node}: ${problem}${reached}`;
      });
  const problems = said('error');
  return problems.length > 0 ? { problems } : { menu: parsed.data, warnings: said('warning') };
}

/** Where the first alias stands whose anchor does not stand before it. */
function aliasOfNothing(document: Document): number | undefined {
  let offset: number | undefined;
  visit(document, {
    Alias: (_, alias) => {
      if (alias.resolve(document) !== undefined) return undefined;
      offset = alias.range?.[0];
      return visit.BREAK;
    },
  });
  return offset;
}

type Issue = { code?: string; path: PropertyKey[]; message: string; errors?: Issue[][] };

/** Of a node that is of no kind, what is wrong with the kind that it comes closest to. */
function closest(issue: Issue): Issue[] {
  if (issue.code !== 'invalid_union' || issue.errors === undefined || issue.errors.length === 0)
    return [issue];
  const [nearest = []] = [...issue.errors].sort((a, b) => a.length - b.length);
  return nearest.map((inner) => ({ ...inner, path: [...issue.path, ...inner.path] })).flatMap(closest);
}

function hashOf(menu: Menu): string {
  return createHash('sha256').update(JSON.stringify(menu)).digest('hex').slice(0, 32);
}
