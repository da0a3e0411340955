// Where things are in the state directory; no other file knows.

import { chmodSync, lstatSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";

export interface Layout {
  root: string;
  /** The records. */
  store: string;
  /** Wake-ups and events; may be deleted at any time. */
  queue: string;
  /** Contexts and logs. */
  artifacts: string;
  /** Copies of artifacts that are kept elsewhere; may be deleted while nothing runs. */
  artifactsCache: string;
  /** Held locked by the one worker while it lives. */
  lock: string;
  /** What the worker says of itself: JSON. */
  workerFile: string;
  workerLog: string;
  /** This node's id. */
  nodeFile: string;
  /** Copies of the program, by version. */
  versions: string;
  /** The builder's and the hypervisor's own. */
  builder: string;
  hypervisor: string;
  /** Unpacked contexts of builds that run. */
  scratch: string;
  /** The HTTP server's secret: what seals its signing keys in the database. */
  masterKey: string;
}

/**
 * Makes the state directory, private to its user, and names what is in it.
 * @throws FormationError `unavailable` if it cannot be made, `forbidden` if it belongs to somebody else.
 */
export function openLayout(root: string): Layout {
  try {
    mkdirSync(root, { recursive: true, mode: 0o700 });
    const info = statSync(root);
    const uid = process.getuid?.();
    // Also where a link of somebody else's leads, as one in /tmp could, into a directory of ours.
    const link = lstatSync(root);
    if (uid !== undefined && (info.uid !== uid || (link.uid !== uid && link.uid !== 0))) {
      throw new FormationError("forbidden", `The state directory ${root} belongs to another user.`, {
        remedy: "Set FORMATION_STATE_DIR to a directory of your own.",
      });
    }
    if ((info.mode & 0o077) !== 0) chmodSync(root, 0o700);
  } catch (error) {
    if (error instanceof FormationError) throw error;
    throw new FormationError(
      "unavailable",
      `The state directory ${root} cannot be made: ${(error as Error).message}.`,
      {
        cause: error,
        remedy: "Set FORMATION_STATE_DIR to a directory that you can write.",
      },
    );
  }
  return layoutOf(root);
}

/** What is in a state directory, wherever it is; nothing is made. */
export function layoutOf(root: string): Layout {
  return {
    root,
    store: join(root, "formation.db"),
    queue: join(root, "queue.db"),
    artifacts: join(root, "artifacts"),
    artifactsCache: join(root, "cache"),
    lock: join(root, "worker.lock"),
    workerFile: join(root, "worker.json"),
    workerLog: join(root, "worker.log"),
    nodeFile: join(root, "node-id"),
    versions: join(root, "versions"),
    builder: join(root, "b"),
    hypervisor: join(root, "h"),
    scratch: join(root, "scratch"),
    masterKey: join(root, "server", "master.key"),
  };
}
