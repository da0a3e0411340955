// The builder and the artifacts of the simulation: images are names, blobs are their digests, and log lines
// are only counted.

import { createHash } from "node:crypto";
import type { Artifacts, Digest } from "@formation-mcp/artifacts";
import type { Builder, BuildRequest } from "@formation-mcp/builder";
import { FormationError } from "@formation-mcp/contract";
import { contentOf } from "./files.ts";
import type { Host, Mishap } from "./host.ts";
import { elapsed, pause } from "./time.ts";
import type { Truth } from "./truth.ts";

export function builderOn(host: Host, mishap: Mishap): Builder {
  const { chance, images, truth } = host;
  return {
    async build(request, hooks) {
      const { formfile, limits, id } = request;
      // An image that is fetched runs nothing.
      const needs =
        formfile.run.length > 0
          ? { vcpus: limits.vcpus, memory_mb: limits.memory_mb, disk_gb: 0 }
          : { vcpus: 0, memory_mb: 0, disk_gb: 0 };
      await mishap("before build");
      const context = contextOf(request, truth);
      truth.take(host.load, needs, 1, `${id} is built`);
      host.building.set(id, needs);
      try {
        hooks.onStep("pull", "Fetching the base.", 0.1);
        await pause(chance.between(50, 500));
        hooks.signal.throwIfAborted();
        if (chance.happens(0.02)) throw new FormationError("unavailable", "The registry does not answer.");
        for (const [at, line] of formfile.run.entries()) {
          hooks.onStep(`run ${at + 1}`, "Running a line.", 0.5);
          hooks.onLine("stdout", line);
          await pause(chance.between(100, 3000));
          hooks.signal.throwIfAborted();
          if (line === "false") {
            throw new FormationError("invalid", "A line failed.", { step: `run ${at + 1}`, exit_code: 1 });
          }
        }
        await mishap("during build");
      } finally {
        if (host.building.delete(id)) truth.take(host.load, needs, -1, `${id} is over`);
      }
      const digest = `sha256:${createHash("sha256")
        .update(JSON.stringify([formfile, context]))
        .digest("hex")}`;
      images.add(digest);
      return {
        digest,
        bytes: 1_000_000,
        process: { argv: ["/bin/server"], env: {}, workdir: "/", user: "" },
        expose: formfile.expose,
        base: { reference: formfile.from, digest: `sha256:${"0".repeat(64)}` },
      };
    },
    async disk(digest, diskGb, signal) {
      await pause(chance.between(5, 100));
      signal.throwIfAborted();
      if (!images.has(digest)) throw new FormationError("unavailable", "The image is not here.");
      return `${digest} ${diskGb}`;
    },
    images: async () => [...images].map((digest) => ({ digest, bytes: 1_000_000 })),
    async *exportImage(digest) {
      await pause(chance.between(50, 500));
      yield Buffer.from(digest);
    },
    async importImage(digest, content, signal) {
      const parts: Uint8Array[] = [];
      for await (const part of content) parts.push(part);
      await pause(chance.between(50, 500));
      signal.throwIfAborted();
      if (Buffer.concat(parts).toString() !== digest)
        throw new FormationError("invalid", "It is another image.");
      images.add(digest);
    },
    remove: async (digest) => void images.delete(digest),
    trim: async () => 0,
    recover: () => pause(chance.between(10, 500)),
    destroy: async () => {},
    probe: async () => ({
      driver: "simulated",
      version: "1",
      ready: true,
      problems: [],
      enforced: [],
    }),
  };
}

/** The context of a build: each included file contains the name of the build. */
function contextOf({ formfile, contextDir, id }: BuildRequest, truth: Truth): (string | undefined)[] {
  const context = formfile.include.map((name) => contentOf(`${contextDir}/${name}`));
  if (context.length > 0) truth.count("contexts unpacked");
  if (context.some((content) => content !== formfile.name))
    truth.offence(`${id} was given the context ${JSON.stringify(context)}`);
  return context;
}

/** Artifacts that all processes share; nothing else in this test depends on their bytes. */
export function memoryArtifacts(truth: Truth): Artifacts {
  const blobs = new Map<Digest, { bytes: Uint8Array; at: number }>();
  const logs = new Map<string, number>();
  return {
    shared: true,
    async put(content) {
      const parts: Uint8Array[] = [];
      for await (const part of content) parts.push(part);
      const bytes = Buffer.concat(parts);
      const digest: Digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
      blobs.set(digest, { bytes, at: elapsed() });
      return { digest, bytes: bytes.length };
    },
    async get(digest) {
      const blob = blobs.get(digest);
      if (!blob) throw new FormationError("not_found", "There is no such blob.");
      return (async function* () {
        yield blob.bytes;
      })();
    },
    stat: async (digest) => {
      const blob = blobs.get(digest);
      return blob ? { digest, bytes: blob.bytes.length } : null;
    },
    async collect(roots, keptMs) {
      const named = new Set<string>();
      for await (const root of roots) named.add(root);
      let gone = 0;
      for (const [digest, { at }] of blobs) {
        if (named.has(digest) || elapsed() - at < keptMs) continue;
        blobs.delete(digest);
        gone++;
      }
      truth.count("artifacts collected", gone);
      return gone;
    },
    appendLog: async (name, lines) => void logs.set(name, (logs.get(name) ?? 0) + lines.length),
    readLog: async () => ({ lines: [], cursor: "0", more: false }),
    removeLog: async (name) => void logs.delete(name),
    logNames: async () => [...logs.keys()],
    close: async () => {},
  };
}
