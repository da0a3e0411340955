// @module-tag root
// @module-tag qemu

import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import type { Hypervisor, MachineSpec } from "@formation-mcp/hypervisor";
import { openQemuHypervisor } from "@formation-mcp/hypervisor/qemu";
import { sharedKernel } from "@formation-mcp/hypervisor/testing/kernel";
import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Elsewhere, makeElsewhere } from "./support/elsewhere.ts";
import { leftovers } from "./support/leftovers.ts";
import { makeDisk } from "./support/rootfs.ts";

/** What a workload finds, one file per question; each line is run by a shell, as the workload's user. */
const QUESTIONS = {
  id: "id",
  hostname: "hostname",
  hosts: "cat /etc/hosts",
  resolv: "cat /etc/resolv.conf 2>&1",
  home: "echo $HOME",
  shm: "echo ok >/dev/shm/x && cat /dev/shm/x; ls -ld /dev/shm",
  run: "ls -ld /run; cat /run/kept",
  tmp: "echo ok >/tmp/probe && cat /tmp/probe",
  tty: "echo x | cat /dev/stdin; ls /dev/pts/ptmx",
  signals: "grep -E 'SigIgn|SigBlk' /proc/self/status",
  fds: "ls /proc/self/fd",
  root: "ls -a /run/.formation 2>&1; cat /run/.formation/config 2>&1",
};

const dial = (address: string, port: number) => `nc -w 3 ${address} ${port} </dev/null 2>&1; echo "[$?]"`;

