// The Formfile language.

/** CPU, memory and disk. */
export interface Resources {
  vcpus: number;
  memory_mb: number;
  disk_gb: number;
}

/** A formfile with every default filled in. */
export interface Formfile {
  /** An OCI reference, `scratch`, or an image that a node has by itself. */
  from: string;
  name: string;
  run: string[];
  include: string[];
  env: Record<string, string>;
  expose: number[];
  /** A string is run by `/bin/sh -c`, an array as it is; null: the base image's own. */
  entrypoint: string | string[] | null;
  resources: Resources;
  network: { join_formnet: boolean; external_networks: string[] };
  metadata: Record<string, string>;
}
