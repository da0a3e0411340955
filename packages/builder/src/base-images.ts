// Turns `from` into a base: an image in the node's store whose configuration was read and checked as fit to
// build on.

import { lookup } from "node:dns/promises";
import { mkdirSync } from "node:fs";
import { isIP } from "node:net";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { type RunResult, run } from "@formation-mcp/os";
import { BuildNetwork, canMakeNetwork } from "./build-network.ts";
import { ensureBusybox } from "./busybox-base.ts";
import { closedRanges, isReachable } from "./closed-ranges.ts";
import type { ImageConfig } from "./image/config.ts";
import { EMPTY_CONFIG } from "./image/process.ts";
import type { Reference } from "./image/reference.ts";
import type { ImageStore, IndexedImage } from "./image-store.ts";

export interface BaseImage {
  /** 64 hexadecimal digits, or `scratch`. */
  id: string;
  reference: string;
  /** The manifest's digest; empty for scratch. */
  digest: string;
  bytes: number;
  config: ImageConfig;
}

const PULL_TIMEOUT_MS = 10 * 60_000;

/** What a build passes in while its base is resolved. */
export interface BaseHooks {
  signal: AbortSignal;
  /** The build's own directory. */
  directory: string;
  say(line: string): void;
  onPull(): void;
}

/** Finds, makes or pulls base images. */
export class BaseImages {
  readonly #store: ImageStore;
  readonly #configs = new Map<string, ImageConfig>();

  constructor(store: ImageStore) {
    this.#store = store;
  }

