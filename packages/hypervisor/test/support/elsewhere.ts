// Another host, for tests of what guests may reach: a network namespace behind a pair of virtual Ethernet
// devices.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";

export interface Elsewhere {
  /** Answers "here" to each connection. A documentation address (RFC 5737) represents the internet. */
  open: string;
  /** The same host under an address of a private network. */
  closed: string;
  port: number;
  remove(): void;
}

const SERVER = `require("node:net").createServer((s) => { s.on("error", () => {}); s.end("here\\n"); }).listen(8099, () => console.log("up"));`;

export async function makeElsewhere(): Promise<Elsewhere> {
  const name = `fm${process.pid % 100_000}`;
  const [near, far] = [`${name}a`, `${name}b`];
  const ip = (...args: string[]) => execFileSync("ip", args);
  let server: ChildProcess | null = null;
  const remove = () => {
    server?.kill("SIGKILL");
    for (const args of [
      ["netns", "del", name],
      ["link", "del", near],
    ]) {
      try {
        execFileSync("ip", args, { stdio: "ignore" });
      } catch {
        // It was deleted with the other end.
      }
    }
  };
  try {
    ip("netns", "add", name);
    ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name);
    for (const address of ["198.51.100.1/24", "10.213.77.1/24"]) ip("addr", "add", address, "dev", near);
    ip("link", "set", near, "up");
    for (const address of ["198.51.100.2/24", "10.213.77.2/24"])
      ip("-n", name, "addr", "add", address, "dev", far);
    for (const device of [far, "lo"]) ip("-n", name, "link", "set", device, "up");
    server = spawn("ip", ["netns", "exec", name, process.execPath, "-e", SERVER], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    if (server.stdout) await once(server.stdout, "data");
    return { open: "198.51.100.2", closed: "10.213.77.2", port: 8099, remove };
  } catch (error) {
    remove();
    throw error;
  }
}
