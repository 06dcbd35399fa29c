import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { CheckedMenus } from './checked-menus.ts';
import { commentProblem, readYaml } from './documents.ts';
import type { Finding } from './flow/finding.ts';
import { lint } from './flow/lint.ts';
import { type TextSlip, textPaths, textSlips } from './flow/lint-texts.ts';
import { EXPECTED, KEYS, Menu, NODE, NODE_KINDS, SERVICE_NAME, SERVICE_RULE } from './flow/menu.ts';
import type { Known } from './flow/plan.ts';
import { slipsIn, type Vocabulary } from './slips.ts';

/** Documents that must not be served, with every problem found: file, line where known, reason. */
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

/** The documents of a folder in the order of their names: every folder in it is a service. */
export function serviceFolders(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .map(({ name }) => name)
    .sort();
}

/**
 * Reads `<folder>/<service>/menu.yaml`; `file` is how it is called in problems. A service has the name of its folder.
 * What `checked` holds is not checked again, and has no warnings.
 */
export function readService(
  folder: string,
  service: string,
  file: string,
  known: Known,
  checked?: CheckedMenus,
): Parsed {
  if (!SERVICE_NAME.test(service)) {
    const better = service
      .toLowerCase()
      .replaceAll(/[^a-z0-9]+/g, '-')
      .replaceAll(/^[^a-z]+|-$/g, '');
    const remedy = SERVICE_NAME.test(better) ? `rename the folder to ${better}` : 'rename the folder';
    return { problems: [`${file}: the folder ${service} cannot be a service: ${SERVICE_RULE}: ${remedy}`] };
  }
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(join(folder, service, 'menu.yaml'));
  } catch (error) {
    return { problems: [`${file}: ${unread(join(folder, service), error as NodeJS.ErrnoException)}`] };
  }
  const found = Menu.safeParse(checked?.find(service, bytes));
  if (found.success) return { menu: found.data, warnings: [] };
  const read = parseMenu(bytes, file, known);
  if (read.menu?.service === service) checked?.keep(service, bytes, read.menu);
  if (read.menu === undefined || read.menu.service === service) return read;
  const line =
    Buffer.from(bytes)
      .toString()
      .split('\n')
      .findIndex((words) => /^["']?service["']?\s*:/.test(words)) + 1;
  const problem = `service: is ${read.menu.service}: name it ${service}, like its folder`;
  return { problems: [`${file}${line > 0 ? `:${line}` : ''}: ${problem}`] };
}

/** Why a folder has no document. */
function unread(folder: string, { code }: NodeJS.ErrnoException): string {
  if (code !== 'ENOENT') return `the file cannot be read (${code}): mend its owner and its rights`;
  const other = readdirSync(folder).find((name) => /^menu\.ya?ml$/i.test(name));
  const remedy = other === undefined ? 'write it, or remove the folder' : `rename ${other} to menu.yaml`;
  return `there is no such file: ${remedy}`;
}

/**
 * Reads every `<folder>/<service>/menu.yaml`. Throws `MenuError` with all problems of all files: a bad document stops
 * the start instead of half a service answering. What is in `checked` is not checked again.
 */
export function readMenus(
  folder: string,
  knownOf: (service: string) => Known,
  checked?: CheckedMenus,
): Menu[] {
  const read = serviceFolders(folder).map((service) =>
    readService(folder, service, join(service, 'menu.yaml'), knownOf(service), checked),
  );
  const problems = read.flatMap((each) => (each.menu === undefined ? each.problems : []));
  if (problems.length > 0) throw new MenuError(problems);
  return read.flatMap(({ menu }) => (menu === undefined ? [] : [menu]));
}

/** What is to be said of an edited document. */
export type Said = { served(service: string): void; refused(problems: string[]): void };

/** How often the documents are looked at, in milliseconds. */
const LOOK_EVERY_MS = 1_000;

/**
 * Serves a document anew when its file has changed: a good one to new dials, a bad one not at all, so that
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
    for (const service of serviceFolders(folder)) {
      const file = join(service, 'menu.yaml');
      const stamp = stampOf(join(folder, file));
      if (stamp === undefined || seen.get(service) === stamp) continue;
      seen.set(service, stamp);
      const read = readService(folder, service, file, knownOf(service));
      if (read.menu === undefined) said.refused(read.problems);
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

/**
 * Reads one document from its file, or its text. Problems are `file:line: place: what was found: what to write instead`,
 * with the keys that lead there.
 */
export function parseMenu(source: string | Uint8Array, file: string, known: Known): Parsed {
  const yaml = readYaml(source, file);
  if (yaml.problems !== undefined) return { problems: yaml.problems };
  const { slips, meant } = slipsIn(Menu, yaml, file, WORDS);
  if (meant === undefined) return { problems: slips };
  const menu = Menu.parse(meant.plain);
  const cut = textPaths(menu).flatMap((path): TextSlip[] => {
    const comment = meant.commentBehind(path);
    return comment === undefined ? [] : [{ path, problem: commentProblem(comment) }];
  });
  const texts = [...textSlips(menu, known), ...cut].map(
    ({ path, problem }) => `${file}${meant.lineOf(path)}: ${path.join('.')}: ${problem}`,
  );
  if (texts.length > 0) return { problems: [...slips, ...texts] };
  const findings = lint(menu, known);
  const said = (level: Finding['level']) =>
    findings
      .filter((finding) => finding.level === level)
      .map(({ node, problem, path }) => {
        const reached = path === undefined || path === '' ? '' : ` (reached by ${path})`;
        return `${file}${meant.lineOf(placeOf(menu, meant.plain, node))}: ${node}: ${problem}${reached}`;
      });
  const problems = [...slips, ...said('error')];
  return problems.length > 0 ? { problems } : { menu, warnings: said('warning') };
}

/** Where a finding stands: a node, the root that is none, or words of the service, which may be left out. */
function placeOf(menu: Menu, plain: unknown, name: string): string[] {
  if (Object.hasOwn(menu.nodes, name)) return ['nodes', name];
  if (name === menu.root) return ['root'];
  return Object.hasOwn(plain as object, name) ? [name] : ['languages'];
}

const WORDS: Vocabulary = {
  expected: EXPECTED,
  kinds: { of: NODE, keys: NODE_KINDS },
  asWritten: KEYS,
  belongs: (key) => {
    const owners = NODE_KINDS.filter((_, index) => Object.hasOwn(NODE.options[index]?.shape ?? {}, key));
    return owners.length === 0 ? undefined : `it belongs to ${owners.join(', ')}: remove it`;
  },
};

function hashOf(menu: Menu): string {
  return createHash('sha256').update(JSON.stringify(menu)).digest('hex').slice(0, 32);
}
