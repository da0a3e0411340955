import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { waitFor } from "@formation-mcp/os";
import { expect, test } from "vitest";
import { limitConnections, watchBodies, watchConnections } from "../src/timeouts.ts";
import { dial } from "./program.ts";

/** A server that reads bodies whole and says how long they were. */
async function serve(times: { bodyMs: number; uploadMs: number }) {
  const listener: RequestListener = async (request, response) => {
    let bytes = 0;
    try {
      for await (const chunk of request) bytes += chunk.length;
      response.end(String(bytes));
    } catch {
      response.destroy();
    }
  };
  const server = createServer({ requestTimeout: 0 }, listener);
  watchBodies(server, times);
  const closeIdle = watchConnections(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    closeIdle,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const head = (method: string, path: string, bytes: number) =>
  `${method} ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: ${bytes}\r\n\r\n`;

test("a body that trickles has a time, whatever trickles in", async () => {
  await using server = await serve({ bodyMs: 300, uploadMs: 60_000 });
  const socket = await dial(server.url);
  socket.write(head("POST", "/mcp", 100_000));
  const ended = once(socket, "close");
  const trickle = setInterval(() => socket.writable && socket.write("x"), 20);
  await ended;
  clearInterval(trickle);
  expect(socket.heard()).toMatch(/^HTTP\/1\.1 408 /);
});

test("an upload may take long as long as it moves", async () => {
  await using server = await serve({ bodyMs: 100, uploadMs: 500 });
  const socket = await dial(server.url);
  const part = Buffer.alloc(128 * 1024);
  socket.write(head("PUT", "/api/contexts?digest=sha256:0", 12 * part.length));
  for (let i = 0; i < 12; i++) {
    socket.write(part);
    await delay(100); // the time that passes is what is tested
  }
  await waitFor(() => socket.heard().includes("\r\n\r\n"), { timeoutMs: 10_000, what: "the answer" });
  expect(socket.heard()).toContain(String(12 * part.length));
  socket.destroy();
});

test("an upload that stands still is ended", async () => {
  await using server = await serve({ bodyMs: 60_000, uploadMs: 200 });
  const socket = await dial(server.url);
  socket.write(head("PUT", "/api/contexts", 1_000_000));
  socket.write(Buffer.alloc(200_000));
  await once(socket, "close", { signal: AbortSignal.timeout(20_000) });
  expect(socket.heard()).toMatch(/^HTTP\/1\.1 408 /);
});

test("connections on which nothing runs are closed, those with a request are not", async () => {
  await using server = await serve({ bodyMs: 60_000, uploadMs: 60_000 });
  const silent = await dial(server.url);
  const busy = await dial(server.url);
  busy.write(head("POST", "/mcp", 2));
  const done = await dial(server.url);
  done.write(head("POST", "/mcp", 0));
  await waitFor(() => done.heard().endsWith("0"), { timeoutMs: 10_000, what: "the answer" });
  const allClosed = () => {
    server.closeIdle();
    return silent.closed && done.closed;
  };
  await waitFor(allClosed, { timeoutMs: 10_000, what: "idle ones to close" });
  busy.write("ab");
  await waitFor(() => busy.heard().endsWith("2"), { timeoutMs: 10_000, what: "the answer" });
  busy.destroy();
});

test("an address has its share of the connections, and gets a new one for each that it gives back", async () => {
  const server = createServer((_, response) => response.end("ok"));
  limitConnections(server, 3, (peer) => (peer === "127.0.0.1" ? peer : null));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const asked = async () => {
    const socket = await dial(url);
    socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await waitFor(() => socket.closed || socket.heard() !== "", {
      timeoutMs: 10_000,
      what: "an answer or the end",
    });
    return socket;
  };
  const [first, ...others] = [await asked(), await asked(), await asked()];
  expect([first, ...others].every((each) => each?.heard().startsWith("HTTP/1.1 200"))).toBe(true);
  expect((await asked()).heard()).toBe("");
  first?.destroy();
  await waitFor(async () => (await asked()).heard() !== "", {
    timeoutMs: 10_000,
    what: "the place to be free",
  });
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});
