// @module-tag bundles

// What users of npm get: every package packed, installed in a separate project, and used there on the
// promised Node versions. Run `pnpm build` first; the test command of the README does that.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { publint } from "publint";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openGround } from "./support/http/ground.ts";
import { filesIn, installPacked, type Packed, PROGRAMS, runWith, unpacked } from "./support/packed.ts";
import { publishedOf, readPublished, SIZE_TOLERANCE, writePublished } from "./support/published.ts";

const ROOT = dirname(import.meta.dirname);
const LIBRARIES = readdirSync(join(ROOT, "packages")).map((name) => `@formation-mcp/${name}`);

let packed: Packed;
beforeAll(async () => {
  packed = await installPacked();
});
afterAll(() => packed?.close());

describe("a package as it is published", () => {
  it("there is one of each library and program", () => {
    expect([...packed.tarballs.keys()].sort()).toEqual([...LIBRARIES, ...PROGRAMS].sort());
  });

  it.each([...LIBRARIES, ...PROGRAMS])("%s has its license and its build, and no source", async (name) => {
    const tarball = packed.tarballs.get(name) ?? "";
    const files = [...(await filesIn(tarball)).keys()];
    expect(files).toContain("LICENSE");
    expect(files.filter((file) => !file.startsWith("dist/")).sort()).toEqual(
      ["LICENSE", "README.md", "package.json"].filter((file) => files.includes(file)),
    );
    const manifest = await unpacked(tarball, "package.json");
    expect(manifest).not.toMatch(/formation-source|workspace:|catalog:|\.\/src/);
  });

  it("test/snapshots/published.json lists its files, and its bytes to within a twentieth", async () => {
    const listed = readPublished();
    const published = await publishedOf(packed.tarballs);
    if (process.env["UPDATE_PUBLISHED"]) writePublished(published);
    else {
      const filesOf = (all: typeof listed) => Object.entries(all).map(([name, { files }]) => [name, files]);
      const advice = "If this is meant, run this test once more with UPDATE_PUBLISHED=1.";
      expect(filesOf(published), advice).toEqual(filesOf(listed));
      for (const [name, { bytes }] of Object.entries(listed)) {
        const change = Math.abs((published[name]?.bytes ?? 0) - bytes) / bytes;
        expect(change, `${name}: ${bytes} bytes listed. ${advice}`).toBeLessThan(SIZE_TOLERANCE);
      }
    }
  });

  it.each(LIBRARIES)("publint has nothing to say about %s", async (name) => {
    const bytes = readFileSync(packed.tarballs.get(name) ?? "");
    const tarball = new Uint8Array(bytes).buffer;
    const { messages } = await publint({ pack: { tarball }, strict: true });
    expect(messages).toEqual([]);
  });

  it.each(PROGRAMS)("%s names the software in its bundle, with the licenses", async (name) => {
    const notices = await unpacked(packed.tarballs.get(name) ?? "", "dist/THIRD_PARTY_NOTICES");
    expect(notices).toMatch(/^zod \d+\.\d+\.\d+ \(MIT\)$/m);
    expect(notices).toContain("Permission is hereby granted, free of charge");
    if (name === "formation-mcp") expect(notices).toMatch(/^ajv, carried by @modelcontextprotocol\/server$/m);
  });
});

describe.each([24, 22] as const)("the libraries on Node %i", (major) => {
  it("every subpath can be imported", async () => {
    const imports = packed.subpaths.map((subpath) => `await import(${JSON.stringify(subpath)});`);
    expect(imports.length).toBeGreaterThan(LIBRARIES.length);
    writeFileSync(join(packed.libraries, "imports.mjs"), `${imports.join("\n")}\nconsole.log("all");\n`);
    const node = packed.node(major);
    const { code, stdout, stderr } = await runWith(node, packed.libraries, node, "imports.mjs");
    expect({ code, stdout }, stderr).toEqual({ code: 0, stdout: "all\n" });
  });

  it("a program that embeds them builds and ships a workload", async () => {
    const node = packed.node(major);
    const { code, stdout, stderr } = await runWith(node, packed.libraries, node, "embed.ts");
    expect(stdout, stderr).toMatch(/^http:\/\/127\.0\.0\.1:\d+ answers: Hello from a build\.$/m);
    expect(code, stderr).toBe(0);
  });
});

