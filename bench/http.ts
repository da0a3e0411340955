// Requests a URL until it answers 200. A forwarded port accepts connections before its guest listens, and
// such a connection may hang long after the guest could answer. So a new request starts every few
// milliseconds, whatever the earlier ones do.

import { get } from "node:http";
import { setTimeout as delay } from "node:timers/promises";

const EVERY_MS = 25;
const LIMIT_MS = 120_000;

export async function untilOk(url: string, signal: AbortSignal): Promise<void> {
  const end = performance.now() + LIMIT_MS;
  const over = new AbortController();
  let ok = false;
  try {
    while (!ok) {
      if (performance.now() > end) throw new Error(`${url} does not answer 200`);
      signal.throwIfAborted();
      const asked = ask(url, over.signal).then((answer) => {
        ok ||= answer;
      });
      await Promise.race([asked, delay(EVERY_MS)]);
      if (!ok) await delay(EVERY_MS / 2);
    }
  } finally {
    over.abort();
  }
}

function ask(url: string, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get(url, { agent: false, signal, timeout: 1000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    request.once("timeout", () => request.destroy());
    request.once("error", () => resolve(false));
  });
}
