import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Id, type Logger, newId, type WakeMessage } from "@formation-mcp/contract";
import { waitFor } from "@formation-mcp/os";
import type { Queue } from "@formation-mcp/queue";
import { type EmbeddedQueueOptions, openEmbeddedQueue } from "@formation-mcp/queue/embedded";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const { DatabaseSync } = createRequire(import.meta.url)("node:sqlite") as typeof import("node:sqlite");
const wake = (operation = newId("op")): WakeMessage => ({ v: 1, operation_id: operation });
const until = (what: string, condition: () => boolean | Promise<boolean>) =>
  waitFor(condition, { what, timeoutMs: 10_000, everyMs: 10 });
const MINUTE = 60_000;

let directory: string;
let path: string;
let queues: Queue[];
let children: ChildProcess[];

async function open(options: Partial<EmbeddedQueueOptions> = {}): Promise<Queue> {
  const queue = await openEmbeddedQueue({ path, pollMs: 0, retryMs: 5, ...options });
  queues.push(queue);
  return queue;
}

/** Runs a program with `openEmbeddedQueue`, `newId` and `path` in another process. */
function elsewhere(program: string): {
  lines: string[];
  ended: Promise<number | null>;
  process: ChildProcess;
} {
  const code = `import { openEmbeddedQueue } from ${JSON.stringify(import.meta.resolve("@formation-mcp/queue/embedded"))};
    import { newId } from ${JSON.stringify(import.meta.resolve("@formation-mcp/contract"))};
    const path = ${JSON.stringify(path)};
    ${program}`;
  const child = spawn(
    process.execPath,
    ["--conditions=formation-source", "--input-type=module", "-e", code],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  children.push(child);
  const lines: string[] = [];
  child.stdout
    .setEncoding("utf8")
    .on("data", (text: string) => lines.push(...text.split("\n").filter(Boolean)));
  return { lines, ended: new Promise((resolve) => child.once("exit", resolve)), process: child };
}

async function removeFiles(): Promise<void> {
  for (const suffix of ["", "-wal", "-shm"]) await rm(path + suffix, { force: true });
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "queue-"));
  path = join(directory, "queue.sqlite");
  queues = [];
  children = [];
});
afterEach(async () => {
  for (const child of children) child.kill("SIGKILL");
  await Promise.all(queues.map((queue) => queue.close()));
  await rm(directory, { recursive: true });
});

describe("the embedded queue's file", () => {
  it("belongs to its user alone", async () => {
    const queue = await open();
    await queue.publish("pack.build", "m.1", wake());
    for (const name of await readdir(directory)) {
      expect((await stat(join(directory, name))).mode & 0o777).toBe(0o600);
    }
  });

  it("is made private if it was not", async () => {
    await writeFile(path, "", { mode: 0o644 });
    await open();
    expect((await stat(path)).mode & 0o777).toBe(0o600);
  });

  it("is refused, untouched, if it is another program's database", async () => {
    const other = new DatabaseSync(path);
    other.exec("CREATE TABLE precious (a); INSERT INTO precious VALUES (1)");
    other.close();
    await expect(open()).rejects.toMatchObject({ code: "invalid" });
    const again = new DatabaseSync(path);
    expect(again.prepare("SELECT a FROM precious").get()).toEqual({ a: 1 });
    again.close();
  });

  it("is set aside and made anew if it is damaged", async () => {
    await writeFile(path, "this was a database once ".repeat(400));
    const queue = await open();
    const got: string[] = [];
    await queue.consume(["pack.build"], { slots: 1 }, async (message) => {
      got.push(message.operation_id);
    });
    await queue.publish("pack.build", "m.1", wake());
    await until("the message", () => got.length === 1);
    expect(existsSync(`${path}.damaged`)).toBe(true);
  });

  it("gives a clear error where it cannot be", async () => {
    path = join(directory, "missing", "queue.sqlite");
    await expect(open()).rejects.toMatchObject({
      code: "unavailable",
      details: { remedy: expect.stringContaining("directory") },
    });
  });

  it("stays small, however much goes through it", async () => {
    const queue = await open();
    let done = 0;
    await queue.consume(["pack.build"], { slots: 8 }, async () => {
      done++;
    });
    for (let i = 0; i < 3000; i++) await queue.publish("pack.build", `m.${i}`, wake());
    for (let i = 0; i < 12_000; i++) await queue.emit({ v: 1, id: newId("op"), owner: "me" });
    await until("all messages", () => done === 3000);
    await queue.sweep();
    const rows = new DatabaseSync(path, { readOnly: true });
    const count = (table: string) => Number(rows.prepare(`SELECT count(*) AS n FROM ${table}`).get()?.["n"]);
    expect(count("messages")).toBe(0);
    expect(count("events")).toBeLessThanOrEqual(10_000);
    rows.close();
  }, 30_000);
});

