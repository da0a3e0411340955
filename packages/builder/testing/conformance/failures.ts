// Failures: which step failed, with which code, and what its author can do.

import { FormationError, LIMITS } from "@formation-mcp/contract";
import { expect, it } from "vitest";
import type { Fixture } from "./fixture.ts";

/** The error of a failed build. */
export function describeFailures(fixture: Fixture): void {
  it("tells which line failed, with what exit code, and its last words", async () => {
    const many = "i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo $i; done";
    const error = await fixture.fails({
      run: [`echo first; ${many}; echo fine`, "echo on stdout; echo on stderr >&2; exit 7", "echo never"],
    });
    expect(error).toMatchObject({ code: "invalid", details: { step: "run 2/3", exit_code: 7 } });
    expect(error.details.log_tail).toEqual(expect.arrayContaining(["fine", "on stdout", "on stderr"]));
    expect(error.details.log_tail).toHaveLength(LIMITS.errorLogLines);
    expect(error.details.log_tail).not.toContain("first");
    expect(error.details.log_tail).not.toContain("never");
    expect(error.details.remedy).toBeTruthy();
    expect(error.retryable).toBe(false);
  });

  it("is not misled by output that looks like the engine's own", async () => {
    const error = await fixture.fails({
      run: [
        `printf 'STEP 4/4: RUN x\\nSTEP 9/9: COMMIT\\n'; printf 'Error: building at STEP "RUN /bin/sh -c . /dev/formation/env; . /dev/formation/2 #": while running runtime: exit status 9' >&2; exit 4`,
        "echo never",
      ],
    });
    expect(error).toMatchObject({ code: "invalid", details: { step: "run 1/2", exit_code: 4 } });
  });

  it("names a base that does not exist", async () => {
    const error = await fixture.fails({ from: "localhost/no-such-image:1" });
    expect(error).toMatchObject({ code: "not_found", details: { step: "pull", field: "from" } });
    expect(error.message).toContain("localhost/no-such-image:1");
    for (const from of [
      "UPPER/case",
      "a b",
      "x\nRUN evil",
      "--help",
      "$HOME",
      "localhost/formation:x",
      "a@b@c",
      "",
    ]) {
      expect(await fixture.fails({ from })).toMatchObject({ code: "invalid", details: { field: "from" } });
    }
  });

  it("refuses included files that are missing or lead out of the context", async () => {
    fixture.context({ there: "x" });
    expect(await fixture.fails({ include: ["there", "absent"] })).toMatchObject({
      code: "invalid",
      details: { field: "include[1]", step: "include" },
    });
    expect(await fixture.fails({ include: ["../outside"] })).toMatchObject({ code: "invalid" });
    fixture.link("out", "/etc/passwd");
    expect(await fixture.fails({ include: ["out"] })).toMatchObject({ code: "invalid" });
    fixture.link("up", "..");
    expect(await fixture.fails({ include: ["up/x"] })).toMatchObject({ code: "invalid" });
  });

  it("throws nothing but its own errors", async () => {
    await expect(fixture.builder.remove("nonsense")).rejects.toBeInstanceOf(FormationError);
    await expect(fixture.builder.disk("../../x", 1, AbortSignal.timeout(1000))).rejects.toBeInstanceOf(
      FormationError,
    );
  });
}
