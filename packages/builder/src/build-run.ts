// One build, from its directory to its cleanup. Everything a build makes is in its own directory, its own
// cgroup and its own processes. All of them are removed when it ends, however it ends; only the image
// remains.

import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FormationError, type Image, LIMITS } from "@formation-mcp/contract";
import { type RunResult, run } from "@formation-mcp/os";
import type { BaseImage, BaseImages } from "./base-images.ts";
import { BuildCgroup } from "./build-cgroup.ts";
import { checkScratch, explainEnd, noSpace, notRun, strangeWorkdir, withDetails } from "./build-errors.ts";
import { BUILD_DNS, BuildNetwork, canMakeNetwork } from "./build-network.ts";
import { BuildOutput, readFailure } from "./build-output.ts";
import type { BuildCleanup } from "./cleanup.ts";
import { closedRanges } from "./closed-ranges.ts";
import {
  type Rendered,
  renderContainerfile,
  SCRIPTS,
  type Step,
  safeWorkdir,
  withoutDigests,
} from "./image/containerfile.ts";
import { portsOf, processOf } from "./image/process.ts";
import { OWN_IMAGE_NAME, parseReference } from "./image/reference.ts";
import type { ImageStore } from "./image-store.ts";
import { isNearlyFull, LimitWatch, tooMuchDisk } from "./limit-watch.ts";
import type { BuildHooks, BuildRequest } from "./port.ts";
import { stageIncludes } from "./stage-includes.ts";

export class BuildRun {
  readonly #store: ImageStore;
  readonly #bases: BaseImages;
  readonly #cleanup: BuildCleanup;
  readonly #request: BuildRequest;
  readonly #hooks: BuildHooks;
  readonly #directory: string;
  readonly #context: string;
  readonly #scripts: string;
  readonly #name: string;
  readonly #tail: string[] = [];
  readonly #ending = new AbortController();
  #endedBy: FormationError | null = null;
  #step = "pull";

  constructor(
    store: ImageStore,
    bases: BaseImages,
    cleanup: BuildCleanup,
    request: BuildRequest,
    hooks: BuildHooks,
  ) {
    this.#store = store;
    this.#bases = bases;
    this.#cleanup = cleanup;
    this.#request = request;
    this.#hooks = hooks;
    this.#directory = join(store.settings.places.builds, request.id);
    this.#context = join(this.#directory, "ctx");
    this.#scripts = join(this.#directory, "scripts");
    this.#name = `${OWN_IMAGE_NAME}:${request.id}`;
  }