/** Sends a wake-up until it is taken, at most ten times. */
async function sent(queue: Queue, subject: string, id: Id<"op">, taken: () => boolean): Promise<void> {
  for (let send = 1; send <= 10; send++) {
    await queue.publish(subject, `${id}.${send}`, wake(id));
    const came = await waitFor(taken, { timeoutMs: 2000, what: "the message" }).catch(() => false);
    if (came) return;
  }
  throw new Error(`Nobody took ${id}.`);
}

describe("deleting the embedded queue's file while everything runs", () => {
  it("leaves every process able to send and to take what is sent afterwards", async () => {
    const queue = await open();
    const child = elsewhere(`
      const queue = await openEmbeddedQueue({ path, pollMs: 50 });
      await queue.consume(["pack.ship"], { slots: 1 }, async (message) => console.log(message.operation_id));
      await queue.subscribe((event) => console.log(event.id));
      console.log("ready");
      setInterval(() => {}, 1000);
    `);
    await until("the child", () => child.lines.includes("ready"));
    const got: string[] = [];
    await queue.consume(["pack.build"], { slots: 1 }, async (message) => {
      got.push(message.operation_id);
    });
    for (let round = 0; round < 5; round++) {
      await removeFiles();
      const [build, ship, event] = [newId("op"), newId("op"), newId("vm")];
      // As the store's sweep does: a wake-up that was not taken is sent again under another message id.
      await sent(queue, "pack.build", build, () => got.includes(build));
      await sent(queue, "pack.ship", ship, () => child.lines.includes(ship));
      await queue.emit({ v: 1, id: event, owner: "me" });
      await until("the event there", () => child.lines.includes(event));
    }
    expect(new Set(got).size).toBe(5);
  }, 60_000);

  it("is noticed without anybody sending, by the watch alone, and consumers are told", async () => {
    const queue = await open();
    let missed = 0;
    await queue.consume(["pack.build"], { slots: 1, missed: () => missed++ }, async () => {});
    await removeFiles();
    await until("a new file", () => existsSync(path));
    await until("the word", () => missed > 0);
  });

  it("does not disturb a handler that runs", async () => {
    const queue = await open();
    let finish = () => {};
    let running = false;
    await queue.consume(["pack.build"], { slots: 1 }, async () => {
      running = true;
      await new Promise<void>((resolve) => {
        finish = resolve;
      });
    });
    await queue.publish("pack.build", "m.1", wake());
    await until("the handler", () => running);
    await removeFiles();
    running = false;
    finish();
    await queue.publish("pack.build", "m.2", wake());
    await until("the next message", () => running);
    finish();
  });

  it("file by file, in any order, at any moment, leaves a queue that works", async () => {
    const queue = await open({ pollMs: 20 });
    const other = await open({ pollMs: 20 });
    const got = new Set<string>();
    await other.consume(["pack.build"], { slots: 2 }, async (message) => {
      got.add(message.operation_id);
    });
    const orders = [
      ["-wal", "-shm", ""],
      ["-shm", "", "-wal"],
      ["", "-wal", "-shm"],
      ["-wal"],
      ["-shm"],
      [""],
    ];
    for (const order of orders) {
      for (const suffix of order) {
        await rm(path + suffix, { force: true });
        await queue.publish("pack.build", `${newId("op")}.1`, wake());
      }
      const operation = newId("op");
      // A wake-up may be lost while the files are deleted. Like the sweep, this sends another until one
      // arrives.
      let sends = 0;
      await until("a message", async () => {
        if (got.has(operation)) return true;
        await queue.publish("pack.build", `${operation}.${++sends}`, wake(operation));
        return false;
      });
    }
  }, 20_000);
});

