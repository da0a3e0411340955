// Run lines: their order, their environment, their exact text, and their output.

import type { FormationError } from "@formation-mcp/contract";
import { expect, it } from "vitest";
import type { Fixture } from "./fixture.ts";

const HOSTILE = [
  "it's",
  '"quoted" $HOME $PATH `id` $(id)',
  "back\\slash\\",
  "line\nFROM evil\nRUN touch /evil\n",
  "<<EOF\nEOF\n",
  "# comment \u00e9\u{1F600} %s",
];

/** What a formfile's run lines see and leave. */
export function describeRunLines(fixture: Fixture): void {
  it("runs the lines in order over the included files, in the working directory", async () => {
    fixture.context(
      { "data/one.txt": "one\n", "tool.sh": "#!/bin/sh\necho tool ran\n" },
      { "tool.sh": 0o700 },
    );
    const { image, lines, steps } = await fixture.build({
      run: ["cat data/one.txt > out.txt; pwd", "./tool.sh >> out.txt", "cat out.txt"],
      include: ["data", "tool.sh"],
    });
    expect(lines.slice(1)).toEqual(["one", "tool ran"]);
    expect(lines[0]?.endsWith("/app")).toBe(true);
    expect(steps).toEqual(["pull", "include", "run 1/3", "run 2/3", "run 3/3", "commit"]);
    expect(await fixture.read(image, "/app/out.txt")).toBe("one\ntool ran\n");
    expect(await fixture.read(image, "/app/data/one.txt")).toBe("one\n");
  });

  it("takes every text byte for byte: in lines, in the environment, in names of files", async () => {
    const files = HOSTILE.map((text, index) => `f${index} ${text.replaceAll("/", "_")}`);
    fixture.context(Object.fromEntries(files.map((file, index) => [file, `content ${index}`])));
    const { image } = await fixture.build({
      run: HOSTILE.map((text, index) => {
        const here = `cat > here${index} <<'END'\n${text}\nEND\nFROM=$PWD; ls > /dev/null`;
        return `printf '%s' "$VALUE${index}" > value${index}; ${here}`;
      }),
      include: files,
      env: Object.fromEntries(HOSTILE.map((text, index) => [`VALUE${index}`, text])),
    });
    for (const [index, text] of HOSTILE.entries()) {
      expect(await fixture.read(image, `/app/value${index}`)).toBe(text);
      expect(await fixture.read(image, `/app/here${index}`)).toBe(`${text}\n`);
      expect(await fixture.read(image, `/app/${files[index]}`)).toBe(`content ${index}`);
      expect(image.process.env[`VALUE${index}`]).toBe(text);
    }
    expect(await fixture.read(image, "/evil")).toBeNull();
  });

  it("runs a line of any length, and every line after it", async () => {
    const long = `exit 4 #${"x".repeat(66_000)}`;
    expect(await fixture.fails({ run: [long, "exit 5"] })).toMatchObject({
      code: "invalid",
      details: { step: "run 1/2", exit_code: 4 },
    });
    const { image, lines } = await fixture.build({
      run: [`printf '%s' ${"y".repeat(100_000)} > long`, "wc -c < long", "head -c 70000 long", "echo end"],
    });
    expect(lines.map((line) => line.length)).toEqual([6, 65_536, 3]);
    expect(await fixture.read(image, "/app/long")).toBe("y".repeat(100_000));
  });

  it("hands long values over exactly, and a line that fails beside them fails the build", async () => {
    const env = { ONE: `'"$x\n${"1".repeat(60_000)}`, TWO: "2".repeat(60_000) };
    expect(await fixture.fails({ env, run: ["exit 4"] })).toMatchObject({ details: { exit_code: 4 } });
    const { image } = await fixture.build({
      env,
      run: [`printf '%s' "$ONE" > one`, `printf '%s' "$TWO" > two`],
    });
    expect(await fixture.read(image, "/app/one")).toBe(env.ONE);
    expect(await fixture.read(image, "/app/two")).toBe(env.TWO);
  });

  it("gives a line what a shell's -c has: its name, an empty input, its own line numbers", async () => {
    const { lines } = await fixture
      .build(
        { run: ['echo "$0 $#"; cat; echo read', "echo a\\", "set -u\n\n: $ABSENT; echo never || :"] },
        { noCache: true },
      )
      .catch((error: FormationError) => ({ lines: error.details.log_tail ?? [] }));
    expect(lines.slice(0, 2)).toEqual(["/bin/sh 0", "read"]);
    expect(lines[2]).toMatch(/^a\\?$/);
    expect(lines.join()).toMatch(/(line )?3: ABSENT: parameter not set/);
    expect(lines).not.toContain("never");
  });
}

/** Which output lines are passed on, and when. */
export function describeOutput(fixture: Fixture): void {
  it("shows the last line of a step also when it does not end", async () => {
    const { lines } = await fixture.build({ run: ["printf one", "printf two"] }, { noCache: true });
    expect(lines).toEqual(["one", "two"]);
  });

  it("hands lines over while they are printed", async () => {
    const stop = new AbortController();
    const building = fixture.start({ run: ["echo early; sleep 60"] }, { noCache: true }, stop);
    await building.saw("early");
    stop.abort();
    expect((await building.error).code).toBe("cancelled");
  });
}
