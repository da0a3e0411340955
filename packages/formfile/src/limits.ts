// The numeric limits of the language.

/** Every limit of a formfile. `…Bytes` counts bytes of UTF-8. */
export const FORMFILE_LIMITS = {
  /** A formfile's text, or all strings of an object together. */
  textBytes: 256 * 1024,
  /** Nesting of lists and mappings. */
  depth: 16,
  /** Scalars, lists and mappings together. */
  values: 10_000,
  /** YAML tokens, comments and blank lines included. */
  yamlTokens: 100_000,
  /** Issues that one parse lists. Further issues are counted. */
  issues: 200,
  /** UTF-16 code units that `formfileError` spends on issues. */
  errorLength: 10_000,
  fromLength: 255,
  nameLength: 63,
  /**
   * One command or one `KEY=value`: the longest string that Linux hands to a program (MAX_ARG_STRLEN less its
   * NUL).
   */
  argumentBytes: 131_071,
  /** PATH_MAX less its NUL, and NAME_MAX, of Linux. */
  pathBytes: 4095,
  pathComponentBytes: 255,
  exposedPorts: 32,
  externalNetworks: 16,
  metadataKeys: 64,
  metadataBytes: 256,
  port: { min: 1, max: 65_535 },
  vcpus: { min: 1, max: 64 },
  memoryMb: { min: 64, max: 262_144 },
  diskGb: { min: 1, max: 2048 },
} as const;
