import { ERROR_CODES, FormationError } from "@formation-mcp/contract";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

const code = fc.constantFrom(...ERROR_CODES);
const details = fc.record(
  {
    remedy: fc.string(),
    field: fc.string(),
    step: fc.string(),
    exit_code: fc.nat(255),
    log_tail: fc.array(fc.string(), { maxLength: 3 }),
  },
  { requiredKeys: [] },
);

describe("an error", () => {
  it("becomes a record with its details and nothing else", () => {
    fc.assert(
      fc.property(code, fc.string(), details, (kind, message, more) => {
        const error = new FormationError(kind, message, { ...more, cause: new Error("secret") });
        expect(error.toRecord()).toEqual({ ...more, code: kind, message });
      }),
    );
  });

  it("keeps its cause for the operator, out of the record and its JSON", () => {
    const cause = new Error("password=hunter2");
    const error = new FormationError("internal", "It broke.", { cause, remedy: "Try again." });
    expect(error.cause).toBe(cause);
    const shown = JSON.stringify(error.toRecord());
    expect(shown).not.toContain("hunter2");
    expect(shown).not.toContain("stack");
    expect(shown).not.toContain(".test.ts");
    expect("cause" in new FormationError("invalid", "No cause.")).toBe(false);
  });

  it("is an Error with its name, so that programs that know only Error understand it", () => {
    const error = new FormationError("limit", "Too much.");
    expect(error).toBeInstanceOf(Error);
    expect(String(error)).toBe("FormationError: Too much.");
  });

  it("is retryable only if trying again may help", () => {
    const retryable = ERROR_CODES.filter((kind) => new FormationError(kind, "").retryable);
    expect(retryable.sort()).toEqual(["internal", "unavailable"]);
  });

  it("has one of nine codes, each once", () => {
    expect(new Set(ERROR_CODES).size).toBe(ERROR_CODES.length);
    expect(ERROR_CODES).toHaveLength(9);
  });
});

describe("anything thrown", () => {
  it("becomes a FormationError, with the cause kept and its text not shown", () => {
    fc.assert(
      fc.property(fc.anything(), (thrown) => {
        const error = FormationError.from(thrown);
        expect(error).toBeInstanceOf(FormationError);
        expect(error.code).toBe("internal");
        if (thrown !== undefined) expect(error.cause).toBe(thrown);
      }),
    );
    expect(FormationError.from(new TypeError("x is undefined")).message).not.toContain("undefined");
  });

  it("that is a FormationError already stays as it is", () => {
    const error = new FormationError("conflict", "Taken.");
    expect(FormationError.from(error)).toBe(error);
  });

  it("that is an abort becomes `cancelled`", () => {
    const aborted = AbortSignal.abort().reason as unknown;
    expect(FormationError.from(aborted)).toMatchObject({ code: "cancelled", cause: aborted });
  });

  it("is described in the caller's words if there are some", () => {
    expect(FormationError.from(new Error("raw"), "The build could not be stored.").message).toBe(
      "The build could not be stored.",
    );
  });
});
