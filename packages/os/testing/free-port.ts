// A free TCP port for a test that has to know the number before the server starts.

import { createServer } from "node:net";

/**
 * A port of loopback that no process listens on at this moment. Another process may take it before the caller
 * does.
 */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
