/**
 * The Telerivet script (integrations/telerivet) as it is, on a stand-in of Telerivet's script API, posting over real
 * sockets to a listener of this test: every way through it, every wrong answer, and everything that can go wrong with
 * the request.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import ts from 'typescript';
import { fits, measure } from '../../src/flow/text.ts';
import { CALLER, CODE, telerivet } from '../support/telerivet.ts';

const SCRIPT = join(import.meta.dirname, '..', '..', 'integrations', 'telerivet', 'ussd-support.js');
const SECRET = 'a-secret&of=the+listener';

const LANGUAGE = 'Choose your language\nChoisissez votre langue\n1. ENGLISH\n2. FRANÇAIS';
const BOTH = {
  advice: 'Please answer 1 or 2.\nRépondez par 1 ou 2.',
  gaveUp:
    "Sorry, we did not understand. Please dial again.\nPardon, nous n'avons pas compris. Recomposez ce code.",
};

/** What is shown from the second screen on: the questions, and the last words. */
const WORDS = {
  1: {
    questions: [
      'Where are you?\n1. Dakar\n2. Touba\n3. Thies',
      'What do you need?\n1. Shelter\n2. Legal\n3. Food & Clothing',
      'May we call you back on this number?\n1. Yes\n2. No',
    ],
    advice: ['Please answer 1, 2 or 3.', 'Please answer 1, 2 or 3.', 'Please answer 1 or 2.'],
    taken: 'Thank you. We have your request. We will call you on this number.',
    declined: 'Thank you. We will not call you. You can dial again at any time.',
    failed: 'Sorry, we could not take your request. Please dial again in a few minutes.',
    gaveUp: 'Sorry, we did not understand. Please dial again when you are ready.',
  },
  2: {
    questions: [
      'Dans quelle ville ?\n1. Dakar\n2. Touba\n3. Thiès',
      'De quoi avez-vous besoin ?\n1. Un abri\n2. Une aide juridique\n3. Nourriture et habits',
      'Pouvons-nous vous rappeler sur ce numéro ?\n1. Oui\n2. Non',
    ],
    advice: ['Répondez par 1, 2 ou 3.', 'Répondez par 1, 2 ou 3.', 'Répondez par 1 ou 2.'],
    taken: 'Merci. Nous avons votre demande. Nous vous rappellerons sur ce numéro.',
    declined: 'Merci. Nous ne vous rappellerons pas. Vous pouvez recomposer ce code à tout moment.',
    failed: "Pardon, nous n'avons pas pu prendre votre demande. Recomposez ce code dans quelques minutes.",
    gaveUp: "Pardon, nous n'avons pas compris. Recomposez ce code quand vous voudrez.",
  },
};
const LANGUAGES = [1, 2] as const;

/** What the listener does with a post. */
type Fate = { status: number; body?: string } | 'hang' | 'drop';

const TAKEN: Fate = { status: 200, body: 'Success' };

