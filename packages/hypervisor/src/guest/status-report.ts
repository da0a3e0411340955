// Parsing what the guest's init reports on the status channel: JSON lines of known kinds. All else is
// ignored, because root in the guest can write there, too.

const MAX_LINE_LENGTH = 4096;

/** What was reported since the last start. */
export interface GuestReport {
  started: boolean;
  listening: number[];
  /** Ports that listen only on the guest's loopback address, where the host cannot reach them. */
  loopback: number[];
  stopping: boolean;
  exit_code: number | null;
  /** `no_user`, `no_group`, `no_workdir`, `not_found`, `not_executable`. */
  problem: string | null;
}

export function emptyReport(): GuestReport {
  return { started: false, listening: [], loopback: [], stopping: false, exit_code: null, problem: null };
}

/** The report after the whole lines of a text, on top of the one before. Never throws. */
export function parseStatus(text: string, before: GuestReport = emptyReport()): GuestReport {
  const report = { ...before };
  for (const line of text.slice(0, text.lastIndexOf("\n") + 1).split("\n")) {
    if (line.length > 0 && line.length < MAX_LINE_LENGTH) apply(report, line);
  }
  return report;
}

function apply(report: GuestReport, line: string): void {
  let value: Record<string, unknown>;
  try {
    const parsed: unknown = JSON.parse(line);
    if (typeof parsed !== "object" || parsed === null) return;
    value = parsed as Record<string, unknown>;
  } catch {
    return;
  }
  switch (value["ev"]) {
    case "started":
      report.started = true;
      break;
    case "listen":
      report.listening = hexPorts(value["ports"]);
      report.loopback = hexPorts(value["loopback"]);
      break;
    case "stopping":
      report.stopping = true;
      break;
    case "problem":
      if (typeof value["what"] === "string" && /^[a-z_]{1,32}$/.test(value["what"]))
        report.problem = value["what"];
      break;
    case "exit": {
      const code = value["code"];
      if (typeof code === "number" && Number.isInteger(code) && code >= 0 && code < 256)
        report.exit_code = code;
      report.listening = [];
      break;
    }
    default:
  }
}

function hexPorts(value: unknown): number[] {
  if (typeof value !== "string") return [];
  const ports = value.split(" ").filter((word) => /^[0-9A-F]{4}$/.test(word));
  return [...new Set(ports.map((word) => Number.parseInt(word, 16)))].sort((a, b) => a - b);
}

/** A problem in words for the owner. */
export function problemText(
  problem: string,
  process: { argv0: string; user: string; workdir: string },
): string {
  switch (problem) {
    case "no_user":
      return `no such user in the image: ${process.user}`;
    case "no_group":
      return `no such group in the image: ${process.user}`;
    case "no_workdir":
      return `no such directory in the image: ${process.workdir}`;
    case "not_found":
      return `entrypoint not found in the image: ${process.argv0}`;
    case "not_executable":
      return `entrypoint is not executable: ${process.argv0}`;
    default:
      return `the guest's init reported: ${problem}`;
  }
}
