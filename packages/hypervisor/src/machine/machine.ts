// One machine as this process sees it: its journal, its QEMU, and what its guest reported. It notices by itself when the
// process ends and writes down how it ended.

import { existsSync, type FSWatcher, readFileSync, statSync, watch } from "node:fs";
import { join } from "node:path";
import { identify, isAlive, waitGone } from "@formation-mcp/os";
import { emptyReport, type GuestReport, parseStatus, problemText } from "../guest/status-report.ts";
import { dropHead } from "../logs/offsets.ts";
import { readFrom, readTail } from "../logs/tail.ts";
import type { MachineStatus } from "../port.ts";
import { type Engine, placeOf } from "./deps.ts";
import { MACHINE_FILES } from "./files.ts";
import type { Journal } from "./journal.ts";
import { hasEnded } from "./leash.ts";
import { connectQmp, type QmpClient } from "./qmp.ts";

export const BOOT_ID = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();

const STATUS_CHUNK = 256 * 1024;
const STATUS_BYTES = 1024 * 1024;
/** A guest that reports faster than it is read loses reports beyond this. */
const STATUS_LAG = 4 * 1024 * 1024;
const STATUS_PAUSE_MS = 25;

export class Machine {
  readonly directory: string;
  journal: Journal;
  report: GuestReport = emptyReport();
  qmp: QmpClient | null = null;
  /** What is wrong with it, in words; null if nothing is. */
  problem: string | null = null;
  /** Rises whenever its logs were emptied. */
  logEpoch = 0;
  readonly #engine: Engine;
  #watcher: FSWatcher | null = null;
  #shutdownReason: string | null = null;
  #statusAt = 0;
  #pause: NodeJS.Timeout | null = null;
  #missed = false;
  #unwritten = false;
  readonly #waiters = new Set<() => void>();

  constructor(engine: Engine, journal: Journal) {
    this.#engine = engine;
    this.journal = journal;
    this.directory = placeOf(engine, journal.id).runDirectory;
    if (journal.reported) {
      this.report = journal.reported.report;
      this.#statusAt = journal.reported.at;
    }
  }

  get alive(): boolean {
    const { qemu, boot_id } = this.journal;
    return qemu !== null && boot_id === BOOT_ID && isAlive(qemu);
  }

  /** Writes the changed fields down, then lets them be seen. */
  note(changes: Partial<Journal>): void {
    this.journal = { ...this.journal, ...changes };
    this.#engine.journals.write(this.journal);
    this.#unwritten = false;
  }

  /** Like `note`, for what happened already: a full disk must not keep a machine from ending. Written down later then. */
  noteIfRoom(changes: Partial<Journal>): void {
    try {
      this.note(changes);
    } catch (error) {
      this.#unwritten = true;
      this.#complain(error);
    }
  }

