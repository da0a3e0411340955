// The quota of each owner: the defaults of the operator, with the fields that an admin set for one owner.

import { type Clock, type Documents, FormationError, type Quota, systemClock } from "@formation-mcp/contract";

export interface Quotas {
  /** The quota of an owner now. It is cached: a change made by another process shows within 5 s. */
  of(owner: string): Promise<Quota>;
  /**
   * Sets the given fields of an owner's quota and leaves the others; null restores the defaults.
   * @throws FormationError `invalid` for an unknown field or a value that is not a whole number from 0 on.
   */
  set(owner: string, quota: Partial<Quota> | null): Promise<Quota>;
}

export interface QuotasOptions {
  documents: Documents;
  defaults: Quota;
  clock?: Clock;
}

const KIND = "quota";
const FIELDS: readonly (keyof Quota)[] = [
  "vcpus",
  "memory_mb",
  "disk_gb",
  "instances",
  "builds",
  "operations_per_minute",
];
const CACHED_MS = 5000;
const MAX_CACHED_OWNERS = 10_000;
const MAX_ATTEMPTS = 5;

export function createQuotas({ documents, defaults, clock = systemClock }: QuotasOptions): Quotas {
  requireQuota(defaults);
  const cached = new Map<string, { quota: Quota; until: number }>();
  const remember = (owner: string, own: Partial<Quota>) => {
    const quota = { ...defaults, ...own };
    cached.delete(owner);
    cached.set(owner, { quota, until: clock.now() + CACHED_MS });
    const [oldest] = cached.keys();
    if (cached.size > MAX_CACHED_OWNERS && oldest !== undefined) cached.delete(oldest);
    return quota;
  };
  return {
    async of(owner) {
      const now = clock.now();
      const found = cached.get(owner);
      if (found && found.until > now && found.until <= now + CACHED_MS) return found.quota;
      return remember(owner, (await documents.get<Partial<Quota>>(KIND, owner))?.doc ?? {});
    },
    async set(owner, quota) {
      if (quota === null) {
        await documents.remove(KIND, owner);
        return remember(owner, {});
      }
      const wanted = requireQuota(quota);
      for (let attempt = 1; ; attempt += 1) {
        const found = await documents.get<Partial<Quota>>(KIND, owner);
        const doc = { ...found?.doc, ...wanted };
        try {
          await documents.put({ kind: KIND, id: owner, owner, doc }, found?.version ?? 0);
          return remember(owner, doc);
        } catch (error) {
          const raced = error instanceof FormationError && error.code === "conflict";
          if (!raced || attempt === MAX_ATTEMPTS) throw error;
        }
      }
    },
  };
}

/** @throws FormationError `invalid` */
function requireQuota(quota: Partial<Quota>): Partial<Quota> {
  for (const [field, value] of Object.entries(quota)) {
    if (!FIELDS.includes(field as keyof Quota)) {
      throw new FormationError("invalid", `There is no quota ${JSON.stringify(field.slice(0, 40))}.`, {
        field: field.slice(0, 40),
        remedy: `Use some of: ${FIELDS.join(", ")}.`,
      });
    }
    if (value === null || (Number.isSafeInteger(value) && Number(value) >= 0)) continue;
    throw new FormationError("invalid", `${field}: a quota is a whole number from 0 on.`, {
      field,
      remedy: "Write null for no limit.",
    });
  }
  return { ...quota };
}
