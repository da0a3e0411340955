// The network of a build: a namespace that the build's processes alone keep alive, with a user-mode stack (slirp4netns) as
// its only way out and routes that lead nowhere for what it may not reach. Nothing of the host's network is changed, and
// when the processes die the namespace is gone.

import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { readIfThere, waitFor } from "@formation-mcp/os";
import type { Route } from "./addresses.ts";
import type { Store } from "./store.ts";

/** The resolver that slirp4netns offers inside; it asks the host's own, wherever that stands. */
export const BUILD_DNS = "10.0.2.3";

/**
 * Runs inside the new namespace before buildah: says who it is, waits until the way out exists, closes what is forbidden,
 * and becomes buildah. `$1` is a directory, then pairs of route kind and range, then `--` and the command.
 */
const ENTER = `set -eu
mkfifo "$1/go"
echo $$ > "$1/pid.new"
mv "$1/pid.new" "$1/pid"
read -r word < "$1/go"
[ "$word" = go ]
shift
if [ -e /proc/sys/net/ipv6/conf/all/disable_ipv6 ]; then echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; fi
while [ "$1" != -- ]; do
  if [ "$1" = open ]; then ip -4 route replace "$2" via 10.0.2.2 dev tap0; else ip -4 route replace unreachable "$2"; fi
  shift 2
done
shift
exec "$@"`;

/** Whether this user may make a network device; without one, run lines have no network. */
export function canMakeNetwork(): boolean {
  try {
    accessSync("/dev/net/tun", constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

export class BuildNetwork {
  readonly #store: Store;
  readonly #directory: string;
  readonly #routes: readonly Route[];
  #slirp: ChildProcess | null = null;

  constructor(store: Store, directory: string, routes: readonly Route[]) {
    this.#store = store;
    this.#directory = directory;
    this.#routes = routes;
  }

  /** The command that runs `command` inside, once {@link attach} and {@link begin} were called. */
  wrap(command: readonly string[]): string[] {
    const { profile, tools } = this.#store.settings;
    const enter = ["unshare", "--net", "--", "/bin/sh", "-c", ENTER, "sh", this.#directory];
    const outer = profile === "root" ? enter : [tools.buildah, "unshare", ...enter];
    return [...outer, ...this.#routes.flatMap(({ kind, cidr }) => [kind, cidr]), "--", ...command];
  }

  /** Gives the namespace its way out. */
  async attach(signal: AbortSignal): Promise<void> {
    const pid = await waitFor(() => readIfThere(join(this.#directory, "pid"))?.trim(), {
      timeoutMs: 20_000,
      everyMs: 5,
      signal,
      what: "the build's network namespace",
    });
    if (!/^\d+$/.test(pid))
      throw new FormationError("internal", "The build's network namespace named no process.");
    const { settings } = this.#store;
    const args = [
      ...["--pdeathsig", "KILL", "--", settings.tools.slirp4netns, "--configure", "--mtu=65520"],
      ...["--disable-host-loopback", "--enable-sandbox", "--enable-seccomp", "--ready-fd=3", "--exit-fd=4"],
      // By process it enters the user namespace as well, which is buildah's in the user profile.
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
    if (ready) return;
    if (signal.aborted) throw new FormationError("cancelled", "The build was cancelled.");
    const why = said.split("\n").filter((line) => line !== "" && !/^(sent|received|WARNING)/.test(line));
    throw new FormationError(
      "unavailable",
      `The build's network cannot be made: ${why.join("; ") || "no answer"}.`,
      {
        remedy: "Run `formation-mcp doctor`; RUN lines need slirp4netns and access to /dev/net/tun.",
      },
    );
  }

  /** Lets the command begin. */
  async begin(signal: AbortSignal): Promise<void> {
    const fifo = await waitFor(
      // Without a reader this fails at once instead of waiting for one for ever.
      () => open(join(this.#directory, "go"), constants.O_WRONLY | constants.O_NONBLOCK).catch(() => null),
      { timeoutMs: 20_000, everyMs: 5, signal, what: "the build's processes" },
    );
    await fifo.writeFile("go\n");
    await fifo.close();
  }

  /** Ends the way out. */
  async release(): Promise<void> {
    const slirp = this.#slirp;
    this.#slirp = null;
    if (!slirp || slirp.exitCode !== null || slirp.signalCode !== null || slirp.pid === undefined) return;
    const gone = new Promise<void>((resolve) => slirp.once("close", () => resolve()));
    slirp.kill("SIGKILL");
    await gone;
  }
}
