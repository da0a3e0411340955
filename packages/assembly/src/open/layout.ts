// The paths in a state directory. No other file knows its first level.

import { chmodSync, lstatSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";

export interface Layout {
  root: string;
  /** The records. */
  store: string;
  /** Wake-ups and events. It may be deleted at any time. */
  queue: string;
  /** Contexts and logs. */
  artifacts: string;
  /** Local copies of shared artifacts. They may be deleted while no worker runs. */
  artifactsCache: string;
  /** Locked by the worker as long as it lives. */
  lock: string;
  /** The worker's state as JSON: `WorkerFile`. */
  workerFile: string;
  workerLog: string;
  /** This node's id. */
  nodeFile: string;
  /** Copies of the program, by version. */
  versions: string;
  /** Directories whose content only the builder and the hypervisor know. */
  builder: string;
  hypervisor: string;
  /** Unpacked contexts of running builds. */
  scratch: string;
  /** The key that seals the HTTP server's signing keys in the database. */
  masterKey: string;
}

/**
 * Creates the state directory, private to its user, and returns the paths in it.
 * @throws FormationError `unavailable` if it cannot be created, `forbidden` if it belongs to another user.
 */
export function openLayout(root: string): Layout {
  try {
    mkdirSync(root, { recursive: true, mode: 0o700 });
    const info = statSync(root);
    const uid = process.getuid?.();
    // A link that another user made, for example in /tmp, may lead into a directory of this user.
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

/** The paths in a state directory. Creates nothing. */
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
