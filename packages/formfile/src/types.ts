// The shapes that leave this package.

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
  /** An OCI reference, `scratch`, or an image that a node has by itself. */
  from: string;
  name: string;
  run: string[];
  /** Relative paths in their shortest spelling: `./a//b/` has become `a/b`. */
  include: string[];
  env: Record<string, string>;
  expose: number[];
  /** A string is run by `/bin/sh -c`, an array as it is; null: the base image's own. */
  entrypoint: string | string[] | null;
  resources: Resources;
  network: { join_formnet: boolean; external_networks: string[] };
  metadata: Record<string, string>;
}

/** One thing that is wrong with a formfile. Values of `env` are never repeated in it. */
export interface FormfileIssue {
  /** `run[2]`, `resources.vcpus`, `env["a b"]`; empty for the formfile as a whole. */
  path: string;
  /** 1-based; present when the input was text. */
  line?: number;
  /** 1-based, in UTF-16 code units as editors count; a byte order mark counts as nothing. */
  column?: number;
  /** What is wrong, as a sentence. */
  problem: string;
  /** What to write instead, as a sentence. */
  remedy: string;
}

/** What a parse says: a complete formfile, or everything that is wrong with it in document order. */
export type FormfileResult =
  | { ok: true; formfile: Formfile; warnings: string[] }
  | { ok: false; issues: FormfileIssue[] };

/** What a key that is absent means. */
export const DEFAULTS = {
  resources: { vcpus: 1, memory_mb: 512, disk_gb: 5 },
  network: { join_formnet: false },
} as const;
