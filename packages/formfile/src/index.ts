// The Formfile language: what a user may write, and what exactly is wrong when it is something else.
export { FORMFILE_LIMITS } from "./limits.ts";
export { formfileError, parseFormfile } from "./parse.ts";
export { formfileJsonSchema, formfileSchema } from "./schema.ts";
export type { Formfile, FormfileIssue, FormfileResult, Resources } from "./types.ts";
