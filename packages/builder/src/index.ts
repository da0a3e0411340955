// A Formfile and its context become an image and a bootable disk.

export { parseReference, type Reference } from "./image/reference.ts";
export type {
  Builder,
  BuilderReport,
  BuildHooks,
  BuildLimits,
  BuildRequest,
  StoredImage,
} from "./port.ts";
