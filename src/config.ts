import { getCountries, getCountryCallingCode } from 'libphonenumber-js/max';
import { z } from 'zod';
import { unsendable } from './flow/outgoing.ts';
import { USUAL_CODES } from './flow/service-code.ts';
import { measure } from './flow/text.ts';
import { misspelt } from './misspelt.ts';
import { isBlockedPort, type Networks, parseNetworks } from './networks.ts';
import { type KeyRing, parseKey, parseKeyRing } from './seal/keys.ts';
import { urlProblem } from './urls.ts';

/** What an operator's token opens (decision 27). */
export const SCOPES = ['read', 'send', 'money', 'desk', 'support', 'admin'] as const;
export type Scope = (typeof SCOPES)[number];
export type Operator = { name: string; scopes: ReadonlySet<Scope>; token: string };

export type InputMode = 'cumulative' | 'latest';
export type NamedGateway = { name: string; mode: InputMode; secret?: string };

/** The environment is wrong; every problem stands in `problems`, one readable line each. */
export class ConfigError extends Error {
  readonly code = 'config_refused';
  readonly problems: string[];
  constructor(problems: string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/** Proxies that are believed where none are named: PaaS proxies live in private networks (decision 30). */
const NEAR_NETWORKS = '127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7';

/** Gateways of our own that a named one cannot be called. */
const OWN_GATEWAYS = ['ixo', 'africastalking', 'json', 'telerivet'];

/** Hosts of Africa's Talking; the account `sandbox` exists on its own host only. */
const AT_LIVE = 'https://api.africastalking.com';
const AT_SANDBOX = 'https://api.sandbox.africastalking.com';
/** Two-way messages have a host of their own beside the live one, and beside no other. */
const AT_LIVE_CONTENT = 'https://content.africastalking.com';

/** Runs a parser whose Error message is the problem to show. */
function parsed<T>(parse: (text: string) => T) {
  return (text: string, context: z.RefinementCtx): T => {
    try {
      return parse(text);
    } catch (error) {
      context.addIssue({ code: 'custom', message: (error as Error).message });
      return z.NEVER;
    }
  };
}

const text = z.string().trim();
const whole = (least: number, most: number, otherwise: number) =>
  text
    .regex(/^\d{1,9}$/, `must be a whole number from ${least} to ${most}`)
    .transform(Number)
    .refine((value) => value >= least && value <= most, `must be a whole number from ${least} to ${most}`)
    .default(otherwise);
const yesNo = z
  .enum(['true', 'false'], 'must be true or false')
  .transform((value) => value === 'true')
  .default(false);
const networks = (otherwise: string) => text.default(otherwise).transform(parsed(parseNetworks));
const url = (...protocols: string[]) =>
  text
    .superRefine((value, context) => {
      const problem = urlProblem(value, protocols);
      if (problem !== undefined) context.addIssue({ code: 'custom', message: problem });
    })
    // Postgres' driver encodes the whole URL again where there is a space in it, and %2F with it.
    .transform((value) => value.replaceAll(' ', '%20'));
/** The base of an API: what comes behind the host is kept, but nothing that a path cannot follow. */
const base = text
  .refine(
    (value) =>
      URL.canParse(value) &&
      /^https?:$/.test(new URL(value).protocol) &&
      !/[?#@]/.test(value) &&
      new URL(value).username === '',
    'must be a URL that begins with https:// or http://, without user, query or fragment',
  )
  .superRefine((value, context) => {
    const port = URL.canParse(value) ? new URL(value).port : '';
    if (port === '' || !isBlockedPort(Number(port))) return;
    const message = `port ${port} is blocked by the Fetch standard, so no request would leave: serve the API on another port, such as 8080`;
    context.addIssue({ code: 'custom', message });
  })
  .transform((value) => new URL(value).href.replace(/\/+$/, ''));

/** An id of Twilio's, which begins with what it is of. */
const sid = (kind: string) =>
  text.regex(new RegExp(`^${kind}[A-Za-z0-9]{1,64}$`), `must be an id that begins with ${kind}`).optional();

/**
 * Whether a text can be an alphanumeric sender id: at most 11 septets of the GSM alphabet (3GPP TS 23.040 §9.1.2.5),
 * printable, at least one of them a letter.
 */
function isSenderId(value: string): boolean {
  const { alphabet, units } = measure(value);
  return alphabet === 'gsm' && units <= 11 && /\p{L}/u.test(value) && !/\p{Cc}/u.test(value);
}

/** Digits of a short code, or of a number that messages can be sent from, with or without its plus. */
const SENDING_NUMBER = /^\+?\d{3,15}$/;

/** Every variable: what it must look like, and what it is where it is not set. */
const Environment = z.object({
  NODE_ENV: z
    .enum(['development', 'test', 'production'], 'must be development, test or production')
    .default('development'),
  PORT: whole(0, 65_535, 3000),
  HOST: text.min(1).optional(),
  LOG_LEVEL: z
    .enum(
      ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'],
      'must be a level of pino, such as info',
    )
    .default('info'),
  DATABASE_URL: url('postgres:', 'postgresql:').optional(),
  DATABASE_ADMIN_URL: url('postgres:', 'postgresql:').optional(),
  DATABASE_POOLER: z.enum(['none', 'transaction'], 'must be none or transaction').default('none'),
  DATA_DIR: text.min(1).default('.data'),
  PIN_ENCRYPTION_KEY: text.transform(parsed(parseKeyRing)).optional(),
  DIGEST_KEY: text.transform(parsed(parseKey)).optional(),
  OPERATOR_TOKEN: text.transform(parsed(parseOperators)).optional(),
  SESSION_TTL_SECONDS: whole(1, 3600, 180),
  USSD_INPUT_MODE: z.enum(['cumulative', 'latest'], 'must be cumulative or latest').default('cumulative'),
  SERVICE_CODES: text
    .default([...USUAL_CODES].map(([code, service]) => `${code}=${service}`).join(','))
    .transform(parsed(parseServiceCodes)),
  DEFAULT_SERVICE: text.default('ixo'),
  TRUST_PROXY_ENABLED: yesNo,
  TRUSTED_PROXIES: text.default(NEAR_NETWORKS).transform(parsed(parseProxies)),
  RATE_LIMIT_MAX: whole(1, 1_000_000, 100),
  RATE_LIMIT_WINDOW_SECONDS: whole(1, 86_400, 60),
  RATE_LIMIT_ALLOW: networks(''),
  RATE_LIMIT_PHONE_MAX: whole(1, 1_000_000, 60),
  MAX_CONNECTIONS: whole(1, 1_000_000, 10_000),
  MAX_CONNECTIONS_PER_ADDRESS: whole(1, 1_000_000, 1_000),
  MAX_REQUESTS_PER_CONNECTION: whole(0, 100_000_000, 0),
  GATEWAY_ALLOW: networks(''),
  GATEWAYS: text.default('').transform(parsed(parseGateways)),
  CALLBACK_SECRET: text
    .regex(/^[A-Za-z0-9_-]{16,128}$/, 'must be 16 to 128 letters, digits, - or _')
    .optional(),
  REDIS_URL: url('redis:', 'rediss:').optional(),
  MESSAGE_RETENTION_DAYS: whole(1, 3_650, 30),
  DESK_RETENTION_DAYS: whole(1, 3_650, 90),
  SMS_DAILY_MAX: whole(0, 100_000_000, 10_000),
  SMS_PREFIXES: text.default('').transform(parsed(parsePrefixes)),
  AIRTIME_CURRENCIES: text.default('KES=+254').transform(parsed(parseCurrencies)),
  SMS_REPLIES: text.optional(),
  AT_USERNAME: text.regex(/^[!-~]{1,100}$/, 'must be 1 to 100 printable ASCII characters').optional(),
  AT_API_KEY: text.regex(/^[!-~]{1,500}$/, 'must be 1 to 500 printable ASCII characters').optional(),
  AT_BASE_URL: base.optional(),
  AT_CONTENT_URL: base.optional(),
  AT_SENDER_ID: text
    .transform((value) => value.normalize('NFC'))
    .refine(
      (value) => isSenderId(value) || SENDING_NUMBER.test(value),
      'must be 1 to 11 printable characters of the GSM alphabet with at least one letter, such as M-TIBA, or a number of 3 to 15 digits',
    )
    .optional(),
  AT_SHORTCODE: text
    .regex(SENDING_NUMBER, 'must be a short code, such as 20880, or another number of 3 to 15 digits')
    .optional(),
  AT_KEYWORD: text
    .regex(
      /^(?=.*[\p{L}\p{N}])\P{C}{1,40}$/u,
      'must be 1 to 40 printable characters with at least one letter or digit, such as MY SHOP',
    )
    .optional(),
  TWILIO_ACCOUNT_SID: sid('AC'),
  TWILIO_AUTH_TOKEN: text.regex(/^[!-~]{8,200}$/, 'must be 8 to 200 printable ASCII characters').optional(),
  TWILIO_WORKSPACE_SID: sid('WS'),
  TWILIO_WORKFLOW_SID: sid('WW'),
  TWILIO_TASK_CHANNEL: text
    .regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be the name or the SID of a task channel')
    .default('default'),
  TWILIO_BASE_URL: base.default('https://taskrouter.twilio.com'),
  TWILIO_EVENTS_URL: url('https:', 'http:').optional(),
  TELERIVET_SECRET: text.regex(/^[!-~]{8,200}$/, 'must be 8 to 200 printable ASCII characters').optional(),
});

/** The names of all variables that are read. */
export const SETTINGS: readonly string[] = Object.keys(Environment.shape);

/** What the process runs with. */
export type Config = {
  /** Variables that are not read although they look like a setting; one line each, for the start line. */
  warnings: string[];
  environment: 'development' | 'test' | 'production';
  port: number;
  host: string;
  logLevel: string;
  dataDir: string;
  databaseUrl?: string;
  /** The same database as the owner of its tables, for migrations and housekeeping; absent: `databaseUrl` owns them. */
  databaseAdminUrl?: string;
  /** Whether connections are a transaction's only (PgBouncer's pool mode of that name). */
  databasePooler: 'none' | 'transaction';
  keyRing?: KeyRing;
  digestKey?: Buffer;
  operators: Operator[];
  sessionTtlMs: number;
  inputMode: InputMode;
  serviceCodes: ReadonlyMap<string, string>;
  defaultService: string;
  /** Networks whose forwarding headers are believed; none where no proxy is trusted. */
  trustedProxies: string[];
  rateLimit: { max: number; windowMs: number; phoneMax: number; allow: Networks };
  /** Connections at a time, in all and from one address, and requests on one of them (0: any number). */
  connections: { most: number; perAddress: number; requests: number };
  gatewayAllow: Networks;
  gateways: NamedGateway[];
  callbackSecret?: string;
  redisUrl?: string;
  /** Texts of messages are dropped after so many days. */
  messageRetentionDays: number;
  /** Requests for help are erased when nothing has happened to them for so many days. */
  deskRetentionDays: number;
  /** What subscribers may cause in a day, and to which numbers (decision 14). */
  messages: { dailyMax: number; prefixes: string[] };
  /** What the numbers begin with that airtime is sold to, by currency (decision 41). */
  airtimeCurrencies: ReadonlyMap<string, readonly string[]>;
  /** The document of automatic answers, where it is not the one that comes along. */
  smsReplies?: string;
  /** There only with credentials; without them a simulator stands in, and nothing leaves. */
  africasTalking?: { username: string; apiKey: string; baseUrl: string; contentUrl: string };
  /** There only with credentials; without them the desk keeps its tasks to itself. */
  twilio?: {
    accountSid: string;
    authToken: string;
    workspaceSid: string;
    workflowSid?: string;
    taskChannel: string;
    baseUrl: string;
    /** Where TaskRouter posts its events, as it is set there; found from the request where it is not given. */
    eventsUrl?: string;
  };
  telerivetSecret?: string;
  /** Whom messages are from: bulk ones a sender id, those that can be answered a short code and its keyword. */
  smsFrom: { senderId?: string; shortCode?: string; keyword?: string };
};

/** Variables of ours in another encoding than UTF-8, or with something in them that no editor shows. */
function damaged(set: Record<string, string | undefined>): string[] {
  return Object.keys(Environment.shape).flatMap((name) => {
    const value = set[name] ?? '';
    if (value.includes('\uFFFD')) return [`${name}: is not in UTF-8: save the file that sets it as UTF-8`];
    const problem = unsendable(value.trim().replaceAll(/[\t\r\n]/g, ' '));
    return problem === undefined ? [] : [`${name}: ${problem}`];
  });
}

/**
 * Reads the environment; a variable that is set to nothing is not set. `services` are those that there
 * are to be dialled. Throws `ConfigError`.
 */
export function readConfig(
  environment: Record<string, string | undefined>,
  services: readonly string[],
): Config {
  const set = Object.fromEntries(
    Object.entries(environment)
      .map(([name, value]) => [name, unquoted(value ?? '')] as const)
      .filter(([, value]) => value.trim() !== ''),
  );
  const result = Environment.safeParse(set);
  const problems = result.success
    ? []
    : result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  const production = set.NODE_ENV === 'production';
  if (set.DATABASE_URL !== undefined && set.PIN_ENCRYPTION_KEY === undefined) {
    problems.push('PIN_ENCRYPTION_KEY: is required with DATABASE_URL, because all instances must share it');
  }
  if (production && set.DATABASE_URL === undefined) {
    problems.push('DATABASE_URL: is required in production; the embedded database is for trying things out');
  }
  problems.push(
    ...together(set, 'AT_USERNAME', 'AT_API_KEY'),
    ...without(set, 'AT_KEYWORD', 'AT_SHORTCODE'),
    ...together(set, 'TWILIO_ACCOUNT_SID', 'TWILIO_AUTH_TOKEN', 'TWILIO_WORKSPACE_SID'),
    ...without(set, 'TWILIO_WORKFLOW_SID', 'TWILIO_ACCOUNT_SID'),
    ...without(set, 'TWILIO_EVENTS_URL', 'TWILIO_ACCOUNT_SID'),
  );
  if (production) problems.push(...withoutTls(set, 'DATABASE_URL'), ...withoutTls(set, 'DATABASE_ADMIN_URL'));
  problems.push(...without(set, 'DATABASE_ADMIN_URL', 'DATABASE_URL'));
  problems.push(...unknownServices(set, services), ...damaged(set));
  const warnings = misspelt(set, SETTINGS);
  // A slip in a name is often why another one is missing.
  if (!result.success || problems.length > 0) throw new ConfigError([...problems, ...warnings]);
  const env = result.data;
  return {
    warnings,
    environment: env.NODE_ENV,
    port: env.PORT,
    host: env.HOST ?? (production ? '0.0.0.0' : '127.0.0.1'),
    logLevel: env.LOG_LEVEL,
    dataDir: env.DATA_DIR,
    ...(env.DATABASE_URL !== undefined && { databaseUrl: env.DATABASE_URL }),
    ...(env.DATABASE_ADMIN_URL !== undefined && { databaseAdminUrl: env.DATABASE_ADMIN_URL }),
    databasePooler: env.DATABASE_POOLER,
    ...(env.PIN_ENCRYPTION_KEY !== undefined && { keyRing: env.PIN_ENCRYPTION_KEY }),
    ...(env.DIGEST_KEY !== undefined && { digestKey: env.DIGEST_KEY }),
    operators: env.OPERATOR_TOKEN ?? [],
    sessionTtlMs: env.SESSION_TTL_SECONDS * 1000,
    inputMode: env.USSD_INPUT_MODE,
    serviceCodes: env.SERVICE_CODES,
    defaultService: env.DEFAULT_SERVICE,
    trustedProxies: env.TRUST_PROXY_ENABLED ? env.TRUSTED_PROXIES : [],
    rateLimit: {
      max: env.RATE_LIMIT_MAX,
      windowMs: env.RATE_LIMIT_WINDOW_SECONDS * 1000,
      phoneMax: env.RATE_LIMIT_PHONE_MAX,
      allow: env.RATE_LIMIT_ALLOW,
    },
    connections: {
      most: env.MAX_CONNECTIONS,
      perAddress: env.MAX_CONNECTIONS_PER_ADDRESS,
      requests: env.MAX_REQUESTS_PER_CONNECTION,
    },
    gatewayAllow: env.GATEWAY_ALLOW,
    gateways: env.GATEWAYS,
    ...(env.CALLBACK_SECRET !== undefined && { callbackSecret: env.CALLBACK_SECRET }),
    ...(env.REDIS_URL !== undefined && { redisUrl: env.REDIS_URL }),
    messageRetentionDays: env.MESSAGE_RETENTION_DAYS,
    deskRetentionDays: env.DESK_RETENTION_DAYS,
    messages: { dailyMax: env.SMS_DAILY_MAX, prefixes: env.SMS_PREFIXES },
    airtimeCurrencies: env.AIRTIME_CURRENCIES,
    ...(env.SMS_REPLIES !== undefined && { smsReplies: env.SMS_REPLIES }),
    ...africasTalkingOf(env),
    ...twilioOf(env),
    ...(env.TELERIVET_SECRET !== undefined && { telerivetSecret: env.TELERIVET_SECRET }),
    smsFrom: {
      ...(env.AT_SENDER_ID !== undefined && { senderId: env.AT_SENDER_ID }),
      ...(env.AT_SHORTCODE !== undefined && { shortCode: env.AT_SHORTCODE }),
      ...(env.AT_KEYWORD !== undefined && { keyword: env.AT_KEYWORD }),
    },
  };
}

/**
 * Removes the quotes around a whole value. A settings file quotes what holds `#` (.env.example); Node, Compose and
 * systemd take such quotes away, `docker run --env-file` and `kubectl --from-env-file` leave them in the value.
 */
function unquoted(value: string): string {
  return /^\s*(["'])(.*)\1\s*$/s.exec(value)?.[2] ?? value;
}

/** With credentials: where they go. */
function africasTalkingOf({
  AT_USERNAME: username,
  AT_API_KEY: apiKey,
  AT_BASE_URL,
  AT_CONTENT_URL,
}: z.infer<typeof Environment>): Pick<Config, 'africasTalking'> {
  if (username === undefined || apiKey === undefined) return {};
  const baseUrl = AT_BASE_URL ?? (username === 'sandbox' ? AT_SANDBOX : AT_LIVE);
  const contentUrl = AT_CONTENT_URL ?? (baseUrl === AT_LIVE ? AT_LIVE_CONTENT : baseUrl);
  return { africasTalking: { username, apiKey, baseUrl, contentUrl } };
}

/** With credentials: whose workspace, and where. */
function twilioOf(env: z.infer<typeof Environment>): Pick<Config, 'twilio'> {
  const { TWILIO_ACCOUNT_SID: accountSid, TWILIO_AUTH_TOKEN: authToken } = env;
  const { TWILIO_WORKSPACE_SID: workspaceSid, TWILIO_WORKFLOW_SID: workflowSid } = env;
  const { TWILIO_EVENTS_URL: eventsUrl } = env;
  if (accountSid === undefined || authToken === undefined || workspaceSid === undefined) return {};
  return {
    twilio: {
      ...{ accountSid, authToken, workspaceSid },
      ...(workflowSid !== undefined && { workflowSid }),
      taskChannel: env.TWILIO_TASK_CHANNEL,
      baseUrl: env.TWILIO_BASE_URL,
      ...(eventsUrl !== undefined && { eventsUrl }),
    },
  };
}

/** Variables of which all are set, or none. */
function together(set: Record<string, string | undefined>, ...names: string[]): string[] {
  const given = names.filter((name) => set[name] !== undefined);
  return names
    .filter((name) => given.length > 0 && set[name] === undefined)
    .map((name) => `${name}: is required with ${given.join(' and ')}`);
}

/** A variable that means nothing without another one. */
function without(set: Record<string, string | undefined>, name: string, other: string): string[] {
  return set[name] !== undefined && set[other] === undefined ? [`${other}: is required with ${name}`] : [];
}

/** Parameters of a Postgres URL, and the variable of libpq, by which its author has decided about TLS. */
const TLS_SAID = ['sslmode', 'ssl', 'sslrootcert', 'sslcert', 'sslkey'];

/**
 * Refuses a Postgres URL that leads to another machine and does not say whether TLS is wanted: the driver then speaks
 * without it, password, phone numbers and all. Any `sslmode` will do, also `disable`, because it was chosen; so will
 * PGSSLMODE. Loopback and Unix sockets need none. Problems never quote the URL, which holds a password.
 */
function withoutTls(set: Record<string, string | undefined>, name: string): string[] {
  const value = set[name]?.trim() ?? '';
  if (!URL.canParse(value) || set.PGSSLMODE !== undefined) return [];
  const { hostname, searchParams: said } = new URL(value);
  if (TLS_SAID.some((parameter) => (said.get(parameter) ?? '') !== '')) return [];
  if (said.get('sslnegotiation') === 'direct') return [];
  const host = said.get('host') || decoded(hostname) || set.PGHOST || 'localhost';
  if (/^(\/|localhost$|127\.\d+\.\d+\.\d+$|\[?::1\]?$)/i.test(host)) return [];
  return [
    `${name}: leads to another machine and does not say whether TLS is wanted: add sslmode=verify-full to its query ` +
      '(and sslrootcert=<file> where the server has a certificate authority of its own), or sslmode=disable where ' +
      'the network between is private; the first parameter stands behind a question mark',
  ];
}

function decoded(hostname: string): string {
  try {
    return decodeURIComponent(hostname);
  } catch {
    return hostname;
  }
}

/** Codes that lead nowhere; also where another variable is wrong, so that all problems are said at once. */
function unknownServices(
  { SERVICE_CODES, DEFAULT_SERVICE }: Record<string, string | undefined>,
  services: readonly string[],
): string[] {
  const named: [string, string][] = [
    ...(Environment.shape.SERVICE_CODES.safeParse(SERVICE_CODES).data ?? []),
  ];
  const known = services.join(', ');
  const problems = named
    .filter(([, service]) => !services.includes(service))
    .map(([code, service]) => `SERVICE_CODES: ${code} names ${service}, which is none of ${known}`);
  const fallback = Environment.shape.DEFAULT_SERVICE.parse(DEFAULT_SERVICE);
  return services.includes(fallback)
    ? problems
    : [...problems, `DEFAULT_SERVICE: ${fallback} is none of ${known}`];
}

/** Country codes that there are, without `+` (ITU-T E.164, as libphonenumber lists them). */
const CALLING_CODES: ReadonlySet<string> = new Set(
  getCountries().map((country) => getCountryCallingCode(country)),
);

/**
 * Reads `KES=+254,XOF=+221,XOF=+225`: airtime of a currency is sold to numbers that begin with one of its codes; a
 * currency of several countries is named once for each. Throws an Error that says which entry is wrong and why.
 */
function parseCurrencies(list: string): Map<string, string[]> {
  const currencies = new Map<string, string[]>();
  for (const entry of entriesOf(list)) {
    const [, currency = '', code = ''] = /^([A-Z]{3})\s*=\s*\+([1-9]\d{0,6})$/.exec(entry) ?? [];
    if (currency === '')
      throw new Error(`"${entry}" is not a currency and the country code it is sold to: write KES=+254`);
    if (![1, 2, 3].some((length) => CALLING_CODES.has(code.slice(0, length))))
      throw new Error(`"${entry}": no country has the code +${code}; write the whole code, as in KES=+254`);
    const codes = currencies.get(currency) ?? [];
    if (codes.includes(`+${code}`)) throw new Error(`"${entry}" stands twice: write it once`);
    currencies.set(currency, [...codes, `+${code}`]);
  }
  if (currencies.size === 0) throw new Error('names no currency: write KES=+254');
  return currencies;
}

/** `*1234#=ixo,*123#=demo` */
function parseServiceCodes(list: string): Map<string, string> {
  const codes = new Map<string, string>();
  for (const entry of entriesOf(list)) {
    const [, code, service] = /^(\*\d{1,10}(?:\*\d{1,10})*#)=([a-z][a-z0-9-]*)$/.exec(entry) ?? [];
    if (code === undefined || service === undefined)
      throw new Error(`${entry} is no entry: write *1234#=ixo`);
    const before = codes.get(code);
    if (before !== undefined) throw new Error(`${code} stands twice: for ${before} and for ${service}`);
    codes.set(code, service);
  }
  return codes;
}

/** `name=mode[:secret],…` */
function parseGateways(list: string): NamedGateway[] {
  const gateways = entriesOf(list).map((entry): NamedGateway => {
    const [, name, mode, secret] =
      /^([A-Za-z][A-Za-z0-9_.-]{0,29})=(cumulative|latest)(?::([A-Za-z0-9_-]{8,128}))?$/.exec(entry) ?? [];
    if (name === undefined) {
      throw new Error(
        'an entry is name=cumulative or name=latest, with :secret of 8 or more letters, digits, - or _',
      );
    }
    if (OWN_GATEWAYS.includes(name.toLowerCase()))
      throw new Error(`${name} is a gateway of our own: choose another name`);
    const gateway = { name, mode: mode as InputMode };
    return secret === undefined ? gateway : { ...gateway, secret };
  });
  refuseTwice(gateways.map(({ name }) => name));
  return gateways;
}

/** `name:scope+scope:token,…`, or one bare token that may do everything. Problems never quote a token. */
function parseOperators(list: string): Operator[] {
  const operators = /[:,]/.test(list) ? entriesOf(list).map(parseOperator) : [bareOperator(list)];
  // A space would end the token in its header, and an empty list would leave the routes open.
  if (operators.length === 0 || operators.some(({ token }) => !/^[!-~]{8,}$/.test(token))) {
    throw new Error('a token has at least 8 characters, printable ASCII and no space');
  }
  if (new Set(operators.map(({ token }) => token)).size < operators.length)
    throw new Error('a token stands twice');
  refuseTwice(operators.map(({ name }) => name));
  return operators;
}

/** Throws where two entries of a list have one name; upper and lower case name the same. */
function refuseTwice(names: string[]): void {
  for (const [index, name] of names.entries()) {
    const before = names.findIndex((other) => fold(other) === fold(name));
    if (before < index)
      throw new Error(
        `the name ${name} stands twice, as entry ${before + 1} and as entry ${index + 1}: choose another name for one`,
      );
  }
}

function fold(name: string): string {
  return name.normalize('NFKC').toUpperCase().replaceAll(/\s+/g, ' ');
}

function bareOperator(token: string): Operator {
  return { name: 'operator', scopes: new Set(SCOPES), token };
}

function parseOperator(entry: string): Operator {
  const [name = '', list = '', ...token] = entry.split(':');
  const scopes = list.split('+').filter((scope): scope is Scope => SCOPES.some((known) => known === scope));
  if (
    !/^\p{L}[\p{L}\p{M}\p{N} ._@'-]{0,59}$/u.test(name) ||
    scopes.length !== list.split('+').length ||
    token.length === 0
  ) {
    throw new Error(`an entry is name:scope+scope:token, with scopes of ${SCOPES.join(', ')}`);
  }
  return { name, scopes: new Set(scopes), token: token.join(':') };
}

function parseProxies(list: string): string[] {
  parseNetworks(list);
  return entriesOf(list);
}

/** `+260,+254`; the plus may be missing or be written `00`, and spaces, dashes and brackets may separate digits. */
function parsePrefixes(list: string): string[] {
  return entriesOf(list).map((entry) => {
    const digits = entry.replaceAll(/[ ().-]/g, '').replace(/^(\+|00)/, '');
    if (!/^[1-9]\d{0,14}$/.test(digits))
      throw new Error(`"${entry}" is not the beginning of an international number: write +260`);
    return `+${digits}`;
  });
}

function entriesOf(list: string): string[] {
  return list
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
}
