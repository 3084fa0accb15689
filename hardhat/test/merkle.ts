/** The reward tree in TypeScript, written independently of the Solidity and the Python, to compare all three. */

import { concatHex, encodeAbiParameters, type Hex, keccak256, toHex } from "viem";

export const ZERO = `0x${"00".repeat(32)}` as Hex;

export interface Entry {
  index: number;
  account: Hex;
  cumulativeGwei: bigint;
}

/** index (32 bits) | account (160) | cumulative (64) */
export function pack({ index, account, cumulativeGwei }: Entry): Hex {
  return concatHex([toHex(index, { size: 4 }), account, toHex(cumulativeGwei, { size: 8 })]);
}

export function domainOf(chainId: bigint, distributor: Hex): Hex {
  return keccak256(encodeAbiParameters([{ type: "uint256" }, { type: "address" }], [chainId, distributor]));
}

export function leafOf(domain: Hex, entry: Hex): Hex {
  return keccak256(keccak256(concatHex([domain, entry])));
}

/** A full binary tree over the leaves, padded with zero leaves. */
export class Tree {
  readonly levels: Hex[][];

  constructor(leaves: Hex[]) {
    let width = 1;
    while (width < leaves.length) width *= 2;
    let level = [...leaves, ...Array<Hex>(width - leaves.length).fill(ZERO)];
    this.levels = [level];
    while (level.length > 1) {
      const above: Hex[] = [];
      for (let i = 0; i < level.length; i += 2) above.push(parent(level[i]!, level[i + 1]!));
      this.levels.push(above);
      level = above;
    }
  }

  get root(): Hex {
    return this.levels.at(-1)![0]!;
  }

  /** Siblings from node `position` at `height` (0: a leaf) up to the root. */
  proof(position: number, height = 0): Hex[] {
    return this.levels.slice(height, -1).map((level, above) => level[(position >> above) ^ 1]!);
  }
}

function parent(a: Hex, b: Hex): Hex {
  return keccak256(BigInt(a) < BigInt(b) ? concatHex([a, b]) : concatHex([b, a]));
}
