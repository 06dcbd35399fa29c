import { ConfigError } from './config.ts';
import { DirectoryInUse } from './db/embedded.ts';
import { RightsMissing } from './db/migrate.ts';
import { DirectoryRefused } from './directories.ts';
import { EnvFileError } from './env-file.ts';
import { KeyLost } from './kept.ts';
import { AddressRefused } from './listening.ts';
import { MenuError } from './menus.ts';
import { StartRefused } from './opening.ts';
import { CommandRefused } from './operator/commands.ts';
import { KeyError } from './seal/keys.ts';
import { RepliesError } from './sms/replies.ts';
import { WrongKeys } from './store/keyring.ts';

/**
 * Returns the lines to print where the person who started this can mend the fault of a start or a command, else
 * undefined.
 */
export function inWords(error: unknown): string[] | undefined {
  const listed = [EnvFileError, ConfigError, MenuError, RepliesError].find((kind) => error instanceof kind);
  if (listed !== undefined) return (error as { problems: string[] }).problems;
  const plain = [KeyError, WrongKeys, DirectoryInUse, DirectoryRefused, RightsMissing, KeyLost, StartRefused];
  const others = [AddressRefused, CommandRefused];
  if ([...plain, ...others].some((kind) => error instanceof kind)) return [(error as Error).message];
  // A port that is taken, a user or a database that the server does not
  // know (classes 28 and 3D). These name addresses and users, nothing secret.
  const { syscall, code = '', message } = error as NodeJS.ErrnoException;
  return syscall !== undefined || /^(28|3D)/.test(code) ? [message] : undefined;
}
