/** A disk of a few megabytes that a test can fill: a tmpfs, where this machine lets us mount one. */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmdirSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { unprivileged, whenWeDie } from './postgres.ts';

export type Disk = {
  /** Where it is mounted; belongs to the account that servers run under. */
  directory: string;
  /** Takes every byte that is free now, as somebody's log file would. */
  fill(): void;
  /** Gives all of them back. */
  free(): void;
};

/** Lazily: a server that still has its files there does not keep it. */
const UNMOUNT = 'umount -l "$1"; rmdir "$1"';
/** From large to small, so that nothing is left over. */
const CHUNKS = [1_048_576, 65_536, 4_096];

/** Mounts one; it goes with the test, also when the test is killed. Undefined where mounting is not allowed. */
export function smallDisk(t: Test, megabytes: number): Disk | undefined {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return undefined;
  const { uid, gid } = unprivileged();
  const directory = mkdtempSync(join(tmpdir(), 'ussd-disk-'));
  // Before it is mounted: nobody is killed in between.
  const sentry = whenWeDie(UNMOUNT, [directory]);
  const options = `size=${megabytes}m,mode=0700,uid=${uid},gid=${gid}`;
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'ussd-test', directory]).status === 0;
  const remove = () => {
    if (mounted) spawnSync('umount', ['-l', directory]);
    rmdirSync(directory);
    sentry?.kill('SIGKILL');
  };
  if (!mounted) return void remove();
  t.teardown(remove);
  const filler = join(directory, 'filler');
  return {
    directory,
    fill: () => {
      const file = openSync(filler, 'a');
      try {
        for (const size of CHUNKS) writeUntilFull(file, Buffer.alloc(size));
      } finally {
        closeSync(file);
      }
    },
    free: () => rmSync(filler, { force: true }),
  };
}

function writeUntilFull(file: number, chunk: Buffer): void {
  try {
    for (;;) writeSync(file, chunk);
  } catch (error) {
    if ((error as { code?: string }).code !== 'ENOSPC') throw error;
  }
}
