// Work that may fail: the caller goes on, and the operator reads why it failed.

import { FormationError, type Logger, quietly } from "@formation-mcp/contract";
import { expect, it } from "vitest";

it("an action that fails quietly is logged with its code and cause, and says that it failed", async () => {
  const lines: unknown[][] = [];
  const logger: Logger = { log: (...line) => lines.push(line) };
  expect(await quietly(logger, "sweep", async () => "done")).toBe(true);
  expect(lines).toEqual([]);
  const cause = new Error("ECONNREFUSED");
  const refused = new FormationError("unavailable", "The database does not answer.", { cause });
  expect(await quietly(logger, "sweep", () => Promise.reject(refused))).toBe(false);
  const broken = (): Promise<void> => {
    throw new TypeError("x is undefined");
  };
  expect(await quietly(logger, "reconcile", broken)).toBe(false);
  expect(lines).toEqual([
    [
      "warn",
      "Could not sweep: The database does not answer.",
      { code: "unavailable", cause: "ECONNREFUSED" },
    ],
    [
      "warn",
      "Could not reconcile: Something went wrong inside the server.",
      { code: "internal", cause: "x is undefined" },
    ],
  ]);
});
