import type { MachineStatus } from "./port.ts";
export interface Firewall {
  allow(uid: number): Promise<MachineStatus["egress"]>;
  remove(uid: number): Promise<void>;
  keepOnly(uids: readonly number[]): Promise<void>;
}
export function openFirewall(): Firewall {
  return {
    allow: async () => ({ mode: "none", reason: "not implemented" }),
    remove: async () => {},
    keepOnly: async () => {},
  };
}
