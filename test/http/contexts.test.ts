// @module-tag bundles

// Hostile contexts over HTTP that try to escape their directory, fill the disk or hang the server: each is
// refused, and nothing of it is stored.

import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { pax, type RawEntry, rawTar as tar } from "@formation-mcp/artifacts/testing/raw-tar";
import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bomb, tarGz } from "../support/http/archives.ts";
import { type Ground, openGround } from "../support/http/ground.ts";
import { newUser, rest } from "../support/http/people.ts";
import { bytesOf, type Reply, send, Wire } from "../support/http/wire.ts";
import { keptBlobs } from "../support/shared.ts";

let ground: Ground;
beforeAll(async () => {
  ground = await openGround();
});
afterAll(() => ground?.close());

const file = (name: string, body = "x"): RawEntry => ({ name, body });

function upload(
  body: Uint8Array,
  headers: [string, string][] = [],
  token = ground.user.token,
): Promise<Reply | null> {
  return send(ground.url, {
    method: "PUT",
    path: "/api/contexts",
    headers: [["Authorization", `Bearer ${token}`], ["Content-Type", "application/x-tar"], ...headers],
    body,
  });
}

const blobs = async () => (await keptBlobs(ground.server.stateDir)).blobs;

describe("An archive is refused that has", () => {
  const cases: [string, () => Uint8Array, number[]][] = [
    ["a path that is absolute", () => tar([file("/etc/passwd")]), [400]],
    ["a path that climbs", () => tar([file("../../etc/passwd")]), [400]],
    ["a path that climbs from inside", () => tar([file("a/../../b")]), [400]],
    ["a path that climbs, by an extended header", () => tar([pax({ path: "../../b" }), file("a")]), [400]],
    ["an absolute path, by an extended header", () => tar([pax({ path: "/b" }), file("a")]), [400]],
    ["a path with a NUL", () => tar([pax({ path: "a\0b" }), file("a")]), [400]],
    ["a path with a line feed", () => tar([pax({ path: "a\nb" }), file("a")]), [400]],
    ["a path of 5,000 letters", () => tar([pax({ path: "a/".repeat(2500) }), file("a")]), [400]],
    ["an empty path", () => tar([file("")]), [400]],
    ["a link to outside", () => tar([{ name: "l", type: "2", link: "/etc" }]), [400]],
    ["a link that climbs", () => tar([{ name: "d/l", type: "2", link: "../../x" }]), [400]],
    ["a file through a link", () => tar([{ name: "l", type: "2", link: "/tmp" }, file("l/evil")]), [400]],
    ["a hard link to outside", () => tar([{ name: "h", type: "1", link: "/etc/passwd" }]), [400]],
    ["a hard link that climbs", () => tar([{ name: "h", type: "1", link: "../../etc/passwd" }]), [400]],
    ["a character device", () => tar([{ name: "c", type: "3" }]), [400]],
    ["a block device", () => tar([{ name: "b", type: "4" }]), [400]],
    ["a pipe", () => tar([{ name: "p", type: "6" }]), [400]],
    ["a type that there is not", () => tar([{ name: "t", type: "Z" }]), [400]],
    ["a size that it does not keep", () => tar([{ name: "f", body: "x", size: 1024 * 1024 }], false), [400]],
    ["a size that is negative", () => tar([pax({ size: "-1" }), file("a")]), [400]],
    ["a size beyond all disks", () => tar([pax({ size: "99999999999999" }), file("a")]), [400, 413]],
    [
      "60,000 files",
      () => gzipSync(tar(Array.from({ length: 60_000 }, (_, n) => ({ name: `f${n}` })))),
      [400, 413],
    ],
    ["600 MiB in 600 KiB", () => bomb(600), [400, 413]],
    ["no archive but words", () => Buffer.from("hello ".repeat(1000)), [400]],
    [
      "zeros for a header, and then more",
      () => Buffer.concat([Buffer.alloc(512), Buffer.alloc(512, 7)]),
      [400],
    ],
    ["a broken checksum", () => Buffer.from(tar([file("a")])).fill(0x37, 150, 154), [400]],
    ["half of its bytes", () => tarGz([file("a", "x".repeat(100_000))]).subarray(0, 80), [400]],
    [
      "another archive behind it",
      () => Buffer.concat([gzipSync(tar([file("a")])), Buffer.from("garbage")]),
      [400],
    ],
    ["a zip in its place", () => Buffer.from("504b0304140000000800", "hex"), [400]],
  ];
  test.each(cases)("%s", async (_, make, expected) => {
    const before = await blobs();
    ground.refused(await upload(make()), expected);
    expect(await blobs()).toEqual(before);
  });
});

