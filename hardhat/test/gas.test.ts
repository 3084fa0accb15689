/** What the distributor's transactions cost at most: the table of the contracts' design, 1,024 leaves. */

import assert from "node:assert/strict";
import { before, describe, it } from "node:test";

import hre from "hardhat";
import { getAddress, type Hex, keccak256, toHex } from "viem";

import { type Entry, pack, type Tree } from "./merkle.js";
import { DATA_HASH, deploySystem, GWEI, type System, totalOf, treeOf, WINDOW } from "./system.js";

const LEAVES = 1024;
const BLOCK = 128;
const BLOCK_HEIGHT = 7;
/** Positions of four indices that share a counter word. */
const NEIGHBOURS = [511, 512, 513, 514];

const connection = await hre.network.create();

/** Entries of batch `batch`; accounts and amounts look random, as real ones do. */
function entriesOf(batch: number): Entry[] {
  return Array.from({ length: LEAVES }, (_, i) => ({
    index: i + 1,
    account: getAddress(keccak256(toHex(i, { size: 32 })).slice(0, 42) as Hex),
    cumulativeGwei: BigInt(batch) * (1_000_000_000n + (BigInt(keccak256(toHex(i))) % 1_000_000_000n)),
  }));
}

describe("gas, whole transactions", () => {
  let system: System;
  let trees: Tree[];
  const measured = new Map<string, number>();

  async function gasOf(hash: Hex): Promise<number> {
    const receipt = await system.client.waitForTransactionReceipt({ hash });
    assert.equal(receipt.status, "success");
    return Number(receipt.gasUsed);
  }

  function below(limit: number, what: string, gas: number): void {
    measured.set(what, gas);
    assert.ok(gas < limit, `${what}: ${gas} gas, must stay below ${limit}`);
  }

  async function post(batch: number): Promise<number> {
    const { distributor, owner, poster } = system;
    const entries = entriesOf(batch);
    trees[batch] = treeOf(system, entries);
    const total = totalOf(entries);
    const missing = total * GWEI - (await distributor.read.fundedWei());
    await distributor.write.fund([missing], { account: owner.account });
    const gas = await gasOf(
      await distributor.write.postRoot([BigInt(batch), trees[batch]!.root, total, DATA_HASH], {
        account: poster.account,
      }),
    );
    await connection.networkHelpers.time.increase(WINDOW);
    return gas;
  }

  async function claim(batch: number, i: number): Promise<number> {
    const entry = pack(entriesOf(batch)[i]!);
    return gasOf(await system.distributor.write.claim([entry, trees[batch]!.proof(i)]));
  }

  async function push(batch: number, block: number): Promise<number> {
    const entries = entriesOf(batch).slice(block * BLOCK, (block + 1) * BLOCK);
    const proof = trees[batch]!.proof(block, BLOCK_HEIGHT);
    return gasOf(await system.distributor.write.claimSubtree([entries.map(pack), proof]));
  }

  before(async () => {
    system = await deploySystem(connection);
    trees = [];
  });

  it("stays within the table", async () => {
    await post(1);
    await push(1, 0); // Stores that the root is active, so that what follows measures the common case.
    let first = 0;
    for (const i of NEIGHBOURS) first += await claim(1, i);
    below(76_000, "first claim, mean of 4 neighbours", first / 4);
    below(33_500, "push of 128, first, per miner", (await push(1, 1)) / BLOCK);
    for (let block = 2; block < LEAVES / BLOCK; block++) await push(1, block);

    below(70_000, "post a funded root", await post(2));
    await push(2, 0);
    let repeat = 0;
    for (const i of NEIGHBOURS) repeat += await claim(2, i);
    below(54_000, "repeat claim", repeat / 4);
    below(12_000, "push of 128, repeat, per miner", (await push(2, 1)) / BLOCK);
    await post(3);
    let batch = 0;
    for (let block = 0; block < LEAVES / BLOCK; block++) batch += await push(3, block);
    below(12_100_000, "1,000 miners, repeat batch", (batch * 1000) / LEAVES);
    for (const [what, gas] of measured) console.log(`${what.padEnd(40)} ${Math.round(gas).toLocaleString("en")}`);
  });
});
