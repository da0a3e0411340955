// Our chains in the host's packet filter: one for accounts that may reach the internet, one for accounts that
// may only answer. Each running machine has a jump in the chain OUTPUT that leads its account into one of
// them. See iptables-extensions(8), owner.

import { chainRules, readResolvers } from "./firewall-rules.ts";
import { applyRules, chainExists, forEachFamily, type Iptables, listRules } from "./iptables.ts";

/** What an account may do: reach the internet through our rules, or only answer. */
export type Way = "internet" | "none";

export interface ChainOptions {
  /** The chains' name: at most 20 characters, unique to this worker on its host. */
  chain: string;
  allowCidrs: readonly string[];
  denyCidrs: readonly string[];
  /** The file that names the host's resolvers. Default /etc/resolv.conf. */
  resolvConf?: string;
}

/** All methods throw FormationError `unavailable` if the packet filter refuses. */
export interface FirewallChains {
  /** Adds the jump of an account; with `makesChains`, the chains as well. */
  addJump(uid: number, way: Way, makesChains: boolean): Promise<void>;
  /** Deletes the jumps of these accounts; with `deletesChains`, the chains as well. Idempotent. */
  deleteJumps(isUnwanted: (uid: number) => boolean, deletesChains: boolean): Promise<void>;
  /** Makes the chains anew, and adds the jumps that are missing. */
  restore(ways: ReadonlyMap<number, Way>): Promise<void>;
}

export function createFirewallChains(options: ChainOptions): FirewallChains {
  const chains: Record<Way, string> = { internet: options.chain, none: `${options.chain}-NONE` };
  const jump = (uid: number, way: Way) => `-m owner --uid-owner ${uid} -j ${chains[way]}`;
  const insertJump = (uid: number, way: Way) => `-I OUTPUT 1 ${jump(uid, way)}`;
  // In iptables-restore(8) the line makes the chain, or empties it.
  const declarations = Object.values(chains).map((chain) => `:${chain} - [0:0]`);
  const definitions = (tool: Iptables) => {
    const resolvers = readResolvers(options.resolvConf ?? "/etc/resolv.conf");
    const rules = chainRules(tool === "iptables" ? 4 : 6, { ...options, resolvers });
    const answersOnly = [rules[0] ?? "", "-j REJECT"];
    return [
      ...declarations,
      ...rules.map((rule) => `-A ${chains.internet} ${rule}`),
      ...answersOnly.map((rule) => `-A ${chains.none} ${rule}`),
    ];
  };
  /** The jumps that lead into our chains; one that is there twice is listed twice. */
  const jumps = async (tool: Iptables): Promise<{ uid: number; way: Way }[]> =>
    (await listRules(tool, "OUTPUT")).flatMap((rule) => {
      const uid = Number(/--uid-owner (\d+)/.exec(rule)?.[1]);
      const way = (["internet", "none"] as const).find((one) => rule.endsWith(` -j ${chains[one]}`));
      return way === undefined ? [] : [{ uid, way }];
    });
  return {
    addJump: (uid, way, makesChains) =>
      forEachFamily((tool) =>
        applyRules(tool, [...(makesChains ? definitions(tool) : []), insertJump(uid, way)]),
      ),
    deleteJumps: (isUnwanted, deletesChains) =>
      forEachFamily(async (tool) => {
        const unwanted = (await jumps(tool)).filter(({ uid }) => isUnwanted(uid));
        const deletions = unwanted.map(({ uid, way }) => `-D OUTPUT ${jump(uid, way)}`);
        if (!deletesChains) await applyRules(tool, deletions);
        else if (deletions.length > 0 || (await chainExists(tool, chains.internet))) {
          const deleted = Object.values(chains).map((chain) => `-X ${chain}`);
          await applyRules(tool, [...declarations, ...deletions, ...deleted]);
        }
      }),
    restore: (ways) =>
      forEachFamily(async (tool) => {
        const present = await jumps(tool);
        const missing = [...ways].filter(
          ([uid, way]) => !present.some((one) => one.uid === uid && one.way === way),
        );
        await applyRules(tool, [...definitions(tool), ...missing.map(([uid, way]) => insertJump(uid, way))]);
      }),
  };
}
