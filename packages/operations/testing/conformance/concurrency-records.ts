// Sweeps, documents, counters and the audit log under many calls at the same moment, through several
// connections.

import { expect, it } from "vitest";
import { CALLERS, EACH_CALLER, openCrowd, outcomes } from "./crowd.ts";
import { HOUR, OWNER, type Reopen, SWEEP, type World } from "./world.ts";

/** Sweeps, documents and counters at the same moment. */
export function describeConcurrentSweeps(open: () => World, reopen: Reopen): void {
  const crowd = () => openCrowd(open, reopen);

  it("sweeps at once remove each operation once, and every key still answers what it made", async () => {
    const { here, one } = await crowd();
    const made: { key: string; id: string }[] = [];
    for (let n = 0; n < 40; n++) {
      const request = here.build();
      const keyed = n % 2 === 0 ? { idempotency: { key: `k${n}`, inputDigest: "d" } } : {};
      await here.store.submit({ ...request, ...keyed });
      await here.store.requestCancel(OWNER, request.operation.id);
      if (n % 2 === 0) made.push({ key: `k${n}`, id: request.operation.id });
    }
    here.clock.pass(2 * HOUR);
    const swept = await Promise.all(EACH_CALLER.slice(0, 6).map((n) => one(n).sweep(SWEEP)));
    expect(swept.reduce((sum, { removedOperations }) => sum + removedOperations, 0)).toBe(40);
    for (const { key, id } of made) {
      const answer = await here.store.replay(OWNER, "pack_build", { key, inputDigest: "d" });
      expect(answer?.id).toBe(id);
    }
  });

  it("documents: of many at once, one writes a version, one gets an alias, one takes", async () => {
    const { here, one } = await crowd();
    const { documents } = here.store;
    for (const id of ["1", "2", "3"]) {
      const put = (n: number) => one(n).documents.put({ kind: "a", id, doc: n }, 0);
      const first = await outcomes(EACH_CALLER.map(put));
      expect(first.made).toHaveLength(1);
      expect(first.codes).toEqual(Array(CALLERS - 1).fill("conflict"));
      await Promise.all(EACH_CALLER.map((n) => one(n).documents.put({ kind: "a", id, doc: n })));
      expect(await documents.get("a", id)).toMatchObject({ version: CALLERS + 1 });
      const named = EACH_CALLER.map((n) =>
        one(n).documents.put({ kind: "b", id: `${id} ${n}`, alias: id, doc: n }),
      );
      expect((await outcomes(named)).made).toHaveLength(1);
      const taken = await Promise.all(EACH_CALLER.map((n) => one(n).documents.take("a", id)));
      expect(taken.filter((each) => each !== null)).toHaveLength(1);
    }
  });

  it("documents: what was put before a group was revoked is gone, and a rotation that was late changes nothing", async () => {
    const { here, one } = await crowd();
    const group = "family";
    for (let round = 0; round < 8; round++) {
      await here.store.documents.put({ kind: "token", id: `${round} 0`, group, doc: 0 });
      const rotations = EACH_CALLER.map(async (n) => {
        const old = await one(n).documents.take("token", `${round} 0`);
        if (old) await one(n).documents.put({ kind: "token", id: `${round} 1`, group, doc: 1 });
        else await one(n).documents.removeAll({ group });
        return old !== null;
      });
      expect((await Promise.all(rotations)).filter(Boolean)).toHaveLength(1);
      await one(1).documents.removeAll({ group });
      expect((await here.store.documents.list({ kind: "token", group, limit: 10 })).items).toEqual([]);
    }
  });

  it("counters: spends at the same moment grant exactly the limit, while sweeps remove old windows", async () => {
    const { here, one } = await crowd();
    const spend = (n: number) => one(n).counters.spend({ key: "k", limit: 7, windowMs: 10, amount: 2 });
    for (let round = 0; round < 6; round++) {
      here.clock.pass(10);
      const sweeping = one(round).sweep(SWEEP);
      const granted = (await Promise.all(EACH_CALLER.map(spend))).reduce(
        (sum, each) => sum + each.granted,
        0,
      );
      await sweeping;
      expect(granted).toBe(7);
    }
  });
}

/** Writers of the audit log at the same moment. */
export function describeConcurrentAudit(open: () => World, reopen: Reopen): void {
  const crowd = () => openCrowd(open, reopen);

  it("audit: of many writers of the same line one succeeds, and no other line is lost", async () => {
    const { here, one } = await crowd();
    const line = (chain: string, seq: number, hash: string) => ({
      ...{ chain, seq, hash, at: here.clock.now(), owner: null, credential: null, action: "vm_list" },
      ...{ target: null, outcome: "ok" as const, address: null, trace_id: null },
    });
    const same = await outcomes(
      EACH_CALLER.map((n) => one(n).audit.append([line("a", 1, `${n}`), line("a", 2, `${n}`)])),
    );
    expect(same.made).toHaveLength(1);
    expect(same.codes).toEqual(Array(CALLERS - 1).fill("conflict"));
    const [first, second] = await here.store.audit.read("a", 1, 10);
    expect(first?.hash).toBe(second?.hash);
    await Promise.all(EACH_CALLER.map((n) => one(n).audit.append([line(`b${n}`, 1, "h")])));
    here.clock.pass(HOUR);
    // A chain stays whole while lines are appended and old ones are forgotten.
    await Promise.all([
      ...EACH_CALLER.map((n) => one(n).audit.append([line(`b${n}`, 2, "h")])),
      ...[0, 1, 2].map((n) => one(n).sweep({ ...SWEEP, auditKeptMs: HOUR })),
    ]);
    for (const { chain, first_seq, last_seq, seals } of await here.store.audit.chains()) {
      if (chain === "a") continue;
      expect(last_seq).toBe(2);
      if (first_seq === 2) expect(seals.map(({ seq }) => seq)).toContain(1);
    }
  });
}
