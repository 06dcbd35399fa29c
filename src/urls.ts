/**
 * Checks the URL of a setting. A problem never quotes the URL, which may hold a password.
 *
 * A character of a password that is not percent-encoded cuts a URL in two (`#`, `/`, `?`) or is read as an escape (`%`);
 * some such URLs can be parsed, as another host. `@`, `:` and a space are read as they are meant, and are let pass.
 */

const ENCODE =
  'a character of its user name or password must be percent-encoded: write # as %23, / as %2F, ? as %3F, @ as %40, : as %3A, % as %25, a space as %20';

/** Says why a URL cannot be used; undefined where it can. `protocols` are like `redis:`. */
export function urlProblem(value: string, protocols: readonly string[]): string | undefined {
  const forms = protocols.map((protocol) => `${protocol}//`).join(' or ');
  const [, scheme = '', rest = ''] = /^([a-z][a-z0-9+.-]*:)\/\/(.*)$/is.exec(value) ?? [];
  if (!protocols.includes(scheme.toLowerCase())) return `must be a URL that begins with ${forms}`;
  const isWeb = /^https?:$/i.test(scheme);
  if (isUnencoded(rest, isWeb)) return ENCODE;
  if (URL.canParse(withHost(value))) return undefined;
  // Behind the authority an `@` is the one that was meant to end the password.
  if (/[/?#\\].*@/s.test(rest)) return ENCODE;
  return `its host or port cannot be read: write ${scheme}//user:password@host:port/name`;
}

/** Fills in a host where the URL of a Unix socket has none behind the user: `postgres://user@/name?host=/run/postgresql`. */
function withHost(url: string): string {
  return url.replace(/^(postgres(?:ql)?:\/\/[^/?#]*@)(?=\/)/i, '$1socket');
}

function isUnencoded(rest: string, isWeb: boolean): boolean {
  const [, authority = '', path = '', query = '', fragment] =
    /^([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#(.*))?$/s.exec(rest) ?? [];
  const user = authority.includes('@') ? authority.slice(0, authority.lastIndexOf('@')) : '';
  if (!isDecodable(user)) return true;
  if (fragment !== undefined && (!isWeb || fragment.includes('@'))) return true;
  // A web address may have an `@` in its path, and a query any text.
  if (isWeb) return false;
  return path.includes('@') || !isDecodable(path) || /^[^=]*@/.test(query);
}

function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}
