// Which host ports machines get: fixed ones where the owner says so, else one from a range below the ports that the kernel
// hands out by itself; the one it had last time if that is still free.

import { randomInt } from "node:crypto";
import { createServer } from "node:net";
import { FormationError } from "@formation-mcp/contract";

const FIRST = 20_000;
const COUNT = 10_000;

export interface PortWish {
  guest_port: number;
  /** Fixed by the owner. */
  port: number | null;
}

/**
 * Chooses a host port for each wish. `taken` are the ports of other machines, running or not: they are left to them.
 * @throws FormationError `conflict` if a fixed port is taken, naming it.
 */
export async function choosePorts(
  wishes: readonly PortWish[],
  last: readonly { guest_port: number; port: number }[],
  taken: ReadonlySet<number>,
  address: string,
): Promise<{ guest_port: number; port: number }[]> {
  const chosen: { guest_port: number; port: number }[] = [];
  const used = new Set(taken);
  for (const { port } of wishes) if (port !== null) used.add(port);
  for (const { guest_port, port: fixed } of wishes) {
    const port =
      fixed ?? (await automatic(last.find((one) => one.guest_port === guest_port)?.port, used, address));
    if (fixed !== null && !(await isFree(fixed, address))) throw portTaken(fixed, address);
    used.add(port);
    chosen.push({ guest_port, port });
  }
  return chosen;
}

export function portTaken(port: number, address: string): FormationError {
  return new FormationError("conflict", `Port ${port} on ${address} is already taken.`, {
    remedy: `Choose another host port for it, leave the choice to the node, or end what listens on ${port}.`,
    field: "host_ports",
    step: "boot",
  });
}

async function automatic(
  before: number | undefined,
  used: ReadonlySet<number>,
  address: string,
): Promise<number> {
  if (before !== undefined && !used.has(before) && (await isFree(before, address))) return before;
  const start = randomInt(COUNT);
  for (let at = 0; at < COUNT; at++) {
    const port = FIRST + ((start + at) % COUNT);
    if (!used.has(port) && (await isFree(port, address))) return port;
  }
  throw new FormationError("unavailable", "No host port is free.", {
    remedy: `Free a TCP port between ${FIRST} and ${FIRST + COUNT - 1} on this node.`,
  });
}

/** Whether the port can be bound right now. */
function isFree(port: number, address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: address, exclusive: true }, () => server.close(() => resolve(true)));
  });
}
