/** The deployed contracts and the accounts behind each role, for tests that cross contracts. */

import { getContractAddress, type Hex, keccak256, parseEther, toHex } from "viem";
import hre from "hardhat";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

import { PLAN, selectors } from "../ignition/plan.js";
import { domainOf, type Entry, leafOf, pack, Tree } from "./merkle.js";
import { type Key, signedRegistration, signedRoot } from "./signatures.js";

export const GWEI = 10n ** 9n;
export const DATA_HASH = keccak256(toHex("entries"));

export const WINDOW = setting("window_s");
export const BOND = setting("bond_wei");
export const BOUNTY = setting("bounty_wei");
export const FEE = setting("finders_fee_wei");

function setting(name: string): bigint {
  return BigInt(PLAN.settings[name]!);
}

export async function deploySystem(connection: Awaited<ReturnType<typeof hre.network.create>>) {
  const { viem } = connection;
  const [admin, poster, guardian, settler, owner, stranger, slasher, arbiter] = await viem.getWalletClients();
  const authority = await viem.deployContract("AccessManager", [admin!.account.address]);
  const token = await viem.deployContract("AnyToken", [
    [{ holder: owner!.account.address, amountWei: BigInt(PLAN.supply_wei) }],
  ]);
  const registry = await viem.deployContract("MinerRegistry");
  // They know each other for ever: two are told where the verifier set will be.
  const client = await viem.getPublicClient();
  const from = admin!.account.address;
  const nonce = BigInt(await client.getTransactionCount({ address: from })) + 3n;
  const ahead = getContractAddress({ from, nonce });
  const distributor = await viem.deployContract("RewardDistributor", [
    token.address,
    ahead,
    authority.address,
    WINDOW,
    setting("daily_cap_gwei"),
    BOUNTY,
  ]);
  const escrow = await viem.deployContract("JobEscrow", [distributor.address, authority.address]);
  const stakes = await viem.deployContract("StakeManager", [
    escrow.address,
    registry.address,
    ahead,
    authority.address,
    FEE,
  ]);
  const verifierSet = await viem.deployContract("VerifierSet", [stakes.address, authority.address, BOND]);
  const holders = {
    poster: poster!,
    guardian: guardian!,
    settler: settler!,
    slasher: slasher!,
    arbiter: arbiter!,
  };
  const targets = { RewardDistributor: distributor, JobEscrow: escrow, StakeManager: stakes };
  for (const { holder, role, contract, functions } of PLAN.duties) {
    const target = targets[contract as keyof typeof targets].address;
    const account = holders[holder as keyof typeof holders].account.address;
    await authority.write.setTargetFunctionRole([target, selectors(contract, functions), BigInt(role)]);
    await authority.write.grantRole([BigInt(role), account, 0]);
  }
  await token.write.approve([escrow.address, parseEther("1000000")], { account: owner!.account });
  await token.write.approve([stakes.address, parseEther("1000000")], { account: owner!.account });
  await token.write.approve([distributor.address, parseEther("1000000")], { account: owner!.account });
  await distributor.write.bond([BOUNTY], { account: owner!.account });
  return {
    authority,
    token,
    registry,
    distributor,
    escrow,
    stakes,
    verifierSet,
    ...holders,
    admin: admin!,
    owner: owner!,
    stranger: stranger!,
    client,
    domain: domainOf(31337n, distributor.address),
  };
}

export type System = Awaited<ReturnType<typeof deploySystem>>;

/** `count` verifiers with their bonds, of whom `quorum` must sign. */
export async function enroll(system: System, count: number, quorum = count): Promise<Key[]> {
  const { client, owner, registry, stakes, verifierSet } = system;
  const verifiers = Array.from({ length: count }, () => privateKeyToAccount(generatePrivateKey()));
  const deadline = (await client.getBlock()).timestamp + 1000n;
  for (const [place, verifier] of verifiers.entries()) {
    const { message, signature } = await signedRegistration(registry.address, verifier, verifier.address, deadline);
    await registry.write.registerMany([[message], [signature]]);
    await stakes.write.stake([await registry.read.indexOf([verifier.address]), BOND], { account: owner.account });
    await verifierSet.write.add([verifier.address, place + 1 < count ? place + 1 : quorum]);
  }
  return verifiers;
}

/** Posts a root with the signatures of `verifiers`; the transaction's hash. */
export async function postRoot(
  system: System,
  verifiers: Key[],
  batch: bigint,
  root: Hex,
  totalGwei: bigint,
): Promise<Hex> {
  const { distributor, poster } = system;
  const cancelled = await distributor.read.cancelled();
  const signed = { batch, cancelled, root, totalGwei, dataHash: DATA_HASH };
  const signatures = await signedRoot(distributor.address, verifiers, signed);
  return distributor.write.postRoot([batch, root, totalGwei, DATA_HASH, signatures], { account: poster.account });
}

export function treeOf(system: Pick<System, "domain">, entries: Entry[]): Tree {
  return new Tree(entries.map((entry) => leafOf(system.domain, pack(entry))));
}

export function totalOf(entries: Entry[]): bigint {
  return entries.reduce((sum, entry) => sum + entry.cumulativeGwei, 0n);
}
