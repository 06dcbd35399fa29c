import { spawnSync } from 'node:child_process';

/**
 * Returns whether util-linux' `script` can open a pseudo terminal here: it is missing on macOS, and without a mounted
 * devpts (a bare chroot) it starts and opens none.
 */
export function hasTerminal(): boolean {
  if (process.platform !== 'linux') return false;
  const { stdout } = spawnSync('script', ['-qec', 'echo open', '/dev/null'], {
    encoding: 'utf8',
    env: { ...process.env, SHELL: '/bin/sh' },
    timeout: 5_000,
  });
  return stdout?.includes('open') ?? false;
}
