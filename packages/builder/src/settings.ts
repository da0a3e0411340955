// The buildah driver's options with their defaults. Every path below the state directory is named here.

import { createHash, randomBytes } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Clock, type Logger, silentLogger, systemClock } from "@formation-mcp/contract";
import { ownProfile, plainEnvironment, readFileIfPresent } from "@formation-mcp/os";

export interface BuildahOptions {
  /**
   * The driver's directory, created with mode 0700. Keep the path short: container mount paths start with it.
   */
  stateDir: string;
  clock?: Clock;
  logger?: Logger;
  /** `root`: OCI isolation and cgroups. `user`: rootless, in user namespaces. Default: by the user id. */
  profile?: "root" | "user";
  /** What RUN lines may reach. Default `internet`. */
  network?: "internet" | "none";
  /**
   * IPv4 ranges (CIDR) that run lines may reach although the filter forbids them. Bases may be pulled from
   * registries there.
   */
  allowCidrs?: readonly string[];
  /** IPv4 ranges (CIDR) that run lines may not reach, in addition to those always forbidden. */
  denyCidrs?: readonly string[];
  /** Registries (`host` or `host:port`) that may be used over plain HTTP. */
  plainHttpRegistries?: readonly string[];
  /** The operator's credentials for registries (containers-auth.json(5)). No other credentials are used. */
  registryAuthFile?: string;
  /** Bytes of the state directory's file system that builds leave free. Default 1 GiB. */
  reserveBytes?: number;
  buildahPath?: string;
  runcPath?: string;
  slirp4netnsPath?: string;
  busyboxPath?: string;
  /** Where the cgroup hierarchies are mounted. Default /sys/fs/cgroup. */
  cgroupRoot?: string;
}

/** The options with every default filled in, and the paths below the state directory. */
export interface BuilderSettings {
  stateDir: string;
  /** Distinguishes this state directory's cgroups and processes from those of other state directories. */
  mark: string;
  /**
   * The HMAC key for the digests of run lines' scripts. It is kept on disk, so that cached layers are found
   * again.
   */
  scriptKey: string;
  clock: Clock;
  logger: Logger;
  profile: "root" | "user";
  network: "internet" | "none";
  allowCidrs: readonly string[];
  denyCidrs: readonly string[];
  plainHttpRegistries: readonly string[];
  authFile: string;
  reserveBytes: number;
  tools: { buildah: string; runc: string; slirp4netns: string; busybox: string };
  cgroupRoot: string;
  /**
   * Directories: records of base use, the image store, its run-time state, builds, disks, configuration
   * files, and a HOME.
   */
  places: {
    bases: string;
    root: string;
    run: string;
    builds: string;
    disks: string;
    etc: string;
    home: string;
  };
}

/** Fills in the defaults, and makes the directories and configuration files. */
export function withDefaults(options: BuildahOptions): BuilderSettings {
  const stateDir = resolve(options.stateDir);
  const at = (name: string) => join(stateDir, name);
  const etc = at("etc");
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  chmodSync(stateDir, 0o700);
  mkdirSync(etc, { recursive: true, mode: 0o700 });
  const settings: BuilderSettings = {
    stateDir,
    mark: createHash("sha256").update(stateDir).digest("hex").slice(0, 10),
    scriptKey: keptKey(join(etc, "script.key")),
    clock: options.clock ?? systemClock,
    logger: options.logger ?? silentLogger,
    profile: options.profile ?? ownProfile(),
    network: options.network ?? "internet",
    allowCidrs: options.allowCidrs ?? [],
    denyCidrs: options.denyCidrs ?? [],
    plainHttpRegistries: options.plainHttpRegistries ?? [],
    authFile: options.registryAuthFile ?? join(etc, "auth.json"),
    reserveBytes: options.reserveBytes ?? 1024 ** 3,
    tools: {
      buildah: options.buildahPath ?? "buildah",
      runc: options.runcPath ?? onPath("runc"),
      slirp4netns: options.slirp4netnsPath ?? "slirp4netns",
      busybox: options.busyboxPath ?? "/bin/busybox",
    },
    cgroupRoot: options.cgroupRoot ?? "/sys/fs/cgroup",
    places: {
      bases: at("bases"),
      root: at("c"),
      run: at("r"),
      builds: at("b"),
      disks: at("disks"),
      etc,
      home: at("home"),
    },
  };
  for (const place of Object.values(settings.places)) mkdirSync(place, { recursive: true, mode: 0o700 });
  writeConfiguration(settings);
  return settings;
}

function keptKey(path: string): string {
  const kept = readFileIfPresent(path);
  if (kept !== null && /^[0-9a-f]{64}$/.test(kept)) return kept;
  const key = randomBytes(32).toString("hex");
  writeFileSync(path, key, { mode: 0o600 });
  return key;
}

/** A program's absolute path, for other programs that need one; its bare name if PATH has no such program. */
function onPath(name: string): string {
  const directories = (plainEnvironment()["PATH"] ?? "").split(":");
  return directories.map((directory) => join(directory, name)).find((path) => existsSync(path)) ?? name;
}

/**
 * Writes our own configuration for containers/image and containers/storage, so that the host's has no effect
 * here.
 */
function writeConfiguration(settings: BuilderSettings): void {
  const { etc, root, run } = settings.places;
  const write = (name: string, text: string) => writeFileSync(join(etc, name), text, { mode: 0o600 });
  mkdirSync(join(etc, "registries.d"), { recursive: true, mode: 0o700 });
  write("auth.json", "{}\n");
  write("policy.json", '{"default":[{"type":"insecureAcceptAnything"}]}\n');
  write("containers.conf", '[engine]\ncgroup_manager = "cgroupfs"\n');
  write(
    "storage.conf",
    `[storage]\ndriver = "overlay"\ngraphroot = ${JSON.stringify(root)}\nrunroot = ${JSON.stringify(run)}\n`,
  );
  const insecure = settings.plainHttpRegistries.map(
    (host) => `[[registry]]\nlocation = ${JSON.stringify(host)}\ninsecure = true\n`,
  );
  write(
    "registries.conf",
    `unqualified-search-registries = []\nshort-name-mode = "enforcing"\n${insecure.join("")}`,
  );
}
