// The child process of a test: reads one JSON command per line and writes one JSON report per line.

import { createInterface } from "node:readline";
import type { ChangeEvent, WakeMessage } from "@formation-mcp/contract";
import type { Queue } from "@formation-mcp/queue";

/** How another process opens the driver: a module's URL, the function that it exports, and its argument. */
export interface ChildDriver {
  module: string;
  open: string;
  options: unknown;
}

export type ChildCommand =
  | { do: "consume"; subjects: string[]; slots: number; hang: boolean }
  | { do: "subscribe" }
  | { do: "publish"; subject: string; id: string; message: WakeMessage }
  | { do: "emit"; event: ChangeEvent }
  | { do: "close" };

export type ChildReport =
  | { is: "ready" }
  | { is: "done"; command: ChildCommand["do"] }
  | { is: "message"; id: string; subject: string }
  | { is: "event"; event: ChangeEvent };

const report = (what: ChildReport) => process.stdout.write(`${JSON.stringify(what)}\n`);

async function obey(queue: Queue, command: ChildCommand): Promise<void> {
  if (command.do === "publish") await queue.publish(command.subject, command.id, command.message);
  else if (command.do === "emit") await queue.emit(command.event);
  else if (command.do === "subscribe") await queue.subscribe((event) => report({ is: "event", event }));
  else if (command.do === "close") await queue.close();
  else {
    const { subjects, slots, hang } = command;
    await queue.consume(subjects, { slots }, async (message, subject) => {
      report({ is: "message", id: message.operation_id, subject });
      if (hang) await new Promise(() => {});
    });
  }
  report({ is: "done", command: command.do });
}

async function main(driver: ChildDriver): Promise<void> {
  const module = (await import(driver.module)) as Record<string, (options: unknown) => Promise<Queue>>;
  const queue = await module[driver.open]?.(driver.options);
  if (!queue) throw new Error(`${driver.module} exports no ${driver.open}`);
  report({ is: "ready" });
  for await (const line of createInterface({ input: process.stdin })) {
    await obey(queue, JSON.parse(line) as ChildCommand);
  }
  process.exit(0);
}

if (process.argv[2]) await main(JSON.parse(process.argv[2]) as ChildDriver);
