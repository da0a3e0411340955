// A Formfile and its context become an image and a bootable disk.

export type {
  Builder,
  BuilderReport,
  BuildHooks,
  BuildLimits,
  BuildRequest,
  StoredImage,
} from "./port.ts";
