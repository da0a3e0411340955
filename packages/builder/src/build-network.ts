// The network of a build and of a pull: a network namespace that exists only as long as its processes do, a
// user-mode stack (slirp4netns) as its only uplink, and unreachable routes for forbidden ranges. Nothing of
// the host's network is changed.

import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, constants, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { identify, readFileIfPresent, waitFor } from "@formation-mcp/os";
import { shellWord } from "./image/containerfile.ts";
import type { ImageStore } from "./image-store.ts";

/**
 * The resolver that slirp4netns offers inside the namespace. It forwards to the host's resolver, wherever
 * that is.
 */
export const BUILD_DNS = "10.0.2.3";

/** Waits until the uplink is ready, which the file `$ready` signals. */
const WAIT_UNTIL_READY =
  'n=0\nwhile [ ! -e "$ready" ]; do n=$((n+1)); [ $n -lt 3000 ] || exit 1; sleep 0.01; done';

/**
 * Runs in the new namespace before buildah: adds the unreachable routes while there is no uplink yet, writes
 * its pid, and execs buildah. `$1` is a directory, `$2` the input of `ip -batch`, the rest the command.
 */
const ENTER_SCRIPT = `set -eu
if [ -e /proc/sys/net/ipv6/conf/all/disable_ipv6 ]; then echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; fi
printf '%s' "$2" | ip -4 -batch -
echo $$ > "$1/pid.new"
mv "$1/pid.new" "$1/pid"
ready=$1/ready
if [ -e "$1/resolv.conf" ]; then
  [ ! -e /etc/resolv.conf ] || mount --bind "$1/resolv.conf" /etc/resolv.conf
  ${WAIT_UNTIL_READY}
fi
shift 2
exec "$@"`;

/** Whether this user may make a tun device. Without one, run lines have no network. */
export function canMakeNetwork(): boolean {
  try {
    accessSync("/dev/net/tun", constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

export class BuildNetwork {
  readonly #store: ImageStore;
  readonly #directory: string;
  readonly #closed: readonly string[];
  #slirp: ChildProcess | null = null;

  constructor(store: ImageStore, directory: string, closed: readonly string[]) {
    this.#store = store;
    this.#directory = directory;
    this.#closed = closed;
  }

  /**
   * A runtime wrapper that delays run lines until the uplink is ready, so that buildah itself need not wait.
   */
  runtime(): string {
    const path = join(this.#directory, "runtime");
    const ready = shellWord(join(this.#directory, "ready"));
    const runc = shellWord(this.#store.settings.tools.runc);
    writeFileSync(path, `#!/bin/sh\nready=${ready}\n${WAIT_UNTIL_READY}\nexec ${runc} "$@"\n`, {
      mode: 0o700,
    });
    return path;
  }

  /** The command that runs `command` in the namespace. */
  wrap(command: readonly string[]): string[] {
    return this.#inside(["--net"], command);
  }

  /**
   * The command that runs `command` in the namespace once the uplink is ready, with the namespace's resolver.
   */
  wrapWhole(command: readonly string[]): string[] {
    writeFileSync(join(this.#directory, "resolv.conf"), `nameserver ${BUILD_DNS}\n`);
    return this.#inside(["--net", "--mount"], command);
  }

  #inside(namespaces: readonly string[], command: readonly string[]): string[] {
    const { profile, tools } = this.#store.settings;
    const routes = this.#closed.map((cidr) => `route add unreachable ${cidr}\n`).join("");
    const enter = [
      "unshare",
      ...namespaces,
      "--",
      "/bin/sh",
      "-c",
      ENTER_SCRIPT,
      "sh",
      this.#directory,
      routes,
      ...command,
    ];
    return profile === "root" ? enter : [tools.buildah, "unshare", ...enter];
  }

  /** Starts slirp4netns for the namespace. */
  async attach(signal: AbortSignal): Promise<void> {
    const pid = await waitFor(() => readFileIfPresent(join(this.#directory, "pid"))?.trim(), {
      timeoutMs: 30_000,
      everyMs: 5,
      signal,
      what: "the build's network namespace",
    }).catch((error: FormationError) => {
      throw error.code === "limit" ? noNetwork("no answer") : error;
    });
    if (!/^\d+$/.test(pid))
      throw new FormationError("internal", "The build's network namespace named no process.");
    const { settings } = this.#store;
    // slirp4netns's sandbox unmounts everything it sees. Mounts below /run are shared with the host (`ip
    // netns` keeps its namespaces there), so it gets a mount namespace of its own.
    const apart = settings.profile === "root" ? ["unshare", "--mount", "--propagation", "private", "--"] : [];
    const args = [
      ...["--pdeathsig", "KILL", "--", ...apart, settings.tools.slirp4netns, "--configure", "--mtu=65520"],
      ...["--disable-host-loopback", "--enable-sandbox", "--enable-seccomp", "--ready-fd=3", "--exit-fd=4"],
      // In the user profile it is given the pid, so that it also enters buildah's user namespace.
      ...(settings.profile === "root" ? ["--netns-type=path", `/proc/${pid}/ns/net`] : [pid]),
      "tap0",
    ];
    const slirp = spawn("setpriv", args, {
      env: this.#store.environment(),
      stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"],
      detached: true,
    });
    this.#slirp = slirp;
    let said = "";
    slirp.stderr?.on("data", (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-2000);
    });
    for (const stream of slirp.stdio) stream?.on("error", () => {});
    const ready = await new Promise<boolean>((resolve) => {
      const no = () => resolve(false);
      const timer = setTimeout(no, 20_000);
      timer.unref();
      slirp.stdio[3]?.once("data", () => resolve(true));
      slirp.once("error", no);
      slirp.once("close", no);
      signal.addEventListener("abort", no, { once: true });
    });
    if (ready) {
      writeFileSync(join(this.#directory, "ready"), "");
      return;
    }
    if (signal.aborted) throw new FormationError("cancelled", "The build was cancelled.");
    // A build in which nothing had to run may have ended already.
    if (identify(Number(pid)) === null) return;
    const why = said.split("\n").filter((line) => line !== "" && !/^(sent|received|WARNING)/.test(line));
    throw noNetwork(why.join("; ") || "no answer");
  }

  /** Stops slirp4netns. */
  async release(): Promise<void> {
    const slirp = this.#slirp;
    this.#slirp = null;
    if (!slirp || slirp.exitCode !== null || slirp.signalCode !== null || slirp.pid === undefined) return;
    const gone = new Promise<void>((resolve) => slirp.once("close", () => resolve()));
    slirp.kill("SIGKILL");
    await gone;
  }
}

function noNetwork(why: string): FormationError {
  return new FormationError("unavailable", `The build's network cannot be made: ${why}.`, {
    remedy: "Run `formation-mcp doctor`; run lines need slirp4netns and access to /dev/net/tun.",
  });
}
