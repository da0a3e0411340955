// An image registry on loopback for tests (Debian's docker-registry), optionally with passwords and TLS; and
// images for it.

import { execFile, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { waitFor } from "@formation-mcp/os";
import { freePort } from "@formation-mcp/os/testing/free-port";

const execute = promisify(execFile);

export interface Registry {
  /** `<address>:<port>` */
  host: string;
  /**
   * Commits a root file system with a configuration (`buildah config` options) and pushes it. Returns its
   * digest.
   */
  push(name: string, tar: string, config?: readonly string[]): Promise<string>;
  stop(): Promise<void>;
}

/** Starts a registry. With `htpasswd` it requires credentials, which `push` takes from `authFile`. */
export async function startRegistry(
  options: {
    htpasswd?: string;
    authFile?: string;
    data?: string;
    /** An IPv4 address of this machine; default 127.0.0.1. */
    address?: string;
    /** PEM files. With them the registry serves HTTPS. */
    tls?: { certificate: string; key: string };
  } = {},
): Promise<Registry> {
  const directory = mkdtempSync(join(tmpdir(), "fr-"));
  const host = `${options.address ?? "127.0.0.1"}:${await freePort()}`;
  const { tls } = options;
  const https = tls ? `  tls:\n    certificate: ${tls.certificate}\n    key: ${tls.key}\n` : "";
  const auth = options.htpasswd
    ? `auth:\n  htpasswd:\n    realm: test\n    path: ${join(directory, "htpasswd")}\n`
    : "";
  if (options.htpasswd) writeFileSync(join(directory, "htpasswd"), options.htpasswd);
  const data = options.data ?? join(directory, "data");
  mkdirSync(data, { recursive: true });
  writeFileSync(
    join(directory, "config.yml"),
    `version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: ${data}\nhttp:\n  addr: ${host}\n${https}${auth}`,
  );
  const server = spawn("docker-registry", ["serve", join(directory, "config.yml")], { stdio: "ignore" });
  const [name = "", port = ""] = host.split(":");
  await waitFor(() => isListening(name, Number(port)), { timeoutMs: 20_000, what: "the registry" });
  const store = [
    "--root",
    join(directory, "root"),
    "--runroot",
    join(directory, "run"),
    "--storage-driver",
    "overlay",
  ];
  const buildah = async (...args: string[]) => (await execute("buildah", [...store, ...args])).stdout.trim();
  const authFile = options.authFile ?? join(directory, "auth.json");
  if (!options.authFile) writeFileSync(authFile, "{}");
  return {
    host,
    async push(name, tar, config = []) {
      const container = await buildah("from", "scratch");
      await buildah("add", "-q", container, tar, "/");
      if (config.length > 0) await buildah("config", ...config, container);
      const image = await buildah("commit", "-q", "--format", "docker", container);
      await buildah("rm", container);
      const digest = join(directory, "digest");
      const to = `docker://${host}/${name}`;
      await buildah(
        "push",
        "-q",
        "--tls-verify=false",
        "--authfile",
        authFile,
        "--digestfile",
        digest,
        image,
        to,
      );
      const { stdout } = await execute("cat", [digest]);
      return stdout.trim();
    },
    async stop() {
      server.kill("SIGKILL");
      await execute("umount", ["-l", join(directory, "root/overlay")]).catch(() => {});
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function isListening(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const answer = (there: boolean) => {
      socket.destroy();
      resolve(there);
    };
    socket.once("connect", () => answer(true));
    socket.once("error", () => answer(false));
  });
}
