/** A storm in which the disk is full: that of the tables, which Postgres survives, or all of it, which it does not. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { checkAll } from '../../support/checker.ts';
import { type Disk, smallDisk } from '../../support/disk.ts';
import type { Postgres } from '../../support/postgres.ts';
import { answers, ownServer, setStage, stranger, unleash } from '../../support/storm.ts';

t.setTimeout(600_000);

const SUBSCRIBERS = 25;
/** More than there is time for: the storm ends when there is room again. */
const DIALS = 40;
const FULL_MS = 8_000;

type Full = {
  name: string;
  megabytes: number;
  serve(t: Test, disk: Disk): Promise<Postgres>;
  /** What happens while nothing is free; resolves when it has been for long enough. */
  meanwhile(server: Postgres, t: Test): Promise<void>;
  /** Whether somebody has to start the server again once there is room. */
  restart: boolean;
};

function onAFullDisk({ name, megabytes, serve, meanwhile, restart }: Full): void {
  t.test(name, async (t) => {
    const disk = smallDisk(t, megabytes);
    if (disk === undefined)
      return void t.pass('nothing may be mounted on this machine: no disk was filled', { skip: true });
    const server = await serve(t, disk);
    const stage = await setStage(t, { server });
    const storm = await unleash(stage, SUBSCRIBERS, DIALS);
    await answers(storm, 100);
    disk.fill();
    // Again and again: a checkpoint gives some of it back.
    const filling = setInterval(disk.fill, 50);
    t.teardown(() => clearInterval(filling));
    await meanwhile(server, t);
    for (const url of stage.urls) t.equal((await fetch(`${url}/`)).status, 200, 'the process lives');
    clearInterval(filling);
    disk.free();
    if (restart) await server.restart();
    await answers(storm, 100);
    storm.stop();
    stage.fake.chaos({});
    await checkAll(t, stage, storm);
    t.ok(
      storm.history.some(({ outcome }) => outcome === 'unavailable'),
      'the fault was noticed',
    );
  });
}

onAFullDisk({
  name: 'the disk of the tables is full',
  megabytes: 64,
  serve: async (t, { directory }) => {
    const server = await ownServer(t, { default_tablespace: 'small' });
    const admin = await stranger(t, server.url);
    await admin.query(`create tablespace small location '${directory}'`);
    return server;
  },
  meanwhile: async (server, t) => {
    await sleep(FULL_MS);
    t.match(server.said(), /could not extend file .*: No space left on device/);
    t.notMatch(server.said(), 'PANIC', 'Postgres lives');
  },
  restart: false,
});

onAFullDisk({
  name: 'the whole disk is full, WAL and all',
  megabytes: 256,
  serve: (t, { directory }) => ownServer(t, {}, join(directory, 'data')),
  meanwhile: async (server, t) => {
    await sleep(FULL_MS / 2);
    t.match(server.said(), /could not extend file .*: No space left on device/);
    // Somebody else's writes, until the segment that comes next cannot be made.
    const writer = await stranger(t, server.url);
    const words = `select pg_logical_emit_message(false, 'test', repeat('x', 100000))`;
    await t.rejects(async () => {
      for (let megabytes = 0; megabytes < 256; megabytes += 0.1) await writer.query(words);
    }, 'the server is gone');
    t.match(server.said(), /PANIC: .* "pg_wal.*: No space left on device/, 'Postgres cannot write its WAL');
    await sleep(FULL_MS / 2);
  },
  // It may have tried to recover, and ended for good: there was no room for that either.
  restart: true,
});
