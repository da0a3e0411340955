// A real nats-server from this machine's packages, configured with deploy/nats: each process has its own key
// and rights. Its data is in a temporary directory that is removed with it.

import { chownSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { accepts, accountOf, freePort, type Program, type Say, start, until } from "./processes.ts";

export interface Nats {
  url: string;
  port: number;
  dataDir: string;
  program(): Program;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
}

const DEPLOY = join(import.meta.dirname, "../../deploy/nats");

/**
 * @param users the entries of the users, one for each process.
 * @param more configuration in addition to deploy/nats.
 * @param host where it listens.
 */
export async function startNats(
  root: string,
  users: { servers: readonly string[]; workers: readonly string[] },
  say: Say,
  more = "",
  host = "127.0.0.1",
): Promise<Nats> {
  const account = accountOf("nats");
  const home = join(root, "nats");
  const dataDir = join(home, "data");
  const config = join(home, "nats.conf");
  mkdirSync(home, { mode: 0o700 });
  writeFileSync(config, `${readFileSync(join(DEPLOY, "nats.conf"), "utf8")}\n${more}\n`, { mode: 0o600 });
  const files = Object.entries(users).map(([name, entries]) => {
    const path = join(home, `${name}.conf`);
    writeFileSync(path, `users: [\n${entries.join(",\n")}]\n`, { mode: 0o600 });
    return path;
  });
  if (account) for (const path of [home, config, ...files]) chownSync(path, account.uid, account.gid);
  const port = await freePort(host);
  let program: Program;
  const begin = async () => {
    program = start("nats-server", {
      file: "nats-server",
      args: ["-c", config, "-a", host, "-p", String(port)],
      env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NATS_STORE: dataDir },
      account,
      cwd: home,
    });
    await until(() => accepts(port, host), { what: "NATS", say, program });
  };
  say("NATS: starting, with a key for each process");
  await begin();
  return {
    url: `nats://${host}:${port}`,
    port,
    dataDir,
    program: () => program,
    start: begin,
    async stop() {
      await program.stop(10_000);
    },
    kill: () => program.kill(),
  };
}
