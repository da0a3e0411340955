// One machine as this process sees it: its journal, its control socket, and what its guest reported. It
// notices by itself when the machine's process ends, and records how it ended.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Bell } from "@formation-mcp/base";
import type { Clock, Logger } from "@formation-mcp/contract";
import { identify, isAlive, waitForExit } from "@formation-mcp/os";
import { emptyReport, type GuestReport, problemText } from "../guest/status-report.ts";
import { dropHead } from "../logs/trim.ts";
import type { MachineStatus } from "../port.ts";
import { ioProblem } from "./disk-errors.ts";
import { exitReason } from "./exit-reason.ts";
import { MACHINE_FILES } from "./files.ts";
import { readStatusFrom, watchStatus } from "./guest-status.ts";
import type { Journal, Journals } from "./journal.ts";
import { hasLeashEnded } from "./leash.ts";
import { connectQmp, type QmpClient } from "./qmp.ts";

/** The id of the host's current boot: a process identity of another boot is void. */
export const BOOT_ID = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();

/** From this length on, the reports that were read are removed from the status file. */
const MAX_READ_STATUS_BYTES = 1024 * 1024;

/** What a machine needs of the hypervisor. */
export interface MachineDeps {
  settings: { bindAddress: string };
  clock: Clock;
  logger: Logger;
  journals: Journals;
  /** Called when a machine's process or guest changed. */
  machineChanged(id: string): void;
  /** Called when a machine's process ended, so that what it held is released. */
  machineEnded(id: string): void;
}

export class Machine {
  /** The working directory of its process. */
  readonly runDirectory: string;
  journal: Journal;
  report: GuestReport = emptyReport();
  /** Null while it does not run, and when the connection is lost. */
  qmp: QmpClient | null = null;
  /** What is wrong with it, in words; null if nothing is. */
  problem: string | null = null;
  /** Rises whenever its log files were emptied. */
  logEpoch = 0;
  readonly #deps: MachineDeps;
  #endWatch: (() => void) | null = null;
  #shutdownCause: string | null = null;
  /** How far the status file was read. */
  #statusAt = 0;
  /** Whether the journal on the disk lacks the last change. */
  #isUnwritten = false;
  readonly #changes = new Bell();

  constructor(deps: MachineDeps, journal: Journal) {
    this.#deps = deps;
    this.journal = journal;
    this.runDirectory = deps.journals.paths(journal.id).runDirectory;
    if (journal.reported) {
      this.report = journal.reported.report;
      this.#statusAt = journal.reported.at;
    }
  }

  get alive(): boolean {
    const { qemu, boot_id } = this.journal;
    return qemu !== null && boot_id === BOOT_ID && isAlive(qemu);
  }

  /** Changes the journal and writes it to the disk. Throws what writing throws. */
  note(changes: Partial<Journal>): void {
    this.journal = { ...this.journal, ...changes };
    this.#deps.journals.write(this.journal);
    this.#isUnwritten = false;
  }

  /**
   * Like `note`, for what has already happened: if it cannot be written (a full disk), it is written later.
   */
  noteIfPossible(changes: Partial<Journal>): void {
    try {
      this.note(changes);
    } catch (error) {
      this.#isUnwritten = true;
      this.#warn(error);
    }
  }

