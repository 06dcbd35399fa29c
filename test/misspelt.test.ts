/** Variables that are a slip of one of ours, and those of everybody else. */
import { test } from 'tap';
import { type ConfigError, readConfig, SETTINGS } from '../src/config.ts';
import { misspelt } from '../src/misspelt.ts';

const SERVICES = ['ixo', 'demo', 'airtime', 'invest', 'support'];

const SLIPS: Record<string, string> = {
  DATABSE_URL: 'DATABASE_URL',
  DATABASE_ULR: 'DATABASE_URL',
  DATABASE_URI: 'DATABASE_URL',
  DATABASEURL: 'DATABASE_URL',
  DATA_BASE_URL: 'DATABASE_URL',
  database_url: 'DATABASE_URL',
  Database_Url: 'DATABASE_URL',
  REDIS_URI: 'REDIS_URL',
  REDISURL: 'REDIS_URL',
  PROT: 'PORT',
  PORTT: 'PORT',
  HOTS: 'HOST',
  LOGLEVEL: 'LOG_LEVEL',
  LOG_LEVLE: 'LOG_LEVEL',
  NODE_EVN: 'NODE_ENV',
  NODEENV: 'NODE_ENV',
  OPERATOR_TOKENS: 'OPERATOR_TOKEN',
  OPERATER_TOKEN: 'OPERATOR_TOKEN',
  PIN_ENCRYPTON_KEY: 'PIN_ENCRYPTION_KEY',
  SERVICE_CODE: 'SERVICE_CODES',
  GATEWAY_ALOW: 'GATEWAY_ALLOW',
  GATEWAY: 'GATEWAYS',
  CALLBACK_SECERT: 'CALLBACK_SECRET',
  AT_APIKEY: 'AT_API_KEY',
  AT_USER_NAME: 'AT_USERNAME',
  TA_API_KEY: 'AT_API_KEY',
  AT_SHORT_CODE: 'AT_SHORTCODE',
  TRUST_PROXY: 'TRUST_PROXY_ENABLED',
  SESSION_TTL: 'SESSION_TTL_SECONDS',
  SESSION_TTL_SECOND: 'SESSION_TTL_SECONDS',
  TWILIO_ACCOUNT_ID: 'TWILIO_ACCOUNT_SID',
  DATADIR: 'DATA_DIR',
  TRUSTED_PROXY: 'TRUSTED_PROXIES',
  AIRTIME_CURRENCY: 'AIRTIME_CURRENCIES',
  SMS_REPLY: 'SMS_REPLIES',
  SMS_PREFIX: 'SMS_PREFIXES',
  OPERATORS_TOKENS: 'OPERATOR_TOKEN',
  MAX_CONNECTION: 'MAX_CONNECTIONS',
  RATE_LIMITS_ALLOW: 'RATE_LIMIT_ALLOW',
  RATE_LIMIT_WINDOW_SECOND: 'RATE_LIMIT_WINDOW_SECONDS',
};

/** Names of other programs for a setting of ours; they count only where ours is not set. */
const SYNONYMS: Record<string, string> = {
  DB_URL: 'DATABASE_URL',
  POSTGRES_URL: 'DATABASE_URL',
  POSTGRESQL_URL: 'DATABASE_URL',
  DATA_DIRECTORY: 'DATA_DIR',
  GATEWAY_ALLOWLIST: 'GATEWAY_ALLOW',
  RATE_LIMIT_ALLOWLIST: 'RATE_LIMIT_ALLOW',
  AT_USER: 'AT_USERNAME',
  AT_KEY: 'AT_API_KEY',
  AFRICASTALKING_API_KEY: 'AT_API_KEY',
  USSD_SERVICE_CODES: 'SERVICE_CODES',
  TWILIO_TOKEN: 'TWILIO_AUTH_TOKEN',
};

