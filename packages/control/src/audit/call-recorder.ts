// How a call becomes lines of the audit log. A read is one line and does not wait for the store. A change is
// one line before it begins, so that no change is made that the log can't hold, and one line with its outcome
// before the reply. A refusal is one line before the reply.

import type { Principal } from "@formation-mcp/auth";
import { FormationError, idKind } from "@formation-mcp/contract";
import { findTool, INSTANCE_NAME } from "@formation-mcp/tools";
import type { CallHooks } from "../port.ts";
import type { Audit } from "./audit.ts";
import type { AuditEntry } from "./chain.ts";

type Fields = Readonly<Record<string, unknown>>;

export interface CallRecorder {
  read(input: Fields, result: Fields): Promise<void>;
  begun(input: Fields): Promise<void>;
  done(input: Fields, result: Fields): Promise<void>;
  refused(input: unknown, error: FormationError): Promise<void>;
}

/**
 * Creates the recorder of one call. Every method throws FormationError `unavailable` if the line can't be
 * stored.
 */
export function createRecorder(
  audit: Audit | undefined,
  principal: Principal,
  tool: string,
  hooks: CallHooks,
): CallRecorder {
  /** Whether a line with the outcome of the call was recorded. */
  let ended = false;
  const recordLine = async (outcome: AuditEntry["outcome"], target: string | null, wait: boolean) => {
    await audit?.record(
      {
        owner: hooks.actor ?? principal.owner,
        credential: principal.tokenId ?? null,
        // The name of an unknown tool is text of the caller, and is not recorded.
        action: findTool(tool)?.name ?? "unknown tool",
        target: target ?? (hooks.actor === undefined ? null : principal.owner),
        outcome,
        address: hooks.address ?? null,
        trace_id: hooks.traceId ?? null,
      },
      { wait },
    );
  };
  return {
    async read(input, result) {
      ended = true;
      await recordLine("ok", createdRecord(result) ?? namedRecord(input), false);
    },
    begun: (input) => recordLine("begun", namedRecord(input), true),
    async done(input, result) {
      ended = true;
      await recordLine("ok", createdRecord(result) ?? namedRecord(input), true).catch((cause: unknown) => {
        throw new FormationError(
          "unavailable",
          "It was done, but the audit log could not be told how it ended.",
          {
            remedy:
              "Look with operation_list before you repeat it; the same idempotency_key does nothing twice.",
            cause,
          },
        );
      });
    },
    async refused(input, error) {
      if (!ended) await recordLine(error.code, isFields(input) ? namedRecord(input) : null, true);
    },
  };
}

function createdRecord({ instance_id, build_id, operation_id }: Fields): string | null {
  return firstThat([instance_id, build_id, operation_id], (text) => idKind(text) !== undefined);
}

/** The id or name of the record that the call names; null if the text is neither. */
function namedRecord({ instance, id, operation_id, instance_name, build_id, target }: Fields): string | null {
  return firstThat(
    [instance, id, operation_id, instance_name, build_id, target],
    (text) => idKind(text) !== undefined || INSTANCE_NAME.test(text),
  );
}

function firstThat(values: unknown[], fits: (text: string) => boolean): string | null {
  return values.find((value): value is string => typeof value === "string" && fits(value)) ?? null;
}

function isFields(input: unknown): input is Fields {
  return typeof input === "object" && input !== null;
}
