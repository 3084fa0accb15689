/** What nodes, verifiers and token holders sign (EIP-712), as a wallet library makes it. */

import { type Address, type Hex, parseAbiParameters, parseSignature } from "viem";
import type { privateKeyToAccount } from "viem/accounts";

export type Key = ReturnType<typeof privateKeyToAccount>;

/** The structs, field by field as the contracts spell them. */
const STRUCTS = {
  Registration: parseAbiParameters("address node, address payout, uint256 deadline"),
  Root: parseAbiParameters("uint64 batch, uint24 cancelled, bytes32 root, uint128 totalGwei, bytes32 dataHash"),
  Claim: parseAbiParameters("bytes32 entry, address to, uint256 deadline"),
  Permit: parseAbiParameters("address owner, address spender, uint256 value, uint256 nonce, uint256 deadline"),
} as const;

/** The EIP-712 domain of a contract of ours. */
export function domain(name: string, verifyingContract: Address) {
  return { name, version: "1", chainId: 31337, verifyingContract };
}

/** A node's registration as the registry takes it, and its signature. */
export async function signedRegistration(registry: Address, node: Key, payout: Address, deadline: bigint) {
  const message = { node: node.address, payout, deadline };
  const signature = await node.signTypedData({
    domain: domain("AnyNode MinerRegistry", registry),
    types: STRUCTS,
    primaryType: "Registration",
    message,
  });
  return { message, signature };
}

/** A root as verifiers sign it. `cancelled` counts the posted roots that were cancelled. */
export interface Root {
  batch: bigint;
  cancelled: number;
  root: Hex;
  totalGwei: bigint;
  dataHash: Hex;
}

/** The verifiers' signatures over a root, in the order in which the contract takes them. */
export async function signedRoot(distributor: Address, verifiers: Key[], message: Root) {
  const inOrder = verifiers.toSorted((one, other) => (BigInt(one.address) < BigInt(other.address) ? -1 : 1));
  return Promise.all(
    inOrder.map(async (verifier) => ({
      verifier: verifier.address,
      signature: await verifier.signTypedData({
        domain: domain("AnyNode RewardDistributor", distributor),
        types: STRUCTS,
        primaryType: "Root",
        message,
      }),
    })),
  );
}

/** A holder's word that what `entry` earned goes to `to`. */
export async function signedClaim(distributor: Address, holder: Key, entry: Hex, to: Address, deadline: bigint) {
  return holder.signTypedData({
    domain: domain("AnyNode RewardDistributor", distributor),
    types: STRUCTS,
    primaryType: "Claim",
    message: { entry, to, deadline },
  });
}

/** The last arguments of a first permit of `holder` (EIP-2612): deadline, v, r, s. */
export async function signedPermit(token: Address, holder: Key, spender: Address, value: bigint, deadline: bigint) {
  const signature = await holder.signTypedData({
    domain: domain("AnyNode", token),
    types: STRUCTS,
    primaryType: "Permit",
    message: { owner: holder.address, spender, value, nonce: 0n, deadline },
  });
  const { r, s, v } = parseSignature(signature);
  return [deadline, Number(v), r as Hex, s as Hex] as const;
}
