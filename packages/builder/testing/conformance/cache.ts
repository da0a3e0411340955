// The cache of run lines: changed lines run again, unchanged ones do not, and owners do not share layers.

import { expect, it } from "vitest";
import type { Fixture } from "./fixture.ts";

/** Which lines run again, and which come from the cache. */
export function describeCache(fixture: Fixture): void {
  it("runs nothing twice, unless it is asked to, and only what changed", async () => {
    const run = [`echo first ${fixture.unique()}`, "echo second"];
    const first = await fixture.build({ run });
    expect(first.lines).toHaveLength(2);
    const again = await fixture.build({ run });
    expect(again.lines).toEqual([]);
    expect(again.steps).toEqual(first.steps);
    expect(again.image.digest).toBe(first.image.digest);
    const anew = await fixture.build({ run }, { noCache: true });
    expect(anew.lines).toHaveLength(2);
    const changed = await fixture.build({ run: [run[0] as string, "echo third"] });
    expect(changed.lines).toEqual(["third"]);
    const otherEnv = await fixture.build({ run, env: { SOMETHING: "else" } });
    expect(otherEnv.lines).toHaveLength(2);
  });

  it("does not use what another owner's build ran", async () => {
    const run = [`echo whose ${fixture.unique()}`];
    await fixture.build({ run });
    expect((await fixture.build({ run }, { owner: "another" })).lines).toHaveLength(1);
    expect((await fixture.build({ run }, { owner: "another" })).lines).toEqual([]);
  });

  it("runs anew what depends on a file that changed", async () => {
    const run = ["cat x"];
    fixture.context({ x: "1\n" });
    await fixture.build({ run, include: ["x"] });
    fixture.context({ x: "2\n" });
    expect((await fixture.build({ run, include: ["x"] })).lines).toEqual(["2"]);
  });
}
