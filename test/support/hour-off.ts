/** `--import` it, and the process's clock is an hour ahead, as where nobody sets it; the database's stays right. */
const OFF_MS = 3_600_000;
const now = Date.now;
const Right = Date;

Date.now = () => now() + OFF_MS;

globalThis.Date = new Proxy(Right, {
  construct: (target, given, wanted) =>
    Reflect.construct(target, given.length === 0 ? [now() + OFF_MS] : given, wanted),
  apply: () => new Right(now() + OFF_MS).toString(),
});
