/** OpenZeppelin's side of the benchmark `merkle`: a line on stdin asks for something, a line of JSON answers. */

import { createInterface } from "node:readline";

import { SimpleMerkleTree, StandardMerkleTree } from "@openzeppelin/merkle-tree";

const TYPES = ["uint32", "address", "uint64"];
const ACCOUNTS = 2n ** 160n;
const SPREAD = 0x9e3779b97f4a7c15f39cc0605cedc8341082276bn;

/** Index, payout account and cumulative gwei of a miner, the same on both sides. */
function miner(position) {
  const index = BigInt(position) + 1n;
  return [position + 1, `0x${((index * SPREAD) % ACCOUNTS).toString(16).padStart(40, "0")}`, index * 1_000_003n];
}

let tree;

const answers = {
  tree(count) {
    const miners = Array.from({ length: Number(count) }, (_, position) => miner(position));
    const began = performance.now();
    tree = StandardMerkleTree.of(miners, TYPES);
    return { root: tree.root, seconds: (performance.now() - began) / 1000 };
  },
  proofs(first, end) {
    const began = performance.now();
    for (let position = Number(first); position < Number(end); position++) tree.getProof(position);
    return { seconds: (performance.now() - began) / 1000 };
  },
  simple(...leaves) {
    return { root: SimpleMerkleTree.of(leaves, { sortLeaves: false }).root };
  },
  peak() {
    return { peak_mib: Math.round(process.resourceUsage().maxRSS / 1024) };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [what, ...words] = line.split(" ");
  console.log(JSON.stringify(answers[what](...words)));
}
