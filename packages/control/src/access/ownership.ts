// Which records a principal may see: its own; with the scope `admin` those of all owners; and of these only
// what the bounds of its token allow. Every record that a caller names is looked up here. A record that the
// caller may not see gives the same error, after the same work, as one that does not exist. This folder knows
// which records a caller may see and how much an owner may have.
//
// Bounds restrict instances by name and by metadata. A build counts as an instance of its own name and
// metadata, and an operation counts as its instance or build. So a bounded token sees what it could have made
// itself, and no more.

import type { Bounds, Principal } from "@formation-mcp/auth";
import {
  type Build,
  type Deployment,
  FormationError,
  type Id,
  type Instance,
  idKind,
  type Operation,
  parseId,
} from "@formation-mcp/contract";
import type { ControlDeps } from "../deps.ts";

/**
 * The owner whose records a call may read; `null` means all owners. A token with bounds reads only its own
 * owner, even with the scope `admin`.
 */
export function ownerFilter(principal: Principal): string | null {
  return principal.scopes.has("admin") && !principal.bounds ? null : principal.owner;
}

/** The owner of a record as a field of a result, for callers who see the records of more than one owner. */
export function ownerField(principal: Principal, record: { owner: string }): { owner?: string } {
  return ownerFilter(principal) === null ? { owner: record.owner } : {};
}

const LIST_REMEDIES = {
  instance: "Call vm_list to see your instances.",
  build: "Call build_list to see your builds.",
  operation: "Call operation_list to see what runs.",
  id: "Call operation_list, build_list or vm_list to see what there is.",
};

/** @throws FormationError `not_found` */
export async function findInstance(
  deps: ControlDeps,
  principal: Principal,
  nameOrId: string,
  field: "instance" | "id" = "instance",
): Promise<Instance> {
  const found =
    idKind(nameOrId) === "vm"
      ? await nullIfNotFound(deps.store.instance(ownerFilter(principal), nameOrId as Id<"vm">))
      : await deps.store.instanceByName(principal.owner, nameOrId);
  if (found && admits(principal.bounds, nameAndMetadata(found))) return found;
  throw notFound("instance", nameOrId, field, LIST_REMEDIES[field]);
}

/** Finds a build. @throws FormationError `invalid` if the text is not a build's id, `not_found` */
export async function findBuild(
  deps: ControlDeps,
  principal: Principal,
  text: string,
  field: "build_id" | "id" = "build_id",
): Promise<Build> {
  const id = parseId("bld", text, field);
  const found = await nullIfNotFound(deps.store.build(ownerFilter(principal), id));
  if (found && admits(principal.bounds, found)) return found;
  throw notFound("build", id, field, field === "id" ? LIST_REMEDIES.id : LIST_REMEDIES.build);
}

/**
 * The owner whose records a call on an instance writes: the owner of the instance, even if an admin calls.
 */
export async function ownerOfInstance(
  deps: ControlDeps,
  principal: Principal,
  nameOrId: string,
): Promise<string> {
  if (ownerFilter(principal) !== null || idKind(nameOrId) !== "vm") return principal.owner;
  return (await nullIfNotFound(deps.store.instance(null, nameOrId as Id<"vm">)))?.owner ?? principal.owner;
}

/** The owner whose records a shipment of a build writes. */
export async function ownerOfBuild(deps: ControlDeps, principal: Principal, id: string): Promise<string> {
  if (ownerFilter(principal) !== null || idKind(id) !== "bld") return principal.owner;
  return (await nullIfNotFound(deps.store.build(null, id as Id<"bld">)))?.owner ?? principal.owner;
}

/** A deployment with its instance. @throws FormationError `not_found` */
export async function findDeployment(
  deps: ControlDeps,
  principal: Principal,
  id: Id<"dep">,
): Promise<{ deployment: Deployment; instance: Instance }> {
  const deployment = await nullIfNotFound(deps.store.deployment(ownerFilter(principal), id));
  const instance = deployment && (await deps.store.instance(deployment.owner, deployment.instance_id));
  if (instance && admits(principal.bounds, nameAndMetadata(instance))) return { deployment, instance };
  throw notFound("deployment", id, "id", LIST_REMEDIES.id);
}

