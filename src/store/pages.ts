/** Every row of a table, a page at a time: `read` gives those behind the last row of the page before. */
export async function* inPages<T>(
  size: number,
  read: (after: NoInfer<T> | undefined) => Promise<T[]>,
): AsyncGenerator<T> {
  let after: T | undefined;
  for (;;) {
    const page = await read(after);
    yield* page;
    after = page.at(-1);
    if (page.length < size) return;
  }
}
