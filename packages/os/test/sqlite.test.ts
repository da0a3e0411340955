// @module-tag slow

import { existsSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { waitFor } from "@formation-mcp/os";
import { hasSqlite, isBusy, openSqlite, retryBusy, tryLock } from "@formation-mcp/os/sqlite";
import { describe, expect, it } from "vitest";
import { child, ended, scratch } from "./support.ts";

describe("a database file", () => {
  it("is opened by 32 processes at once, none of which fails or loses a row", async () => {
    const directory = scratch();
    const path = join(directory, "many.sqlite");
    const gate = join(directory, "gate");
    const openers = await Promise.all(Array.from({ length: 32 }, () => child("opener", path, gate)));
    writeFileSync(gate, "");
    expect(await Promise.all(openers.map((opener) => ended(opener.process)))).toEqual(openers.map(() => 0));
    const database = await openSqlite(path);
    expect(database.prepare("SELECT count(*) AS n, count(DISTINCT pid) AS pids FROM rows").get()).toEqual({
      n: 320,
      pids: 32,
    });
    database.close();
  }, 90_000);

  it("is in write-ahead mode with foreign keys", async () => {
    expect(hasSqlite()).toBe(true);
    const database = await openSqlite(join(scratch(), "file.sqlite"));
    expect(database.prepare("PRAGMA journal_mode").get()).toEqual({ journal_mode: "wal" });
    expect(database.prepare("PRAGMA foreign_keys").get()).toEqual({ foreign_keys: 1 });
    database.close();
  });

  it("that cannot be opened, or is none, is `unavailable` and says which", async () => {
    const directory = scratch();
    const noise = join(directory, "noise");
    writeFileSync(noise, "not a database, but long enough to be looked at".repeat(50));
    for (const path of [join(directory, "missing", "file"), directory, noise]) {
      await expect(openSqlite(path)).rejects.toMatchObject({
        code: "unavailable",
        message: expect.stringContaining(path),
      });
    }
  });
});

describe("a lock that another connection holds", () => {
  it("is retried until it is free, and the event loop runs meanwhile", async () => {
    const path = join(scratch(), "file.sqlite");
    const [one, two] = [await openSqlite(path), await openSqlite(path)];
    one.exec("CREATE TABLE t (n); BEGIN IMMEDIATE");
    let tried = 0;
    const writing = retryBusy(() => {
      tried++;
      return two.exec("INSERT INTO t VALUES (1)");
    });
    await waitFor(() => tried > 1, { timeoutMs: 10_000, everyMs: 1, what: "a second try" });
    one.exec("COMMIT");
    await writing;
    expect(two.prepare("SELECT count(*) AS n FROM t").get()).toEqual({ n: 1 });
    one.close();
    two.close();
  });

  it("for too long is `unavailable` with a remedy, and other errors are not retried", async () => {
    const busy = Object.assign(new Error("database is locked"), { errcode: 5 });
    let asked = 0;
    const action = (error: Error) => () => {
      asked++;
      throw error;
    };
    await expect(retryBusy(action(busy), 30)).rejects.toMatchObject({ code: "unavailable", cause: busy });
    expect(asked).toBeGreaterThan(1);
    asked = 0;
    await expect(retryBusy(action(new RangeError("other")))).rejects.toThrow(RangeError);
    expect(asked).toBe(1);
    expect([busy, new Error("other"), null, undefined, "text"].map(isBusy)).toEqual([
      true,
      false,
      false,
      false,
      false,
    ]);
  });
});

describe("the file lock", () => {
  it("is held by one of two, in one process and across two", async () => {
    const path = join(scratch(), "lock");
    const first = await tryLock(path);
    expect(first).not.toBeNull();
    expect(await tryLock(path)).toBeNull();
    expect((await child("holder", path)).said).toBe("taken");
    first?.release();
    first?.release();
    expect((await child("holder", path)).said).toBe("held");
    expect(await tryLock(path)).toBeNull();
  }, 30_000);

  it("is free again as soon as its holder was killed with -9", async () => {
    const path = join(scratch(), "lock");
    const holder = await child("holder", path);
    expect(holder.said).toBe("held");
    expect(await tryLock(path)).toBeNull();
    holder.process.kill("SIGKILL");
    await ended(holder.process);
    using lock = await waitFor(() => tryLock(path), { timeoutMs: 10_000, what: "the lock" });
    expect(existsSync(path)).toBe(true);
    expect(lock).not.toBeNull();
  }, 30_000);

  it("among twelve that try at once is given to exactly one", async () => {
    const path = join(scratch(), "lock");
    const holders = await Promise.all(Array.from({ length: 12 }, () => child("holder", path)));
    expect(holders.map((holder) => holder.said).sort()).toEqual([
      "held",
      ...Array.from({ length: 11 }, () => "taken"),
    ]);
  }, 60_000);

  it("does not grow its file", async () => {
    const path = join(scratch(), "lock");
    for (let turn = 0; turn < 20; turn++) (await tryLock(path))?.release();
    expect(statSync(path).size).toBeLessThan(16_384);
  });

  it("that cannot be opened is an error, not a lock that another process holds", async () => {
    await expect(tryLock(join(scratch(), "missing", "lock"))).rejects.toBeInstanceOf(FormationError);
  });
});
