// The client of QMP, QEMU's control protocol: JSON objects over a Unix socket (QEMU's docs/interop/qmp-spec).
// The socket takes one client. When the connection closes, the machine has ended or is about to.

import { closeSync, openSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { TextLineSplitter } from "@formation-mcp/base";
import { FormationError } from "@formation-mcp/contract";

interface QmpEvent {
  event: string;
  data: Record<string, unknown>;
}

export interface QmpClient {
  /**
   * Sends a command and resolves with its return value.
   * @throws FormationError `unavailable`, also after 10 s.
   */
  execute(command: string, args?: Record<string, unknown>): Promise<unknown>;
  close(): void;
}

interface QmpHandlers {
  onEvent(event: QmpEvent): void;
  /** Called once when the connection ends, but not after `close`. */
  onClose(): void;
}

const COMMAND_MS = 10_000;
const MAX_LINE_LENGTH = 1024 * 1024;

/**
 * Connects to the socket `directory/name` and negotiates capabilities.
 * @throws FormationError `unavailable` if nothing answers.
 */
export async function connectQmp(directory: string, name: string, handlers: QmpHandlers): Promise<QmpClient> {
  const socket = await openSocket(directory, name);
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  let next = 1;
  let closed = false;
  const end = () => {
    for (const { reject } of waiting.values()) reject(gone());
    waiting.clear();
    if (closed) return;
    closed = true;
    handlers.onClose();
  };
  const onMessage = (message: Record<string, unknown>) => {
    if (typeof message["event"] === "string") {
      handlers.onEvent({ event: message["event"], data: (message["data"] ?? {}) as Record<string, unknown> });
      return;
    }
    const pending = waiting.get(Number(message["id"]));
    if (pending === undefined) return;
    waiting.delete(Number(message["id"]));
    const error = message["error"] as { desc?: string } | undefined;
    if (error)
      pending.reject(new FormationError("unavailable", `QEMU refused: ${error.desc ?? "no reason"}.`));
    else pending.resolve(message["return"]);
  };
  readMessages(socket, onMessage);
  socket.on("close", end);
  const execute = (command: string, args?: Record<string, unknown>): Promise<unknown> => {
    if (closed) return Promise.reject(gone());
    const id = next++;
    const timer = setTimeout(() => {
      waiting
        .get(id)
        ?.reject(new FormationError("unavailable", `QEMU did not answer ${command} within 10 s.`));
      waiting.delete(id);
    }, COMMAND_MS);
    return new Promise<unknown>((resolve, reject) => {
      waiting.set(id, { resolve, reject });
      socket.write(`${JSON.stringify({ execute: command, ...(args ? { arguments: args } : {}), id })}\n`);
    }).finally(() => clearTimeout(timer));
  };
  await execute("qmp_capabilities").catch((error: unknown) => {
    closed = true;
    socket.destroy();
    throw error;
  });
  return {
    execute,
    close: () => {
      closed = true;
      socket.destroy();
    },
  };
}

/** A socket address holds 108 bytes (unix(7)), so the directory is given as a descriptor. */
async function openSocket(directory: string, name: string): Promise<Socket> {
  const descriptor = openSync(directory, "r");
  try {
    return await connectTo(`/proc/self/fd/${descriptor}/${name}`);
  } catch (cause) {
    throw new FormationError("unavailable", "The machine's control socket does not answer.", { cause });
  } finally {
    closeSync(descriptor);
  }
}

function connectTo(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    socket.once("connect", () => {
      socket.off("error", reject);
      socket.on("error", () => {});
      socket.unref();
      resolve(socket);
    });
    socket.once("error", reject);
  });
}

/** Destroys the socket at the first line that is no JSON: the other side is not our QEMU. */
function readMessages(socket: Socket, onMessage: (message: Record<string, unknown>) => void): void {
  const lines = new TextLineSplitter(MAX_LINE_LENGTH, (line) => {
    try {
      onMessage(JSON.parse(line) as Record<string, unknown>);
    } catch {
      socket.destroy();
    }
  });
  socket.setEncoding("utf8");
  socket.on("data", (chunk: string) => lines.push(chunk));
}

function gone(): FormationError {
  return new FormationError("unavailable", "The machine's process is gone.");
}
