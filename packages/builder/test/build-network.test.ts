// @module-tag root
// @module-tag buildah

// What run lines can reach: the internet, but neither the host nor its private neighbours.

import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { type AddressInfo, isIPv4 } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { openBuildahBuilder } from "@formation-mcp/builder/buildah";
import { debianMirror, debianRegistry } from "@formation-mcp/builder/testing/debian";
import { type Registry, startRegistry } from "@formation-mcp/builder/testing/registry";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { build, buildWell, temporary } from "./support/build.ts";
import { busyboxTar } from "./support/busybox-tar.ts";

describe("the network of a build", () => {
  const dir = temporary();
  let server: Server;
  let port: number;
  const own = Object.values(networkInterfaces())
    .flatMap((ones) => ones ?? [])
    .map((one) => one.address)
    .filter((address) => isIPv4(address) && !address.startsWith("127."));
  const open = (options = {}) => openBuildahBuilder({ stateDir: join(dir.path, "s"), ...options });

  beforeAll(async () => {
    server = createServer((_, response) => response.end("host answered"));
    await new Promise<void>((resolve) => server.listen(0, "0.0.0.0", resolve));
    port = (server.address() as AddressInfo).port;
  });
  afterAll(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    dir[Symbol.dispose]();
  });

  it("reaches the mirror by name, but no address of the host's, no private range and no IPv6", async () => {
    const { mirror } = await debianMirror();
    const { host, hostname } = new URL(mirror);
    const targets = ["127.0.0.1", "10.0.2.2", "10.0.2.3", ...own].map(
      (address) => `http://${address}:${port}/`,
    );
    const tries = targets.map((url) => `wget -q -O - ${url} 2>/dev/null && echo REACHED ${url}`);
    const ranges = ["10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1"];
    const routes = ranges.map(
      (address) => `ip route get ${address} >/dev/null 2>&1 && echo ROUTE ${address}`,
    );
    const { text } = await buildWell(await open(), {
      run: [
        `nslookup ${hostname} >/dev/null && echo resolved`,
        `wget -q -O /dev/null ${mirror}dists/ && echo fetched || { echo | nc -w 5 ${host} 80 && echo fetched; }`,
        `${[...tries, ...routes].join("; ")}; ip -6 addr; ip route add 10.9.0.0/16 dev tap0 2>/dev/null && echo CHANGED; :`,
      ],
    });
    expect(text).toContain("resolved");
    expect(text).toContain("fetched");
    expect(text).not.toMatch(/REACHED|ROUTE|CHANGED|inet6/);
  });

  it("reaches a range that the operator allows", async () => {
    const [address] = own;
    const allowed = await open({ allowCidrs: [`${address}/32`] });
    const url = `http://${address}:${port}/`;
    expect((await buildWell(allowed, { run: [`wget -q -O - ${url}`] })).text).toBe("host answered");
  });

  // Only root can name network namespaces, and only root's builds share its mounts.
  if (process.getuid?.() === 0) {
    it("leaves the host's own namespaces as they are", async () => {
      const name = `formation-test-${process.pid}`;
      execFileSync("ip", ["netns", "add", name]);
      try {
        await buildWell(await open(), { run: ["ip addr show tap0"] });
        expect(readFileSync("/proc/self/mountinfo", "utf8")).toContain(`/run/netns/${name} `);
      } finally {
        execFileSync("ip", ["netns", "delete", name]);
      }
    });
  }

  it("is not there when the operator turns it off", async () => {
    const none = await open({ network: "none" });
    const { text } = await buildWell(none, {
      run: ["ls /sys/class/net; wget -q -O - http://192.0.2.1/ || echo nothing"],
    });
    expect(text).not.toContain("tap0");
    expect(text).toContain("nothing");
  });

  it("refuses an operator's range that is none", async () => {
    const wrong = await build(await open({ denyCidrs: ["10.0.0.0/33"] }), { run: ["true"] });
    expect(wrong.error).toMatchObject({ code: "invalid" });
  });
});

