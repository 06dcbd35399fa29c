import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os';
import { join } from 'node:path';
import { median } from './rows.ts';

/** What the numbers of a run are numbers of. */
export type Machine = {
  date: string;
  cores: number;
  cpu: string;
  memoryGb: number;
  system: string;
  node: string;
  /** Of an 8 kB page, in milliseconds; the median of many. */
  flushMs: number;
  /** Processes that wanted to run in the minute before. Much above 0: the numbers are not to be trusted. */
  loadBefore: number;
};

const FLUSHES = 200;

/** Describes the machine; `directory` lies on the disk that the databases are on. */
export async function describeMachine(directory: string): Promise<Machine> {
  return {
    date: new Date().toISOString().slice(0, 10),
    cores: availableParallelism(),
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    memoryGb: Math.round(totalmem() / 2 ** 30),
    system: `${type()} ${release().split('-')[0]}`,
    node: process.version,
    flushMs: flushOf(directory),
    loadBefore: loadavg()[0] ?? 0,
  };
}

function flushOf(directory: string): number {
  const file = join(directory, 'flush');
  const page = Buffer.alloc(8_192, 1);
  const fd = openSync(file, 'w');
  try {
    const times = Array.from({ length: FLUSHES }, (_, n) => {
      const began = performance.now();
      writeSync(fd, page, 0, page.length, (n % 16) * page.length);
      fdatasyncSync(fd);
      return performance.now() - began;
    });
    return Math.round(median(times) * 100) / 100;
  } finally {
    closeSync(fd);
    rmSync(file);
  }
}
