import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openCredentials } from "../src/remote/credentials.ts";

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "formation-credentials-"));
  path = join(directory, "below/credentials.json");
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const A = "https://a.example.org";
const B = "https://b.example.org";
const session = (owner: string) => ({
  access_token: `access of ${owner}`,
  expires_at: 1,
  refresh_token: null,
  scopes: ["vm:read"],
  owner,
});

it("keeps one session for each server, in a file that its owner alone can read", () => {
  const credentials = openCredentials(path);
  expect([credentials.current(), credentials.of(A).load()]).toEqual([null, null]);
  credentials.of(A).save(session("a"));
  credentials.of(B).save(session("b"));
  expect(openCredentials(path).of(A).load()).toEqual(session("a"));
  expect(openCredentials(path).of(B).load()).toEqual(session("b"));
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(statSync(join(directory, "below")).mode & 0o777).toBe(0o700);
});

it("means the server that was signed in to last, and another when that is left", () => {
  const credentials = openCredentials(path);
  credentials.of(A).save(session("a"));
  credentials.of(B).save(session("b"));
  expect(credentials.current()).toBe(B);
  credentials.of(B).save(null);
  expect(credentials.current()).toBe(A);
  credentials.of(A).save(null);
  expect(credentials.current()).toBeNull();
  expect(readFileSync(path, "utf8")).not.toContain("access of");
});

it("is not read when others could have, and says how to mend it", () => {
  openCredentials(path).of(A).save(session("a"));
  chmodSync(path, 0o644);
  expect(() => openCredentials(path).current()).toThrowError(expect.objectContaining({ code: "forbidden" }));
});

it("says what to do when the file is damaged", () => {
  openCredentials(path).of(A).save(session("a"));
  writeFileSync(path, "{");
  expect(() => openCredentials(path).current()).toThrowError(expect.objectContaining({ code: "invalid" }));
});

it("lets one at a time at a session", async () => {
  let inside = 0;
  let most = 0;
  const work = async () => {
    inside += 1;
    most = Math.max(most, inside);
    await new Promise((resolve) => setImmediate(resolve));
    inside -= 1;
  };
  const all = Array.from({ length: 8 }, () => openCredentials(path).of(A).withLock?.(work));
  await Promise.all(all);
  expect(most).toBe(1);
  expect(existsSync(`${path}.lock`)).toBe(false);
});

it("gives the place free when the work fails, and takes one that was left by the dead", async () => {
  const { withLock } = openCredentials(path).of(A);
  await expect(withLock?.(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
  writeFileSync(`${path}.lock`, "");
  const longAgo = new Date(Date.now() - 3_600_000);
  utimesSync(`${path}.lock`, longAgo, longAgo);
  expect(await withLock?.(async () => "in")).toBe("in");
});