describe("a guest", { timeout: 120_000 }, () => {
  let work: string;
  let hypervisor: Hypervisor;
  let elsewhere: Elsewhere;
  let host: Server;
  let hostPort = 0;
  const never = new AbortController().signal;
  const hostAddress = () =>
    Object.values(networkInterfaces())
      .flat()
      .find(
        (one) =>
          one !== undefined && !one.internal && one.family === "IPv4" && one.address !== "198.51.100.1",
      )?.address ?? "127.0.0.1";

  beforeAll(async () => {
    work = mkdtempSync(join(tmpdir(), "hypervisor-"));
    hypervisor = await openQemuHypervisor({ stateDir: join(work, "state"), ...(await sharedKernel()) });
    await hypervisor.recover();
    elsewhere = await makeElsewhere();
    host = createServer((socket) => socket.on("error", () => {}).end("the host\n"));
    hostPort = await new Promise((resolve) => {
      host.listen(0, "0.0.0.0", () => {
        const address = host.address();
        resolve(typeof address === "object" && address !== null ? address.port : 0);
      });
    });
  }, 120_000);
  afterAll(async () => {
    for (const { id } of await hypervisor.list()) await hypervisor.remove(id);
    await hypervisor.close();
    host.close();
    elsewhere.remove();
    expect(leftovers(join(work, "state"))).toEqual([]);
    rmSync(work, { recursive: true, force: true });
  }, 60_000);

  /** Starts a machine that asks the questions, and returns the answers. */
  const ask = async (
    id: string,
    questions: Record<string, string>,
    change: Partial<MachineSpec>,
    user: string,
  ) => {
    const script = Object.entries(questions).map(([name, line]) => `( ${line} ) >/tmp/a/${name} 2>&1`);
    const spec: MachineSpec = {
      id,
      hostname: "web-1",
      disk: makeDisk(work, { "run/kept": "from the image" }),
      vcpus: 1,
      memory_mb: 192,
      process: {
        argv: [
          "sh",
          "-c",
          `echo to-stdout >/dev/stdout; echo to-stderr >/dev/stderr; mkdir /tmp/a; ${script.join("\n")}\nexec busybox httpd -f -p 8080 -h /tmp/a`,
        ],
        env: {},
        workdir: "/",
        user,
      },
      ports: [{ guest_port: 8080, port: null }],
      egress: false,
      ...change,
    };
    const lines: string[] = [];
    const end = new AbortController();
    await hypervisor.create(spec);
    const following = hypervisor.follow(id, end.signal, (_stream, line) => lines.push(line));
    await hypervisor.start(id, { signal: never });
    const status = await hypervisor.waitLive(id, { signal: never, timeoutMs: 60_000 });
    const answers: Record<string, string> = {};
    for (const name of Object.keys(questions)) {
      const response = await fetch(`http://127.0.0.1:${status.endpoints[0]?.port}/${name}`);
      answers[name] = (await response.text()).trim();
    }
    await waitFor(() => lines.includes("to-stdout") && lines.includes("to-stderr"), {
      timeoutMs: 5000,
      what: "both lines",
    });
    end.abort();
    await following;
    return { answers, status };
  };

  it("finds what programs expect, as a user with groups, and nothing of the host's", async () => {
    const network = {
      internet: dial(elsewhere.open, elsewhere.port),
      private: dial(elsewhere.closed, elsewhere.port),
      loopback: dial("10.0.2.2", hostPort),
      host: dial(hostAddress(), hostPort),
    };
    const { answers, status } = await ask("guest.1", { ...QUESTIONS, ...network }, { egress: true }, "alice");
    expect(answers["id"]).toBe("uid=1000(alice) gid=1000(alice) groups=1000(alice),2000(extra)");
    expect(answers["hostname"]).toBe("web-1");
    expect(answers["hosts"]).toMatch(/127\.0\.0\.1 localhost[\s\S]*web-1/);
    expect(answers["resolv"]).toBe("nameserver 10.0.2.3");
    expect(answers["home"]).toBe("/home/alice");
    expect(answers["shm"]).toMatch(/^ok\ndrwxrwxrwt/);
    expect(answers["run"]).toMatch(/^drwxr-xr-x[\s\S]*from the image$/);
    expect(answers["tmp"]).toBe("ok");
    expect(answers["tty"]).toBe("x\n/dev/pts/ptmx");
    expect(answers["signals"]).toMatch(/SigBlk:\s0+\nSigIgn:\s0+/);
    expect(answers["fds"]).toBe("0\n1\n2\n3");
    expect(answers["root"]).toMatch(/ermission denied[\s\S]*ermission denied/);
    expect(status.egress.mode).toBe("internet");
    expect(answers["internet"]).toContain("here");
    for (const closed of ["private", "loopback", "host"])
      expect(answers[closed]).not.toMatch(/here|the host/);
  });

  it("reaches nothing at all without egress, and may be a bare number", async () => {
    const network = {
      id: "id",
      internet: dial(elsewhere.open, elsewhere.port),
      loopback: dial("10.0.2.2", hostPort),
    };
    const { answers, status } = await ask("guest.2", network, {}, "4321:8765");
    expect(answers["id"]).toBe("uid=4321 gid=8765");
    expect(status.egress).toEqual({ mode: "none", reason: "not asked for" });
    expect(answers["internet"]).not.toContain("here");
    expect(answers["loopback"]).not.toContain("the host");
  });

  it("has as many processors as asked for, its disk is whole after a stop, and a crash is told from an end", async () => {
    // Started again, it prints what its kernel says of the disk, and crashes.
    const crash =
      "[ ! -e /srv/once ] || { dmesg | grep EXT4-fs >/proc/$$/fd/1; echo c >/proc/sysrq-trigger; sleep 9; }";
    const questions = { cpus: "nproc", once: `${crash}; touch /srv/once` };
    const { answers } = await ask("guest.3", questions, { vcpus: 2 }, "");
    expect(answers["cpus"]).toBe("2");
    await hypervisor.stop("guest.3", { timeoutMs: 10_000 });
    const lines: string[] = [];
    const following = new AbortController();
    const follower = hypervisor.follow("guest.3", following.signal, (_stream, line) => lines.push(line));
    await hypervisor.start("guest.3", { signal: never });
    const crashed = hypervisor.waitLive("guest.3", { signal: never, timeoutMs: 60_000 });
    await expect(crashed).rejects.toMatchObject({ code: "invalid", details: { step: "entrypoint" } });
    expect((await hypervisor.inspect("guest.3")).exit?.reason).toBe("guest-panic");
    const said = () => lines.join("\n");
    await waitFor(() => said().includes("EXT4-fs"), { timeoutMs: 5000, what: "what the kernel says" });
    following.abort();
    await follower;
    expect(said()).not.toMatch(/recovery|orphan/);
  });

  it("with too little memory says so, and names the setting", async () => {
    const starved = ask("guest.4", { id: "id" }, { memory_mb: 64 }, "");
    await expect(starved).rejects.toMatchObject({ code: "limit", details: { step: "boot" } });
    await expect(starved).rejects.toThrow(/memory_mb 64/);
  });
});
