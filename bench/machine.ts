// The machine and the tools that the numbers were measured on, printed once at the top.

import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { promisify } from "node:util";

/** One line about the machine, one about the tools. */
export async function header(): Promise<string> {
  const [qemu, buildah, mke2fs] = await Promise.all([
    firstLine("qemu-system-x86_64", ["--version"]),
    firstLine("buildah", ["--version"]),
    firstLine("mke2fs", ["-V"]),
  ]);
  const model = cpus()[0]?.model ?? "unknown CPU";
  const load = (loadavg()[0] ?? 0).toFixed(1);
  return [
    `${cpus().length} × ${model}, ${(totalmem() / 1024 ** 3).toFixed(0)} GiB, Linux ${release()}, load ${load}`,
    `accelerator ${accelerator()}; Node ${process.versions.node}, SQLite ${process.versions["sqlite"]}; ${qemu}; ${buildah}; ${mke2fs}`,
    "ratio of medians [95 % bootstrap interval], in interleaved pairs",
  ].join("\n");
}

/** The accelerator that machines will most probably use; the choice of the driver also boots one. */
function accelerator(): string {
  try {
    const flags = readFileSync("/proc/modules", "utf8");
    return /^kvm_(intel|amd) /m.test(flags) ? "kvm if it boots" : "tcg (no hardware virtualization)";
  } catch {
    return "tcg";
  }
}

async function firstLine(program: string, args: string[]): Promise<string> {
  try {
    const { stdout, stderr } = await promisify(execFile)(program, args, { timeout: 10_000 });
    return (stdout || stderr).split("\n")[0]?.replace(/ \(.*/, "") ?? program;
  } catch {
    return `no ${program}`;
  }
}