  /**
   * Resolves a reference, asking its registry whether a tag moved.
   * @throws FormationError `not_found` if there is no such image, `invalid` if it cannot be built on,
   *   `unavailable` if its registry does not answer and the node has no copy.
   */
  async resolve(reference: Reference, hooks: BaseHooks): Promise<BaseImage> {
    if (reference.kind === "scratch") {
      return { id: "scratch", reference: "scratch", digest: "", bytes: 0, config: EMPTY_CONFIG };
    }
    const image = await this.#image(reference, hooks);
    const config = this.#configs.get(image.id) ?? (await this.#store.inspect(image.id, hooks.signal));
    this.#configs.set(image.id, config);
    if (this.#configs.size > 200) this.#configs.clear();
    checkConfig(reference.name, config);
    this.#store.touchBase(image.id);
    const bytes = this.#store.sizes([image]).bytes[0] ?? 0;
    return { id: image.id, reference: reference.name, digest: image.digest, bytes, config };
  }

  async #image(reference: Exclude<Reference, { kind: "scratch" }>, hooks: BaseHooks): Promise<IndexedImage> {
    if (reference.kind === "busybox") return await ensureBusybox(this.#store, hooks.signal);
    const local = this.#store.byName(reference.name);
    if (reference.kind === "local") {
      if (local) return local;
      throw unknownBase(
        reference.name,
        "This node has no image of that name; localhost/… names are never pulled.",
      );
    }
    if (local && reference.byDigest) return local;
    try {
      hooks.onPull();
      return await this.#pull(reference, hooks);
    } catch (error) {
      const failure = FormationError.from(error);
      const mayBeAlone = failure.code === "unavailable" || /There is no host/.test(failure.message);
      if (!mayBeAlone || !local) throw failure;
      hooks.say(`${reference.name} could not be checked for a newer version; this node's copy is used.`);
      return local;
    }
  }

  async #pull(reference: Reference & { kind: "registry" }, hooks: BaseHooks): Promise<IndexedImage> {
    await this.#checkHost(reference);
    const result = await this.#runPull(reference, hooks).catch((error: FormationError) => {
      if (error.code !== "limit") throw error;
      throw new FormationError("unavailable", `Pulling ${reference.name} took more than 10 minutes.`, {
        step: "pull",
        remedy: "Try again, or use a smaller base image.",
      });
    });
    if (result.code !== 0) throw pullFailed(reference, result.stderr);
    const id = result.stdout.trim().split("\n").at(-1) ?? "";
    const image = this.#store.images().find((one) => one.id === id) ?? this.#store.byName(reference.name);
    if (image) return image;
    throw new FormationError("internal", `${reference.name} was pulled but is not in the store.`, {
      step: "pull",
    });
  }

  /**
   * Pulls with the same filtered network as run lines. A registry can direct a pull anywhere, by redirects,
   * by its token service, or by names that change their address. The operator's own registries are pulled
   * from the host's network.
   */
  async #runPull(
    reference: Reference & { kind: "registry" },
    { signal, directory }: BaseHooks,
  ): Promise<RunResult> {
    const { settings } = this.#store;
    const pull = [
      ...["pull", "--policy", "always", "--quiet", "--retry", "1", "--retry-delay", "1s"],
      ...[...this.#store.policy(), "--authfile", settings.authFile, reference.name],
    ];
    const options = { timeoutMs: PULL_TIMEOUT_MS, signal };
    if (this.#isOperators(reference.host) || !canMakeNetwork()) return await this.#store.run(pull, options);
    const own = join(directory, "pull");
    mkdirSync(own);
    const network = new BuildNetwork(this.#store, own, closedRanges(settings));
    const command = network.wrapWhole([settings.tools.buildah, ...this.#store.globals(), ...pull]);
    const ending = new AbortController();
    const either = AbortSignal.any([signal, ending.signal]);
    const pulling = run("setpriv", ["--pdeathsig", "TERM", "--", ...command], {
      ...options,
      signal: either,
      env: this.#store.environment(),
    });
    let noWayOut: unknown;
    const attached = network.attach(either).catch((error) => {
      noWayOut = error;
      ending.abort();
    });
    try {
      return await pulling;
    } catch (error) {
      throw signal.aborted ? error : (noWayOut ?? error);
    } finally {
      ending.abort();
      await attached;
      await network.release();
    }
  }

  /**
   * Whether the operator named this registry: listed for plain HTTP, or on the host's loopback (which the
   * filter cannot reach) in an allowed range.
   */
  #isOperators(host: string): boolean {
    const { settings } = this.#store;
    if (settings.plainHttpRegistries.includes(host)) return true;
    const name = host.replace(/:\d+$/, "");
    const loopback = name === "localhost" || (isIP(name) === 4 && name.startsWith("127."));
    return loopback && isReachable(isIP(name) ? name : "127.0.0.1", settings);
  }

  /**
   * Refuses a registry at a private address with a clear error. Without it, the filtered network would only
   * time out.
   */
  async #checkHost(reference: Reference & { kind: "registry" }): Promise<void> {
    const { settings } = this.#store;
    if (settings.plainHttpRegistries.includes(reference.host)) return;
    const host = reference.host.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
    const addresses = isIP(host)
      ? [{ address: host }]
      : await lookup(host, { all: true }).catch(() => [] as { address: string }[]);
    const bad = addresses.find(({ address }) => !isReachable(address, settings));
    if (!bad) return;
    throw new FormationError("invalid", `The registry ${reference.host} stands at a private address.`, {
      field: "from",
      step: "pull",
      remedy: "Use a public registry, or ask the operator to allow this registry's address range for builds.",
    });
  }
}

function checkConfig(name: string, config: ImageConfig): void {
  const refuse = (what: string, remedy: string) => {
    throw new FormationError("invalid", `${name} ${what}`, { field: "from", step: "pull", remedy });
  };
  if (config.os !== "linux" || config.architecture !== "amd64") {
    refuse(
      `is an image for ${config.os || "?"}/${config.architecture || "?"}; machines here are linux/amd64.`,
      "Use an image that has a linux/amd64 variant.",
    );
  }
  const texts = [config.user, ...config.entrypoint, ...config.cmd];
  if (!/^(?:[^\s:\0]+(?::[^\s:\0]+)?)?$/.test(config.user) || texts.some((text) => text.includes("\0"))) {
    refuse("has a USER or a command that cannot be used.", "Use another base image.");
  }
  if (config.onBuild.length > 0) {
    refuse("carries ONBUILD instructions, which are not run here.", "Use the image that it was made from.");
  }
}

function pullFailed(reference: Reference & { kind: "registry" }, stderr: string): FormationError {
  const said = (stderr.trim().split("\n").at(-1) ?? "").replace(/^Error: /, "").slice(0, 600);
  const details = { field: "from", step: "pull" };
  if (/server gave HTTP response to HTTPS client/.test(said)) {
    return new FormationError(
      "invalid",
      `The registry ${reference.host} speaks plain HTTP, which is not allowed here.`,
      {
        ...details,
        remedy: "Give the registry a certificate, or ask the operator to list it as a plain HTTP registry.",
      },
    );
  }
  if (
    /unauthorized|authentication required|access to the resource is denied|\bdenied\b|40[13]\b/i.test(said)
  ) {
    return unknownBase(
      reference.name,
      "The registry does not know it, or wants credentials that this node lacks.",
    );
  }
  if (/manifest unknown|name unknown|not found|404\b|not known to registry/i.test(said)) {
    return unknownBase(reference.name, "Its registry does not know it.");
  }
  if (/: no such host$/.test(said)) {
    return unknownBase(reference.name, `There is no host ${reference.host}.`);
  }
  if (/no image found in (manifest list|image index)|no matching manifest/i.test(said)) {
    return unknownBase(reference.name, "It has no linux/amd64 variant.");
  }
  return new FormationError("unavailable", `${reference.name} could not be pulled: ${said}.`, {
    ...details,
    remedy: `Check that ${reference.host} can be reached from the node, then try again.`,
  });
}

function unknownBase(name: string, why: string): FormationError {
  return new FormationError("not_found", `There is no base image ${name}. ${why}`, {
    field: "from",
    step: "pull",
    remedy:
      'Check the spelling and the tag; "busybox" needs no registry. Private registries need the operator\'s credentials.',
  });
}
