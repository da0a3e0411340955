// The one place that knows how QEMU is called. All paths are relative to the machine's own directory, where QEMU is
// started: nothing of the host's layout, and nothing that a user wrote, stands on the line.

import { MACHINE_FILES } from "../machine/files.ts";

export interface QemuSettings {
  /** What identifies the process: letters, digits, `.`, `_`, `-`. */
  name: string;
  accelerator: "kvm" | "tcg";
  vcpus: number;
  memory_mb: number;
  /** Where the forwarded ports are bound on the host. */
  bindAddress: string;
  forwards: readonly { guest_port: number; port: number }[];
  /** Lets the guest open connections; without it only answers leave. */
  egress: boolean;
}

/** The program that runs machines. */
export const QEMU = "qemu-system-x86_64";

const COMMON_COMMAND_LINE =
  "console=ttyS0 quiet panic=-1 reboot=t cryptomgr.notests audit=0 8250.nr_uarts=1 i8042.noaux i8042.nokbd " +
  "random.trust_cpu=on initcall_blacklist=load_system_certificate_list,init_kprobe_trace,snapshot_device_init,crypto_kdf108_init";
/** Emulated processors have none of the flaws that the mitigations are for; real ones do. */
const EMULATED_COMMAND_LINE = "mitigations=off init_on_alloc=0 tsc=reliable no_timer_check lsm=";

export function kernelCommandLine(settings: Pick<QemuSettings, "accelerator" | "vcpus">): string {
  return [
    COMMON_COMMAND_LINE,
    ...(settings.accelerator === "tcg" ? [EMULATED_COMMAND_LINE] : []),
    `nr_cpus=${settings.vcpus}`,
    ...(settings.vcpus === 1 ? ["noreplace-smp"] : []),
  ].join(" ");
}

/** QEMU's arguments for a machine. Pure. */
export function qemuArguments(settings: QemuSettings): string[] {
  const forward = settings.forwards.map(
    ({ guest_port, port }) => `,hostfwd=tcp:${bracketed(settings.bindAddress)}:${port}-:${guest_port}`,
  );
  const channel = (id: string, file: string, name: string) => [
    ...["-chardev", `file,id=${id},path=${file},append=on`],
    ...["-device", `virtserialport,chardev=${id},name=${name}`],
  ];
  const files = MACHINE_FILES;
  return [
    ...["-name", settings.name],
    ...["-M", "q35,vmport=off,smm=off,usb=off,graphics=off,smbus=off,sata=off,hpet=off"],
    ...accelerated(settings.accelerator),
    ...["-smp", String(settings.vcpus), "-m", String(settings.memory_mb)],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ...["-kernel", files.kernel, "-initrd", files.initrd, "-append", kernelCommandLine(settings)],
    ...["-chardev", `file,id=con,path=${files.console},append=on`, "-serial", "chardev:con"],
    ...[
      "-blockdev",
      `driver=qcow2,node-name=disk0,discard=unmap,file.driver=file,file.filename=${files.disk}`,
    ],
    ...["-device", "virtio-blk-pci,drive=disk0"],
    ...["-netdev", `user,id=n0,ipv6=off,restrict=${settings.egress ? "off" : "on"}${forward.join("")}`],
    ...["-device", "virtio-net-pci,netdev=n0,romfile="],
    ...["-device", "virtio-serial-pci"],
    ...channel("out", files.out, "fm.out"),
    ...channel("err", files.err, "fm.err"),
    ...channel("st", files.status, "fm.status"),
    ...["-qmp", `unix:${files.qmp},server=on,wait=off`],
  ];
}

// Emulated: x86-64-v2, which newer distributions ask for; with RDRAND, or /dev/random would block for a second.
function accelerated(accelerator: "kvm" | "tcg"): string[] {
  return accelerator === "kvm"
    ? ["-accel", "kvm", "-cpu", "host"]
    : ["-accel", "tcg,tb-size=64", "-cpu", "Nehalem,+rdrand"];
}

function bracketed(address: string): string {
  return address.includes(":") ? `[${address}]` : address;
}