/** A listener that keeps what is posted. The next posts meet the fates that it is given, and those after them are taken. */
async function listener(t: Test) {
  let fates: Fate[] = [];
  const posts: { path: string; type: string | undefined; fields: Record<string, string> }[] = [];
  let heard = Promise.withResolvers<void>();
  const server = createServer(async (request, response) => {
    const body = Buffer.concat(await request.toArray()).toString();
    posts.push({
      path: `${request.method} ${request.url}`,
      type: request.headers['content-type'],
      fields: Object.fromEntries(new URLSearchParams(body)),
    });
    heard.resolve();
    heard = Promise.withResolvers();
    meet(fates.shift() ?? TAKEN, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}/telerivet/ussd-listener`;
  const next = (...more: Fate[]) => {
    fates = more;
    posts.length = 0;
  };
  return { url, port, posts, next, post: () => heard.promise };
}

function meet(fate: Fate, response: ServerResponse): void {
  if (fate === 'drop') response.destroy();
  else if (fate !== 'hang') response.writeHead(fate.status, { 'content-type': 'text/plain' }).end(fate.body);
}

/** The script, deployed against `url`. */
function deployed(t: Test, url: string) {
  return telerivet(t, SCRIPT, {
    'https://replace-me.invalid/telerivet/ussd-listener': url,
    REPLACE_ME: SECRET,
  });
}

/** Every screen fits, in the alphabet of phones. */
function measured(t: Test, screens: string[]): void {
  t.ok(screens.length > 0, 'screens were shown');
  for (const screen of new Set(screens)) {
    t.ok(measure(screen).alphabet === 'gsm' && fits(screen), `${measure(screen).units} septets: ${screen}`);
  }
}

/** Nothing of a caller, and not the secret. */
function discreet(t: Test, logs: string[]): void {
  for (const line of logs) t.match(line, /^listener: (\d{3}|no answer)$/, 'a log line');
}

t.test(
  'every way through: both languages, three places, three kinds of support, a call or none',
  async (t) => {
    const { url, posts } = await listener(t);
    const cloud = await deployed(t, url);
    let wanted = 0;
    for (const language of LANGUAGES)
      for (const location of [1, 2, 3])
        for (const support of [1, 2, 3])
          for (const callback of [1, 2]) {
            const way = [language, location, support, callback];
            const { questions, taken, declined } = WORDS[language];
            const session = await cloud.dial();
            for (const option of way) await session.press(`${option}`);
            t.strictSame(
              session.screens,
              [LANGUAGE, ...questions, callback === 1 ? taken : declined],
              `${way}: the screens`,
            );
            t.ok(session.ended, `${way}: the end`);
            if (callback === 1) wanted += 1;
            t.equal(posts.length, wanted, `${way}: only a Yes posts`);
            if (callback === 2) continue;
            t.strictSame(
              posts.at(-1),
              {
                path: 'POST /telerivet/ussd-listener',
                type: 'application/x-www-form-urlencoded',
                fields: {
                  from_number: CALLER,
                  to_number: CODE,
                  secret: SECRET,
                  language_option: `${language}`,
                  location_option: `${location}`,
                  support_type_option: `${support}`,
                  callback_option: '1',
                },
              },
              `${way}: what is posted`,
            );
          }
    t.equal(posts.length, 18);
    measured(t, cloud.screens);
    discreet(t, cloud.logs);
  },
);

t.test('what is no answer repeats the question and says what to do', async (t) => {
  const { url, posts } = await listener(t);
  const cloud = await deployed(t, url);
  for (const language of LANGUAGES) {
    const { questions, advice, taken } = WORDS[language];
    const asked = [
      { question: LANGUAGE, advice: BOTH.advice, options: 2 },
      ...questions.map((question, at) => ({
        question,
        advice: advice[at] as string,
        options: at === 2 ? 2 : 3,
      })),
    ];
    const wrong = ['', ' ', '0', '12', '1*1', '-1', '1.0', 'yes', 'constructor', '١', '*', '#', '9999999999'];
    for (const [at, { question, advice, options }] of asked.entries()) {
      for (const input of [...wrong, `${options + 1}`]) {
        const session = await cloud.dial();
        const before = [language, 3, 1].slice(0, at);
        for (const option of before) await session.press(`${option}`);
        t.equal(await session.press(input), `${advice}\n${question}`, `${at}: ${JSON.stringify(input)}`);
        t.notOk(session.ended);
      }
    }
    // Twice at every question, and through all the same: only wrong answers in a row count.
    const session = await cloud.dial();
    for (const [at, option] of [language, 3, 2, 1].entries()) {
      await session.press('7');
      await session.press('x');
      const { advice, question } = asked[at] as { advice: string; question: string };
      t.equal(session.screens.at(-1), `${advice}\n${question}`);
      await session.press(`${option}`);
    }
    t.equal(session.screens.at(-1), taken);
    t.match(posts.at(-1)?.fields, {
      language_option: `${language}`,
      location_option: '3',
      support_type_option: '2',
    });
  }
  t.equal(posts.length, 2);
  measured(t, cloud.screens);
});

t.test('a space, a dot or a # beside the number is forgiven', async (t) => {
  const { url, posts } = await listener(t);
  const session = await (await deployed(t, url)).dial();
  for (const typed of [' 2', '1.', '3#', '1 ']) await session.press(typed);
  t.equal(session.screens.at(-1), WORDS[2].taken);
  t.match(posts, [{ fields: { language_option: '2', location_option: '1', support_type_option: '3' } }]);
});

t.test('the third answer in a row that is none ends it politely, in the language chosen', async (t) => {
  const { url, posts } = await listener(t);
  const cloud = await deployed(t, url);
  for (const language of LANGUAGES)
    for (const at of [0, 1, 2, 3]) {
      const session = await cloud.dial();
      for (const option of [language, 1, 1].slice(0, at)) await session.press(`${option}`);
      await session.press('8');
      await session.press('8');
      t.notOk(session.ended, 'not before the third');
      const last = await session.press('8');
      t.equal(last, at === 0 ? BOTH.gaveUp : WORDS[language].gaveUp, `${language} at ${at}`);
      t.ok(session.ended);
    }
  t.strictSame(posts, []);
  measured(t, cloud.screens);
});

t.test('a session leaves nothing to the next', async (t) => {
  const { url, posts } = await listener(t);
  const cloud = await deployed(t, url);
  const left = await cloud.dial();
  for (const typed of ['2', '3', '3', '5']) await left.press(typed);
  // The phone lost the network; whoever dials next is asked everything.
  const next = await cloud.dial();
  t.equal(next.screens[0], LANGUAGE);
  for (const typed of ['9', '9', '1', '1', '1', '1']) await next.press(typed);
  t.equal(next.screens.at(-1), WORDS[1].taken);
  t.match(posts, [{ fields: { language_option: '1', location_option: '1', support_type_option: '1' } }]);

  const other = await cloud.dial('+221770000002');
  for (const typed of ['2', '1', '1', '2']) await other.press(typed);
  for (const [from, words] of [
    [CALLER, 'after a call was asked for'],
    ['+221770000002', 'after none was'],
  ] as const) {
    const kept = Object.entries(cloud.stateOf(from)).filter(([name]) => name !== 'invalid');
    t.ok(kept.length > 0);
    for (const [name, value] of kept) t.equal(value, '', `${name} ${words}`);
  }
});

t.test('where the answers so far are gone it asks from the beginning', async (t) => {
  const { url, posts } = await listener(t);
  const cloud = await deployed(t, url);
  const session = await cloud.dial();
  await session.press('2');
  for (const name of Object.keys(cloud.stateOf(CALLER))) delete cloud.stateOf(CALLER)[name];
  t.equal(await session.press('1'), LANGUAGE);
  for (const typed of ['1', '1', '1', '1']) await session.press(typed);
  t.equal(session.screens.at(-1), WORDS[1].taken);
  t.equal(posts.length, 1);
});

/** From dialling to the answer `Yes`, and the last screen. */
async function askForCall(cloud: Awaited<ReturnType<typeof deployed>>, language: 1 | 2): Promise<string> {
  const session = await cloud.dial();
  for (const option of [language, 2, 3]) await session.press(`${option}`);
  const last = await session.press('1');
  if (!session.ended) throw new Error('the session goes on');
  return last;
}

t.test('a call is promised only where the gateway has the request', async (t) => {
  const page = { status: 200, body: '<html>Log in to this network</html>' };
  const cases: { fates: Fate[]; posts: number; last: 'taken' | 'failed' }[] = [
    { fates: [TAKEN], posts: 1, last: 'taken' },
    // Unwell, or gone in the middle: once more, and not for ever.
    { fates: [{ status: 500 }, TAKEN], posts: 2, last: 'taken' },
    { fates: [{ status: 503 }, TAKEN], posts: 2, last: 'taken' },
    { fates: ['drop', TAKEN], posts: 2, last: 'taken' },
    { fates: [{ status: 500 }, { status: 500 }, TAKEN], posts: 2, last: 'failed' },
    { fates: ['drop', 'drop', TAKEN], posts: 2, last: 'failed' },
    { fates: [{ status: 500 }, { status: 401 }, TAKEN], posts: 2, last: 'failed' },
    // Refused: the same again would be refused again.
    { fates: [{ status: 401 }, TAKEN], posts: 1, last: 'failed' },
    { fates: [{ status: 400 }, TAKEN], posts: 1, last: 'failed' },
    { fates: [{ status: 429 }, TAKEN], posts: 1, last: 'failed' },
    // Whoever this is, it is not the gateway.
    { fates: [page, TAKEN], posts: 1, last: 'failed' },
    { fates: [{ status: 200 }, TAKEN], posts: 1, last: 'failed' },
    { fates: [{ status: 204 }, { status: 204 }, TAKEN], posts: 2, last: 'failed' },
  ];
  const heard = await listener(t);
  const cloud = await deployed(t, heard.url);
  for (const language of LANGUAGES)
    for (const { fates, posts, last } of cases) {
      heard.next(...fates);
      cloud.logs.length = 0;
      const words = `${language}: ${JSON.stringify(fates.slice(0, posts))}`;
      t.equal(await askForCall(cloud, language), WORDS[language][last], words);
      t.equal(heard.posts.length, posts, `${words}: posts`);
      t.equal(new Set(heard.posts.map(({ fields }) => JSON.stringify(fields))).size, 1, 'the same each time');
      t.equal(cloud.logs.length, posts, 'a line for each');
      discreet(t, cloud.logs);
    }
  measured(t, cloud.screens);
});

t.test('no answer at all: Telerivet gives up, and there is no time for a second try', async (t) => {
  const { url, posts, next, post } = await listener(t);
  const cloud = await deployed(t, url);
  for (const language of LANGUAGES) {
    next('hang');
    const heard = post();
    const last = askForCall(cloud, language);
    await heard;
    cloud.timeOut();
    t.equal(await last, WORDS[language].failed);
    t.equal(posts.length, 1);
  }
  t.strictSame(cloud.logs, ['listener: no answer', 'listener: no answer']);
});

t.test('nobody listens', async (t) => {
  const { port } = await listener(t);
  // A port that this connection holds: nobody else can come to listen there.
  const held = connect(port, '127.0.0.1');
  t.teardown(() => held.destroy());
  await once(held, 'connect');
  for (const language of LANGUAGES) {
    const cloud = await deployed(t, `http://127.0.0.1:${held.localPort}/telerivet/ussd-listener`);
    t.equal(await askForCall(cloud, language), WORDS[language].failed);
    t.equal(cloud.requests.length, 2, 'tried twice');
    measured(t, cloud.screens);
    t.strictSame(cloud.logs, ['listener: no answer', 'listener: no answer']);
  }
});

