/** The line of a turn, which is written past pino, is the one that pino would write. */
import t from 'tap';
import { lineWriter, makeLog } from '../src/log.ts';
import fc from './support/property.ts';
import { scaled } from './support/scale.ts';

/** Two loggers and what each wrote. */
function both(level = 'info') {
  const direct: string[] = [];
  const pinos: string[] = [];
  const one = makeLog(level, { write: (line) => void direct.push(line) });
  const other = makeLog(level, { write: (line) => void pinos.push(line) });
  return { write: lineWriter(one, 'turn'), other, direct, pinos };
}

const untimed = (line = '') => line.replace(/"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"/, '"time":""');

t.test('the same line, byte for byte', (t) => {
  const value = fc.oneof(
    fc.constantFrom('ok', 'ixo', 'm_0123456789ab', 'preMenu', 12.3, 0, -1.5, undefined, ['text']),
    fc.string({ unit: 'binary' }),
    fc.double(),
  );
  const facts = fc.record(
    { gateway: value, outcome: value, reason: value, fault: value, service: value, node: value, ms: value },
    { requiredKeys: [] },
  );
  const { write, other, direct, pinos } = both();
  fc.assert(
    fc.property(facts, fc.uuid(), (facts, reqId) => {
      write(reqId, facts as never);
      other.info({ reqId, ...facts }, 'turn');
      const [mine, theirs] = [untimed(direct.pop()), untimed(pinos.pop())];
      if (mine !== theirs) throw new Error(`${mine}${theirs}`);
    }),
    { numRuns: scaled(20_000) },
  );
  t.end();
});

t.test('the time is now, and nothing is written below the level', (t) => {
  const { write, direct } = both();
  const before = Date.now();
  write('0', { gateway: 'ixo' });
  const { time } = JSON.parse(direct[0] ?? '') as { time: string };
  t.ok(Date.parse(time) >= before && Date.parse(time) <= Date.now(), time);
  const quiet = both('warn');
  quiet.write('0', { gateway: 'ixo' });
  t.same(quiet.direct, []);
  t.end();
});
