// Parses `from` into an image reference. Only what this grammar (https://github.com/distribution/reference,
// `reference-regexp`) accepts reaches a Containerfile or a command line.

import { FormationError } from "@formation-mcp/contract";

/**
 * A parsed `from`: an empty image, the node's own busybox, an image in the node's store, or one in a
 * registry.
 */
export type Reference =
  | { kind: "scratch"; name: "scratch" }
  | { kind: "busybox"; name: "busybox" }
  | { kind: "local"; name: string }
  | { kind: "registry"; name: string; host: string; byDigest: boolean };

/** The name under which this node keeps its builds' images. `from` may not name it. */
export const OWN_IMAGE_NAME = "localhost/formation";

const PATH_PART = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const HOST = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const DIGEST = /^sha256:[a-f0-9]{64}$/;

/**
 * Parses a `from`. A name without a host is completed as usual: `debian:12` is `docker.io/library/debian:12`.
 * @throws FormationError `invalid` if it is no reference.
 */
export function parseReference(from: string): Reference {
  if (from === "scratch") return { kind: "scratch", name: "scratch" };
  if (from === "busybox") return { kind: "busybox", name: "busybox" };
  if (from.length > 255) throw notAReference(from, "it is longer than 255 characters");
  const [named = "", digest, ...more] = from.split("@");
  if (more.length > 0) throw notAReference(from, "it holds more than one @");
  if (digest !== undefined && !DIGEST.test(digest)) {
    throw notAReference(from, "after @ must stand sha256: and 64 hexadecimal digits");
  }
  const slash = named.lastIndexOf("/");
  const colon = named.indexOf(":", slash + 1);
  const path = colon < 0 ? named : named.slice(0, colon);
  const tag = colon < 0 ? undefined : named.slice(colon + 1);
  if (tag !== undefined && !TAG.test(tag)) throw notAReference(from, "its tag holds other characters");
  const parts = path.split("/");
  const first = parts[0] ?? "";
  const hasHost = parts.length > 1 && (/[.:]/.test(first) || first === "localhost");
  const host = hasHost ? first : "docker.io";
  const repository = hasHost ? parts.slice(1) : parts.length === 1 ? ["library", first] : parts;
  if (!HOST.test(host))
    throw notAReference(from, "its registry host is not a host name with an optional port");
  if (!repository.every((part) => PATH_PART.test(part))) {
    throw notAReference(from, "its name must be lower-case letters, digits and single . _ - between them");
  }
  if (repository.length === 1 && /^[a-f0-9]{64}$/.test(first))
    throw notAReference(from, "an image id is no name");
  const base = `${host}/${repository.join("/")}`;
  // containers/image accepts a tag or a digest, not both; the digest takes precedence.
  const name = digest === undefined ? `${base}:${tag ?? "latest"}` : `${base}@${digest}`;
  if (host !== "localhost") return { kind: "registry", name, host, byDigest: digest !== undefined };
  if (base === OWN_IMAGE_NAME || base.startsWith(`${OWN_IMAGE_NAME}/`)) {
    throw notAReference(from, `names under ${OWN_IMAGE_NAME} belong to the node itself`);
  }
  return { kind: "local", name };
}

function notAReference(from: string, why: string): FormationError {
  return new FormationError(
    "invalid",
    `${JSON.stringify(from.slice(0, 80))} is no image reference: ${why}.`,
    {
      field: "from",
      step: "pull",
      remedy:
        'Write `from` as "busybox", "scratch", "debian:12" or "registry.example.com/team/image@sha256:…".',
    },
  );
}
