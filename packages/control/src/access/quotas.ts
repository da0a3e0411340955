// What an owner may have: the operator's defaults, and what an admin set for one owner in their place.

import { type Clock, type Documents, FormationError, type Quota, systemClock } from "@formation-mcp/contract";

export interface Quotas {
  /** What an owner may have now; another process's change shows within 5 s. */
  of(owner: string): Promise<Quota>;
  /**
   * Sets fields of an owner's quota, the others stay as they are; null as a whole gives the defaults back.
   * @throws FormationError `invalid` for what is no quota.
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
const KNOWN_MS = 5000;
const MOST_KNOWN = 10_000;
const TRIES = 5;

export function createQuotas({ documents, defaults, clock = systemClock }: QuotasOptions): Quotas {
  checked(defaults);
  const known = new Map<string, { quota: Quota; until: number }>();
  const learn = (owner: string, own: Partial<Quota>) => {
    const quota = { ...defaults, ...own };
    known.delete(owner);
    known.set(owner, { quota, until: clock.now() + KNOWN_MS });
    const [oldest] = known.keys();
    if (known.size > MOST_KNOWN && oldest !== undefined) known.delete(oldest);
    return quota;
  };
  return {
    async of(owner) {
      const now = clock.now();
      const there = known.get(owner);
      if (there && there.until > now && there.until <= now + KNOWN_MS) return there.quota;
      return learn(owner, (await documents.get<Partial<Quota>>(KIND, owner))?.doc ?? {});
    },
    async set(owner, quota) {
      if (quota === null) {
        await documents.remove(KIND, owner);
        return learn(owner, {});
      }
      const wanted = checked(quota);
      for (let attempt = 1; ; attempt += 1) {
        const there = await documents.get<Partial<Quota>>(KIND, owner);
        const doc = { ...there?.doc, ...wanted };
        try {
          await documents.put({ kind: KIND, id: owner, owner, doc }, there?.version ?? 0);
          return learn(owner, doc);
        } catch (error) {
          const raced = error instanceof FormationError && error.code === "conflict";
          if (!raced || attempt === TRIES) throw error;
        }
      }
    },
  };
}

/** @throws FormationError `invalid` */
function checked(quota: Partial<Quota>): Partial<Quota> {
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
