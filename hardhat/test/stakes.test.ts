/** Stakes across contracts: bonds put down by permit, a liar proven by signatures of a wallet library, a contested
 * slash; and every balance rebuilt from events alone. */

import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";

import hre from "hardhat";
import { type Address, getAddress, type Hex, keccak256, parseEther, parseEventLogs, toHex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

import { domain, type Key, signedPermit, signedRegistration } from "./signatures.js";
import { BOND, deploySystem, FEE, type System } from "./system.js";

const connection = await hre.network.create();
const { time } = connection.networkHelpers;
const JOB = keccak256(toHex("job"));
const EVIDENCE = keccak256(toHex("evidence"));
const NOBODY = `0x${"00".repeat(20)}` as const;
const SALT = `0x${"00".repeat(32)}` as const;
const BURN_ADDRESS = getAddress("0x000000000000000000000000000000000000dEaD");
const DAY = 24 * 3600;
const RECORD = [
  { name: "job", type: "bytes32" },
  { name: "height", type: "uint64" },
  { name: "view", type: "uint64" },
  { name: "phase", type: "string" },
  { name: "record", type: "bytes32" },
] as const;

describe("stakes", () => {
  let system: System;
  let verifier: Key;

  beforeEach(async () => {
    system = await connection.networkHelpers.loadFixture(deploy);
    verifier = privateKeyToAccount(generatePrivateKey());
    await register(verifier);
    const deadline = BigInt(await time.latest()) + BigInt(30 * DAY);
    await system.escrow.write.create([JOB, BOND, BOND, deadline], { account: system.owner.account });
    await system.stakes.write.stake([1, BOND], { account: system.owner.account });
    await system.verifierSet.write.add([verifier.address, 1]);
  });

  async function register(node: Key): Promise<void> {
    const deadline = BigInt(await time.latest()) + 100n;
    const { message, signature } = await signedRegistration(system.registry.address, node, node.address, deadline);
    await system.registry.write.registerMany([[message], [signature]]);
  }

  async function twoVotes(signer: Key) {
    const records: [Hex, Hex] = [keccak256(toHex("one")), keccak256(toHex("another"))];
    const [one, another] = await Promise.all(
      records.map((record) =>
        signer.signTypedData({
          domain: domain("AnyNode", system.registry.address),
          types: { Record: RECORD },
          primaryType: "Record",
          message: { job: JOB, height: 7n, view: 3n, phase: "certify", record },
        }),
      ),
    );
    return { job: JOB, height: 7n, view_: 3n, phase: 1, records, signatures: [one!, another!] as [Hex, Hex] };
  }

  /** Active, unbonding, credited and burned amounts, from nothing but the stake manager's events. */
  async function rebuilt() {
    const logs = await system.client.getLogs({ address: system.stakes.address, fromBlock: 0n });
    const [active, unbonding] = [new Map<number, bigint>(), new Map<number, bigint>()];
    const credited = new Map<Address, bigint>();
    let burned = 0n;
    const add = <K>(to: Map<K, bigint>, key: K, amount: bigint) => to.set(key, (to.get(key) ?? 0n) + amount);
    for (const { eventName, args } of parseEventLogs({ abi: system.stakes.abi, logs })) {
      if (eventName === "Staked") add(active, args.index, args.amountWei);
      if (eventName === "UnstakeRequested") {
        add(active, args.index, -args.amountWei);
        add(unbonding, args.index, args.amountWei);
      }
      if (eventName === "Withdrawn") add(unbonding, args.index, -args.amountWei);
      if (eventName === "Slashed") {
        add(active, args.index, -args.fromActiveWei);
        add(unbonding, args.index, -args.fromUnbondingWei);
      }
      if (eventName === "Credited") add(credited, args.account, args.amountWei);
      if (eventName === "Collected") add(credited, args.account, -args.amountWei);
      if (eventName === "Burned") burned += args.amountWei;
    }
    return { active, unbonding, credited, burned };
  }

  it("takes a stake by permit, also when somebody has sent the permit before", async () => {
    const { stakes, token, owner, stranger } = system;
    const holder = privateKeyToAccount(generatePrivateKey());
    await token.write.transfer([holder.address, 7n], { account: owner.account });
    await connection.networkHelpers.setBalance(holder.address, parseEther("1"));
    const deadline = BigInt(await time.latest()) + 1000n;
    const permit = await signedPermit(token.address, holder, stakes.address, 7n, deadline);
    await token.write.permit([holder.address, stakes.address, 7n, ...permit], { account: stranger.account });
    await connection.networkHelpers.impersonateAccount(holder.address);
    await stakes.write.stakeWithPermit([1, 7n, ...permit], { account: holder.address });
    assert.equal((await stakes.read.stakeOf([1])).activeWei, BOND + 7n);
  });

  it("takes everything from a verifier that a wallet's signatures prove to lie", async () => {
    const { escrow, stakes, stranger, token, verifierSet } = system;
    const proof = await twoVotes(verifier);
    await verifierSet.write.prove([proof, NOBODY, SALT], { account: stranger.account });
    assert.equal(await verifierSet.read.isMember([verifier.address]), false);
    assert.equal((await stakes.read.stakeOf([1])).activeWei, 0n);
    assert.equal(await escrow.read.remainingWei([JOB]), BOND);
    assert.equal(await token.read.balanceOf([BURN_ADDRESS]), BOND);
    await assert.rejects(verifierSet.write.prove([proof, NOBODY, SALT]), /WrongStanding/);
  });

  it("rebuilds every balance from events", async () => {
    const { arbiter, escrow, owner, settler, slasher, stakes, stranger, token, verifierSet } = system;
    await escrow.write.draw([JOB, 1n, parseEther("100")], { account: settler.account });
    const miner = privateKeyToAccount(generatePrivateKey());
    await register(miner);
    await connection.networkHelpers.setBalance(miner.address, parseEther("1"));
    await connection.networkHelpers.impersonateAccount(miner.address);
    await stakes.write.stake([2, parseEther("500")], { account: owner.account });
    await stakes.write.requestUnstake([2, parseEther("450")], { account: miner.address });
    const finder = getAddress(stranger.account.address);
    for (const amount of ["100", "20", "30"]) {
      await stakes.write.proposeSlash([2, parseEther(amount), JOB, finder, EVIDENCE], { account: slasher.account });
    }
    for (const id of [2n, 3n]) await stakes.write.appeal([id, EVIDENCE], { account: miner.address });
    await stakes.write.rule([2n, false], { account: arbiter.account });
    await stakes.write.rule([3n, true], { account: arbiter.account });
    await time.increase(3 * DAY);
    await stakes.write.execute([1n]);
    await escrow.write.cancel([JOB], { account: owner.account });
    await stakes.write.execute([3n]);
    await stakes.write.collect([finder]);
    await time.increase(14 * DAY);
    await stakes.write.withdraw([2]);
    const proof = await twoVotes(verifier);
    await verifierSet.write.prove([proof, NOBODY, SALT]);

    const { active, unbonding, credited, burned } = await rebuilt();
    let heldWei = 0n;
    for (const index of [1, 2]) {
      const held = await stakes.read.stakeOf([index]);
      assert.equal(active.get(index) ?? 0n, held.activeWei, `active stake of ${index}`);
      assert.equal(unbonding.get(index) ?? 0n, held.unbondingWei, `unbonding stake of ${index}`);
      heldWei += held.activeWei + held.unbondingWei;
    }
    for (const account of [finder, getAddress(owner.account.address)]) {
      assert.equal(credited.get(account) ?? 0n, await stakes.read.creditedWei([account]), `credit of ${account}`);
      heldWei += credited.get(account) ?? 0n;
    }
    assert.equal(await stakes.read.compensatedWei([JOB]), parseEther("100"), "what the job has paid");
    assert.equal(credited.get(getAddress(owner.account.address)), parseEther("10"), "100 - 90, as the job has ended");
    assert.equal(burned, parseEther("17") + BOND, "27 - 10, and all that a proof took");
    assert.equal(await token.read.balanceOf([BURN_ADDRESS]), burned);
    assert.equal(await token.read.balanceOf([finder]), FEE + parseEther("3"), "a fee each, at most a tenth");
    assert.equal(await token.read.balanceOf([miner.address]), parseEther("370"), "500 - 100 - 30");
    assert.equal(await token.read.balanceOf([stakes.address]), heldWei, "what it holds");
  });
});

async function deploy(): Promise<System> {
  return deploySystem(connection);
}
