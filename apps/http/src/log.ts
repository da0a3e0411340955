// The log's lines on standard error, a few at a time: a server that writes one for every request must not wait for whoever
// reads them at each.

const GATHER_MS = 20;
const GATHER_BYTES = 64 * 1024;

/** What a logger writes with. Lines leave in their order, at the latest with the process. */
export function gatheredLines(write: (text: string) => void = toStderr): (line: string) => void {
  let gathered = "";
  let timer: NodeJS.Timeout | null = null;
  const flush = () => {
    if (timer) clearTimeout(timer);
    timer = null;
    const text = gathered;
    gathered = "";
    if (text !== "") write(text);
  };
  process.once("exit", flush);
  return (line) => {
    gathered += line;
    if (gathered.length >= GATHER_BYTES) flush();
    else timer ??= setTimeout(flush, GATHER_MS).unref();
  };
}

function toStderr(text: string): void {
  process.stderr.write(text);
}
