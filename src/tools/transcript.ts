import { appendFileSync, writeFileSync } from 'node:fs';
import { UNAMBIGUOUS } from '../flow/answer.ts';

const CUSTOMER_ID = new RegExp(`\\bC[${UNAMBIGUOUS}]{8}\\b`, 'g');

/**
 * Writes a conversation down as `test/transcripts/` has it, line by line while it goes on. Everything that
 * was typed stands in it as it was typed, PINs too; the file is readable by its owner only. A Customer ID
 * that is heard on a screen becomes `{customerId}`, because the next time it is another.
 */
export class Transcript {
  readonly #file: string;
  readonly #names = new Map<string, string>();
  #dials = 0;

  constructor(file: string, phone: string) {
    this.#file = file;
    writeFileSync(file, `phone ${phone}\n`, { mode: 0o600 });
  }

  dialled(code: string, reply: string): void {
    this.#dials += 1;
    this.#write(`${this.#dials > 1 ? '\n' : ''}dial ${code}`, reply);
  }

  typed(input: string, reply: string): void {
    this.#write(`> ${this.#typedByName(input)}`.trimEnd(), reply);
  }

  #write(line: string, reply: string): void {
    for (const [id] of reply.matchAll(CUSTOMER_ID)) {
      const count = this.#names.size + 1;
      if (!this.#names.has(id)) this.#names.set(id, `customerId${count === 1 ? '' : count}`);
    }
    appendFileSync(this.#file, `${line}\n${this.#byName(reply)}\n`);
  }

  #byName(text: string): string {
    return text.replaceAll(CUSTOMER_ID, (id) => (this.#names.has(id) ? `{${this.#names.get(id)}}` : id));
  }

  #typedByName(input: string): string {
    const name = this.#names.get(input.toUpperCase());
    if (name === undefined) return input;
    return input === input.toUpperCase() ? `{${name}}` : `{${name} in lower case}`;
  }
}