describe("time in the embedded queue", () => {
  it("lets a message id be sent again after two minutes", async () => {
    let now = 1_000_000_000;
    const queue = await open({ clock: { now: () => now } });
    let got = 0;
    await queue.consume(["pack.build"], { slots: 1 }, async () => {
      got++;
    });
    const message = wake();
    await queue.publish("pack.build", "m.1", message);
    await until("the message", () => got === 1);
    now += 2 * MINUTE - 1;
    await queue.publish("pack.build", "m.1", message);
    now += 1;
    await queue.publish("pack.build", "m.1", message);
    await until("the second", () => got === 2);
    expect(got).toBe(2);
  });

  it("keeps dead letters for seven days", async () => {
    let now = 1_000_000_000_000;
    const queue = await open({ clock: { now: () => now } });
    await queue.consume(["pack.build"], { slots: 1 }, async () => {});
    await queue.publish("pack.build", "bad.1", {} as unknown as WakeMessage);
    await until("the dead letter", async () => (await queue.deadLetters(1)).length === 1);
    now += 7 * 24 * 60 * MINUTE - 1;
    await queue.sweep();
    expect(await queue.deadLetters(1)).toHaveLength(1);
    now += 1;
    await queue.sweep();
    expect(await queue.deadLetters(1)).toEqual([]);
  });

  it("shows at most 1,000 characters of a dead letter's body", async () => {
    const queue = await open();
    await queue.consume(["pack.build"], { slots: 1 }, async () => {});
    await queue.publish("pack.build", "bad.1", "x".repeat(5000) as unknown as WakeMessage);
    await until("the dead letter", async () => (await queue.deadLetters(1)).length === 1);
    expect((await queue.deadLetters(1))[0]?.body).toHaveLength(1000);
  });

  it("survives a clock that is set back by a day", async () => {
    let now = 1_000_000_000_000;
    const queue = await open({ clock: { now: () => now } });
    await queue.publish("pack.build", "m.1", wake());
    now -= 24 * 60 * MINUTE;
    let got = 0;
    await queue.consume(["pack.build"], { slots: 1 }, async () => {
      got++;
    });
    await until("the message", () => got === 1);
  });

  it("waits longer each time before it gives a failed message again", async () => {
    const pauses: number[] = [];
    let last = 0;
    const queue = await open({ retryMs: 20 });
    await queue.consume(["pack.build"], { slots: 1 }, async () => {
      if (last > 0) pauses.push(performance.now() - last);
      last = performance.now();
      throw new Error("no");
    });
    await queue.publish("pack.build", "m.1", wake());
    await until("five deliveries", () => pauses.length === 4);
    expect(pauses[0]).toBeGreaterThanOrEqual(19);
    expect(pauses[3]).toBeGreaterThanOrEqual(159);
  });
});

describe("faults around the embedded queue", () => {
  it("does not lose a message when consumers are killed at random moments", async () => {
    const queue = await open();
    const program = `
      const queue = await openEmbeddedQueue({ path, leaseMs: 200, retryMs: 5 });
      await queue.consume(["pack.build"], { slots: 2 }, async (message) => {
        await new Promise((resolve) => setTimeout(resolve, 5));
        console.log(message.operation_id);
      });
      setInterval(() => {}, 1000);
    `;
    const sent = Array.from({ length: 60 }, () => newId("op"));
    const runs = [elsewhere(program), elsewhere(program)];
    for (const [index, operation] of sent.entries()) {
      await queue.publish("pack.build", `${operation}.1`, wake(operation));
      if (index === 20 || index === 40) {
        await until("some work", () => runs.some((run) => run.lines.length > 0));
        runs.at(-2)?.process.kill("SIGKILL");
        runs.push(elsewhere(program));
      }
    }
    const done = () => new Set(runs.flatMap((run) => run.lines));
    await until("all messages", () => sent.every((operation) => done().has(operation)));
  }, 20_000);

  it("lets the process end, though it consumes and subscribes", async () => {
    const child = elsewhere(`
      const queue = await openEmbeddedQueue({ path });
      await queue.consume(["pack.build"], { slots: 1 }, async () => {});
      await queue.subscribe(() => {});
    `);
    expect(await child.ended).toBe(0);
  });

  it("says in the log what fails, without what a handler's error says", async () => {
    const said: string[] = [];
    const logger: Logger = {
      log: (level, message, fields) => said.push(JSON.stringify([level, message, fields])),
    };
    const queue = await open({ logger });
    await queue.consume(["pack.build"], { slots: 1 }, async () => {
      throw new Error("hunter2");
    });
    await queue.publish("pack.build", "m.1", wake());
    await until("the dead letter", async () => (await queue.deadLetters(1)).length === 1);
    expect(said.some((line) => line.includes("dead letter"))).toBe(true);
    expect(said.join()).not.toContain("hunter2");
  });
});
