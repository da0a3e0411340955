import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { unpackContext } from "@formation-mcp/artifacts/context";
import { createClient } from "@formation-mcp/client";
import { uploadDirectory } from "@formation-mcp/client/directory";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { drop, type TestServer, testServer } from "./server.ts";

let server: TestServer;
let directory: string;
beforeEach(async () => {
  server = await testServer();
  server.on("/api/contexts", ({ body }) => ({ context_id: "ctx_1", bytes: body.length, files: 1 }));
  directory = mkdtempSync(join(tmpdir(), "formation-client-"));
});
afterEach(async () => {
  await server.close();
  rmSync(directory, { recursive: true, force: true });
});

const client = () => createClient({ url: server.url, token: "fmt_x_y", random: () => 0 });
const bytes = new TextEncoder().encode("an archive");
const sent = () => server.seen.map(({ method, path, body }) => `${method} ${path} ${body.toString()}`);

describe("an upload", () => {
  it.each([
    ["bytes", () => bytes],
    ["a blob", () => new Blob([bytes])],
    ["a stream", () => new Blob([bytes]).stream()],
    [
      "an iterable",
      async function* () {
        yield bytes.slice(0, 3);
        yield bytes.slice(3);
      },
    ],
  ])("takes %s, whole", async (_, content) => {
    expect(await client().upload(content())).toEqual({ context_id: "ctx_1", bytes: bytes.length, files: 1 });
    expect(sent()).toEqual(["PUT /api/contexts an archive"]);
  });

  it("of bytes says what they are, and is sent again when the connection breaks", async () => {
    server.next("/api/contexts", drop);
    await client().upload(bytes);
    expect(sent()).toHaveLength(2);
    const digest = createHash("sha256").update(bytes).digest("base64");
    expect(server.seen[1]?.headers["content-digest"]).toBe(`sha-256=:${digest}:`);
  });

  it("of a stream is sent once: what was read is gone", async () => {
    server.next("/api/contexts", drop);
    await expect(client().upload(new Blob([bytes]).stream())).rejects.toMatchObject({ code: "unavailable" });
    expect(sent()).toHaveLength(1);
  });

  it("ends with its source's error, which is told as it is", async () => {
    const { FormationError } = await import("@formation-mcp/contract");
    async function* broken() {
      yield bytes;
      throw new FormationError("conflict", "The file changed while it was read.");
    }
    await expect(client().upload(broken())).rejects.toMatchObject({ code: "conflict" });
  });
});

describe("a directory", () => {
  beforeEach(() => {
    mkdirSync(join(directory, "src"));
    writeFileSync(join(directory, "src/main.py"), "print()");
    writeFileSync(join(directory, ".env"), "SECRET=1");
    writeFileSync(join(directory, "notes.txt"), "notes");
  });

  it("goes up as what include names, without what looks like a secret", async () => {
    const made = await uploadDirectory(client(), { dir: directory, include: ["."], allow: [directory] });
    expect(made).toMatchObject({ context_id: "ctx_1", left_out: [".env"] });
    const to = join(directory, "unpacked");
    mkdirSync(to);
    const archive = server.seen[0]?.body ?? Buffer.alloc(0);
    const names = await namesIn(archive, to);
    expect(names).toEqual(["notes.txt", "src/main.py"]);
  });

  it("is not read outside of what is allowed", async () => {
    const outside = uploadDirectory(client(), { dir: "/etc", include: ["."], allow: [directory] });
    await expect(outside).rejects.toMatchObject({ code: "forbidden" });
    expect(sent()).toEqual([]);
  });
});

async function namesIn(archive: Buffer, to: string): Promise<string[]> {
  async function* stream() {
    yield archive;
  }
  await unpackContext(stream(), to, { maxBytes: 1 << 20, maxFiles: 100 });
  const { readdirSync } = await import("node:fs");
  return readdirSync(to, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(to.length + 1))
    .sort();
}
