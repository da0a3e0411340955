// The QEMU driver: one QEMU process for each machine. As root the process has an account, a cgroup and a
// firewall rule of its own.

import type { MachineCommand, MachineDriver } from "../machine/driver.ts";
import type { Journal } from "../machine/journal.ts";
import { GUARD_PREFIX } from "../machine/leash-guard.ts";
import type { MachineStatus } from "../port.ts";
import { createAccelerators, kvmGroup } from "./accelerator.ts";
import { type Cgroups, createCgroups } from "./cgroup.ts";
import { QEMU, qemuArguments } from "./command-line.ts";
import { confinement } from "./confinement.ts";
import { createFirewall, type Firewall } from "./firewall.ts";
import { probe } from "./probe.ts";
import { ensureGuestImages, prepareBoot, provision } from "./provision.ts";
import { type QemuSettings, workerNames } from "./settings.ts";

const ENVIRONMENT = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  LC_ALL: "C.UTF-8",
};

/** `settings.stateDir` exists. @throws FormationError `invalid` for a CIDR in the settings that is none. */
export function createQemuDriver(settings: QemuSettings): MachineDriver {
  const { stateDir, logger, allowCidrs, denyCidrs } = settings;
  const isRoot = settings.profile === "root";
  const { group, chain, uidBase } = workerNames(settings);
  const firewall = createFirewall({ chain, allowCidrs, denyCidrs, enabled: isRoot, logger });
  const cgroups = createCgroups(group, isRoot, logger);
  const accelerators = createAccelerators({
    stateDir,
    wanted: settings.accelerator,
    uid: isRoot ? uidBase : null,
    guest: () => ensureGuestImages(settings),
  });
  return {
    uidBase: isRoot ? uidBase : null,
    accelerator: async () => (await accelerators.choose()).accelerator,
    provision,
    prepareBoot: (journal, paths, hooks) => prepareBoot(settings, journal, paths, hooks),
    setEgress: (journal) => setEgress(settings, firewall, journal),
    command: (journal, _paths, guarded) => commandFor(settings, cgroups, journal, guarded),
    release: async (journal) => {
      if (journal.uid !== null) await firewall.remove(journal.uid);
      await cgroups.remove(journal.id);
    },
    keepOnly: async (journals) => {
      await firewall.keepOnly(
        journals.flatMap(({ uid, egress }) => (uid === null ? [] : [{ uid, way: egress.mode }])),
      );
      await cgroups.keepOnly(journals.map(({ id }) => id));
    },
    restoreRules: () => firewall.restore(),
    probe: () => probe(settings, { accelerators, cgroups, uidBase }),
  };
}

async function setEgress(
  settings: QemuSettings,
  firewall: Firewall,
  journal: Journal,
): Promise<MachineStatus["egress"]> {
  if (journal.uid !== null && journal.egress_wanted && settings.egress === "internet") {
    return firewall.allow(journal.uid);
  }
  if (journal.uid !== null) await firewall.close(journal.uid);
  return { mode: "none", reason: whyNoEgress(settings, journal) };
}

function whyNoEgress(settings: QemuSettings, journal: Journal): string {
  if (!journal.egress_wanted) return "not asked for";
  if (settings.egress === "none") return "turned off on this node";
  return "without root the node cannot keep the guest from the host's own network";
}

/** Makes the machine's cgroups, too: the process enters them before it becomes QEMU. */
function commandFor(
  settings: QemuSettings,
  cgroups: Cgroups,
  journal: Journal,
  guarded: boolean,
): MachineCommand {
  const args = qemuArguments({
    name: `formation-${journal.id}`,
    accelerator: journal.accelerator ?? "tcg",
    vcpus: journal.vcpus,
    memory_mb: journal.memory_mb,
    bindAddress: settings.bindAddress,
    forwards: journal.forwards,
    egress: journal.egress.mode === "internet",
  });
  const kvm = journal.accelerator === "kvm" ? kvmGroup() : null;
  const groups = cgroups.make(journal.id, journal);
  const prefix = [...(guarded ? GUARD_PREFIX : []), ...confinement(journal.uid, groups.files, kvm)];
  const [program = QEMU, ...rest] = [...prefix, QEMU, ...args];
  return { program, args: rest, env: ENVIRONMENT, unenforced: groups.missing };
}
