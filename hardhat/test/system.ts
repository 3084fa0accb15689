/** The deployed contracts and the accounts behind each role, for tests that cross contracts. */

import { type Hex, keccak256, parseEther, toFunctionSelector, toHex } from "viem";
import hre from "hardhat";

import { domainOf, type Entry, leafOf, pack, Tree } from "./merkle.js";

export const GWEI = 10n ** 9n;
export const WINDOW = 24n * 3600n;
export const DATA_HASH = keccak256(toHex("entries"));

export async function deploySystem(connection: Awaited<ReturnType<typeof hre.network.create>>) {
  const { viem } = connection;
  const [admin, poster, guardian, settler, owner, stranger] = await viem.getWalletClients();
  const authority = await viem.deployContract("AccessManager", [admin!.account.address]);
  const token = await viem.deployContract("AnyToken", [owner!.account.address]);
  const registry = await viem.deployContract("MinerRegistry");
  const distributor = await viem.deployContract("RewardDistributor", [
    token.address,
    authority.address,
    WINDOW,
    10n ** 16n,
  ]);
  const escrow = await viem.deployContract("JobEscrow", [distributor.address, authority.address]);
  const roles: [bigint, Hex, Hex, string[]][] = [
    [1n, poster!.account.address, distributor.address, ["postRoot(uint64,bytes32,uint128,bytes32)"]],
    [2n, guardian!.account.address, distributor.address, ["veto()"]],
    [3n, settler!.account.address, escrow.address, ["draw(bytes32,uint64,uint128)", "finalise(bytes32,uint64)"]],
  ];
  for (const [role, holder, target, functions] of roles) {
    await authority.write.setTargetFunctionRole([target, functions.map((f) => toFunctionSelector(f)), role]);
    await authority.write.grantRole([role, holder, 0]);
  }
  await token.write.approve([escrow.address, parseEther("1000000")], { account: owner!.account });
  await token.write.approve([distributor.address, parseEther("1000000")], { account: owner!.account });
  return {
    authority,
    token,
    registry,
    distributor,
    escrow,
    admin: admin!,
    poster: poster!,
    guardian: guardian!,
    settler: settler!,
    owner: owner!,
    stranger: stranger!,
    client: await viem.getPublicClient(),
    domain: domainOf(31337n, distributor.address),
  };
}

export type System = Awaited<ReturnType<typeof deploySystem>>;

export function treeOf(system: Pick<System, "domain">, entries: Entry[]): Tree {
  return new Tree(entries.map((entry) => leafOf(system.domain, pack(entry))));
}

export function totalOf(entries: Entry[]): bigint {
  return entries.reduce((sum, entry) => sum + entry.cumulativeGwei, 0n);
}
