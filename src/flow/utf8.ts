/** Text in UTF-8, or where it ceases to be it: line and byte of the line, from 1, and what the file looks like. */
export type Decoded =
  | { text: string; problem?: undefined; line?: undefined }
  | { line: number; problem: string };

/** The sequences of UTF-8 (RFC 3629 §4), on bytes that are written as Latin-1. */
const SEQUENCES =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: every byte of ASCII is a sequence.
  /^(?:[\x00-\x7F]|[\xC2-\xDF][\x80-\xBF]|\xE0[\xA0-\xBF][\x80-\xBF]|[\xE1-\xEC\xEE\xEF][\x80-\xBF]{2}|\xED[\x80-\x9F][\x80-\xBF]|\xF0[\x90-\xBF][\x80-\xBF]{2}|[\xF1-\xF3][\x80-\xBF]{3}|\xF4[\x80-\x8F][\x80-\xBF]{2})*/;

const LINE_FEED = 0x0a;
/** Bytes that tell UTF-16. */
const LOOKED_AT = 256;

/**
 * Decodes a file strictly: a lossy decoder would turn each letter of another encoding into U+FFFD, and subscribers
 * would read that. A byte order mark is accepted and taken off. `problem` names the byte that is wrong and the remedy.
 */
export function decodeUtf8(bytes: Uint8Array): Decoded {
  const [first = 0, second = 0] = bytes;
  const mark = (first << 8) | second;
  if (mark === 0xfffe || mark === 0xfeff || isWide(bytes))
    return { line: 1, problem: 'the file is in UTF-16, not in UTF-8: save it as UTF-8' };
  try {
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) };
  } catch {
    return firstFault(bytes);
  }
}

/** Whether every other byte is mostly 0: the letters of ASCII in UTF-16, without a byte order mark. */
function isWide(bytes: Uint8Array): boolean {
  const begin = bytes.subarray(0, LOOKED_AT);
  const zeros = [0, 0];
  for (const [at, byte] of begin.entries()) if (byte === 0) zeros[at % 2] = (zeros[at % 2] ?? 0) + 1;
  return begin.length > 3 && Math.max(...zeros) > begin.length / 4;
}

/** A line feed is part of no longer sequence, so lines can be looked at one by one. */
function firstFault(bytes: Uint8Array): Decoded {
  for (let line = 1, from = 0; ; line += 1) {
    const feed = bytes.indexOf(LINE_FEED, from);
    const end = feed === -1 ? bytes.length : feed;
    const latin = Array.from(bytes.subarray(from, end), (byte) => String.fromCharCode(byte)).join('');
    const good = SEQUENCES.exec(latin)?.[0].length ?? 0;
    if (good < latin.length || feed === -1) {
      const byte = (bytes[from + good] ?? 0).toString(16).toUpperCase();
      return {
        line,
        problem: `the file is not in UTF-8: byte ${good + 1} of the line is 0x${byte}: save it as UTF-8`,
      };
    }
    from = feed + 1;
  }
}
