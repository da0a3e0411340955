import { formfileJsonSchema, formfileSchema } from "@formation-mcp/formfile";
import fc from "fast-check";
import { encode } from "gpt-tokenizer/encoding/o200k_base";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { formfiles, mutations } from "./arbitraries.ts";
import { accepted } from "./support.ts";

type Schema = Parameters<typeof z.fromJSONSchema>[0];

describe("formfileJsonSchema", () => {
  const schema = formfileJsonSchema();

  it("is JSON Schema 2020-12 with a title, an id, descriptions and defaults", () => {
    expect(schema).toMatchObject({
      $schema: "https://json-schema.org/draft/2020-12/schema",
      $id: expect.stringMatching(/^urn:/),
      title: "Formfile",
      required: ["from"],
      additionalProperties: false,
    });
    const properties = schema["properties"] as { [key: string]: { description?: string; default?: unknown } };
    expect(Object.keys(properties)).toEqual(Object.keys(accepted({ from: "x" })));
    for (const property of Object.values(properties)) expect(property.description).toBeTruthy();
    const { from: _, name: __, network: ___, ...rest } = accepted({ from: "x" });
    for (const [key, value] of Object.entries(rest)) expect(properties[key]?.default).toEqual(value);
  });

  it("is a fresh object each time", () => {
    Reflect.set(formfileJsonSchema(), "title", "spoilt");
    expect(formfileJsonSchema()["title"]).toBe("Formfile");
  });

  // zod reads no if/then; that part only repeats the two rules about scratch.
  const { if: _, then: __, $id: ___, ...core } = schema;
  const judge = z.fromJSONSchema(core as Schema);

  it("takes every valid formfile, with and without defaults", () => {
    fc.assert(
      fc.property(formfiles, (formfile) => {
        expect(judge.safeParse(formfile).error?.issues).toBeUndefined();
        expect(judge.safeParse(accepted(formfile)).error?.issues).toBeUndefined();
      }),
    );
  });

  it("refuses what the parser refuses", () => {
    fc.assert(
      fc.property(formfiles, mutations, (formfile, mutation) => {
        expect(judge.safeParse(mutation.apply(structuredClone(formfile))).success).toBe(false);
      }),
    );
    for (const include of [
      "/a",
      "..",
      "a/..",
      "a/../b",
      "~",
      "a\\b",
      "*.js",
      "a\nb",
      "C:/a",
      " ",
      "a\u202eb",
    ])
      expect([include, judge.safeParse({ from: "x", include: [include] }).success]).toEqual([include, false]);
    for (const run of ["", " \n", "a\u0000", "a\rb"])
      expect([run, judge.safeParse({ from: "x", run: [run] }).success]).toEqual([run, false]);
  });
});

describe("formfileSchema", () => {
  const schema = z.toJSONSchema(formfileSchema);

  it("shows every key with its type, and bounds and defaults of the sizes", () => {
    expect(Object.keys(schema.properties ?? {})).toEqual(Object.keys(accepted({ from: "x" })));
    expect(schema).toMatchObject({
      type: "object",
      required: ["from"],
      properties: {
        resources: { properties: { vcpus: { type: "integer", minimum: 1, maximum: 64, default: 1 } } },
      },
    });
  });

  it("costs at most 450 tokens in a tool list", () => {
    expect(encode(JSON.stringify(schema)).length).toBeLessThanOrEqual(450);
  });

  it("keeps its properties in a union with text", () => {
    const union = z.toJSONSchema(z.object({ formfile: z.union([formfileSchema, z.string()]) }));
    expect(JSON.stringify(union)).toContain("memory_mb");
  });

  it("leaves judging to the parser, which says more", () => {
    expect(formfileSchema.safeParse({ form: 1 }).success).toBe(true);
  });
});