  async run(): Promise<Image> {
    const onAbort = () => this.#end(new FormationError("cancelled", "The build was cancelled."));
    if (this.#hooks.signal.aborted) onAbort();
    this.#hooks.signal.addEventListener("abort", onAbort, { once: true });
    const timer = setTimeout(() => this.#end(this.#tooSlow()), this.#request.limits.timeout_ms);
    try {
      return await this.#build();
    } catch (error) {
      if (this.#store.byName(this.#name)) await this.#cleanup.removeName(this.#name);
      throw this.#toBuildError(error);
    } finally {
      clearTimeout(timer);
      this.#hooks.signal.removeEventListener("abort", onAbort);
    }
  }

  async #build(): Promise<Image> {
    const { formfile, limits } = this.#request;
    const { settings } = this.#store;
    const { signal } = this.#ending;
    signal.throwIfAborted();
    const reference = parseReference(formfile.from);
    checkScratch(this.#request);
    if (isNearlyFull(settings)) throw noSpace();
    const cgroup =
      settings.profile === "root"
        ? new BuildCgroup(settings.cgroupRoot, settings.mark, this.#request.id, limits)
        : null;
    const network = this.#createNetwork();
    const watch = new LimitWatch(this.#store, join(this.#directory, "runc"), cgroup, limits, (error) =>
      this.#end(error),
    );
    let running: Promise<RunResult> | null = null;
    const finish = await this.#cleanup.beginBuild(this.#request.id);
    try {
      for (const name of ["tmp", "runc", "ctx/tree"])
        mkdirSync(join(this.#directory, name), { recursive: true });
      cgroup?.create();
      this.#begin("pull", `Looking for ${reference.name}`, 0);
      watch.start();
      const base = await this.#bases.resolve(reference, {
        signal,
        directory: this.#directory,
        say: (line) => this.#line("stdout", line),
        onPull: () => this.#begin("pull", `Pulling ${reference.name}`, 0),
      });
      const workdir = safeWorkdir(base.config.workdir);
      if (workdir === null) throw strangeWorkdir(reference.name);
      const process = processOf(formfile, base.config, workdir);
      const staged = await stageIncludes(
        formfile.include,
        this.#request.contextDir,
        join(this.#context, "tree"),
        limits.disk_bytes,
        signal,
      );
      const { env, run: lines } = formfile;
      const { owner } = this.#request;
      const recipe = { owner, baseId: base.id, workdir, env, run: lines };
      const rendered = renderContainerfile(recipe, settings.scriptKey);
      const { steps } = rendered;
      this.#writeFiles(rendered);
      const output = this.#followOutput(steps, staged.files, workdir);
      running = this.#startBuildah(cgroup, network, output);
      // Started but not awaited: only the first line that really runs waits for the network.
      network?.attach(signal).catch((error) => this.#end(FormationError.from(error)));
      const result = await running;
      const failure = result.code === 0 ? null : readFailure(steps, result.stderr);
      output.end(failure);
      const seen = watch.stop();
      if (result.code !== 0) {
        if (failure?.step.name === "include") this.#logIncludeFailure(failure.reason, steps);
        throw explainEnd({ ...result, steps, seen, limits, tail: this.#tail });
      }
      return await this.#readImage(steps, base, process, portsOf(formfile, base.config));
    } finally {
      watch.stop();
      this.#ending.abort();
      await running?.catch(() => {});
      await Promise.all([network?.release(), cgroup?.remove()]);
      await finish();
    }
  }

  /** Logs only buildah's own text. The output of run lines belongs to the build's author. */
  #logIncludeFailure(text: string, steps: readonly Step[]): void {
    const reason = withoutDigests(text, steps).slice(0, 2000);
    const build = this.#request.id;
    this.#store.settings.logger.log("warn", "included files could not be copied", { build, reason });
  }

  /**
   * Null if run lines get no network: there are no run lines, the operator wants none, or the node cannot
   * filter one.
   */
  #createNetwork(): BuildNetwork | null {
    const { settings } = this.#store;
    if (settings.network === "none" || this.#request.formfile.run.length === 0) return null;
    if (canMakeNetwork()) return new BuildNetwork(this.#store, this.#directory, closedRanges(settings));
    this.#line("stderr", "This node cannot give run lines a network: /dev/net/tun cannot be opened.");
    return null;
  }

  #writeFiles({ text, scripts }: Rendered): void {
    writeFileSync(join(this.#context, "Containerfile"), text);
    mkdirSync(this.#scripts);
    for (const [name, script] of scripts) writeFileSync(join(this.#scripts, name), script);
    // Readable by the base's USER, whatever our umask is. On the host, only the state directory's owner can
    // reach them.
    chmodSync(this.#scripts, 0o755);
    for (const [name] of scripts) chmodSync(join(this.#scripts, name), 0o644);
  }

  #startBuildah(
    cgroup: BuildCgroup | null,
    network: BuildNetwork | null,
    output: BuildOutput,
  ): Promise<RunResult> {
    const { settings } = this.#store;
    const build = [
      ...[
        settings.tools.buildah,
        ...this.#store.globals(),
        "build",
        ...this.#store.isolation(network?.runtime()),
      ],
      ...["--runtime-flag", `root=${join(this.#directory, "runc")}`],
      ...(cgroup ? ["--cgroup-parent", cgroup.forContainers] : []),
      ...this.#ulimits().flatMap((limit) => ["--ulimit", limit]),
      ...["--cap-drop", "CAP_NET_RAW", "--cap-drop", "CAP_MKNOD", "--cap-drop", "CAP_AUDIT_WRITE"],
      ...(network ? ["--network", "ns:/proc/self/ns/net", "--dns", BUILD_DNS] : ["--network", "none"]),
      ...["--http-proxy=false", "--pull=never", "--layers", "--force-rm", ...this.#store.policy()],
      ...(this.#request.noCache ? ["--no-cache"] : []),
      ...["--volume", `${this.#scripts}:${SCRIPTS}:ro`],
      ...["--iidfile", join(this.#directory, "iid"), "-t", this.#name],
      ...["-f", join(this.#context, "Containerfile"), this.#context],
    ];
    // If this process is killed, buildah gets SIGTERM and cleans up.
    const command = ["--pdeathsig", "TERM", "--", ...(network ? network.wrap(build) : build)];
    return run("setpriv", command, {
      signal: this.#ending.signal,
      timeoutMs: this.#request.limits.timeout_ms + 60_000,
      env: this.#store.environment(join(this.#directory, "tmp")),
      cwd: this.#directory,
      onLine: (stream, line) => output.line(stream, line),
    });
  }

  /**
   * Limits the size of one file (a sparse file costs nothing until its layer is packed). Where there is no
   * cgroup, also limits processes and data.
   */
  #ulimits(): string[] {
    const { disk_bytes, pids, memory_mb } = this.#request.limits;
    const both = (name: string, value: number) => `${name}=${value}:${value}`;
    // Twice the disk limit, so that the build fails by its total, not by a program's own message about one
    // file.
    const fsize = both("fsize", 2 * disk_bytes);
    if (this.#store.settings.profile === "root") return [fsize];
    return [fsize, both("nproc", pids), both("data", memory_mb * 1024 * 1024)];
  }

  #followOutput(steps: readonly Step[], files: number, workdir: string): BuildOutput {
    return new BuildOutput(steps, {
      onLine: (stream, line) => this.#line(stream, withoutDigests(line, steps)),
      onStep: (step, index) => {
        const message =
          step.name === "include"
            ? `Including ${files} files in ${workdir}`
            : `Running line ${index} of ${steps.length - 1}`;
        this.#begin(step.name, message, (index + 1) / (steps.length + 2));
      },
    });
  }

  async #readImage(
    steps: readonly Step[],
    base: BaseImage,
    process: Image["process"],
    expose: number[],
  ): Promise<Image> {
    this.#begin("commit", "Keeping the image", null);
    const digest = readFileSync(join(this.#directory, "iid"), "utf8").trim();
    const id = digest.replace(/^sha256:/, "");
    const image = this.#store.images().find((one) => one.id === id);
    if (!image)
      throw new FormationError("internal", "The build ended well but its image is not in the store.");
    const history = await this.#store.history(id, this.#ending.signal);
    const skipped = steps.find(({ digest }) => !history.some((entry) => entry.includes(digest)));
    if (skipped) throw notRun(skipped);
    const bytes = this.#store.sizes([image]).bytes[0] ?? 0;
    if (bytes - base.bytes > this.#request.limits.disk_bytes) throw tooMuchDisk(this.#request.limits);
    return {
      digest: `sha256:${id}`,
      bytes,
      process,
      expose,
      base: { reference: base.reference, digest: base.digest },
    };
  }

  /** Converts anything thrown to the build's error, with its step and the last lines of its log. */
  #toBuildError(thrown: unknown): FormationError {
    const error = FormationError.from(this.#endedBy ?? thrown, "The build failed inside the node.");
    return withDetails(error, {
      step: error.details.step ?? this.#step,
      ...(this.#tail.length > 0 ? { log_tail: [...this.#tail] } : {}),
    });
  }

  #end(error: FormationError): void {
    this.#endedBy ??= error;
    this.#ending.abort();
  }

  #begin(step: string, message: string, fraction: number | null): void {
    this.#step = step;
    this.#hooks.onStep(step, message, fraction);
  }

  #line(stream: "stdout" | "stderr", line: string): void {
    this.#tail.push(line.slice(0, LIMITS.logLineBytes));
    if (this.#tail.length > LIMITS.errorLogLines) this.#tail.shift();
    this.#hooks.onLine(stream, line);
  }

  #tooSlow(): FormationError {
    const seconds = Math.round(this.#request.limits.timeout_ms / 1000);
    return new FormationError("limit", `The build did not end within its ${seconds} s.`, {
      remedy: "Make the run lines faster, or move what serves requests from run to entrypoint.",
    });
  }
}
