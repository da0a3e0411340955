// The public types: a formfile, an issue, and the result of a parse.

/** CPU, memory and disk. */
export interface Resources {
  vcpus: number;
  /** MiB. */
  memory_mb: number;
  /** GiB. */
  disk_gb: number;
}

/** A formfile with every default filled in. */
export interface Formfile {
  /** An OCI reference, `scratch`, or an image that nodes make themselves (busybox). */
  from: string;
  name: string;
  run: string[];
  /** Normalized relative paths: `./a//b/` is `a/b`. */
  include: string[];
  env: Record<string, string>;
  expose: number[];
  /** A string is run by `/bin/sh -c`, an array is run as it is. Null: the base image's own entrypoint. */
  entrypoint: string | string[] | null;
  resources: Resources;
  network: { join_formnet: boolean; external_networks: string[] };
  metadata: Record<string, string>;
}

/** One fault of a formfile. It never repeats values of `env`. */
export interface FormfileIssue {
  /** `run[2]`, `resources.vcpus`, `env["a b"]`. Empty for the formfile as a whole. */
  path: string;
  /** 1-based. Present if the input was text. */
  line?: number;
  /** 1-based, in UTF-16 code units as editors count. A byte order mark does not count. */
  column?: number;
  /** What is wrong, as a sentence. */
  problem: string;
  /** What to write instead, as a sentence. */
  remedy: string;
}

/** The result of a parse: a complete formfile, or all issues in document order. */
export type FormfileResult =
  | { ok: true; formfile: Formfile; warnings: string[] }
  | { ok: false; issues: FormfileIssue[] };

/** The defaults of absent keys. */
export const DEFAULTS = {
  resources: { vcpus: 1, memory_mb: 512, disk_gb: 5 },
  network: { join_formnet: false },
} as const;
