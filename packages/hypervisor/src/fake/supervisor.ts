// The fake driver's stand-in for QEMU, as the text of a program. It runs the entrypoint as a child in a
// process group of its own, forwards ports to it, reports what the guest's init would report, and answers the
// same QMP commands on the same socket. It outlives the worker. It is a text, because each of our programs is
// bundled into one file.

/** CommonJS; started as `node supervisor.cjs` in the run directory, with its orders in `../fake.json`. */
export const SUPERVISOR = String.raw`"use strict";
const fs = require("fs"), net = require("net"), path = require("path");
const { spawn } = require("child_process");
const orders = JSON.parse(fs.readFileSync("../fake.json", "utf8"));
const { forwards, bindAddress } = JSON.parse(process.argv[2]);
const began = Date.now();
const status = fs.openSync("status", "a");
const st = (event) => {
  fs.writeSync(status, JSON.stringify({ up: (Date.now() - began) / 1000, ...event }) + "\n");
};
const root = fs.realpathSync("rootfs");
const clients = new Set(), sockets = new Set();
let child = null, stoppingSince = null, paused = false, reason = "guest-shutdown", done = false;
const send = (client, message) => client.write(JSON.stringify(message) + "\r\n");
const tell = (event, data) => { for (const client of clients) send(client, { event, data: data || {} }); };
const signal = (name) => { try { if (child) process.kill(-child.pid, name); } catch {} };

function finish(code) {
  if (done) return;
  done = true;
  signal("SIGKILL");
  if (code !== null) st({ ev: "exit", code });
  tell("SHUTDOWN", { reason });
  for (const socket of sockets) socket.destroy();
  for (const client of clients) client.end();
  try { fs.unlinkSync("ipc/qmp"); } catch {}
  setTimeout(() => process.exit(0), 20);
}

const commands = {
  qmp_capabilities: () => ({}),
  "query-status": () => ({ running: !paused, status: paused ? "paused" : "running" }),
  stop: () => { paused = true; signal("SIGSTOP"); tell("STOP"); return {}; },
  cont: () => { paused = false; signal("SIGCONT"); tell("RESUME"); return {}; },
  system_powerdown: () => {
    const now = Date.now();
    if (stoppingSince === null) {
      stoppingSince = now;
      st({ ev: "stopping" });
      try { process.kill(child.pid, "SIGTERM"); } catch {}
    }
    else if (now - stoppingSince >= 1000) signal("SIGKILL");
    return {};
  },
  quit: () => { reason = "host-qmp-quit"; setTimeout(() => finish(null), 0); return {}; },
};

function control() {
  const server = net.createServer((client) => {
    clients.add(client);
    client.on("error", () => {});
    client.on("close", () => clients.delete(client));
    send(client, { QMP: { version: {}, capabilities: [] } });
    let text = "";
    client.on("data", (chunk) => {
      text += chunk;
      for (let at; (at = text.indexOf("\n")) >= 0; text = text.slice(at + 1)) {
        const { execute, id } = JSON.parse(text.slice(0, at));
        const command = commands[execute];
        send(client, { ...(command ? { return: command() } : { error: { desc: "no such command" } }), id });
      }
    });
  });
  return new Promise((resolve) => server.listen("ipc/qmp", resolve));
}

function forward({ guest_port, port }) {
  const server = net.createServer({ allowHalfOpen: true }, (outer) => {
    const inner = net.connect({ port: guest_port, host: "127.0.0.1", allowHalfOpen: true });
    for (const [from, to] of [[outer, inner], [inner, outer]]) {
      sockets.add(from);
      from.on("error", () => to.destroy());
      from.on("close", () => { sockets.delete(from); });
      from.pipe(to);
    }
  });
  return new Promise((resolve) => {
    server.on("error", () => {
      const rule = "tcp:" + bindAddress + ":" + port + "-:" + guest_port;
      console.error("Could not set up host forwarding rule '" + rule + "'");
      process.exit(1);
    });
    server.listen({ port, host: bindAddress, exclusive: true }, resolve);
  });
}

// Finds the program in the machine's root first, then on the host.
function find(argv0, searchPath, workdir) {
  const isExecutable = (file) => {
    try { fs.accessSync(file, fs.constants.X_OK); return fs.statSync(file).isFile(); } catch { return false; }
  };
  const names = path.isAbsolute(argv0) ? [argv0]
    : argv0.includes("/") ? [path.resolve("/", path.relative(root, workdir), argv0)]
    : searchPath.split(":").map((directory) => path.join(directory || "/", argv0));
  for (const name of names)
    for (const file of [path.join(root, name), name]) if (isExecutable(file)) return { file };
  const isThere = names.some((name) => fs.existsSync(path.join(root, name)));
  return { problem: isThere ? ["not_executable", 126] : ["not_found", 127] };
}

function listeners() {
  const inodes = new Map();
  for (const file of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    let text = "";
    try { text = fs.readFileSync(file, "utf8"); } catch {}
    for (const line of text.split("\n").slice(1)) {
      const field = line.trim().split(/\s+/);
      if (field[3] !== "0A") continue;
      const [address, port] = field[1].split(":");
      const number = parseInt(port, 16);
      if (!forwards.some(({ guest_port }) => guest_port === number)) continue;
      const loopback = /^(.{6}7F|0{24}01000000|0{16}FFFF0000.{6}7F)$/.test(address);
      inodes.set("socket:[" + field[9] + "]", { port, loopback });
    }
  }
  const found = { ports: new Set(), loopback: new Set() };
  if (inodes.size === 0) return found;
  for (const pid of fs.readdirSync("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      const stat = fs.readFileSync("/proc/" + pid + "/stat", "latin1");
      if (Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[2]) !== child.pid) continue;
      for (const fd of fs.readdirSync("/proc/" + pid + "/fd")) {
        const hit = inodes.get(fs.readlinkSync("/proc/" + pid + "/fd/" + fd));
        if (hit) (hit.loopback ? found.loopback : found.ports).add(hit.port);
      }
    } catch {}
  }
  return found;
}

function watch() {
  let seen = "", rounds = 0;
  const look = () => {
    if (done) return;
    if (!paused) {
      const { ports, loopback } = listeners();
      const event = { ev: "listen", ports: [...ports].join(" "), loopback: [...loopback].join(" ") };
      if (JSON.stringify(event) !== seen) { seen = JSON.stringify(event); st(event); }
    }
    setTimeout(look, rounds++ < 200 ? 25 : 250);
  };
  look();
}

// Enforces the leash, as the guard of a QEMU machine does; see leash-guard.ts.
function guard() {
  let until;
  try { until = Number(fs.readFileSync("../leash", "utf8")) * 10; } catch { return; }
  const left = until - Number(fs.readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 1000;
  if (left > 0) return setTimeout(guard, Math.min(left, 1000));
  signal("SIGKILL");
  process.kill(process.pid, "SIGKILL");
}

const SIGNALS = require("os").constants.signals;
async function main() {
  guard();
  for (const one of forwards) await forward(one);
  await control();
  const fail = (what, code) => { st({ ev: "started" }); st({ ev: "problem", what }); finish(code); };
  const workdir = path.join(root, orders.workdir);
  if (!fs.existsSync(workdir)) return fail("no_workdir", 125);
  const { file, problem } = find(orders.argv[0], orders.env.PATH, workdir);
  if (problem) return fail(...problem);
  const out = fs.openSync("out", "a"), err = fs.openSync("err", "a");
  child = spawn(file, orders.argv.slice(1), {
    argv0: orders.argv[0], cwd: workdir, env: orders.env, detached: true, stdio: ["ignore", out, err],
  });
  child.on("error", (error) => { fs.writeSync(err, String(error.message) + "\n"); finish(126); });
  child.on("exit", (code, name) => finish(code === null ? 128 + (SIGNALS[name] || 0) : code));
  st({ ev: "started" });
  if (forwards.length > 0) watch();
}
process.on("SIGTERM", () => { reason = "host-signal"; finish(null); });
main();
`;
