// The rules of the language: one check for each key, and the rules between keys.

import { byteLength, quote } from "./characters.ts";
import {
  booleanCheck,
  type Check,
  checkCharacters,
  integerCheck,
  listCheck,
  objectCheck,
  reportType,
  stringCheck,
  stringMapCheck,
} from "./checks.ts";
import { imageRemedy, isImage, nameFrom, toName } from "./image-reference.ts";
import { includePath } from "./include-paths.ts";
import { FORMFILE_LIMITS as LIMITS } from "./limits.ts";
import type { Report } from "./report.ts";
import type { Entry, Tree } from "./syntax-tree.ts";
import { DEFAULTS, type Formfile, type Resources } from "./types.ts";

export const NAME_PATTERN = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
export const ENV_KEY_PATTERN = "^[A-Za-z_][A-Za-z0-9_]*$";

const NAME = new RegExp(NAME_PATTERN);
const ENV_KEY = new RegExp(ENV_KEY_PATTERN);

const from: Check<string> = (tree, path, report) => {
  if (tree.kind !== "scalar" || typeof tree.value !== "string")
    return reportType(tree, path, report, "a string", 'Write an image such as "debian:12", or "scratch".');
  if (isImage(tree.value)) return tree.value;
  report.markReported(tree.at, tree.end);
  report.add(
    tree.at,
    path,
    `from is ${quote(tree.value)}, which is no image reference.`,
    imageRemedy(tree.value),
  );
  return undefined;
};

const name: Check<string> = (tree, path, report) => {
  const rule = "Use 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end";
  if (tree.kind !== "scalar" || typeof tree.value !== "string")
    return reportType(tree, path, report, "a string", `${rule}; quote a number.`);
  if (NAME.test(tree.value)) return tree.value;
  report.markReported(tree.at, tree.end);
  report.add(
    tree.at,
    path,
    `name is ${quote(tree.value)}, which is no legal name.`,
    `${rule}: "${toName(tree.value)}".`,
  );
  return undefined;
};

const command = stringCheck({
  allowed: "\n\t",
  maxBytes: LIMITS.argumentBytes,
  remedy: "Write one shell command as a string.",
});

const argument = stringCheck({
  allowed: "\n\t",
  allowEmpty: true,
  maxBytes: LIMITS.argumentBytes,
  remedy: "Write every argument as a string; quote numbers.",
});

const argumentList = listCheck({
  item: argument,
  maxItems: LIMITS.values,
  example: '["/usr/bin/app", "--flag"]',
});

const entrypoint: Check<string | string[] | null> = (tree, path, report) => {
  const remedy =
    'Write a shell command as a string, or a program with arguments as a list: ["/usr/bin/app"].';
  if (tree.kind === "scalar" && tree.value === null) return null;
  if (tree.kind === "scalar" && typeof tree.value === "string") return command(tree, path, report);
  if (tree.kind !== "list") return reportType(tree, path, report, "a string or a list of strings", remedy);
  const [program] = tree.items;
  if (program === undefined) report.add(tree.at, path, "entrypoint is an empty list.", remedy);
  else if (program.kind === "scalar" && typeof program.value === "string" && program.value.trim() === "")
    report.add(program.at, `${path}[0]`, "entrypoint[0], the program, is empty.", remedy);
  return argumentList(tree, path, report);
};

function envKey({ key, at, end }: Entry, path: string, report: Report): void {
  if (ENV_KEY.test(key)) return;
  report.markReported(at, end);
  report.add(
    at,
    path,
    `${quote(key)} is no name of an environment variable.`,
    "Use letters, digits and underscores, and no digit first.",
  );
}

function envValue(key: string): Check<string> {
  return stringCheck({
    allowed: "\n\t",
    allowEmpty: true,
    maxBytes: Math.max(0, LIMITS.argumentBytes - 1 - byteLength(key)),
    remedy: 'Put the value in quotes ("…"); "" for an empty one.',
  });
}

function metadataKey({ key, at, end }: Entry, path: string, report: Report): void {
  const place = { at, end };
  if (key === "") report.add(at, path, "A metadata key is empty.", "Name it.");
  else if (byteLength(key) > LIMITS.metadataBytes)
    report.add(at, path, `A metadata key is longer than ${LIMITS.metadataBytes} bytes.`, "Shorten it.");
  else checkCharacters(key, "", place, path, report);
}