/** Finds an operation. @throws FormationError `invalid` if the text is not an operation's id, `not_found` */
export async function findOperation(
  deps: ControlDeps,
  principal: Principal,
  text: string,
  field: "operation_id" | "id" = "operation_id",
): Promise<Operation> {
  const id = parseId("op", text, field);
  const found = await nullIfNotFound(deps.store.operation(ownerFilter(principal), id));
  if (found && (await seesOperation(deps, principal)(found))) return found;
  throw new FormationError(
    "not_found",
    `There is no operation ${id}; they are removed an hour after their end.`,
    {
      field,
      remedy:
        field === "id"
          ? "Ask with the bld_ or vm_ id instead, or call operation_list."
          : LIST_REMEDIES.operation,
    },
  );
}

/** Returns a function that says whether the bounds of a token allow it to see an operation. */
export function seesOperation(
  deps: ControlDeps,
  { bounds }: Principal,
): (operation: Operation) => Promise<boolean> {
  return async ({ owner, input }) => {
    if (!bounds) return true;
    return input.kind === "build"
      ? admits(bounds, await deps.store.build(owner, input.build_id))
      : admits(bounds, nameAndMetadata(await deps.store.instance(owner, input.instance_id)));
  };
}

/** Whether bounds allow an instance, or a build, of this name and metadata. */
export function admits(
  bounds: Bounds | undefined,
  { name, metadata }: { name: string; metadata: Readonly<Record<string, string>> },
): boolean {
  if (bounds?.instances && !bounds.instances.includes(name)) return false;
  return Object.entries(bounds?.metadata ?? {}).every(([key, value]) => ownProperty(metadata, key) === value);
}

export function nameAndMetadata({ name, config }: Pick<Instance, "name" | "config">) {
  return { name, metadata: config.metadata };
}

/** @throws FormationError `forbidden` if the bounds of the token do not allow this name. */
export function requireAllowedName({ bounds }: Principal, name: string, field: string): void {
  if (!bounds?.instances || bounds.instances.includes(name)) return;
  throw new FormationError(
    "forbidden",
    `${field}: this token may make nothing named ${JSON.stringify(name)}.`,
    {
      field,
      remedy: `Use one of: ${bounds.instances.slice(0, 20).join(", ")}.`,
    },
  );
}

/**
 * Adds the key-value pairs that the bounds of the token require to the metadata.
 * @throws FormationError `forbidden` if the caller asked for another value of one of them.
 */
export function withTokenMetadata(
  { bounds }: Principal,
  asked: Readonly<Record<string, string>>,
  field: string,
): Record<string, string> {
  const pairs = bounds?.metadata ?? {};
  for (const [key, value] of Object.entries(pairs)) {
    const other = ownProperty(asked, key);
    if (other === undefined || other === value) continue;
    throw new FormationError("forbidden", `${field}: this token may make nothing with another ${key}.`, {
      field,
      remedy: `Leave ${key} out: it is set by the token.`,
    });
  }
  return { ...asked, ...pairs };
}

/** An own property of the record, never one that it inherits from Object.prototype. */
function ownProperty(record: Readonly<Record<string, string>>, key: string): string | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}

async function nullIfNotFound<T>(record: Promise<T>): Promise<T | null> {
  return record.catch((error: unknown) => {
    if (error instanceof FormationError && error.code === "not_found") return null;
    throw error;
  });
}

function notFound(what: string, text: string, field: string, remedy: string): FormationError {
  const shown = idKind(text) ? text : JSON.stringify(text);
  return new FormationError("not_found", `There is no ${what} ${shown}.`, { field, remedy });
}