describe("the network of a pull", () => {
  const dir = temporary();
  const stateDir = join(dir.path, "s");
  const [address = ""] = Object.values(networkInterfaces())
    .flatMap((ones) => ones ?? [])
    .filter((one) => one.family === "IPv4" && !one.internal)
    .map((one) => one.address);
  const tls = { certificate: join(dir.path, "cert.pem"), key: join(dir.path, "key.pem") };
  const open = () => openBuildahBuilder({ stateDir, allowCidrs: [`${address}/32`] });
  /** Makes buildah trust the registry's certificate (containers-certs.d(5)). */
  const trust = (host: string) => {
    const directory = join(stateDir, "home/.config/containers/certs.d", host);
    mkdirSync(directory, { recursive: true });
    cpSync(tls.certificate, join(directory, "ca.crt"));
  };
  const secret = async (listener: RequestListener) => {
    const options = { cert: readFileSync(tls.certificate), key: readFileSync(tls.key) };
    const server = createSecureServer(options, listener);
    await new Promise<void>((resolve) => server.listen(0, address, resolve));
    const host = `${address}:${(server.address() as AddressInfo).port}`;
    trust(host);
    return { host, [Symbol.dispose]: () => void server.close().closeAllConnections() };
  };

  beforeAll(() => {
    execFileSync(
      "openssl",
      [
        ...["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=registry"],
        ...["-addext", `subjectAltName=IP:${address}`, "-keyout", tls.key, "-out", tls.certificate],
      ],
      { stdio: "ignore" },
    );
  });
  afterAll(() => dir[Symbol.dispose]());

  it("is the filtered one, and a registry is reached by it", async () => {
    const registry = await startRegistry({ address, tls });
    try {
      trust(registry.host);
      const digest = await registry.push("team/base:1", busyboxTar(dir.path, { "etc/version": "1\n" }));
      const from = `${registry.host}/team/base:1`;
      const { image, lines } = await buildWell(await open(), {
        from,
        run: ["cat /etc/version"],
        entrypoint: "x",
      });
      expect(lines).toEqual(["1"]);
      expect(image.base.digest).toBe(digest);
    } finally {
      await registry.stop();
    }
  });

  it("leads to nothing of the host's, wherever a registry redirects and has tokens fetched", async () => {
    const asked: string[] = [];
    using inner = await (async () => {
      const server = createServer((request, response) => {
        asked.push(request.url ?? "");
        response.writeHead(400, { "content-type": "application/json" }).end('{"token":"INTERNAL"}');
      });
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      const { port } = server.address() as AddressInfo;
      return { port, [Symbol.dispose]: () => void server.close().closeAllConnections() };
    })();
    const places = ["127.0.0.1", "10.0.2.2"].map((host) => `http://${host}:${inner.port}/secret`);
    for (const place of places) {
      using redirects = await secret((request, response) => {
        if (request.url === "/v2/") response.end("{}");
        else response.writeHead(307, { location: place }).end();
      });
      using wantsTokens = await secret((_, response) => {
        response.writeHead(401, { "www-authenticate": `Bearer realm="${place}",service="x"` }).end();
      });
      for (const { host } of [redirects, wantsTokens]) {
        const { error } = await build(await open(), { from: `${host}/x:1`, entrypoint: "x" });
        expect(error).toMatchObject({ details: { step: "pull" } });
        expect(JSON.stringify(error?.toRecord())).not.toContain("INTERNAL");
      }
    }
    expect(asked).toEqual([]);
  });

  it("is left alone: the host's names and mounts stay as they are", async () => {
    const before = readFileSync("/etc/resolv.conf", "utf8");
    expect(
      (await build(await open(), { from: "registry.invalid/x:1", entrypoint: "x" })).error,
    ).toMatchObject({
      code: "not_found",
    });
    expect(readFileSync("/etc/resolv.conf", "utf8")).toBe(before);
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain("/etc/resolv.conf");
  });
});

describe("a Debian base", () => {
  const dir = temporary();
  let registry: Registry;
  beforeAll(async () => {
    registry = await debianRegistry();
  }, 300_000);
  afterAll(async () => {
    await registry.stop();
    dir[Symbol.dispose]();
  }, 60_000);

  it("installs packages with apt in a run line", async () => {
    const builder = await openBuildahBuilder({
      stateDir: join(dir.path, "s"),
      plainHttpRegistries: [registry.host],
    });
    const { text } = await buildWell(builder, {
      from: `${registry.host}/debian:12`,
      run: [
        "apt-get update && apt-get install -y --no-install-recommends netcat-openbsd && rm -rf /var/lib/apt/lists/*",
        "nc -h 2>&1 | head -1; cat /etc/os-release",
      ],
    });
    expect(text).toContain("OpenBSD netcat");
    expect(text).toMatch(/^VERSION_CODENAME=/m);
  }, 180_000);
});
