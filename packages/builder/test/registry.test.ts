// @module-tag root
// @module-tag buildah

// Bases from registries, against Debian's docker-registry on loopback.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { openBuildahBuilder } from "@formation-mcp/builder/buildah";
import { type Registry, startRegistry } from "@formation-mcp/builder/testing/registry";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { build, buildWell, temporary } from "./support/build.ts";
import { busyboxTar, emptyTar } from "./support/busybox-tar.ts";
import { readDisk } from "./support/real-disk.ts";

describe("a base from a registry", () => {
  const dir = temporary();
  let registry: Registry;
  let tar: string;
  const open = (options = {}) =>
    openBuildahBuilder({
      stateDir: join(dir.path, "s"),
      network: "none",
      plainHttpRegistries: [registry.host],
      ...options,
    });

  beforeAll(async () => {
    registry = await startRegistry();
    tar = busyboxTar(dir.path, { "etc/version": "1\n" });
  }, 60_000);
  afterAll(async () => {
    await registry.stop();
    dir[Symbol.dispose]();
  }, 60_000);

  it("is pulled by tag and by digest, and a tag that moved is noticed", async () => {
    const builder = await open();
    const first = await registry.push("team/base:1", tar, ["--cmd", '["/bin/first"]']);
    const from = `${registry.host}/team/base:1`;
    const one = await buildWell(builder, { from, run: ["cat /etc/version"] });
    expect(one.lines).toEqual(["1"]);
    expect(one.image.base).toEqual({ reference: from, digest: first });
    const moved = busyboxTar(dir.path, { "etc/version": "2\n" });
    const second = await registry.push("team/base:1", moved);
    expect((await buildWell(builder, { from, run: ["cat /etc/version"], entrypoint: "x" })).lines).toEqual([
      "2",
    ]);
    const pinned = await buildWell(builder, {
      from: `${registry.host}/team/base@${first}`,
      run: ["cat /etc/version; :"],
    });
    expect(pinned.lines).toEqual(["1"]);
    expect(pinned.image.base.digest).toBe(first);
    expect(second).not.toBe(first);
  });

  it("that could not be pulled to its end leaves no layer once the caches are trimmed", async () => {
    const stateDir = join(dir.path, "torn");
    const layer = gzipSync(readFileSync(tar));
    const digestOf = (bytes: Uint8Array) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    const torn = digestOf(Buffer.from("torn"));
    const config = Buffer.from(
      JSON.stringify({
        architecture: "amd64",
        os: "linux",
        rootfs: { type: "layers", diff_ids: [digestOf(readFileSync(tar)), torn] },
      }),
    );
    const docker = "application/vnd.docker";
    const entry = (kind: string, digest: string, size: number) => ({
      mediaType: `${docker}.${kind}`,
      digest,
      size,
    });
    const manifest = JSON.stringify({
      schemaVersion: 2,
      mediaType: `${docker}.distribution.manifest.v2+json`,
      config: entry("container.image.v1+json", digestOf(config), config.length),
      layers: [
        entry("image.rootfs.diff.tar.gzip", digestOf(layer), layer.length),
        entry("image.rootfs.diff.tar.gzip", torn, 1000),
      ],
    });
    const server = createServer((request, response) => {
      if (request.url?.endsWith(digestOf(layer))) response.end(layer);
      else if (request.url?.endsWith(digestOf(config))) response.end(config);
      else if (request.url?.includes("/manifests/"))
        response.writeHead(200, { "content-type": `${docker}.distribution.manifest.v2+json` }).end(manifest);
      else response.end(Buffer.alloc(1000));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
      const builder = await open({ stateDir, plainHttpRegistries: [host] });
      const kept = await buildWell(builder, { run: ["echo kept"], entrypoint: "x" });
      const { error } = await build(builder, { from: `${host}/torn:1`, entrypoint: "x" });
      expect(error).toMatchObject({ code: "unavailable", details: { step: "pull" } });
      const layers = () =>
        (JSON.parse(readFileSync(join(stateDir, "c/overlay-layers/layers.json"), "utf8")) as { id: string }[])
          .length;
      const before = layers();
      expect(await builder.trim(0)).toBeGreaterThan(layer.length);
      expect(layers()).toBeLessThan(before);
      expect(await builder.trim(0)).toBe(0);
      const { image } = await buildWell(builder, { run: ["echo kept"], entrypoint: "x" });
      expect(image.digest).toBe(kept.image.digest);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  it("that is no place for files is told without what the node keeps to itself", async () => {
    const builder = await open();
    const file = busyboxTar(dir.path, { app: "a file" });
    await registry.push("team/file:1", file);
    const circle = join(dir.path, "circle");
    mkdirSync(circle);
    symlinkSync("there", join(circle, "app"));
    symlinkSync("app", join(circle, "there"));
    execFileSync("tar", ["-C", circle, "-cf", `${circle}.tar`, "."]);
    await registry.push("team/circle:1", `${circle}.tar`);
    for (const name of ["file", "circle"]) {
      const { error, text } = await build(builder, {
        from: `${registry.host}/team/${name}:1`,
        entrypoint: "x",
      });
      expect(error).toMatchObject({ code: "invalid", details: { step: "include", field: "from" } });
      const said = `${JSON.stringify(error?.toRecord())}${text}`;
      expect(said).not.toMatch(/[0-9a-f]{64}/);
      expect(said).not.toContain(dir.path);
    }
  });

  it("keeps serving from the node's copy when its registry is gone, and says so", async () => {
    const builder = await open();
    const gone = await startRegistry();
    await gone.push("x:1", tar);
    const also = await open({ plainHttpRegistries: [registry.host, gone.host] });
    const from = `${gone.host}/x:1`;
    await buildWell(also, { from, entrypoint: "x" });
    await gone.stop();
    const again = await buildWell(also, { from, entrypoint: "x", run: ["echo built"] });
    expect(again.lines).toEqual([expect.stringContaining("this node's copy is used"), "built"]);
    const never = await build(also, { from: `${gone.host}/never:1`, entrypoint: "x" });
    expect(never.error).toMatchObject({ code: "unavailable", details: { step: "pull" } });
    expect(builder).toBeDefined();
  });

  it("is honoured in its USER, WORKDIR, ENV, ENTRYPOINT, CMD and ports", async () => {
    const builder = await open();
    const users = busyboxTar(
      dir.path,
      { "etc/passwd": "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n" },
      ["home/app/work"],
    );
    await registry.push("team/full:1", users, [
      ...["--user", "app", "--workingdir", "/home/app/work", "--env", "FROM_BASE=yes", "--env", "BOTH=base"],
      ...[
        "--entrypoint",
        '["/bin/enter","a b"]',
        "--cmd",
        "one two",
        "--port",
        "9000",
        "--port",
        "80/tcp",
        "--port",
        "53/udp",
      ],
    ]);
    writeFileSync(join(dir.path, "file"), "included", { mode: 0o600 });
    const from = `${registry.host}/team/full:1`;
    const done = await buildWell(
      builder,
      {
        from,
        include: ["file"],
        env: { BOTH: "formfile" },
        run: ["id -un; pwd; echo $FROM_BASE $BOTH; cat file; echo; echo mine > mine"],
      },
      { contextDir: dir.path },
    );
    expect(done.lines).toEqual(["app", "/home/app/work", "yes formfile", "included"]);
    expect(done.image.process).toMatchObject({
      argv: ["/bin/enter", "a b", "one", "two"],
      workdir: "/home/app/work",
      user: "app",
      env: { FROM_BASE: "yes", BOTH: "formfile" },
    });
    expect(done.image.expose).toEqual([80, 9000]);
    const disk = await builder.disk(done.image.digest, 1, AbortSignal.timeout(60_000));
    expect(await readDisk(disk, "/home/app/work/mine")).toBe("mine\n");
    const override = await buildWell(builder, { from, entrypoint: ["/bin/x"], expose: [1] });
    expect(override.image.process.argv).toEqual(["/bin/x"]);
    expect(override.image.expose).toEqual([1]);
  });

  it("is refused when its configuration would act on the node", async () => {
    const builder = await open();
    await registry.push("evil/onbuild:1", tar, ["--onbuild", "ADD http://169.254.169.254/ /stolen"]);
    const onbuild = await build(builder, { from: `${registry.host}/evil/onbuild:1`, entrypoint: "x" });
    expect(onbuild.error).toMatchObject({ code: "invalid", details: { field: "from" } });
    await registry.push("evil/workdir:1", tar, ["--workingdir", '/$HOME/"] \nRUN x']);
    const workdir = await build(builder, { from: `${registry.host}/evil/workdir:1`, entrypoint: "x" });
    expect(workdir.error).toMatchObject({ code: "invalid", details: { field: "from" } });
    await registry.push("other/arch:1", tar, ["--arch", "arm64"]);
    const arch = await build(builder, { from: `${registry.host}/other/arch:1`, entrypoint: "x" });
    expect(arch.error?.message).toMatch(/linux\/arm64/);
  });

  it("has to have a shell for run lines, and the user that it names", async () => {
    const builder = await open();
    await registry.push("team/nosh:1", emptyTar(dir.path), []);
    const nosh = await build(builder, {
      from: `${registry.host}/team/nosh:1`,
      run: ["true"],
      entrypoint: ["x"],
    });
    expect(nosh.error).toMatchObject({ code: "invalid", details: { step: "run 1/1" } });
    await registry.push("team/nouser:1", tar, ["--user", "ghost"]);
    const nouser = await build(builder, {
      from: `${registry.host}/team/nouser:1`,
      run: ["true"],
      entrypoint: "x",
    });
    expect(nouser.error).toMatchObject({ code: "invalid", details: { step: "run 1/1" } });
  });

  it("is named when it does not exist", async () => {
    const missing = await build(await open(), { from: `${registry.host}/team/absent:9`, entrypoint: "x" });
    expect(missing.error).toMatchObject({ code: "not_found", details: { step: "pull", field: "from" } });
    expect(missing.error?.message).toContain("team/absent:9");
    const host = await build(await open(), { from: "registry.invalid/x:1", entrypoint: "x" });
    expect(host.error).toMatchObject({ code: "not_found" });
  });

  it("is not pulled over plain HTTP or from a private address unless the operator says so", async () => {
    const from = `${registry.host}/team/plain:1`;
    await registry.push("team/plain:1", tar);
    const stateDir = join(dir.path, "t");
    const strict = await openBuildahBuilder({ stateDir, network: "none" });
    expect((await build(strict, { from, entrypoint: "x" })).error).toMatchObject({
      code: "invalid",
      message: expect.stringContaining("private address"),
    });
    const near = await openBuildahBuilder({ stateDir, network: "none", allowCidrs: ["127.0.0.0/8"] });
    expect((await build(near, { from, entrypoint: "x" })).error).toMatchObject({
      code: "invalid",
      message: expect.stringContaining("plain HTTP"),
    });
  });

  it("comes out of a private registry with the operator's credentials alone", async () => {
    const authFile = join(dir.path, "auth.json");
    const hash = htpasswd("builder", "se cret");
    const closed = await startRegistry({ htpasswd: hash, authFile });
    try {
      const auth = Buffer.from("builder:se cret").toString("base64");
      writeFileSync(authFile, JSON.stringify({ auths: { [closed.host]: { auth } } }), { mode: 0o600 });
      await closed.push("secret/base:1", tar);
      const from = `${closed.host}/secret/base:1`;
      const plainHttpRegistries = [closed.host];
      const without = await build(await open({ plainHttpRegistries }), { from, entrypoint: "x" });
      expect(without.error).toMatchObject({
        code: "not_found",
        message: expect.stringContaining("credentials"),
      });
      const builder = await open({ plainHttpRegistries, registryAuthFile: authFile });
      const done = await buildWell(builder, { from, run: ["cat /etc/version"], entrypoint: "x" });
      expect(done.lines).toEqual(["1"]);
    } finally {
      await closed.stop();
    }
  });
});

/** A line of a password file. The registry reads only bcrypt, which Debian's libcrypt can make. */
function htpasswd(user: string, password: string): string {
  const salt = `$2b$05$${createHash("sha256").update(user).digest("hex").slice(0, 22)}`;
  const made = execFileSync("perl", ["-e", "print crypt($ARGV[0], $ARGV[1])", password, salt], {
    encoding: "utf8",
  });
  return `${user}:${made}\n`;
}
