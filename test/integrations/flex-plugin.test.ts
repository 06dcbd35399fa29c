import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import npmChromium, { inflate } from '@sparticuz/chromium';
import { type BrowserContext, chromium, type Locator, type Page } from 'playwright-core';
import t, { type Test } from 'tap';
import { buildPlugin } from '../../integrations/flex-plugin/build.ts';

/** The plugin, built by its bundler, in a browser: what an agent sees of a task, and what a hostile caller cannot do. */

const PACKAGES = join(import.meta.dirname, '..', '..', 'node_modules');
/** A first start on a busy machine: a browser of 200 MB off a cold disk. */
const START_MS = 120_000;
const FLAGS = [
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** As the desk sends it to TaskRouter. */
const TASK = {
  type: 'support',
  channel: 'ussd',
  to: '*555#',
  from: '+221700000001',
  language: 'French',
  location: 'Dakar',
  callback: 'Yes',
  support_type: 'Food and Clothing',
  reference: 'K7M2',
};
const SHOWN = [
  ['From', '+221700000001'],
  ['Type', 'support'],
  ['Language', 'French'],
  ['Location', 'Dakar'],
  ['Support Type', 'Food and Clothing'],
  ['Callback Requested', 'Yes'],
  ['Reference', 'K7M2'],
];

/**
 * The part of Flex that a plugin meets: its global, React 17 beside it, and two components that draw their
 * children by `sortOrder`, with the task as a property, where their `if` holds. A child without a key is
 * refused. `Flex.show(attributes)` is an agent choosing a task; `'none'` is an agent without one.
 */
const HOST = `
  const element = React.createElement;
  const kept = () => {
    const children = [];
    const Content = {
      add(child, options = {}) {
        if (!child.key) throw new Error('a child without a key');
        children.push({ child, sortOrder: 0, ...options });
      },
    };
    const draw = (props) => [...children]
      .sort((a, b) => a.sortOrder - b.sortOrder)
      .filter((each) => !each.if || each.if(props))
      .map((each) => React.cloneElement(each.child, props));
    return { Content, draw };
  };
  const TaskInfoPanel = kept();
  const TaskCanvasHeader = kept();
  TaskInfoPanel.Content.add(element('p', { key: 'context' }, 'Task context'), { sortOrder: 0 });
  TaskCanvasHeader.Content.add(element('h1', { key: 'title' }, 'Task'), { sortOrder: 0 });
  TaskCanvasHeader.Content.add(element('button', { key: 'end' }, 'Complete'), { sortOrder: 2 });
  const taken = [];
  window.Twilio = { Flex: { Plugins: { init(Plugin) { taken.push(new Plugin()); } } } };
  window.Flex = {
    async start() {
      for (const plugin of taken) await plugin.init({ TaskInfoPanel, TaskCanvasHeader }, { store: {} });
      return taken.map(({ name, uniqueName, version }) => ({ name, uniqueName, version }));
    },
    show(attributes) {
      const props = attributes === 'none' ? {} : { task: { attributes } };
      // A child that throws takes the page down with it, as it would take down the panel of Flex.
      ReactDOM.render(
        element('main', null,
          element('header', null, TaskCanvasHeader.draw(props)),
          element('aside', null, TaskInfoPanel.draw(props))),
        document.getElementById('flex'),
      );
    },
  };
`;
const PAGE = `<!doctype html><html lang="fr"><meta charset="utf-8"><title>Flex</title><style>
  body { margin: 0; font-family: sans-serif; background: #f4f4f6 }
  header { display: flex; align-items: center; gap: 16px; padding: 8px 16px; background: #e1e3ea }
  header h1 { font-size: 16px } aside { width: 400px; padding: 16px }
</style><div id="flex"></div><script src="/react.js"></script><script src="/react-dom.js"></script>
<script src="/host.js"></script><script src="/plugin.js"></script></html>`;

type Opened = { page: Page; troubles: string[]; requests: string[] };

const folder = mkdtempSync(join(tmpdir(), 'ussd-flex-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
const plugin = await buildPlugin(folder);

const browser = await start();
const skip = typeof browser === 'string' && 'no Chromium';
if (typeof browser === 'string') {
  if (process.env.CI) t.fail(browser);
  else console.error(browser);
} else t.teardown(() => browser.close());

const server = serve(plugin);
t.teardown(() => new Promise((closed) => server.close(closed).closeAllConnections()));
const origin = await new Promise<string>((listening) =>
  server.listen(0, '127.0.0.1', () =>
    listening(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
  ),
);

t.test('an agent sees the request of a caller', { skip }, async (t) => {
  const { page, troubles } = await open(t, '/');
  const taken = await page.evaluate('Flex.start()');
  const { version } = JSON.parse(readFileSync(join(PACKAGES, '..', 'package.json'), 'utf8'));
  t.same(taken, [{ name: 'UssdSupportPlugin', uniqueName: 'plugin-ussd-support', version }]);

  await t.test('the six answers and the reference, in order, in the panel and in the header', async (t) => {
    await show(page, TASK);
    t.same(await seen(page.locator('aside')), SHOWN);
    t.same(await seen(page.locator('header')), SHOWN);
    t.same(
      (await drawn(page.locator('aside'))).split(/\n+/),
      ['USSD request', ...SHOWN.flat(), 'Task context'],
      'the panel says this and no more, above what Flex says',
    );
    const picture = join(process.env.SCREENSHOT_DIR ?? folder, 'flex-plugin.png');
    const bytes = await page.screenshot({ path: picture });
    t.equal(bytes.subarray(1, 4).toString(), 'PNG');
    t.comment(`screenshot: ${picture}`);
  });

  await t.test('for readers of the screen too', async (t) => {
    const panel = page.locator('aside').getByRole('region', { name: 'USSD request' });
    t.equal(await panel.getAttribute('lang'), 'en', 'English, whatever the language of the desk');
    t.equal(await panel.getByRole('heading', { name: 'USSD request' }).count(), 1);
    t.equal(await panel.getByRole('term').count(), 7);
    t.equal(await panel.getByRole('definition').count(), 7);
    t.equal(await page.locator('header dl').getAttribute('lang'), 'en');
    for (const place of ['aside', 'header'])
      for (const part of ['dt', 'dd']) {
        const ratio = await contrast(page, `${place} ${part}`);
        t.ok(ratio >= 4.5, `${place} ${part}: ${ratio.toFixed(1)} (WCAG 2.2, 1.4.3)`);
      }
  });

  await t.test('other tasks stay as Flex shows them', async (t) => {
    const others: unknown[] = [
      { type: 'chat', channel: 'web', from: '+221700000001', language: 'French' },
      { ...TASK, channel: 'chat' },
      { ...TASK, type: 'inbound' },
      { ...TASK, type: ['support'] },
      null,
      'support',
      7,
      [],
      {},
      'none',
    ];
    for (const attributes of others) {
      await show(page, TASK);
      await show(page, attributes);
      t.equal(await drawn(page.locator('aside')), 'Task context', JSON.stringify(attributes));
      t.equal(await page.locator('header dl').count(), 0, JSON.stringify(attributes));
    }
  });

  await t.test('without a reference there is no row for it', async (t) => {
    await show(page, { ...TASK, reference: undefined });
    t.same(await seen(page.locator('aside')), SHOWN.slice(0, 6));
    t.same(await seen(page.locator('header')), SHOWN.slice(0, 6));
  });

  await t.test('what is missing or odd is said to be, the rest stands', async (t) => {
    const odd = {
      ...TASK,
      from: 221700000001,
      language: null,
      location: { a: 1 },
      callback: true,
      reference: [],
    };
    await show(page, { ...odd, support_type: '  ' });
    const rows = [
      ['From', '221700000001'],
      ['Type', 'support'],
      ['Language', 'Not given'],
      ['Location', 'Not given'],
      ['Support Type', 'Not given'],
      ['Callback Requested', 'Yes'],
    ];
    t.same(await seen(page.locator('aside')), rows);
    t.same(
      await seen(page.locator('header')),
      rows.filter(([, value]) => value !== 'Not given'),
      'the header has room for answers only',
    );

    await show(page, { type: 'support', channel: 'ussd' });
    t.same(
      (await seen(page.locator('aside'))).map(([, value]) => value),
      ['Not given', 'support', 'Not given', 'Not given', 'Not given', 'Not given'],
    );

    await show(page, { ...TASK, location: 'é'.repeat(5_000) });
    t.equal((await seen(page.locator('aside')))[3]?.[1], `${'é'.repeat(120)}…`);
    for (const place of ['aside', 'header'])
      t.notOk(await overflows(page, place), `${place}: a long word breaks, it pushes nothing away`);
  });

  t.same(troubles, [], 'no error and no warning of React in all of this');
});

t.test('markup in an answer is text', { skip }, async (t) => {
  const { page, troubles, requests } = await open(t, '/');
  await page.evaluate('Flex.start()');
  const before = requests.length;
  const hostile = [
    '<img src="/stolen" onerror="window.broken = 1">',
    '<script>window.broken = 1</script>',
    '"><svg onload="window.broken = 1">',
    '</dd></dl><iframe src="/stolen"></iframe>',
    'javascript:window.broken=1',
    '{{constructor.constructor("window.broken = 1")()}}',
  ];
  await show(page, {
    ...TASK,
    from: hostile[0],
    language: hostile[1],
    location: hostile[2],
    support_type: hostile[3],
    callback: hostile[4],
    reference: hostile[5],
  });
  const values = (await seen(page.locator('aside'))).map(([, value]) => value);
  t.same(values, [hostile[0], 'support', ...hostile.slice(1)], 'an agent reads it as it was written');
  t.same(
    (await seen(page.locator('header'))).map(([, value]) => value),
    values,
  );
  t.equal(await page.locator('#flex :is(img, script, svg, iframe, a)').count(), 0);

  await show(page, { ...TASK, location: { $$typeof: 'Symbol(react.element)', type: 'img', props: {} } });
  await show(page, { ...TASK, location: { toString: 'x', dangerouslySetInnerHTML: { __html: hostile[0] } } });
  t.equal((await seen(page.locator('aside')))[3]?.[1], 'Not given');

  // A value that turns the direction of writing (U+202E) stays within its own box.
  await show(page, { ...TASK, location: '\u202erakaD' });
  t.equal(await page.locator('aside dd').nth(3).locator('bdi').count(), 1);
  t.equal((await seen(page.locator('aside')))[4]?.[1], 'Food and Clothing');

  await page.evaluate('new Promise((done) => requestAnimationFrame(() => setTimeout(done)))');
  t.equal(await page.evaluate('typeof window.broken'), 'undefined', 'nothing ran');
  t.same(requests.slice(before), [], 'nothing was fetched');
  t.same(troubles, []);
});

t.test('in a page that is no Flex the plugin says so and does nothing', { skip }, async (t) => {
  const { troubles } = await open(t, '/elsewhere');
  t.same(troubles, ['UssdSupportPlugin: this page is no Flex that takes plugins']);
});

t.test('the bundle is small and brings no React of its own', async (t) => {
  const script = readFileSync(plugin, 'utf8');
  t.ok(script.length < 8_000, `${script.length} bytes`);
  t.notMatch(script, /useState|createContext|__SECRET_INTERNALS/);
  t.match(script, 'window.React');
  t.ok(existsSync(`${plugin}.map`));
});

// Ends the browser and the server after the last test: they would keep this process alive.
t.end();

const show = (page: Page, attributes: unknown) =>
  page.evaluate(`Flex.show(${JSON.stringify(attributes) ?? 'undefined'})`);

/** Text as a person sees it: `textContent` would also have what is hidden. */
// biome-ignore lint/performance/useDomNodeTextContent: see above
const drawn = (place: Locator) => place.innerText();

/** Labels and values of the plugin below `place`, as drawn: what is hidden is not among them. */
async function seen(place: Locator): Promise<string[][]> {
  const rows = await place.locator('dl > div').all();
  return Promise.all(
    rows.map(async (row) => {
      const parts = [row.locator('dt'), row.locator('dd')];
      const visible = await Promise.all(parts.map((part) => part.isVisible()));
      return Promise.all(parts.map((part, at) => (visible[at] ? drawn(part) : '(hidden)')));
    }),
  );
}

// Expressions, not functions: the types of this project know no DOM, and a function given as text is not called.
const overflows = (page: Page, selector: string) =>
  page.evaluate(`(() => {
    const { scrollWidth, clientWidth } = document.querySelector('${selector}');
    return scrollWidth > clientWidth;
  })()`);

/** The ratio of WCAG 2.2 between the text of the first `selector` and the ground below it. */
const contrast = (page: Page, selector: string) =>
  page.evaluate<number>(`(() => {
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    const luminance = (colour) => {
      const [red, green, blue] = numbers(colour).map((part) => linear(part / 255));
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const element = document.querySelector('${selector}');
    let ground = element;
    while (numbers(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
    const text = luminance(getComputedStyle(element).color);
    const below = luminance(getComputedStyle(ground).backgroundColor);
    return (Math.max(text, below) + 0.05) / (Math.min(text, below) + 0.05);
  })()`);

/** A fresh page with the plugin in it. */
async function open(t: Test, path: string): Promise<Opened> {
  if (typeof browser === 'string') throw new Error(browser);
  const page = await browser.newPage();
  t.teardown(() => page.close());
  page.setDefaultTimeout(START_MS);
  const troubles: string[] = [];
  const requests: string[] = [];
  page.on('pageerror', (error) => troubles.push(error.message));
  page.on('dialog', (dialog) => {
    troubles.push(`dialog: ${dialog.message()}`);
    return dialog.dismiss();
  });
  page.on('console', (line) => {
    if (['error', 'warning'].includes(line.type())) troubles.push(line.text());
  });
  page.on('request', (request) => requests.push(request.url()));
  await page.goto(`${origin}${path}`);
  return { page, troubles, requests };
}

function serve(plugin: string): Server {
  const files: Record<string, () => [type: string, body: string | Buffer]> = {
    '/': () => ['text/html', PAGE],
    '/elsewhere': () => [
      'text/html',
      '<!doctype html><script>React = {}</script><script src="/plugin.js"></script>',
    ],
    '/host.js': () => ['text/javascript', HOST],
    '/plugin.js': () => ['text/javascript', readFileSync(plugin)],
    // The builds that warn, so that a warning of React fails the test.
    '/react.js': () => ['text/javascript', readFileSync(join(PACKAGES, 'react/umd/react.development.js'))],
    '/react-dom.js': () => [
      'text/javascript',
      readFileSync(join(PACKAGES, 'react-dom/umd/react-dom.development.js')),
    ],
    '/favicon.ico': () => ['image/x-icon', ''],
  };
  return createServer((request, response) => {
    const file = files[request.url ?? ''];
    if (!file) return response.writeHead(404).end();
    const [type, body] = file();
    return response.writeHead(200, { 'content-type': `${type}; charset=utf-8` }).end(body);
  });
}

/** The first browser that starts: the one named in CHROMIUM_PATH, the system's, the one that npm brought. */
async function start(): Promise<BrowserContext | string> {
  const refusals: string[] = [];
  for await (const { path, env } of browsers()) {
    try {
      return await chromium.launchPersistentContext(join(folder, 'profile'), {
        executablePath: path,
        headless: true,
        // Nothing but our own page is opened, and root has no sandbox.
        chromiumSandbox: false,
        args: FLAGS,
        timeout: START_MS,
        viewport: { width: 1_000, height: 520 },
        ...(env && { env }),
      });
    } catch (error) {
      refusals.push(`${path}: ${error instanceof Error ? error.message : error}`);
    }
  }
  return [
    'No Chromium starts, so nobody sees the Flex plugin: install one (Debian: `apt-get install chromium`)',
    'or name one in CHROMIUM_PATH.',
    ...refusals,
  ].join('\n');
}

type Browser = { path: string; env?: Record<string, string> };

async function* browsers(): AsyncGenerator<Browser> {
  const named = process.env.CHROMIUM_PATH;
  if (named) return yield { path: named };
  for (const name of ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']) {
    const places = (process.env.PATH ?? '').split(delimiter).map((place) => join(place, name));
    const path = places.find((place) => existsSync(place));
    // On some systems the name belongs to a script that asks to install the browser: then the next is tried.
    if (path) yield { path };
  }
  // Linux on x64 is what the package is built for.
  if (process.platform === 'linux' && process.arch === 'x64') yield await unpacked();
}

/**
 * The Chromium from npm, with the few libraries and the font that it brings for machines with none. It
 * unpacks into the temporary directory of its process under a fixed name and takes what already lies
 * there, so it gets a directory of its own.
 */
async function unpacked(): Promise<Browser> {
  const place = join(folder, 'chromium');
  mkdirSync(place);
  const { TMPDIR } = process.env;
  process.env.TMPDIR = place;
  try {
    const path = await npmChromium.executablePath();
    const libraries = await inflate(join(PACKAGES, '@sparticuz/chromium/bin/al2023.tar.br'));
    const fonts = join(place, 'fonts.conf');
    writeFileSync(
      fonts,
      `<fontconfig><dir>${join(place, 'fonts')}</dir><cachedir>${join(place, 'cache')}</cachedir></fontconfig>`,
    );
    const env = { PATH: process.env.PATH ?? '', HOME: folder, TMPDIR: folder, FONTCONFIG_FILE: fonts };
    return { path, env: { ...env, LD_LIBRARY_PATH: join(libraries, 'lib') } };
  } finally {
    if (TMPDIR === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = TMPDIR;
  }
}
