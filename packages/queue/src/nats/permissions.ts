// The NATS permissions of each process, in one place, so that the server's configuration, its documentation
// and the tests agree. A worker's user can take work and emit events. It cannot publish work, wake or listen
// for another node, change or delete a stream, or remove a blob. NATS does not check permissions on reply
// subjects: a user in the same account as a stream can direct the stream's answers and content to any subject
// there. The separate accounts in deploy/nats prevent that.

import { controlSubject, FormationError, type Id, idKind } from "@formation-mcp/contract";
import { ALL_EVENTS, eventsOf } from "./events.ts";
import { consumerOf, DEAD_PREFIX, DEAD_STREAM, WORK_STREAM, WORK_SUBJECTS } from "./streams.ts";

/** The process that uses the credentials: an HTTP server, or one node's worker. */
export type NatsRole = { role: "server" } | { role: "worker"; node: Id<"node"> };

/** The subjects a user may use; all others are denied (https://docs.nats.io, "Authorization"). */
export interface NatsPermissions {
  publish: { allow: string[] };
  subscribe: { allow: string[] };
}

const JETSTREAM_API = "$JS.API";
/**
 * The JetStream API as deploy/nats maps it into the workers' account. NATS answers `$JS.API` with the user's
 * own account.
 */
const WORKERS_API = "formation.api";
const READ_APIS = ["STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET"];
const PURGE_API = "STREAM.PURGE";
/** What `@formation-mcp/artifacts/nats` uses. A log's writer also removes its old messages. */
const ARTIFACT_STREAMS = [
  {
    stream: "OBJ_formation-blobs",
    subjects: ["$O.formation-blobs.C.*", "$O.formation-blobs.M.*"],
    workers: READ_APIS,
  },
  { stream: "FORMATION_LOGS", subjects: ["formation.log.*.*.*"], workers: [...READ_APIS, PURGE_API] },
];
const NKEY = /^U[A-Z2-7]{55}$/;

/**
 * The prefix of a process's inbox subjects; pass it to `connectNats`.
 * @throws FormationError `invalid` if the node id is malformed.
 */
export function inboxPrefixOf(who: NatsRole): string {
  return who.role === "server" ? "_INBOX.server" : `_INBOX.${checkNode(who.node)}`;
}

/**
 * The only subjects that a process may publish and subscribe to.
 * @throws FormationError `invalid` if the node id is malformed.
 */
export function permissionsOf(who: NatsRole): NatsPermissions {
  const inbox = `${inboxPrefixOf(who)}.>`;
  const artifacts = ARTIFACT_STREAMS.flatMap(({ stream, subjects, workers }) => [
    ...subjects,
    ...(who.role === "worker" ? workers : [...READ_APIS, PURGE_API]).map(
      (call) => `${JETSTREAM_API}.${call}.${stream}`,
    ),
  ]);
  if (who.role === "worker") {
    const control = controlSubject(who.node);
    const drawing = WORK_SUBJECTS.flatMap((subject) => {
      const consumer = `${WORK_STREAM}.${consumerOf(subject)}`;
      return [
        `${JETSTREAM_API}.CONSUMER.INFO.${consumer}`,
        `${JETSTREAM_API}.CONSUMER.MSG.NEXT.${consumer}`,
        `$JS.ACK.${consumer}.>`,
        `${DEAD_PREFIX}.${subject}`,
      ];
    });
    return {
      publish: {
        allow: [...drawing, `${DEAD_PREFIX}.${control}`, ALL_EVENTS, ...artifacts].flatMap(bothNames),
      },
      subscribe: { allow: [inbox, control, ...eventsOf(who.node)] },
    };
  }
  const streams = [WORK_STREAM, DEAD_STREAM, ...ARTIFACT_STREAMS.map(({ stream }) => stream)];
  const managing = streams.flatMap((stream) =>
    ["CREATE", "UPDATE", "INFO"].map((call) => `${JETSTREAM_API}.STREAM.${call}.${stream}`),
  );
  const consumers = [
    `${JETSTREAM_API}.CONSUMER.CREATE.${WORK_STREAM}.>`,
    `${JETSTREAM_API}.CONSUMER.INFO.${WORK_STREAM}.*`,
    `${JETSTREAM_API}.STREAM.MSG.GET.${DEAD_STREAM}`,
  ];
  const sending = [...WORK_SUBJECTS, "vm.control.*", ALL_EVENTS];
  return {
    publish: { allow: [...new Set([...sending, ...managing, ...consumers, ...artifacts])] },
    subscribe: { allow: [inbox, ALL_EVENTS] },
  };
}

/**
 * One process's entry in `users` of its account in nats-server's configuration, with its public nkey.
 * @throws FormationError `invalid` if the key is no user's public key, or the node id is malformed.
 */
export function natsUser(publicKey: string, who: NatsRole): string {
  if (!NKEY.test(publicKey)) {
    throw new FormationError("invalid", "A user's public key begins with U and has 56 characters.", {
      remedy: "Never put the seed, which begins with SU, into the server's configuration.",
    });
  }
  const { publish, subscribe } = permissionsOf(who);
  const list = (subjects: string[]) =>
    `[\n${subjects.map((each) => `      ${JSON.stringify(each)}\n`).join("")}    ]`;
  return `{
  nkey: ${publicKey}
  permissions: {
    publish: { allow: ${list(publish.allow)} }
    subscribe: { allow: ${list(subscribe.allow)} }
  }
}`;
}

/** Both names of a subject, because NATS maps a subject before it checks the permission. */
function bothNames(subject: string): string[] {
  return subject.startsWith(`${JETSTREAM_API}.`)
    ? [subject, subject.replace(JETSTREAM_API, () => WORKERS_API)]
    : [subject];
}

function checkNode(node: Id<"node">): Id<"node"> {
  if (idKind(node) === "node") return node;
  throw new FormationError("invalid", "A worker's permissions are for the id of its node.");
}
