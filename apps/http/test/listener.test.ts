import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { HttpServer } from "@formation-mcp/assembly/http";
import { waitFor } from "@formation-mcp/os";
import { expect, test } from "vitest";
import { createListener } from "../src/listener.ts";
import { dial } from "./program.ts";

test("who hangs up while the guards look at a request is counted as answered, and served nothing", async () => {
  const looking = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  let answered = 0;
  let served = 0;
  const system = {
    gateway: {
      async guard() {
        looking.resolve();
        await goOn.promise;
        return { refused: null, address: "127.0.0.1", headers: {}, answered: () => (answered += 1) };
      },
    },
    oauth: async () => {
      served += 1;
      return true;
    },
  };
  let hungUp = false;
  const listener = createListener(system as unknown as HttpServer, "http://127.0.0.1");
  const server = createServer((request, response) => {
    response.once("close", () => {
      hungUp = true;
    });
    listener(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const socket = await dial(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  socket.write("GET /oauth/jwks HTTP/1.1\r\nHost: a\r\n\r\n");
  await looking.promise;
  socket.destroy();
  await waitFor(() => hungUp, { timeoutMs: 10_000, what: "the server to see it" });
  goOn.resolve();
  await waitFor(() => answered > 0, { timeoutMs: 10_000, what: "it to be counted" });
  expect([answered, served]).toEqual([1, 0]);
  await new Promise((resolve) => server.close(resolve));
});
