// Calls buildah and mke2fs by hand for the same result as the driver.

import { existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { plainEnvironment, runChecked } from "@formation-mcp/os";

const LIMIT_MS = 120_000;

export interface Recipe {
  /** The included files, by path. */
  tree: Record<string, string>;
  lines: readonly string[];
}

export class RawBuilder {
  readonly #globals: readonly string[];
  readonly #directory: string;
  readonly #env: Record<string, string>;
  readonly #recipe: Recipe;

  /**
   * @param stateDir a driver's state directory, whose store and configuration are used
   * @param directory for the context and the disks
   */
  constructor(stateDir: string, directory: string, recipe: Recipe) {
    const etc = join(stateDir, "etc");
    this.#directory = directory;
    this.#recipe = recipe;
    this.#globals = [
      ...["--root", join(stateDir, "c"), "--runroot", join(stateDir, "r"), "--storage-driver", "overlay"],
      ...["--registries-conf", join(etc, "registries.conf")],
    ];
    this.#env = plainEnvironment({
      HOME: join(stateDir, "home"),
      TMPDIR: directory,
      CONTAINERS_CONF: join(etc, "containers.conf"),
      CONTAINERS_STORAGE_CONF: join(etc, "storage.conf"),
    });
  }

  /** Writes the context. It builds on the busybox base of the same store. */
  async prepare(): Promise<void> {
    const { tree, lines } = this.#recipe;
    for (const [path, text] of Object.entries(tree)) {
      mkdirSync(dirname(join(this.#directory, "ctx/tree", path)), { recursive: true });
      writeFileSync(join(this.#directory, "ctx/tree", path), text);
    }
    const images = await this.#buildah(["images", "--no-trunc", "--format", "{{.ID}} {{.Name}}:{{.Tag}}"]);
    const base = images
      .split("\n")
      .find((line) => line.includes("/busybox:"))
      ?.split(" ")[0];
    if (base === undefined) throw new Error(`there is no busybox base in the store: ${images}`);
    const run = lines
      .map((line) => `RUN ${JSON.stringify(["/bin/sh", "-c", `cd /app\n${line}`])}\n`)
      .join("");
    const from = base.replace(/^sha256:/, "");
    const text = `FROM ${from}\nCOPY ["tree/", "/app/"]\n${run}`;
    writeFileSync(join(this.#directory, "ctx/Containerfile"), text);
  }

  /**
   * Builds, and makes the disk if there is none of that image. Returns milliseconds, the image's id and the
   * disk's path.
   */
  async build(diskGb: number, noCache: boolean): Promise<{ took: number; id: string; disk: string }> {
    const start = performance.now();
    const iid = join(this.#directory, "iid");
    await this.#buildah([
      ...["build", "--isolation", process.getuid?.() === 0 ? "oci" : "rootless", "--runtime", runc()],
      ...["--network", "none", "--pull=never", "--layers", "--force-rm", ...(noCache ? ["--no-cache"] : [])],
      ...["--iidfile", iid, "-f", join(this.#directory, "ctx/Containerfile"), join(this.#directory, "ctx")],
    ]);
    const id = readFileSync(iid, "utf8").trim().replace("sha256:", "");
    const disk = join(this.#directory, `${id}.img`);
    if (!existsSync(disk)) await this.#disk(id, disk, diskGb);
    return { took: performance.now() - start, id, disk };
  }

  async remove(id: string): Promise<void> {
    await this.#buildah(["rmi", "--force", id]);
  }

  async #disk(id: string, disk: string, diskGb: number): Promise<void> {
    const container = await this.#buildah(["from", "--pull=never", id]);
    const mount = await this.#buildah(["mount", container]);
    writeFileSync(disk, "");
    truncateSync(disk, diskGb * 1024 ** 3);
    const lazy = "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0";
    await this.#run("mke2fs", ["-q", "-F", "-t", "ext4", "-m", "0", "-E", lazy, "-d", mount, disk]);
    await this.#buildah(["umount", container]);
    await this.#buildah(["rm", container]);
  }

  #buildah(args: readonly string[]): Promise<string> {
    return this.#run("buildah", [...this.#globals, ...args]);
  }

  async #run(program: string, args: readonly string[]): Promise<string> {
    const options = { cwd: this.#directory, env: this.#env, timeoutMs: LIMIT_MS };
    return (await runChecked(program, args, options)).stdout.trim();
  }
}

function runc(): string {
  return ["/usr/sbin/runc", "/usr/bin/runc"].find((path) => existsSync(path)) ?? "runc";
}
