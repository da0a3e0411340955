// pack_build, build_list and build_get: a formfile becomes a build. This folder has the handlers of the
// tools: what each tool reads, stores and returns.

import { type Build, FormationError, type Id, LIMITS, newId, type Operation } from "@formation-mcp/contract";
import { type Formfile, parseFormfile } from "@formation-mcp/formfile";
import type { NewBuild } from "@formation-mcp/operations";
import type { ToolOutput } from "@formation-mcp/tools";
import {
  admits,
  findBuild,
  ownerField,
  ownerFilter,
  requireAllowedName,
  withTokenMetadata,
} from "../access/ownership.ts";
import { prepareContext } from "../context/context.ts";
import type { ControlDeps, ToolHandler } from "../deps.ts";
import { placeBuild } from "../fleet/placement.ts";
import { errorView } from "../results/errors.ts";
import { buildLog } from "../results/logs.ts";
import { afterBuild } from "../results/next-steps.ts";
import { page } from "../results/pages.ts";
import { formfileView, imageView, iso, isoOrNull, pairs, texts } from "../results/views.ts";
import { progressOf } from "../submit/progress.ts";
import { deadline, startOperation } from "../submit/submit.ts";
import { throwFormfileIssues } from "./formfile-errors.ts";

export const packBuild: ToolHandler<"pack_build"> = async (deps, { principal, input, hooks }) => {
  const { owner } = principal;
  const parsed = parseFormfile(input.formfile);
  if (!parsed.ok) throwFormfileIssues(parsed.issues);
  const { formfile } = parsed;
  requireAllowedName(principal, formfile.name, "formfile.name");
  const metadata = withTokenMetadata(principal, formfile.metadata, "formfile.metadata");
  const placed = placeBuild(input);
  const prepare = async () => {
    const context = await prepareContext(deps, principal, formfile, input, hooks.signal);
    return { store: context.store, warnings: [...parsed.warnings, ...context.warnings] };
  };
  if (input.dry_run) {
    const { warnings } = await prepare();
    return {
      name: formfile.name,
      state: "valid",
      done: true,
      warnings: texts(warnings),
      formfile: formfileView(formfile),
      next: "The formfile is valid. Call pack_build again without dry_run to build it.",
    };
  }
  const operation = await startOperation(
    deps,
    { principal, owner, tool: "pack_build", input, hooks },
    async () => {
      const operationId = newId("op", deps.clock, deps.random);
      const { store, warnings } = await prepare();
      await spendContext(deps, owner);
      const digest = await store();
      const build = newBuild(deps, {
        owner,
        operationId,
        formfile,
        metadata,
        warnings,
        context_digest: digest,
      });
      return {
        build,
        operation: {
          id: operationId,
          owner,
          tool: "pack_build",
          ...placed,
          input: { kind: "build", build_id: build.id, no_cache: input.no_cache },
          target_id: build.id,
          needs: deps.buildNeeds,
          deadline_at: deadline(deps, LIMITS.buildMs),
        },
      };
    },
  );
  return buildResult(deps, operation);
};

/**
 * A context is stored before the store can check the quota of the build. So that refused builds do not fill
 * the disk, the stored contexts per minute are limited like the operations per minute.
 * @throws FormationError `limit`
 */
async function spendContext({ store, quotas, clock }: ControlDeps, owner: string): Promise<void> {
  const limit = (await quotas?.of(owner))?.operations_per_minute ?? null;
  if (limit === null) return;
  const { granted, resets_at } = await store.counters.spend({
    key: `contexts of ${owner}`,
    limit,
    windowMs: 60_000,
    amount: 1,
  });
  if (granted > 0) return;
  const seconds = Math.max(1, Math.ceil((resets_at - clock.now()) / 1000));
  throw new FormationError("limit", `The quota of ${limit} operations a minute is used up.`, {
    remedy: `Try again in ${seconds} seconds, or ask the operator for a larger quota.`,
  });
}

/** The record of a new build, before a worker takes it. */
export function newBuild(
  deps: ControlDeps,
  made: {
    owner: string;
    operationId: Id<"op">;
    formfile: Formfile;
    metadata: Record<string, string>;
    warnings: string[];
    context_digest?: string | null;
  },
): NewBuild {
  return {
    id: newId("bld", deps.clock, deps.random),
    owner: made.owner,
    name: made.formfile.name,
    state: "queued",
    formfile: made.formfile,
    context_digest: made.context_digest ?? null,
    image: null,
    warnings: made.warnings,
    metadata: made.metadata,
    error: null,
    node_id: null,
    used_at: deps.clock.now(),
    operation_id: made.operationId,
    started_at: null,
    ended_at: null,
  };
}

async function buildResult(deps: ControlDeps, operation: Operation): Promise<ToolOutput<"pack_build">> {
  if (operation.input.kind !== "build") throw new FormationError("internal", "The operation is no build.");
  const build = await deps.store.build(operation.owner, operation.input.build_id);
  const done = operation.state === "completed";
  return {
    build_id: build.id,
    operation_id: operation.id,
    name: build.name,
    state: build.state,
    done,
    warnings: texts(build.warnings),
    ...imageView(build),
    ...(await progressOf(deps, operation)),
    next: afterBuild(build, operation),
  };
}

export const buildList: ToolHandler<"build_list"> = async (deps, { principal, input }) => {
  const { bounds } = principal;
  const { items, cursor } = await page({
    input,
    query: (limit, cursor) =>
      deps.store.builds({
        owner: ownerFilter(principal),
        limit,
        cursor,
        ...(input.state ? { states: [input.state] } : {}),
        ...(input.name === undefined ? {} : { name: input.name }),
      }),
    sees: bounds && ((build) => admits(bounds, build)),
    view: (build: Build) => ({
      build_id: build.id,
      name: build.name,
      state: build.state,
      created_at: iso(build.created_at),
      ...(build.error ? { error: errorView(build.error).message.slice(0, 200) } : {}),
      ...ownerField(principal, build),
    }),
  });
  return { builds: items, cursor };
};

export const buildGet: ToolHandler<"build_get"> = async (deps, { principal, input }) => {
  const build = await findBuild(deps, principal, input.build_id);
  const ended = build.ended_at !== null;
  return {
    build_id: build.id,
    name: build.name,
    state: build.state,
    warnings: texts(build.warnings, 2000),
    ...(build.error ? { error: errorView(build.error) } : {}),
    formfile: formfileView(build.formfile),
    ...imageView(build),
    metadata: pairs(build.metadata, 1000),
    operation_id: build.operation_id,
    created_at: iso(build.created_at),
    ended_at: isoOrNull(build.ended_at),
    expires_at: ended ? iso(build.used_at + LIMITS.unusedBuildKeptMs) : null,
    ...ownerField(principal, build),
    log: await buildLog(deps, build.id, input.log_tail),
    next: afterBuild(build),
  };
};
