// Buffered log lines on standard error. A server that logs every request must not wait for the reader of its
// log each time.

const FLUSH_AFTER_MS = 20;
const FLUSH_AT_LENGTH = 64 * 1024;

/**
 * A write function for a logger. Lines keep their order; the last ones are written when the process exits.
 */
export function bufferedLines(write: (text: string) => void = toStderr): (line: string) => void {
  let buffered = "";
  let timer: NodeJS.Timeout | null = null;
  const flush = () => {
    if (timer) clearTimeout(timer);
    timer = null;
    const text = buffered;
    buffered = "";
    if (text !== "") write(text);
  };
  process.once("exit", flush);
  return (line) => {
    buffered += line;
    if (buffered.length >= FLUSH_AT_LENGTH) flush();
    else timer ??= setTimeout(flush, FLUSH_AFTER_MS).unref();
  };
}

function toStderr(text: string): void {
  process.stderr.write(text);
}
