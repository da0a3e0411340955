// @module-tag root
// @module-tag buildah

// The user profile, run as a new unprivileged user of this machine.

import { execFile, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, chownSync, mkdirSync, statSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { type AddressInfo, isIPv4 } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { BuilderReport } from "@formation-mcp/builder";
import type { ErrorRecord, Image } from "@formation-mcp/contract";
import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Task } from "./support/as-user.ts";
import { temporary } from "./support/build.ts";
import { killMarked, processesWith } from "./support/real-disk.ts";

interface Answer {
  report: BuilderReport;
  results: {
    image: Image | null;
    error: ErrorRecord | null;
    text: string;
    read: string | null;
    disk: string | null;
  }[];
  left: string[];
}

describe("the user profile", () => {
  const dir = temporary();
  const user = `fmt${randomBytes(4).toString("hex")}`;
  const script = fileURLToPath(new URL("./support/as-user.ts", import.meta.url));
  const tunMode = statSync("/dev/net/tun").mode & 0o777;
  let uid = 0;
  let gid = 0;
  let server: Server;

  const act = async (task: Partial<Task> & Pick<Task, "builds">, options: Partial<Task["options"]> = {}) => {
    const whole = { uid, gid, ...task, options: { stateDir: join(dir.path, "s"), ...options } };
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ["--conditions=formation-source", script, JSON.stringify(whole)],
      { maxBuffer: 64 * 1024 * 1024, timeout: 120_000 },
    );
    return JSON.parse(stdout) as Answer;
  };

  beforeAll(async () => {
    execFileSync("useradd", [
      "--create-home",
      "--home-dir",
      join(dir.path, "home"),
      "--shell",
      "/bin/sh",
      user,
    ]);
    [uid, gid] = ["-u", "-g"].map((what) =>
      Number(execFileSync("id", [what, user], { encoding: "utf8" })),
    ) as [number, number];
    chmodSync(dir.path, 0o755);
    mkdirSync(join(dir.path, "s"), { mode: 0o700 });
    chownSync(join(dir.path, "s"), uid, gid);
    server = createServer((_, response) => response.end("host answered"));
    await new Promise<void>((resolve) => server.listen(0, "0.0.0.0", resolve));
  });
  afterAll(async () => {
    chmodSync("/dev/net/tun", tunMode);
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    execFileSync("userdel", [user]);
    dir[Symbol.dispose]();
  }, 60_000);

  it("builds and makes disks whose files belong to root, without being root", async () => {
    const other = "other:x:1000:1000::/:/bin/sh";
    const asAnother = {
      env: { VALUE: "it's" },
      run: [`echo ${other} >> /etc/passwd; su other -c '. /dev/formation/env; echo "$VALUE"'`],
    };
    const answer = await act(
      {
        builds: [{ run: ["id -u; echo made > made; chown 5:5 made"] }, { run: ["exit 5"] }, asAnother],
        read: "/app/made",
      },
      { network: "none" },
    );
    const [good, bad, another] = answer.results;
    expect(good?.error).toBeNull();
    expect(good?.text).toBe("0");
    expect(good?.read).toBe("made\n");
    expect(execFileSync("debugfs", ["-R", "stat /app/made", good?.disk ?? ""], { encoding: "utf8" })).toMatch(
      /User:\s+5\s/,
    );
    expect(
      execFileSync("debugfs", ["-R", "stat /bin/busybox", good?.disk ?? ""], { encoding: "utf8" }),
    ).toMatch(/User:\s+0\s/);
    expect(bad?.error).toMatchObject({ code: "invalid", step: "run 1/1", exit_code: 5 });
    expect(another?.text).toBe("it's");
    expect(answer.left).toEqual([]);
  }, 120_000);

  it("bounds processes, disk and time", async () => {
    const answer = await act(
      {
        builds: [
          { run: ["while :; do sleep 100 & done; exit 1"] },
          { run: ["head -c 60000000 /dev/zero > big; sleep 60"] },
          { run: ["sleep 600"] },
        ],
        limits: { limits: { pids: 50, disk_bytes: 40e6, timeout_ms: 4000 } },
      },
      { network: "none" },
    );
    expect(answer.results.map((one) => one.error?.code)).toEqual(["limit", "limit", "limit"]);
    expect(answer.left).toEqual([]);
  }, 120_000);

  it("leaves nothing after a kill of all its processes", async () => {
    const stateDir = join(dir.path, "s");
    const marker = `9${Date.now()}`;
    const task = {
      uid,
      gid,
      options: { stateDir, network: "none" },
      builds: [{ run: [`sleep 600 ${marker}`] }],
    };
    const child = spawn(process.execPath, ["--conditions=formation-source", script, JSON.stringify(task)], {
      stdio: "ignore",
    });
    const gone = new Promise((resolve) => child.once("exit", resolve));
    await waitFor(() => processesWith(`sleep\x00600\x00${marker}`).length > 0, {
      timeoutMs: 30_000,
      what: "the line",
    });
    child.kill("SIGKILL");
    killMarked(stateDir);
    await gone;
    const after = await act({ builds: [{ run: ["echo works"] }] }, { network: "none" });
    expect(after.results[0]?.text).toBe("works");
    expect(after.left).toEqual([]);
    expect(processesWith(marker)).toEqual([]);
  }, 60_000);

  it("filters the network as the root profile does, or has none and says why", async () => {
    chmodSync("/dev/net/tun", 0o600);
    const without = await act({ builds: [{ run: ["ls /sys/class/net"] }] });
    expect(without.report.ready).toBe(true);
    expect(without.report.problems[0]?.problem).toContain("/dev/net/tun");
    expect(without.results[0]?.text).toMatch(/cannot give run lines a network/);
    expect(without.results[0]?.text).not.toContain("tap0");

    chmodSync("/dev/net/tun", 0o666);
    const { port } = server.address() as AddressInfo;
    const own = Object.values(networkInterfaces())
      .flatMap((ones) => ones ?? [])
      .map((one) => one.address)
      .filter((address) => isIPv4(address));
    const tries = [...own, "10.0.2.2"].map(
      (address) => `wget -q -O - http://${address}:${port}/ && echo REACHED`,
    );
    const within = await act({
      builds: [
        {
          run: [
            `nslookup localhost 10.0.2.3; ip route; ${tries.join("; ")}; ip -6 addr; ip route add 10.9.0.0/16 dev tap0 && echo CHANGED; :`,
          ],
        },
        { from: "registry.invalid/x:1" },
      ],
    });
    expect(within.results[1]?.error).toMatchObject({ code: "not_found", step: "pull" });
    expect(within.report).toMatchObject({ ready: true, problems: [] });
    expect(within.results[0]?.error).toBeNull();
    expect(within.results[0]?.text).toContain("default via 10.0.2.2");
    expect(within.results[0]?.text).toContain("unreachable 169.254.0.0/16");
    expect(within.results[0]?.text).not.toMatch(/REACHED|CHANGED|inet6|host answered/);
    expect(within.left).toEqual([]);
  }, 180_000);
});
