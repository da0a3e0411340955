// Events: every subscriber receives each event once, from its subscription on.

import { type ChangeEvent, type Id, newId } from "@formation-mcp/contract";
import { expect, it } from "vitest";
import { until } from "../child-process.ts";
import type { QueueFixture } from "./fixture.ts";

/** Which subscriber receives which event, in what order. */
export function describeEvents({ open, spawnChild }: QueueFixture): void {
  it("tells every subscriber of every process each event once, in order", async () => {
    const [one, other, child] = [await open(), await open(), await spawnChild()];
    const heard: string[][] = [[], [], []];
    await one.subscribe((event) => heard[0]?.push(event.id));
    await one.subscribe((event) => heard[1]?.push(event.id));
    await other.subscribe((event) => heard[2]?.push(event.id));
    await child.tell({ do: "subscribe" });
    const needs = { vcpus: 1, memory_mb: 64, disk_gb: 1 };
    const wanted = { node_id: newId("node"), labels: { zone: "a" }, needs };
    const events = Array.from(
      { length: 50 },
      (_, version): ChangeEvent => ({ v: 1, id: newId("bld"), owner: "me", version, wanted }),
    );
    for (const event of events) await one.emit(event);
    const last: ChangeEvent = { v: 1, id: newId("vm"), owner: "me" };
    await child.tell({ do: "emit", event: last });
    const ids: Id[] = [...events, last].map((event) => event.id);
    const heardByAll = () => [...heard, child.events().map((event) => event.id)];
    await until("all events", () => heardByAll().every((list) => list.length >= ids.length));
    for (const list of heardByAll()) expect(list).toEqual(ids);
    expect(child.events()[3]).toEqual(events[3]);
  });

  it("tells a node's listener what is for it or for all nodes, and nothing else", async () => {
    const [one, other] = [await open(), await open()];
    const [here, there] = [newId("node"), newId("node")];
    const heard: Id[][] = [[], [], []];
    await one.subscribe(({ id }) => heard[0]?.push(id), here);
    await other.subscribe(({ id }) => heard[1]?.push(id), there);
    await other.subscribe(({ id }) => heard[2]?.push(id));
    const audiences = [undefined, here, there, "nodes", undefined, "nodes"] as const;
    const events = audiences.map(
      (who): ChangeEvent => ({ v: 1, id: newId("op"), owner: "me", ...(who ? { for: who } : {}) }),
    );
    for (const event of events) await one.emit(event);
    const ids = (...which: number[]) => which.map((index) => events[index]?.id);
    const wanted = [ids(1, 3, 5), ids(2, 3, 5), ids(0, 1, 2, 3, 4, 5)];
    await until("the last event", () => heard.every((list, at) => list.length >= (wanted[at] ?? []).length));
    // On NATS, other subjects are other subscriptions, which may receive events in another order.
    expect(heard.map((list) => [...list].sort())).toEqual(wanted.map((list) => list.sort()));
    const refused = one.subscribe(() => {}, "node_>" as Id<"node">);
    await expect(refused).rejects.toMatchObject({ code: "invalid" });
  });

  it("tells no events from before a subscription or after its end, and survives a listener that throws", async () => {
    const queue = await open();
    const event = (version: number): ChangeEvent => ({ v: 1, id: newId("op"), owner: "me", version });
    await queue.emit(event(1));
    const [short, long]: [unknown[], unknown[]] = [[], []];
    await queue.subscribe(() => {
      throw new Error("a listener's own trouble");
    });
    const subscription = await queue.subscribe((heard) => short.push(heard.version));
    await queue.subscribe((heard) => long.push(heard.version));
    await queue.emit(event(2));
    await until("the event", () => short.length === 1 && long.length === 1);
    await subscription[Symbol.asyncDispose]();
    await queue.emit(event(3));
    await until("the next event", () => long.length === 2);
    expect([short, long]).toEqual([[2], [2, 3]]);
  });
}
