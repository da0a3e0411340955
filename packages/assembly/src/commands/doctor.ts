// The report of `formation-mcp doctor`: what this machine has, what it lacks with a remedy, and what is
// enforced.

import { statfsSync } from "node:fs";
import { freemem, totalmem } from "node:os";
import { FormationError, silentLogger } from "@formation-mcp/contract";
import { ownProfile, type Profile } from "@formation-mcp/os";
import { hasSqlite } from "@formation-mcp/os/sqlite";
import { openLayout } from "../open/layout.ts";
import { nodeCapacity } from "../open/node.ts";
import { openNodeDrivers } from "../open/node-drivers.ts";
import { findWorker } from "../process/background-worker.ts";
import type { Configuration } from "../settings/configuration.ts";

export interface DoctorReport {
  ready: boolean;
  profile: Profile;
  has: { what: string; value: string }[];
  problems: { problem: string; remedy: string }[];
  enforced: { what: string; enforced: boolean; how: string }[];
}

/** Examines this machine. Never throws: what it finds wrong is a problem with a remedy. */
export async function examine(configuration: Configuration): Promise<DoctorReport> {
  const profile = ownProfile();
  const report: DoctorReport = { ready: true, profile, has: [], problems: [], enforced: [] };
  const has = (what: string, value: string) => report.has.push({ what, value });
  has("platform", `${process.platform} ${process.arch}`);
  has("node", process.versions.node);
  if (process.platform !== "linux" || process.arch !== "x64") {
    report.problems.push({
      problem: `Images are built and VMs run on Linux on x86-64 alone; this is ${process.platform} on ${process.arch}.`,
      remedy: "Run formation-mcp on a Linux x86-64 machine.",
    });
  }
  if (!hasSqlite()) {
    report.problems.push({
      problem: `Node ${process.versions.node} has no node:sqlite.`,
      remedy: "Use Node 22.18 or later.",
    });
  }
  if (report.problems.length === 0) await examineDrivers(configuration, report, has);
  report.ready = report.problems.length === 0;
  return report;
}

async function examineDrivers(
  configuration: Configuration,
  report: DoctorReport,
  has: (what: string, value: string) => void,
): Promise<void> {
  try {
    const layout = openLayout(configuration.stateDir);
    const capacity = nodeCapacity(configuration, layout);
    const disk = statfsSync(layout.root);
    has("state directory", layout.root);
    has("memory", `${mb(totalmem())} MiB, ${mb(freemem())} MiB free`);
    has("disk free", `${Math.floor((disk.bavail * disk.bsize) / 1024 ** 3)} GiB`);
    has(
      "offers",
      `${capacity.vcpus} vCPUs, ${capacity.memory_mb} MiB of memory, ${capacity.disk_gb} GiB of disk`,
    );
    const worker = findWorker(layout);
    has(
      "worker",
      worker
        ? `${worker.state}, pid ${worker.pid}, version ${worker.version}`
        : "not running (starts when needed)",
    );
    const { builder, hypervisor } = await openNodeDrivers(layout, configuration, silentLogger);
    try {
      const reports = [await builder.probe(), await hypervisor.probe()] as const;
      has("accelerator", reports[1].accelerator);
      for (const each of reports) {
        has(each.driver, each.version);
        report.problems.push(...each.problems);
        report.enforced.push(...each.enforced);
      }
    } finally {
      await hypervisor.close();
    }
  } catch (thrown) {
    const error = FormationError.from(thrown, "The examination itself failed.");
    report.problems.push({ problem: error.message, remedy: error.details.remedy ?? "See the message." });
  }
}

function mb(bytes: number): number {
  return Math.floor(bytes / 1024 ** 2);
}
