// @module-tag nats

import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createNatsKey, natsKeyOf } from "@formation-mcp/os/nats";
import { afterAll, expect, test } from "vitest";

const dir = mkdtempSync(join(tmpdir(), "formation-nkey-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test("a key file has mode 0600, and its public key can be read again", () => {
  const path = join(dir, "worker.nk");
  const made = createNatsKey(path);
  expect(made).toMatch(/^U[A-Z2-7]{55}$/);
  expect(natsKeyOf(path)).toBe(made);
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test("a key file that this user can't read is kept: the error does not say to remove it", () => {
  // A directory is as unreadable to root as another user's file is to the others.
  expect(() => natsKeyOf(dir)).toThrow(
    expect.objectContaining({
      code: "invalid",
      message: expect.stringMatching(/can't be read by this user \(EISDIR\)/),
      details: { remedy: expect.not.stringMatching(/remove/i) },
    }),
  );
});

test("a file without a key is refused without a word of its content", () => {
  const path = join(dir, "no.nk");
  writeFileSync(path, "SUSECRET");
  expect(() => natsKeyOf(path)).toThrow(expect.objectContaining({ code: "invalid" }));
  expect(() => natsKeyOf(path)).not.toThrow(/SECRET/);
});