const metadataValue = stringCheck({
  allowEmpty: true,
  maxBytes: LIMITS.metadataBytes,
  remedy: "Put the value in quotes.",
});

function portRemedy(tree: Tree): string {
  const written = tree.kind === "scalar" && typeof tree.value === "string" ? tree.value : "";
  const port = /(?:^|:)(\d{1,5})(?:\/[a-z]+)?$/.exec(written)?.[1];
  return `Write the port of the workload as a number: ${port === undefined ? 8080 : Number(port)}. The host port is chosen for you.`;
}

function sizeRemedy(unit: string, normal: number): (tree: Tree) => string {
  return () => `Write a plain number${unit}, without unit or quotes, such as ${normal}.`;
}

const resources = objectCheck<Resources>("resources", {
  vcpus: integerCheck(LIMITS.vcpus, sizeRemedy("", DEFAULTS.resources.vcpus)),
  memory_mb: integerCheck(LIMITS.memoryMb, sizeRemedy(" of MiB", DEFAULTS.resources.memory_mb)),
  disk_gb: integerCheck(LIMITS.diskGb, sizeRemedy(" of GiB", DEFAULTS.resources.disk_gb)),
});

const network = objectCheck<Formfile["network"]>("network", {
  join_formnet: booleanCheck,
  external_networks: listCheck({
    item: stringCheck({ maxBytes: 128, remedy: "Write the network's name." }),
    maxItems: LIMITS.externalNetworks,
    example: '["lan"]',
    unique: true,
  }),
});

type Written = Omit<Formfile, "resources" | "network"> & {
  resources: Partial<Resources>;
  network: Partial<Formfile["network"]>;
};

const formfile = objectCheck<Written>("", {
  from,
  name,
  run: listCheck({ item: command, maxItems: LIMITS.values, example: '["apt-get update"]' }),
  include: listCheck({
    item: includePath,
    maxItems: LIMITS.values,
    example: '["src", "package.json"]',
    unique: true,
  }),
  env: stringMapCheck({ key: envKey, value: envValue, maxKeys: LIMITS.values, example: '{"KEY": "value"}' }),
  expose: listCheck({
    item: integerCheck(LIMITS.port, portRemedy),
    maxItems: LIMITS.exposedPorts,
    example: "[8080]",
    unique: true,
  }),
  entrypoint,
  resources,
  network,
  metadata: stringMapCheck({
    key: metadataKey,
    value: () => metadataValue,
    maxKeys: LIMITS.metadataKeys,
    example: '{"team": "web"}',
  }),
});

/** Checks a tree against the rules. The result is valid only if the report is still empty. */
export function applyRules(tree: Tree, report: Report): Formfile | undefined {
  const written = formfile(tree, "", report);
  if (written === undefined || tree.kind !== "map") return undefined;
  const entry = new Map(tree.entries.map(({ key, value }) => [key, value]));
  if (!entry.has("from"))
    report.add(tree.at, "from", "from is missing.", 'Say what to build on: from: "debian:12", or "scratch".');
  if (written.from === "scratch") scratchRules(written, entry, tree, report);
  return {
    from: written.from ?? "",
    name: written.name ?? nameFrom(written.from ?? ""),
    run: written.run ?? [],
    include: written.include ?? [],
    env: written.env ?? {},
    expose: written.expose ?? [],
    entrypoint: written.entrypoint ?? null,
    resources: { ...DEFAULTS.resources, ...written.resources },
    network: { ...DEFAULTS.network, external_networks: [], ...written.network },
    metadata: written.metadata ?? {},
  };
}

/** An image without files has no shell, so `run` and a shell entrypoint cannot work. */
function scratchRules(written: Partial<Written>, entry: Map<string, Tree>, tree: Tree, report: Report): void {
  const run = entry.get("run");
  if (run?.kind === "list" && run.items.length > 0)
    report.add(
      run.at,
      "run",
      'run cannot be used with from: "scratch", which has no shell.',
      "Remove run, or build on an image that has a shell.",
    );
  if (written.entrypoint === null || typeof written.entrypoint === "string" || !entry.has("entrypoint"))
    report.add(
      entry.get("entrypoint")?.at ?? tree.at,
      "entrypoint",
      'With from: "scratch" entrypoint must be a list: there is no shell and no base image to take it from.',
      'Write the included program and its arguments: entrypoint: ["/app"].',
    );
}
