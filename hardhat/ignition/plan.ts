/** The plan of the system, as Python deploys it too: contracts in the order of their creation, and who may do what. */

import { readFileSync } from "node:fs";

import { type Abi, type AbiFunction, type Hex, toFunctionSelector } from "viem";

export interface Plan {
  contracts: { name: string; arguments: string[] }[];
  duties: { holder: string; role: number; contract: string; functions: string[] }[];
  supply_wei: string;
  admin_role: number;
  admin_delay_s: number;
  settings: Record<string, string>;
}

const FOLDER = new URL("../../contracts/anynode_contracts/", import.meta.url);

export const PLAN = JSON.parse(readFileSync(new URL("system.json", FOLDER), "utf8")) as Plan;

/** Everybody whose address the settings of a deployment must name. */
export const HOLDERS = ["holder", ...PLAN.duties.map((duty) => duty.holder), "admin"];

/** A chain of one's own: its holders may be anybody. */
export const DEVELOPMENT_CHAIN = 31337;

/** Who may do what only if nobody else's key does it too; whoever posts may settle. */
const APART = [...PLAN.duties.map((duty) => duty.holder).filter((holder) => holder !== "settler"), "admin"];

/** Throws if two roles that check each other have one address. `holders`: checksummed addresses by role. */
export function checkCustody(holders: Record<string, string>, chainId: number): void {
  if (chainId === DEVELOPMENT_CHAIN) return;
  for (const [place, one] of APART.entries()) {
    const other = APART.slice(place + 1).find((role) => holders[role] === holders[one]);
    if (other !== undefined) {
      throw new Error(
        `settings: \`${one}\` and \`${other}\` are both ${holders[one]}; on a public chain each needs a key of its own`,
      );
    }
  }
}

/** The contract whose address others are told before it exists, and how many are created before it. */
export const AHEAD = PLAN.contracts.at(-1)!.name;
export const BEFORE_AHEAD = PLAN.contracts.length - 1;

/** The 4-byte selectors of a contract's functions, which have one signature each. */
export function selectors(contract: string, functions: string[]): Hex[] {
  const { abi } = JSON.parse(readFileSync(new URL(`abi/${contract}.json`, FOLDER), "utf8")) as { abi: Abi };
  const found = abi.filter((item): item is AbiFunction => item.type === "function" && functions.includes(item.name));
  return found.map((item) => toFunctionSelector(item));
}