  /** Writes down what there was no room for. */
  catchUp(): void {
    if (this.#unwritten) this.noteIfRoom({});
  }

  /** Begins to watch a QEMU that runs: its status file and its control socket. */
  async attach(): Promise<void> {
    this.watchStatus();
    this.#shutdownReason = null;
    const qmp = await connectQmp(this.directory, MACHINE_FILES.qmp, {
      onEvent: ({ event, data }) => {
        if (event === "SHUTDOWN") this.#shutdownReason = String(data["reason"]);
        if (event === "BLOCK_IO_ERROR") this.problem = ioProblem(data["nospace"] === true);
        if (event === "RESUME") this.problem = null;
        if (event !== "RTC_CHANGE") this.wake();
      },
      onClose: () => {
        this.qmp = null;
        this.#afterClose().catch((error: unknown) => this.#complain(error));
      },
    });
    this.qmp = qmp;
  }

  watchStatus(): void {
    this.#unwatch();
    const look = () => {
      try {
        this.readStatus();
      } catch (error) {
        this.#complain(error);
      }
    };
    // At once, but a guest that writes without end is not followed at every word.
    this.#watcher = watch(join(this.directory, MACHINE_FILES.status), { persistent: false }, () => {
      if (this.#pause !== null) {
        this.#missed = true;
        return;
      }
      this.#pause = setTimeout(() => {
        this.#pause = null;
        if (this.#missed) look();
        this.#missed = false;
      }, STATUS_PAUSE_MS).unref();
      look();
    });
    this.#watcher.on("error", () => {});
    this.readStatus();
  }

  /** Takes in what the guest reported since the last look; returns whether that was anything new. */
  readStatus(): boolean {
    const path = join(this.directory, MACHINE_FILES.status);
    const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    if (size - this.#statusAt > STATUS_LAG) this.#statusAt = size - STATUS_LAG / 2;
    let report = this.report;
    for (let room = STATUS_LAG; room > 0; room -= STATUS_CHUNK) {
      const text = readFrom(path, this.#statusAt, STATUS_CHUNK);
      const whole = text.lastIndexOf("\n") + 1;
      if (whole > 0) report = parseStatus(text.slice(0, whole), report);
      // What fills a chunk without an end is no line of ours. One character is one byte here.
      this.#statusAt += whole === 0 && text.length === STATUS_CHUNK ? STATUS_CHUNK : whole;
      if (text.length < STATUS_CHUNK) break;
    }
    if (JSON.stringify(report) === JSON.stringify(this.report)) return false;
    this.report = report;
    if (report.started && this.journal.started_at === null && this.journal.phase !== "removing") {
      this.noteIfRoom({ started_at: this.#engine.clock.now() });
    }
    this.wake();
    return true;
  }

  /** Forgets what an earlier boot reported. */
  beginReport(): void {
    this.report = emptyReport();
    this.#statusAt = 0;
  }

  /** Writes the state of the guest down when its reports grew long, so that they may be dropped from the disk. */
  async boundStatus(): Promise<void> {
    if (this.#statusAt < STATUS_BYTES || this.#statusAt < (this.journal.reported?.at ?? 0) + STATUS_BYTES)
      return;
    this.note({ reported: { at: this.#statusAt, report: this.report } });
    await dropHead(join(this.directory, MACHINE_FILES.status), this.#statusAt);
  }

  /** If the process is gone, writes down how it ended. Safe to call at any time. */
  settle(): void {
    const { phase } = this.journal;
    if (phase !== "running" && phase !== "starting") return;
    if (this.alive) return;
    this.readStatus();
    const reason = this.#exitReason();
    const leash = reason === "killed" && hasEnded(this.directory) ? { leash: true as const } : {};
    const exit = { reason, code: this.report.exit_code, ...leash };
    this.detach();
    this.noteIfRoom({ phase: "stopped", qemu: null, paused: false, exit });
    this.#engine.ended(this.journal.id);
    this.wake();
  }

  #unwatch(): void {
    this.#watcher?.close();
    this.#watcher = null;
    clearTimeout(this.#pause ?? undefined);
    this.#pause = null;
  }

  detach(): void {
    this.#unwatch();
    this.qmp?.close();
    this.qmp = null;
  }

  wake(): void {
    for (const waiter of [...this.#waiters]) waiter();
    this.#engine.changed(this.journal.id);
  }

  /** Resolves at the next change, or after `ms`, or when the signal aborts. */
  change(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#waiters.delete(done);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, Math.max(0, ms));
      this.#waiters.add(done);
      signal?.addEventListener("abort", done, { once: true });
      if (signal?.aborted) done();
    });
  }

  status(): MachineStatus {
    const { journal, report } = this;
    const alive = this.alive;
    const exposed = new Set(journal.ports.map(({ guest_port }) => guest_port));
    return {
      id: journal.id,
      state: alive ? (journal.paused ? "paused" : "running") : stateAtRest(journal),
      pid: alive ? (journal.qemu?.pid ?? null) : null,
      accelerator: journal.accelerator,
      endpoints: journal.forwards.map(({ guest_port, port }) => ({
        guest_port,
        address: this.#engine.settings.bindAddress,
        port,
      })),
      egress: journal.egress,
      ...(journal.unenforced.length > 0 ? { unenforced: journal.unenforced } : {}),
      guest: {
        started_at: journal.started_at,
        listening: alive ? report.listening.filter((port) => exposed.has(port)) : [],
        exit_code: report.exit_code,
        problem: report.problem === null ? null : problemText(report.problem, journal.process),
      },
      exit: alive ? null : journal.exit,
      problem: this.problem,
    };
  }

  async #afterClose(): Promise<void> {
    const { qemu } = this.journal;
    // QEMU closes its socket a moment before it is gone; one that still lives lost its control and is looked at later.
    if (qemu !== null && identify(qemu.pid) !== null && !(await waitGone(qemu, 2000))) return;
    this.settle();
  }

  /** For what happens with nobody waiting for it: a full disk must not end the worker. The next look tries again. */
  #complain(error: unknown): void {
    this.#engine.logger.log("warn", "A machine's change could not be taken in.", {
      machine: this.journal.id,
      error: String(error),
    });
  }

  #exitReason(): NonNullable<MachineStatus["exit"]>["reason"] {
    if (this.journal.stopping) return "stopped";
    switch (this.#shutdownReason) {
      case "guest-shutdown":
        return "guest-shutdown";
      case "guest-reset":
      case "guest-panic":
        return "guest-panic";
      case null:
        break;
      default:
        return "killed";
    }
    if (this.report.exit_code !== null) return "guest-shutdown";
    // QEMU removes its socket when it ends by itself.
    if (existsSync(join(this.directory, MACHINE_FILES.qmp))) return "killed";
    if (/terminating on signal/.test(readTail(join(this.directory, MACHINE_FILES.log), 4096)))
      return "killed";
    return /Kernel panic/.test(readTail(join(this.directory, MACHINE_FILES.console), 16_384))
      ? "guest-panic"
      : "guest-shutdown";
  }
}

/** QEMU holds a guest whose disk cannot be written, rather than let it see errors. */
export function ioProblem(isFull: boolean): string {
  return isFull
    ? "the node's disk is full: the guest is held until it is resumed, once there is room"
    : "the machine's disk cannot be read or written: look at the node's disk";
}

function stateAtRest(journal: Journal): MachineStatus["state"] {
  if (journal.phase === "created") return "created";
  return journal.phase === "creating" || journal.phase === "removing" ? "absent" : "stopped";
}
