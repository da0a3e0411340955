// Build contexts as archives: what may go in, what stays out, and what comes out of one that somebody else made.

export { type PackDirectoryOptions, type PackedDirectory, packDirectory } from "./context/directory.ts";
export { type ContextFile, packFiles } from "./context/files.ts";
export {
  type ContextListing,
  listContext,
  type RepackedContext,
  type RepackedSummary,
  type RepackOptions,
  repackContext,
} from "./context/repack.ts";
export { type UnpackOptions, unpackContext } from "./context/unpack.ts";
