// How the status file of a machine is followed while the guest writes it. The guest may be hostile: how much
// is read at once, and how often, is bounded here.

import { statSync, watch } from "node:fs";
import { type GuestReport, parseStatus } from "../guest/status-report.ts";
import { readBytes } from "../logs/tail.ts";

const READ_BYTES = 256 * 1024;
/** What a guest writes faster than it is read: of more than this, the older half is skipped. */
const MAX_LAG_BYTES = 4 * 1024 * 1024;
const MIN_READ_INTERVAL_MS = 25;

/** A guest's report, and up to which byte of the status file it was read. */
export interface StatusPosition {
  at: number;
  report: GuestReport;
}

/** Reads what the guest wrote since; the position given is not changed. */
export function readStatusFrom(path: string, from: StatusPosition): StatusPosition {
  let { at, report } = from;
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (size - at > MAX_LAG_BYTES) at = size - MAX_LAG_BYTES / 2;
  for (let left = MAX_LAG_BYTES; left > 0; left -= READ_BYTES) {
    const text = readBytes(path, at, READ_BYTES);
    const whole = text.lastIndexOf("\n") + 1;
    if (whole > 0) report = parseStatus(text.slice(0, whole), report);
    // A full chunk without a newline is not a report of our init: it is skipped. One character here is one
    // byte (latin1).
    at += whole === 0 && text.length === READ_BYTES ? READ_BYTES : whole;
    if (text.length < READ_BYTES) break;
  }
  return { at, report };
}

/**
 * Calls back when the status file changes: at once, but at most every 25 ms. Returns the function that ends
 * it.
 * @throws Error if there is no such file.
 */
export function watchStatus(path: string, onChange: () => void): () => void {
  let timer: NodeJS.Timeout | null = null;
  let missed = false;
  const watcher = watch(path, { persistent: false }, () => {
    if (timer !== null) {
      missed = true;
      return;
    }
    timer = setTimeout(() => {
      timer = null;
      if (missed) onChange();
      missed = false;
    }, MIN_READ_INTERVAL_MS).unref();
    onChange();
  });
  watcher.on("error", () => {});
  return () => {
    watcher.close();
    clearTimeout(timer ?? undefined);
  };
}