  /** Writes what could not be written before. */
  noteUnwritten(): void {
    if (this.#isUnwritten) this.noteIfPossible({});
  }

  /** Watches the status file of a running process and connects to its control socket. */
  async attach(): Promise<void> {
    this.#watchStatus();
    this.#shutdownCause = null;
    this.qmp = await connectQmp(this.runDirectory, MACHINE_FILES.qmp, {
      onEvent: ({ event, data }) => {
        if (event === "SHUTDOWN") this.#shutdownCause = String(data["reason"]);
        if (event === "BLOCK_IO_ERROR") this.problem = ioProblem(data["nospace"] === true);
        if (event === "RESUME") this.problem = null;
        if (event !== "RTC_CHANGE") this.announceChange();
      },
      onClose: () => {
        this.qmp = null;
        this.#afterClose().catch((error: unknown) => this.#warn(error));
      },
    });
  }

  /** Stops watching and disconnects; the machine runs on. */
  detach(): void {
    this.#endWatch?.();
    this.#endWatch = null;
    this.qmp?.close();
    this.qmp = null;
  }

  /** Reads what the guest reported since the last call; returns whether that changed anything. */
  readStatus(): boolean {
    const path = join(this.runDirectory, MACHINE_FILES.status);
    const { at, report } = readStatusFrom(path, { at: this.#statusAt, report: this.report });
    this.#statusAt = at;
    if (JSON.stringify(report) === JSON.stringify(this.report)) return false;
    this.report = report;
    if (report.started && this.journal.started_at === null && this.journal.phase !== "removing") {
      this.noteIfPossible({ started_at: this.#deps.clock.now() });
    }
    this.announceChange();
    return true;
  }

  /** Forgets what the guest reported in an earlier boot. */
  resetReport(): void {
    this.report = emptyReport();
    this.#statusAt = 0;
  }

  /**
   * Once a long status file was read, puts the report into the journal and frees the file's space on the
   * disk.
   */
  async trimStatus(): Promise<void> {
    const since = this.journal.reported?.at ?? 0;
    if (this.#statusAt < since + MAX_READ_STATUS_BYTES) return;
    this.note({ reported: { at: this.#statusAt, report: this.report } });
    await dropHead(join(this.runDirectory, MACHINE_FILES.status), this.#statusAt);
  }

  /** If the process ended, records how. Safe to call at any time. */
  noteExit(): void {
    const { phase, stopping } = this.journal;
    if (phase !== "running" && phase !== "starting") return;
    if (this.alive) return;
    this.readStatus();
    const { runDirectory, report } = this;
    const code = report.exit_code;
    const reason = exitReason({ runDirectory, stopping, shutdownCause: this.#shutdownCause, exitCode: code });
    const leash = reason === "killed" && hasLeashEnded(runDirectory) ? { leash: true as const } : {};
    this.detach();
    this.noteIfPossible({ phase: "stopped", qemu: null, paused: false, exit: { reason, code, ...leash } });
    this.#deps.machineEnded(this.journal.id);
    this.announceChange();
  }

  /** Wakes `nextChange` and tells the listeners of the port's `onChange`. */
  announceChange(): void {
    this.#changes.ring();
    this.#deps.machineChanged(this.journal.id);
  }

  /** Resolves at the next change, after `ms`, or when the signal aborts. */
  async nextChange(ms: number, signal?: AbortSignal): Promise<void> {
    await this.#changes.wait(Math.max(0, ms), signal);
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
        address: this.#deps.settings.bindAddress,
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

  #watchStatus(): void {
    this.#endWatch?.();
    this.#endWatch = watchStatus(join(this.runDirectory, MACHINE_FILES.status), () => {
      try {
        this.readStatus();
      } catch (error) {
        this.#warn(error);
      }
    });
    this.readStatus();
  }

  async #afterClose(): Promise<void> {
    const { qemu } = this.journal;
    // QEMU closes its socket a moment before it ends. If it lives on, only the connection was lost:
    // maintenance reconnects.
    if (qemu !== null && identify(qemu.pid) !== null && !(await waitForExit(qemu, 2000))) return;
    this.noteExit();
  }

  /**
   * For errors that no caller waits for, such as a full disk: they must not end the worker. A later call
   * tries again.
   */
  #warn(error: unknown): void {
    this.#deps.logger.log("warn", "A machine's change could not be taken in.", {
      machine: this.journal.id,
      error: String(error),
    });
  }
}

function stateAtRest(journal: Journal): MachineStatus["state"] {
  if (journal.phase === "created") return "created";
  return journal.phase === "creating" || journal.phase === "removing" ? "absent" : "stopped";
}