t.test('a script that nobody has filled in takes no request, and says so', async (t) => {
  const cloud = await telerivet(t, SCRIPT, {});
  t.equal(await askForCall(cloud, 1), WORDS[1].failed);
  t.match(
    cloud.requests[0]?.url,
    /^https:\/\/[^/]+\.invalid\//,
    'a name that never leads anywhere (RFC 6761)',
  );
});

t.test('the last words say nothing of what was asked for', async (t) => {
  for (const language of LANGUAGES) {
    const { questions, taken, declined, failed, gaveUp } = WORDS[language];
    const options = questions.slice(0, 2).flatMap((question) => question.match(/(?<=\d\. ).+/g) ?? []);
    t.equal(options.length, 6);
    for (const last of [taken, declined, failed, gaveUp])
      for (const option of options) t.notOk(last.includes(option), `${option} in ${last}`);
  }
});

t.test('the script is ES5: nothing newer is promised by the engine that runs it', async (t) => {
  const { SyntaxKind } = ts;
  const newer = new Set<ts.SyntaxKind>([
    SyntaxKind.ArrowFunction,
    SyntaxKind.AwaitExpression,
    SyntaxKind.AsyncKeyword,
    SyntaxKind.BigIntLiteral,
    SyntaxKind.ClassDeclaration,
    SyntaxKind.ClassExpression,
    SyntaxKind.ComputedPropertyName,
    SyntaxKind.ForOfStatement,
    SyntaxKind.ExportAssignment,
    SyntaxKind.ExportDeclaration,
    SyntaxKind.ImportDeclaration,
    SyntaxKind.MethodDeclaration,
    SyntaxKind.NoSubstitutionTemplateLiteral,
    SyntaxKind.ObjectBindingPattern,
    SyntaxKind.ArrayBindingPattern,
    SyntaxKind.QuestionDotToken,
    SyntaxKind.QuestionQuestionToken,
    SyntaxKind.AsteriskAsteriskToken,
    SyntaxKind.ShorthandPropertyAssignment,
    SyntaxKind.SpreadAssignment,
    SyntaxKind.SpreadElement,
    SyntaxKind.DotDotDotToken,
    SyntaxKind.TemplateExpression,
    SyntaxKind.YieldExpression,
  ]);
  const found: string[] = [];
  let nodes = 0;
  const walk = (node: ts.Node): void => {
    nodes += 1;
    const block = ts.isVariableDeclarationList(node) && (node.flags & ts.NodeFlags.BlockScoped) !== 0;
    const unbound = ts.isCatchClause(node) && node.variableDeclaration === undefined;
    const standing = ts.isParameter(node) && node.initializer !== undefined;
    if (newer.has(node.kind) || block || unbound || standing) found.push(node.getText());
    ts.forEachChild(node, walk);
  };
  walk(ts.createSourceFile(SCRIPT, readFileSync(SCRIPT, 'utf8'), ts.ScriptTarget.Latest, true));
  t.strictSame(found, []);
  t.ok(nodes > 300, 'the script was read');
});
