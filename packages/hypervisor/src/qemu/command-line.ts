// QEMU's command line and the guest kernel's. All paths are relative to the run directory, where QEMU is
// started: the line contains no path of the host and no text of a user. See qemu-system-x86_64(1).

import { MACHINE_FILES } from "../machine/files.ts";

export interface CommandLineOptions {
  /** The name of the process: letters, digits, `.`, `_`, `-`. */
  name: string;
  accelerator: "kvm" | "tcg";
  vcpus: number;
  memory_mb: number;
  /** The host address that forwarded ports are bound to. */
  bindAddress: string;
  forwards: readonly { guest_port: number; port: number }[];
  /** Whether the guest may open connections; otherwise it can only answer. */
  egress: boolean;
}

/** The program that runs machines. */
export const QEMU = "qemu-system-x86_64";

const COMMON_KERNEL_OPTIONS =
  "console=ttyS0 quiet panic=-1 reboot=t cryptomgr.notests audit=0 8250.nr_uarts=1 i8042.noaux i8042.nokbd " +
  "random.trust_cpu=on initcall_blacklist=load_system_certificate_list,init_kprobe_trace," +
  "snapshot_device_init,crypto_kdf108_init";
/** An emulated processor lacks the flaws that the mitigations are for. */
const EMULATED_KERNEL_OPTIONS = "mitigations=off init_on_alloc=0 tsc=reliable no_timer_check lsm=";

/**
 * The guest kernel's parameters. Pure. See Documentation/admin-guide/kernel-parameters in the kernel's
 * sources.
 */
export function kernelCommandLine(options: Pick<CommandLineOptions, "accelerator" | "vcpus">): string {
  return [
    COMMON_KERNEL_OPTIONS,
    ...(options.accelerator === "tcg" ? [EMULATED_KERNEL_OPTIONS] : []),
    `nr_cpus=${options.vcpus}`,
    ...(options.vcpus === 1 ? ["noreplace-smp"] : []),
  ].join(" ");
}

/** QEMU's arguments for a machine. Pure. */
export function qemuArguments(options: CommandLineOptions): string[] {
  const forward = options.forwards.map(
    ({ guest_port, port }) => `,hostfwd=tcp:${bracketed(options.bindAddress)}:${port}-:${guest_port}`,
  );
  const channel = (id: string, file: string, name: string) => [
    ...["-chardev", `file,id=${id},path=${file},append=on`],
    ...["-device", `virtserialport,chardev=${id},name=${name}`],
  ];
  const files = MACHINE_FILES;
  return [
    ...["-name", options.name],
    ...["-M", "q35,vmport=off,smm=off,usb=off,graphics=off,smbus=off,sata=off,hpet=off"],
    ...acceleratorArguments(options.accelerator),
    ...["-smp", String(options.vcpus), "-m", String(options.memory_mb)],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ...["-kernel", files.kernel, "-initrd", files.initrd, "-append", kernelCommandLine(options)],
    ...["-chardev", `file,id=con,path=${files.console},append=on`, "-serial", "chardev:con"],
    ...[
      "-blockdev",
      `driver=qcow2,node-name=disk0,discard=unmap,file.driver=file,file.filename=${files.disk}`,
    ],
    ...["-device", "virtio-blk-pci,drive=disk0"],
    ...["-netdev", `user,id=n0,ipv6=off,restrict=${options.egress ? "off" : "on"}${forward.join("")}`],
    ...["-device", "virtio-net-pci,netdev=n0,romfile="],
    ...["-device", "virtio-serial-pci"],
    ...channel("out", files.out, "fm.out"),
    ...channel("err", files.err, "fm.err"),
    ...channel("st", files.status, "fm.status"),
    ...["-qmp", `unix:${files.qmp},server=on,wait=off`],
  ];
}

// Emulated: Nehalem is x86-64-v2, which newer distributions require. Without RDRAND /dev/random would block
// for a second.
function acceleratorArguments(accelerator: "kvm" | "tcg"): string[] {
  return accelerator === "kvm"
    ? ["-accel", "kvm", "-cpu", "host"]
    : ["-accel", "tcg,tb-size=64", "-cpu", "Nehalem,+rdrand"];
}

function bracketed(address: string): string {
  return address.includes(":") ? `[${address}]` : address;
}
