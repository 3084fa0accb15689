// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IJobEscrow} from "../../contracts/src/interfaces/IJobEscrow.sol";
import {IVerifierSet} from "../../contracts/src/interfaces/IVerifierSet.sol";
import {PlainToken} from "./support/HostileTokens.sol";
import {System} from "./support/System.sol";
import {vm} from "./support/Vm.sol";

/// @notice Random lives of three jobs, with an account of its own for each.
contract EscrowHandler is System {
    uint256 private constant JOBS = 3;

    PlainToken public token = new PlainToken();
    mapping(bytes32 job => uint256) public fundedWei;
    mapping(bytes32 job => uint256) public drawnWei;
    mapping(bytes32 job => uint256) public refundedWei;
    mapping(bytes32 job => mapping(uint64 batch => uint256)) public batchWei;
    string public broken;

    constructor() {
        vm.warp(1_800_000_000);
        deploy(address(token));
        token.approve(address(escrow), type(uint256).max);
    }

    function jobAt(uint256 number) internal pure returns (bytes32) {
        return bytes32(number % JOBS + 1);
    }

    function create(uint256 number, uint128 budget, uint128 cap, uint32 duration) external {
        (budget, cap) = (uint128(bound(budget, 1, 1e24)), uint128(bound(cap, 1, 1e24)));
        token.mint(address(this), budget);
        uint64 deadline = uint64(block.timestamp + bound(duration, 1, 60 days));
        try escrow.create(jobAt(number), budget, cap, deadline) {
            if (fundedWei[jobAt(number)] != 0) broken = "a job was created twice";
            fundedWei[jobAt(number)] = budget;
        } catch {}
    }

    function fund(uint256 number, uint128 amount) external {
        amount = uint128(bound(amount, 1, 1e24));
        token.mint(address(this), amount);
        try escrow.fund(jobAt(number), amount) {
            fundedWei[jobAt(number)] += amount;
        } catch {}
    }

    function draw(uint256 number, uint128 amount) external {
        bytes32 job = jobAt(number);
        uint64 batch = distributor.nextBatch();
        amount = uint128(bound(amount, 1, 1e24));
        vm.prank(settler);
        try escrow.draw(job, batch, amount) {
            drawnWei[job] += amount;
            batchWei[job][batch] += amount;
            if (batchWei[job][batch] > escrow.jobOf(job).capPerBatchWei) broken = "a batch is over its cap";
            if (refundedWei[job] != 0) broken = "a refunded job was drawn on";
        } catch {}
    }

    function finalise(uint256 number, bool ahead) external {
        uint64 next = distributor.nextBatch();
        vm.prank(settler);
        try escrow.finalise(jobAt(number), ahead ? next : next - 1) {} catch {}
    }

    function cancel(uint256 number) external {
        try escrow.cancel(jobAt(number)) {} catch {}
    }

    function refund(uint256 number) external {
        uint256 before = token.balanceOf(address(this));
        try escrow.refund(jobAt(number)) returns (uint128 amount) {
            refundedWei[jobAt(number)] += amount;
            if (token.balanceOf(address(this)) - before != amount) broken = "a refund went elsewhere";
        } catch {}
    }

    function postOrVeto(uint256 seed) external {
        if (seed % 4 == 0) {
            vm.prank(guardian);
            try distributor.veto() {} catch {}
        } else {
            uint64 next = distributor.nextBatch();
            bytes32 root = keccak256(abi.encode(seed));
            IVerifierSet.Signature[] memory signatures = signRoot(next, root, 0);
            vm.prank(poster);
            try distributor.postRoot(next, root, 0, DATA_HASH, signatures) {} catch {}
        }
    }

    function pass(uint256 duration) external {
        vm.warp(block.timestamp + bound(duration, 1, 20 days));
    }

    function check() external view {
        require(bytes(broken).length == 0, broken);
        uint256 heldWei;
        uint256 allDrawnWei;
        for (uint256 i; i < JOBS; ++i) {
            bytes32 id = jobAt(i);
            if (fundedWei[id] == 0) continue;
            IJobEscrow.Job memory job = escrow.jobOf(id);
            assertEq(job.fundedWei, fundedWei[id], "funded");
            assertEq(job.drawnWei, drawnWei[id], "drawn");
            assertEq(job.refundedWei, refundedWei[id], "refunded");
            uint256 remaining = escrow.remainingWei(id);
            uint256 accounted = drawnWei[id] + refundedWei[id] + remaining;
            assertEq(fundedWei[id], accounted, "funded = drawn + refunded + remaining");
            if (job.refunded) assertEq(remaining, 0, "nothing remains");
            heldWei += remaining;
            allDrawnWei += drawnWei[id];
        }
        assertEq(token.balanceOf(address(escrow)), heldWei, "the escrow holds what remains");
        assertEq(distributor.fundedWei(), allDrawnWei, "the distributor holds what was drawn");
    }
}

contract JobEscrowInvariantTest {
    EscrowHandler private handler;

    function setUp() public {
        handler = new EscrowHandler();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_every_job_adds_up() public view {
        handler.check();
    }
}
