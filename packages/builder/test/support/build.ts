// Runs one build through the public interface and returns its output.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Builder, BuildLimits } from "@formation-mcp/builder";
import type { Image } from "@formation-mcp/contract";
import { FormationError } from "@formation-mcp/contract";
import type { Formfile } from "@formation-mcp/formfile";

export interface Built {
  image: Image | null;
  error: FormationError | null;
  lines: string[];
  text: string;
}

const LIMITS: BuildLimits = { memory_mb: 1024, vcpus: 2, pids: 200, disk_bytes: 1e9, timeout_ms: 120_000 };
let built = 0;

export async function build(
  builder: Builder,
  formfile: Partial<Formfile>,
  more: { owner?: string; contextDir?: string; limits?: Partial<BuildLimits>; signal?: AbortSignal } = {},
): Promise<Built> {
  const lines: string[] = [];
  built += 1;
  const outcome = await builder
    .build(
      {
        id: `bld_real.${built}`,
        owner: more.owner ?? "one",
        formfile: {
          from: "busybox",
          name: "test",
          run: [],
          include: [],
          env: {},
          expose: [],
          entrypoint: null,
          resources: { vcpus: 1, memory_mb: 64, disk_gb: 1 },
          network: { join_formnet: false, external_networks: [] },
          metadata: {},
          ...formfile,
        },
        contextDir: more.contextDir ?? null,
        noCache: false,
        limits: { ...LIMITS, ...more.limits },
      },
      {
        signal: more.signal ?? new AbortController().signal,
        onStep: () => {},
        onLine: (_, line) => lines.push(line),
      },
    )
    .then(
      (image) => ({ image, error: null }),
      (error: unknown) => {
        if (error instanceof FormationError) return { image: null, error };
        throw error;
      },
    );
  return { ...outcome, lines, text: lines.join("\n") };
}

/** A build that must succeed. */
export async function buildWell(...args: Parameters<typeof build>): Promise<Built & { image: Image }> {
  const done = await build(...args);
  if (!done.image) throw new Error(`${JSON.stringify(done.error?.toRecord())}\n${done.text}`);
  return { ...done, image: done.image };
}

/** A directory that is removed on disposal. */
export function temporary(): { path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), "fb-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}
