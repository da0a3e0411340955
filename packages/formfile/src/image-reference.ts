// What `from` may be: an image reference by the grammar of the distribution project
// (github.com/distribution/reference: [domain[:port]/]path[:tag][@digest]), with a digest by the OCI image
// specification, and in lower case except for the tag; or the word scratch.
import { FORMFILE_LIMITS } from "./limits.ts";

const LABEL = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?";
const DOMAIN = `(?:${LABEL}(?:\\.${LABEL})*|\\[[0-9a-f:]+\\])(?::[1-9][0-9]{0,4})?`;
const COMPONENT = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
const TAG = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
const DIGEST = "sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}";

/** The grammar as an ECMAScript pattern, also for the JSON Schema. */
export const REFERENCE_PATTERN = `^(?:${DOMAIN}/)?${COMPONENT}(?:/${COMPONENT})*(?::${TAG})?(?:@(?:${DIGEST}))?$`;

const REFERENCE = new RegExp(REFERENCE_PATTERN);

function isReference(text: string): boolean {
  return text.length <= FORMFILE_LIMITS.fromLength && REFERENCE.test(text);
}

/** Whether a text is a valid value of `from`. */
export function isImage(text: string): boolean {
  return isReference(text) && !/^(?:scratch[:@]|[0-9a-f]{64}$)/.test(text);
}

/** The remedy for a text that is no image reference: a corrected reference if there is an obvious one. */
export function imageRemedy(text: string): string {
  if (text.length > FORMFILE_LIMITS.fromLength)
    return `Shorten it to at most ${FORMFILE_LIMITS.fromLength} characters.`;
  if (/^scratch[:@]/.test(text)) return 'Write "scratch"; it has no tag and no digest.';
  if (/^[0-9a-f]{64}$/.test(text)) return `Name the repository too: name@sha256:${text}.`;
  const at = text.trim().replace(/^(?:https?|docker|oci):\/\//i, "");
  const [name = "", digest] = at.split("@", 2);
  const tag = /:[A-Za-z0-9_][A-Za-z0-9_.-]*$/.exec(name)?.[0] ?? "";
  const better = `${name.slice(0, name.length - tag.length).toLowerCase()}${tag}${digest ? `@${digest}` : ""}`;
  if (isImage(better)) return `Write "${better}".`;
  if (at.includes("@")) return "Write the digest as name@sha256: and 64 lower-case hexadecimal digits.";
  return 'Write [registry/]name[:tag][@sha256:…], such as "debian:12", or "scratch".';
}

/** The default name of a workload from this image: the last path component in letters, digits and hyphens. */
export function nameFrom(image: string): string {
  const path = image.replace(/@.*$/, "").split("/").at(-1) ?? "";
  return toName(path.replace(/:.*$/, ""));
}

/** Makes a valid name of any text; "workload" if nothing is left. */
export function toName(text: string): string {
  const name = text
    .slice(0, 4 * FORMFILE_LIMITS.nameLength)
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-/, "")
    .slice(0, FORMFILE_LIMITS.nameLength)
    .replace(/-$/, "");
  return name === "" ? "workload" : name;
}
