/**
 * Finds variables that are no settings but look like one, so that a slip is told instead of passed over.
 *
 * An environment is full of names of others (a platform's, a shell's, Kubernetes' service variables), so a name counts
 * only where it differs from a setting by its case, its underscores, a plural, an ending that is missing, or a slip or
 * two of the keyboard, or where other programs call the setting so and it is not set. Returns one line each, without
 * values.
 */
export function misspelt(
  environment: Record<string, string | undefined>,
  settings: readonly string[],
): string[] {
  const own = new Set(settings);
  return Object.keys(environment)
    .filter((name) => !own.has(name) && !OTHERS.test(name))
    .sort()
    .flatMap((name) => {
      const meant = nearest(name, settings) ?? synonym(name, environment);
      return meant === undefined ? [] : [`${name} is not a setting: did you mean ${meant}?`];
    });
}

/**
 * Names of others: Postgres' and npm's own, those that Kubernetes and Docker make of services (`APP_PORT_80_TCP_ADDR`,
 * `APP_SERVICE_PORT`), numbered ports of schedulers (`PORT0`).
 */
const OTHERS =
  /^(PG[A-Z]+|npm_.*|.*_PORT_\d+_(TCP|UDP|SCTP)(_.*)?|.*_SERVICE_(HOST|PORT)(_.*)?|(PORT|HOST)_?\d+)$/;

/**
 * Names that other programs give to a setting of ours. A platform may set one beside ours (`POSTGRES_URL`), so it counts
 * only where ours is not set.
 */
const SYNONYMS: Record<string, readonly string[]> = {
  DATABASE_URL: [
    'DB_URL',
    'DB_URI',
    'PG_URL',
    'POSTGRES_URL',
    'POSTGRES_URI',
    'POSTGRESQL_URL',
    'POSTGRESQL_URI',
  ],
  DATA_DIR: ['DATA_DIRECTORY', 'DATA_FOLDER', 'DATA_PATH'],
  GATEWAY_ALLOW: ['GATEWAY_ALLOWLIST', 'GATEWAY_ALLOW_LIST', 'GATEWAY_WHITELIST'],
  RATE_LIMIT_ALLOW: ['RATE_LIMIT_ALLOWLIST', 'RATE_LIMIT_ALLOW_LIST', 'RATE_LIMIT_WHITELIST'],
  AT_USERNAME: ['AT_USER', 'AFRICASTALKING_USERNAME', 'AFRICAS_TALKING_USERNAME'],
  AT_API_KEY: ['AT_KEY', 'AFRICASTALKING_API_KEY', 'AFRICAS_TALKING_API_KEY'],
  SERVICE_CODES: ['USSD_SERVICE_CODES', 'USSD_SERVICE_CODE', 'USSD_CODES', 'USSD_CODE'],
  TWILIO_AUTH_TOKEN: ['TWILIO_TOKEN'],
  TWILIO_ACCOUNT_SID: ['TWILIO_SID'],
};

function synonym(name: string, environment: Record<string, string | undefined>): string | undefined {
  const meant = Object.keys(SYNONYMS).find((setting) => SYNONYMS[setting]?.includes(name));
  return meant === undefined || (environment[meant] ?? '').trim() !== '' ? undefined : meant;
}

/** In a name of fewer letters one slip is as much as a likeness bears: `HOME` is not `HOST`. */
const SHORT = 9;

function nearest(name: string, settings: readonly string[]): string | undefined {
  const upper = name.toUpperCase();
  const bare = upper.replaceAll('_', '');
  const same = settings.find((setting) => setting.replaceAll('_', '') === bare);
  // A name in small letters is a program's own (`http_proxy`) unless it is exactly ours.
  if (same !== undefined || name !== upper) return same;
  const ranked = settings
    .map((setting) => ({ setting, slips: slipsBetween(name, setting) }))
    .filter(({ setting, slips }) => slips <= (setting.length < SHORT ? 1 : 2))
    .sort((one, other) => one.slips - other.slips);
  return (
    ranked[0]?.setting ??
    settings.find((each) => singular(each) === singular(name)) ??
    (name.includes('_') ? settings.find((each) => each.startsWith(`${name}_`)) : undefined)
  );
}

/** A name with each of its words in the singular: TRUSTED_PROXIES and TRUSTED_PROXY are one. */
function singular(name: string): string {
  const words = name.split('_').map((word) =>
    word
      .replace(/IES$/, 'Y')
      .replace(/(S|X|CH|SH)ES$/, '$1')
      .replace(/S$/, ''),
  );
  return words.join('_');
}

/** Counts the slips between two names, word by word where both have the same number of words; else over the whole. */
function slipsBetween(name: string, setting: string): number {
  const words = name.split('_');
  const others = setting.split('_');
  if (words.length !== others.length) {
    // `API_BASE_URL` and `PGHOST` have words of their own; `DATABASEULR` lacks an underscore.
    if (Math.abs(words.length - others.length) !== 1 || setting.length < SHORT) return Infinity;
    const slips = distance(name.replaceAll('_', ''), setting.replaceAll('_', ''));
    return slips <= 1 ? slips + 1 : Infinity;
  }
  let sum = 0;
  for (const [at, word] of words.entries()) {
    const other = others[at] ?? '';
    const slips = distance(word, other);
    // The names of others differ in short words: DATABASE_SSL, DD_API_KEY.
    const most = other.length > 4 ? 2 : other.length > 2 || isTurned(word, other) ? 1 : 0;
    if (slips > most) return Infinity;
    sum += slips;
  }
  return sum;
}

/** Whether two words have the same letters in another order. */
function isTurned(word: string, other: string): boolean {
  return [...word].sort().join('') === [...other].sort().join('');
}

/** The optimal string alignment distance: letters added, left out, replaced, and neighbours exchanged. */
function distance(one: string, other: string): number {
  let before: number[] = [];
  let row = Array.from({ length: other.length + 1 }, (_, at) => at);
  for (let i = 1; i <= one.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= other.length; j += 1) {
      const cost = one[i - 1] === other[j - 1] ? 0 : 1;
      let least = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + cost);
      if (i > 1 && j > 1 && one[i - 1] === other[j - 2] && one[i - 2] === other[j - 1])
        least = Math.min(least, (before[j - 2] ?? 0) + 1);
      next.push(least);
    }
    before = row;
    row = next;
  }
  return row[other.length] ?? 0;
}
