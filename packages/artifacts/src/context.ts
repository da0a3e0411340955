// Build contexts as archives: packs files and directories, repacks and lists archives from others, and
// unpacks them.

export { type PackDirectoryOptions, type PackedDirectory, packDirectory } from "./context/pack-directory.ts";
export { type ContextFile, packFiles } from "./context/pack-files.ts";
export {
  type ContextListing,
  listContext,
  type RepackedContext,
  type RepackedSummary,
  type RepackOptions,
  repackContext,
} from "./context/repack.ts";
export { type UnpackOptions, unpackContext } from "./context/unpack.ts";
