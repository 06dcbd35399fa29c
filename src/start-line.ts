import type { Config, Operator } from './config.ts';
import { tokenFile } from './kept.ts';
import { type Row, startTable } from './start-table.ts';

/** What a start says besides the configuration. */
export type Start = {
  /** What was opened. */
  notes: string[];
  providers: string[];
  settings: readonly string[];
  made?: Operator;
};

/** Returns what an operator has to know of this configuration, or to change. */
function warningsOf(config: Config): string[] {
  const warnings = [...config.warnings];
  if (config.trustedProxies.length > 0)
    warnings.push(`proxies believed: ${config.trustedProxies.join(', ')} (narrow it with TRUSTED_PROXIES)`);
  if (config.environment === 'production') {
    if (config.gatewayAllow.empty && config.callbackSecret === undefined) {
      warnings.push(
        'WARNING anybody may call the gateway routes, and callbacks are dropped: set GATEWAY_ALLOW or CALLBACK_SECRET',
      );
    }
    if (config.rateLimit.allow.empty)
      warnings.push('WARNING set RATE_LIMIT_ALLOW to the networks of your aggregators');
  }
  return warnings;
}

/** Returns the start as a record of the log, for machines and for a log that is read later. */
export function startLine(
  config: Config,
  address: string,
  { notes, providers, settings, made }: Start,
): string {
  const operator =
    config.operators.length > 0
      ? 'operators by token'
      : made === undefined
        ? 'operator routes closed: set OPERATOR_TOKEN'
        : `operator routes read by this machine only; all of them with the token ${made.token} of ${tokenFile(config.dataDir)}`;
  return [
    `ussd gateway on ${address}`,
    config.environment,
    ...notes,
    ...providers,
    operator,
    ...settings.map((file) => `settings of ${file}`),
    ...warningsOf(config),
  ].join(' | ');
}

/** Returns the same as a table, for a person at a terminal. */
export function startScreen(
  config: Config,
  addresses: string[],
  { notes, providers, settings, made }: Start,
): string {
  const codes = [...config.serviceCodes, ['any other code', config.defaultService] as const];
  const wide = Math.max(...codes.map(([code]) => code.length));
  const token: Row[] =
    made === undefined
      ? [
          [
            'operators',
            [config.operators.length > 0 ? 'by OPERATOR_TOKEN' : 'routes closed: set OPERATOR_TOKEN'],
          ],
        ]
      : [
          [
            'operator token',
            [made.token, `kept in ${tokenFile(config.dataDir)}; this machine may read without it`],
          ],
        ];
  return startTable(`ussd gateway on ${addresses[0]} (Ctrl-C stops it)`, [
    ['address', addresses],
    ['environment', [config.environment]],
    ['settings', settings.length > 0 ? [`${settings.join(', ')} and the environment`] : []],
    ['services', codes.map(([code, service]) => `${code.padEnd(wide)}  ${service}`)],
    ['database', notes],
    ['providers', providers],
    ...token,
    ['warnings', warningsOf(config)],
  ]);
}
