// The builder's port: turns a formfile and its context into an image and a bootable disk. The drivers are
// subpaths.

export type {
  Builder,
  BuilderReport,
  BuildHooks,
  BuildLimits,
  BuildRequest,
  StoredImage,
} from "./port.ts";
