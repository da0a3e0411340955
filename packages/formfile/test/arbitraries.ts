// Valid formfiles in all their variety, and ways to spoil one whose place is known.
import fc from "fast-check";

// Kept apart from the code under test on purpose: the language's idea of a harmless character, said again.
const harmless = (text: string) =>
  !/[\u202a-\u202e\u2066-\u2069]|\p{Surrogate}/u.test(text) &&
  [...text].every((character) => {
    const code = character.codePointAt(0) ?? 0;
    return code === 9 || code === 10 || (code >= 32 && code < 127) || code > 159;
  });

const prose = fc
  .oneof(
    fc.string({ maxLength: 40 }),
    fc.string({ unit: "grapheme", maxLength: 40 }),
    fc.string({ unit: "binary", maxLength: 20 }),
    fc.constantFrom(
      "yes",
      "null",
      "~",
      "1e3",
      "0x1F",
      "- a",
      "a: b",
      "# c",
      "'",
      '"',
      "&a",
      "*a",
      "!t",
      "{}",
      "[",
      "|",
    ),
    fc.constantFrom(
      "a\n\nb\n",
      "\ta",
      " a ",
      "a\n  b\n",
      "a \n",
      "\n",
      "\u2028",
      "\ufeff",
      "\u00a0",
      "%x",
      "---",
      "...",
    ),
  )
  .filter(harmless);

const line = prose.map((text) => text.replace(/[\n\t]/g, "_"));
const command = prose.filter((text) => text.trim() !== "");
const word = fc.stringMatching(/^[a-z0-9]{1,8}([._-][a-z0-9]{1,4}){0,2}$/);
const label = line.filter((text) => text !== "" && text !== "<<" && text !== "__proto__");

const image = fc
  .tuple(
    fc.option(fc.constantFrom("ghcr.io/", "localhost:5000/", "[::1]:80/", "a.b-c.example:1/"), { nil: "" }),
    fc.array(word, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/")),
    fc.option(fc.stringMatching(/^:[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}$/), { nil: "" }),
    fc.option(fc.stringMatching(/^@sha256:[0-9a-f]{64}$/), { nil: "" }),
  )
  .map((parts) => parts.join(""));

const path = fc
  .array(
    line.filter(
      (part) => !/[\\*?/~]/.test(part) && part.trim() !== "" && !/^(?:\.{1,2}|[A-Za-z]:)$/.test(part),
    ),
    { minLength: 1, maxLength: 3 },
  )
  .map((parts) => parts.join("/"));

const partial = { requiredKeys: [] };

const rest = fc.record(
  {
    name: fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/),
    run: fc.array(command, { maxLength: 4 }),
    include: fc.uniqueArray(path, { maxLength: 4 }),
    env: fc.dictionary(
      fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,10}$/).filter((key) => key !== "__proto__"),
      prose,
      { maxKeys: 4, noNullPrototype: true },
    ),
    expose: fc.uniqueArray(fc.integer({ min: 1, max: 65_535 }), { maxLength: 32 }),
    entrypoint: fc.oneof(
      fc.constant(null),
      command,
      fc.tuple(command, fc.array(prose, { maxLength: 3 })).map(([program, more]) => [program, ...more]),
    ),
    resources: fc.record(
      {
        vcpus: fc.integer({ min: 1, max: 64 }),
        memory_mb: fc.integer({ min: 64, max: 262_144 }),
        disk_gb: fc.integer({ min: 1, max: 2048 }),
      },
      partial,
    ),
    network: fc.record(
      {
        join_formnet: fc.boolean(),
        external_networks: fc.uniqueArray(
          line.filter((text) => text.trim() !== ""),
          { maxLength: 3 },
        ),
      },
      partial,
    ),
    metadata: fc.dictionary(label, line, { maxKeys: 4, noNullPrototype: true }),
  },
  partial,
);

/** Valid formfiles, from `from` alone to everything at once. */
export const formfiles = fc
  .tuple(image, rest)
  .filter(([from]) => !/^(?:scratch|[0-9a-f]{64})/.test(from))
  .map(([from, more]): { [key: string]: unknown } => ({ from, ...more }));

export interface Mutation {
  path: string;
  apply: (formfile: { [key: string]: unknown }) => unknown;
  /** What stands at the place that the issue names, a quote left away. */
  shown: RegExp;
}

function set(key: string, value: unknown, path: string, shown: RegExp): Mutation {
  return { path, shown, apply: (formfile) => ({ ...formfile, [key]: value }) };
}

/** Ways to spoil a valid formfile. */
export const mutations = fc.constantFrom<Mutation>(
  set("from", "Debian:12", "from", /^Debian:12/),
  set("name", "Web_App", "name", /^Web_App/),
  set("run", ["a", { b: "c" }, "d"], "run[1]", /^(?:\{|b: c)/),
  set("run", ["a", "b", 42], "run[2]", /^42/),
  set("run", "make", "run", /^make/),
  set("include", ["a", "/etc/passwd"], "include[1]", /^\/etc/),
  set("include", ["a", "b", "../up"], "include[2]", /^\.\.\/up/),
  set("include", ["same", "same"], "include[1]", /^same/),
  set("env", { A: "a", PORT: 8080 }, "env.PORT", /^8080/),
  set("env", { A: "a", "1X": "x" }, 'env["1X"]', /^1X/),
  set("expose", [80, 70_000], "expose[1]", /^70000/),
  set("expose", [80, "81/tcp"], "expose[1]", /^81\/tcp/),
  set("entrypoint", ["/a", 7], "entrypoint[1]", /^7/),
  set("entrypoint", [], "entrypoint", /^\[\]/),
  set("resources", { vcpus: 1, disk_gb: 99_999 }, "resources.disk_gb", /^99999/),
  set("resources", { vcpus: 1, memmory_mb: 5 }, "resources.memmory_mb", /^memmory_mb/),
  set("network", { join_formnet: "yes" }, "network.join_formnet", /^yes/),
  set("network", { external_networks: ["a", "a"] }, "network.external_networks[1]", /^a/),
  set("metadata", { a: "b", c: 3 }, "metadata.c", /^3/),
  set("metadata", ["a"], "metadata", /^(?:\[|- a)/),
  set("incldue", [], "incldue", /^incldue/),
  { path: "from", shown: /^[{A-Za-z\w]/, apply: ({ from: _, ...others }) => ({ name: "a", ...others }) },
);
