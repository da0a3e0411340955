import {
  controlSubject,
  FormationError,
  idKind,
  newId,
  parseChangeEvent,
  parseWakeMessage,
  SUBJECTS,
} from "@formation-mcp/contract";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

describe("a wake-up", () => {
  it("survives the wire", () => {
    fc.assert(
      fc.property(fc.nat(), (now) => {
        const message = { v: 1 as const, operation_id: newId("op", { now: () => now }) };
        expect(parseWakeMessage(JSON.parse(JSON.stringify(message)))).toEqual(message);
      }),
    );
  });

  it("with any other body is refused as `invalid`", () => {
    fc.assert(
      fc.property(fc.oneof(fc.anything(), fc.jsonValue()), (body) => {
        expect(() => parseWakeMessage(body)).toThrow(FormationError);
      }),
    );
  });

  it("carries only its version and an operation's id", () => {
    const operation_id = newId("op");
    const wrong = [
      { v: 2, operation_id },
      { v: 1 },
      { v: 1, operation_id: newId("bld") },
      { v: 1, operation_id: `${operation_id}.1` },
      { v: 1, operation_id, command: "rm" },
      { operation_id },
      [operation_id],
    ];
    for (const body of wrong) {
      expect(() => parseWakeMessage(body)).toThrow(expect.objectContaining({ code: "invalid" }));
    }
  });
});

describe("an event", () => {
  const wanted = {
    node_id: newId("node"),
    labels: { zone: "a" },
    needs: { vcpus: 1, memory_mb: 64, disk_gb: 1 },
  };
  const event = { v: 1, id: newId("op"), owner: "me", version: 3, wanted } as const;

  it("survives the wire, without fields that a newer sender added", () => {
    for (const sent of [
      event,
      { ...event, wanted: { ...wanted, node_id: null } },
      { v: 1, id: newId("vm"), owner: "" },
      { ...event, for: newId("node") },
      { ...event, for: "nodes" },
    ]) {
      expect(parseChangeEvent(JSON.parse(JSON.stringify({ ...sent, more: 1 })))).toEqual(sent);
    }
  });

  it("with any other body is ignored, and nothing is thrown", () => {
    fc.assert(
      fc.property(fc.oneof(fc.anything(), fc.jsonValue()), (body) => {
        expect(parseChangeEvent(body)).toBeUndefined();
      }),
    );
    const wrong = [
      { ...event, v: 2 },
      { ...event, id: "op_x" },
      { ...event, owner: null },
      { ...event, version: "3" },
      { ...event, for: ">" },
      { ...event, for: newId("op") },
      { ...event, wanted: {} },
      { ...event, wanted: { ...wanted, node_id: newId("op") } },
      { ...event, wanted: { ...wanted, labels: { a: 1 } } },
      { ...event, wanted: { ...wanted, needs: { ...wanted.needs, vcpus: -1 } } },
    ];
    for (const body of wrong) expect(parseChangeEvent(body)).toBeUndefined();
  });
});

describe("a subject", () => {
  it("of a node is made from its id, as one token of letters, digits and _", () => {
    fc.assert(
      fc.property(fc.nat(), (now) => {
        const node = newId("node", { now: () => now });
        expect(controlSubject(node)).toBe(`vm.control.${node}`);
        expect(controlSubject(node)).toMatch(/^vm\.control\.\w+$/);
      }),
    );
  });

  it("is refused for a text that is not a node id, so that no other text becomes part of a subject", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        fc.pre(idKind(text) !== "node");
        expect(() => controlSubject(text as never)).toThrow(expect.objectContaining({ code: "invalid" }));
      }),
    );
    expect(() => controlSubject(`${newId("node")}.>` as never)).toThrow(FormationError);
  });

  it("of work is the one in the documents", () => {
    expect(SUBJECTS).toEqual({ build: "pack.build", ship: "pack.ship" });
  });
});