/** What shells, Node, npm, platforms, Kubernetes, Docker and other programs set. */
const OTHERS =
  `PATH HOME USER LOGNAME SHELL PWD OLDPWD TERM LANG LC_ALL TMPDIR TEMP TZ HOSTNAME HOSTTYPE EDITOR MAIL
SHLVL PAGER DISPLAY COLORTERM SSH_AUTH_SOCK XDG_DATA_DIRS XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS INIT_CWD CI _
PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE PGDATA PGSSLMODE NODE NODE_OPTIONS NODE_PATH NODE_VERSION NODE_DEBUG
NODE_EXTRA_CA_CERTS NODE_NO_WARNINGS NODE_HOME NODE_TLS_REJECT_UNAUTHORIZED NODE_V8_COVERAGE YARN_VERSION npm_config_loglevel
npm_config_port npm_package_name npm_lifecycle_event npm_node_execpath NPM_CONFIG_LOGLEVEL http_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY no_proxy
KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT KUBERNETES_PORT KUBERNETES_PORT_443_TCP_ADDR USSD_GATEWAY_PORT
USSD_GATEWAY_PORT_3000_TCP USSD_GATEWAY_PORT_3000_TCP_PROTO USSD_GATEWAY_SERVICE_HOST USSD_GATEWAY_SERVICE_PORT
USSD_GATEWAY_SERVICE_PORT_HTTP REDIS_PORT REDIS_PORT_6379_TCP REDIS_SERVICE_HOST REDIS_HOST REDIS_PASSWORD REDIS_TLS_URL REDIS_DB
DB_HOST DATABASE_HOST DATABASE_USER DATABASE_NAME DATABASE_PORT DATABASE_SSL DATABASE_PASSWORD
DATABASE_PRIVATE_URL DATABASE_CONNECTION_POOL_URL TEST_DATABASE_URL POSTGRES_PASSWORD POSTGRES_USER
DYNO PORT0 PORT_0 PORT1 HTTP_PORT RENDER_SERVICE_ID RAILWAY_ENVIRONMENT FLY_APP_NAME K_SERVICE K_REVISION GAE_ENV VERCEL_URL
DD_API_KEY DD_SERVICE X_API_KEY API_KEY OPENAI_API_KEY API_BASE_URL APP_BASE_URL BASE_URL APP_KEY SECRET_KEY
SENTRY_DSN NEW_RELIC_LICENSE_KEY AWS_REGION AWS_SECRET_ACCESS_KEY GITHUB_TOKEN DATA_ROOT LOG_FORMAT LOG_FILE RATE_LIMIT_ALGORITHM
TWILIO_API_KEY TWILIO_PHONE_NUMBER SYSTEMD_EXEC_PID JOURNAL_STREAM INVOCATION_ID MEMORY_LIMIT WEB_CONCURRENCY
SOURCE_VERSION STACK DEBIAN_FRONTEND VIRTUAL_ENV JAVA_HOME GOPATH TAP TAP_CHILD_ID FORCE_COLOR NO_COLOR LINES COLUMNS`.split(
    /\s+/,
  );

test('a slip is told with what was meant', async (t) => {
  for (const [name, meant] of Object.entries(SLIPS))
    t.same(misspelt({ [name]: 'x' }, SETTINGS), [`${name} is not a setting: did you mean ${meant}?`], name);
});

test('the variables of others, and our own, are passed over', async (t) => {
  for (const name of [...OTHERS, ...SETTINGS]) t.same(misspelt({ [name]: 'x' }, SETTINGS), [], name);
});

test("another program's name is told where ours is not set", async (t) => {
  for (const [name, meant] of Object.entries(SYNONYMS)) {
    t.same(misspelt({ [name]: 'x' }, SETTINGS), [`${name} is not a setting: did you mean ${meant}?`], name);
    t.same(misspelt({ [name]: 'x', [meant]: ' ' }, SETTINGS).length, 1, `${name} beside an empty one`);
    t.same(misspelt({ [name]: 'x', [meant]: 'y' }, SETTINGS), [], `${name} beside ours`);
  }
});

test('the configuration warns; where it is refused, the slip stands with what is missing', async (t) => {
  const slip = 'DATABSE_URL is not a setting: did you mean DATABASE_URL?';
  const secret = 'postgres://user:hush@host/ussd';
  t.same(readConfig({ DATABSE_URL: secret }, SERVICES).warnings, [slip]);
  t.same(readConfig({ DATABSE_URL: ' ' }, SERVICES).warnings, [], 'set to nothing');
  try {
    readConfig({ NODE_ENV: 'production', DATABSE_URL: secret }, SERVICES);
    t.fail('is refused');
  } catch (error) {
    t.match((error as ConfigError).problems, [/^DATABASE_URL: is required in production/, slip]);
    t.notMatch((error as ConfigError).message, 'hush');
  }
});