test("what looks like a way out and is none is taken for what it is: a name", async () => {
  for (const entries of [[file("..\\..\\b")], [pax({ path: "../b" }, "g"), file("a")]]) {
    const reply = await upload(tar(entries));
    expect(reply?.status, reply?.body).toBe(200);
    expect(JSON.parse(reply?.body ?? "").data).toMatchObject({ files: 1, bytes: 1 });
  }
});

test("a digest that does not fit is refused, and the blob is not kept", async () => {
  const before = await blobs();
  const other = createHash("sha256").update("other").digest();
  for (const header of [
    ["Content-Digest", `sha-256=:${other.toString("base64")}:`],
    ["Digest", `sha-256=${other.toString("base64")}`],
    ["Content-Digest", "sha-256=:AAAA:"],
  ] as [string, string][]) {
    ground.refused(await upload(tar([file("digested")]), [header]), 400);
  }
  expect(await blobs()).toEqual(before);
});

test("an upload that breaks off leaves nothing", async () => {
  const before = await blobs();
  for (let at = 0; at < 10; at++) {
    const wire = await Wire.open(ground.url);
    const headers = [
      ["Authorization", `Bearer ${ground.user.token}`],
      ["Content-Type", "application/x-tar"],
      ["Content-Length", "1048576"],
    ] as const;
    wire.write(
      bytesOf(ground.url, { method: "PUT", path: "/api/contexts", headers, body: Buffer.alloc(4096) }),
      "PUT",
    );
    wire.close();
  }
  await waitFor(async () => (await keptBlobs(ground.server.stateDir)).begun.length === 0, {
    timeoutMs: 10_000,
    everyMs: 100,
    what: "what was begun to be gone",
  });
  expect(await blobs()).toEqual(before);
  await waitFor(async () => (await upload(tar([file("next")])))?.status === 200, {
    timeoutMs: 10_000,
    what: "room for the next upload",
  });
});

describe("A context is its owner's:", () => {
  const formfile = { from: "busybox", name: "c", include: ["."], entrypoint: ["true"] };
  const build = (token: string, parameters: Record<string, unknown>) =>
    rest(ground.url, "POST", "/api/tools/pack_build", {
      token,
      body: { parameters: { formfile, wait_seconds: 0, ...parameters } },
    });

  test("somebody else's id is an id of nothing", async () => {
    const reply = await upload(tar([file("a")]));
    expect(reply?.status, reply?.body).toBe(200);
    const id = String(JSON.parse(reply?.body ?? "").data.context_id);
    const stranger = await newUser(ground.url, ground.admin);
    const refused = ground.refused(await build(stranger.token, { context_id: id }), 404);
    const nothing = ground.refused(
      await build(stranger.token, { context_id: `${id.slice(0, -4)}0000` }),
      404,
    );
    const plain = (text: string) => text.replace(/ctx_[0-9a-z]+/g, "…");
    expect(plain(refused.body)).toBe(plain(nothing.body));
  });

  test.each([
    ["../../etc/passwd", [400, 404]],
    ["ctx_../../etc/passwd", [400, 404]],
    ["ctx_' OR 1=1 --", [400, 404]],
    ["a".repeat(10_000), [400, 404]],
  ] as [string, number[]][])("the id %s is none", async (context_id, expected) => {
    ground.refused(await build(ground.user.token, { context_id }), expected);
  });

  test.each(["/etc", "/", ".", "../..", "", "/proc/self/root", "\\\\server\\share"])(
    "the server's own directory %j can't be named over HTTP, whoever asks, also from loopback",
    async (context_dir) => {
      for (const { token } of [ground.user, ground.admin]) {
        const reply = ground.refused(
          await build(token, { context_dir }),
          context_dir === "" ? [400, 403] : 403,
        );
        if (context_dir !== "")
          expect(JSON.parse(reply.body)).toMatchObject({ error: { code: "forbidden" } });
      }
    },
  );
});