it("a TypeScript program that uses every subpath checks against the declarations, without our conditions", async () => {
  const uses = packed.subpaths.map(
    (subpath, index) => `export * as x${index} from ${JSON.stringify(subpath)};`,
  );
  writeFileSync(join(packed.libraries, "uses.ts"), uses.join("\n"));
  const compilerOptions = {
    module: "nodenext",
    target: "es2024",
    lib: ["es2024", "esnext.disposable"],
    types: ["node"],
    strict: true,
    exactOptionalPropertyTypes: true,
    noEmit: true,
    skipLibCheck: false,
  };
  const config = { compilerOptions, files: ["embed.ts", "uses.ts"] };
  writeFileSync(join(packed.libraries, "tsconfig.json"), JSON.stringify(config));
  const tsc = join(ROOT, "node_modules/typescript/bin/tsc");
  const node = packed.node(24);
  const { stdout } = await runWith(node, packed.libraries, node, tsc, "-p", ".");
  // The declarations of @nats-io/nats-core 3.4 fail with exactOptionalPropertyTypes; ours do not.
  const errors = stdout.split("\n").filter((line) => /^\S.*error TS/.test(line));
  expect(errors.filter((line) => !line.includes("/@nats-io/nats-core/"))).toEqual([]);
});

describe.each([24, 22, 20] as const)("the programs on Node %i", (major) => {
  const bin = (name: string) => join(packed.programs, "node_modules/.bin", name);
  const program = (name: string, ...args: string[]) =>
    runWith(packed.node(major), packed.programs, bin(name), ...args);
  const connect = async (environment: Record<string, string> = {}) => {
    const client = new Client({ name: "packages", version: "1.0.0" });
    const transport = new StdioClientTransport({
      command: bin("formation-mcp"),
      args: ["--state-dir", join(packed.programs, `state-${major}`)],
      env: { PATH: `${dirname(packed.node(major))}:/usr/bin:/bin`, HOME: packed.programs, ...environment },
      stderr: "ignore",
    });
    await client.connect(transport);
    return client;
  };

  it.each(["formation-mcp", "formation-mcp-worker", "formation-mcp-http"])(
    "%s says its version and its usage",
    async (name) => {
      expect(await program(name, "--version")).toMatchObject({
        code: 0,
        stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
      });
      expect(await program(name, "--help")).toMatchObject({
        code: 0,
        stdout: expect.stringContaining("FORMATION_STATE_DIR"),
      });
    },
  );

  it("formation-mcp lists its tools over stdio, and answers a call or says what Node it needs", async () => {
    const client = await connect();
    const { tools } = await client.listTools();
    const result = await client.callTool({ name: "vm_list", arguments: {} });
    await client.close();
    expect(tools.map((tool) => tool.name)).toContain("pack_build");
    if (major > 20) expect(result.structuredContent).toEqual({ instances: [], cursor: null });
    else {
      expect(result.isError).toBe(true);
      expect(JSON.stringify(result.content)).toMatch(/Node 20\S+ has no node:sqlite.*Node 22\.18 or later/);
    }
  });

  it("formation-mcp serves a server's tools and needs no more than Node 20 for that", async () => {
    const ground = await openGround();
    try {
      const client = await connect({ FORMATION_URL: ground.url, FORMATION_TOKEN: ground.admin.token });
      const { tools } = await client.listTools();
      const result = await client.callTool({ name: "vm_list", arguments: {} });
      await client.close();
      expect(tools.map((tool) => tool.name)).toContain("pack_build");
      expect(result.structuredContent).toEqual({ instances: [], cursor: null });
    } finally {
      await ground.close();
    }
  });
});
