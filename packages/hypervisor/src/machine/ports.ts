// Which host ports are forwarded to a machine: the owner's fixed port, else the port of the last start if it
// is free, else a free one of a range below the kernel's own ephemeral ports.

import { randomInt } from "node:crypto";
import { createServer } from "node:net";
import { FormationError } from "@formation-mcp/contract";

const FIRST_PORT = 20_000;
const PORT_COUNT = 10_000;

export interface PortWish {
  guest_port: number;
  /** Fixed by the owner; null: any. */
  port: number | null;
}

/**
 * Chooses a host port for each wish.
 * @param last The ports of the machine's last start.
 * @param taken The ports of other machines, running or not.
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
      fixed ?? (await freePort(last.find((one) => one.guest_port === guest_port)?.port, used, address));
    if (fixed !== null && !(await isFree(fixed, address))) throw portTaken(fixed, address);
    used.add(port);
    chosen.push({ guest_port, port });
  }
  return chosen;
}

/** `field` is the tool input that fixes ports. */
export function portTaken(port: number, address: string): FormationError {
  return new FormationError("conflict", `Port ${port} on ${address} is already taken.`, {
    remedy: `Choose another host port for it, leave the choice to the node, or end what listens on ${port}.`,
    field: "host_ports",
    step: "boot",
  });
}

async function freePort(
  last: number | undefined,
  used: ReadonlySet<number>,
  address: string,
): Promise<number> {
  if (last !== undefined && !used.has(last) && (await isFree(last, address))) return last;
  const start = randomInt(PORT_COUNT);
  for (let at = 0; at < PORT_COUNT; at++) {
    const port = FIRST_PORT + ((start + at) % PORT_COUNT);
    if (!used.has(port) && (await isFree(port, address))) return port;
  }
  throw new FormationError("unavailable", "No host port is free.", {
    remedy: `Free a TCP port between ${FIRST_PORT} and ${FIRST_PORT + PORT_COUNT - 1} on this node.`,
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
