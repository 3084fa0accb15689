// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

import {IJobEscrow} from "../../contracts/src/interfaces/IJobEscrow.sol";
import {PlainToken} from "./support/HostileTokens.sol";
import {System} from "./support/System.sol";
import {vm} from "./support/Vm.sol";

/// @notice A job's money: in by the owner, out to the distributor by the settler, the rest back to the owner.
contract JobEscrowTest is System {
    bytes32 internal constant JOB = "job";
    uint128 internal constant BUDGET = 1000;
    uint128 internal constant CAP = 300;

    PlainToken internal token;
    uint64 internal deadline;

    function setUp() public {
        vm.warp(1_800_000_000);
        token = new PlainToken();
        deploy(address(token));
        token.mint(owner, 10 * BUDGET);
        vm.prank(owner);
        token.approve(address(escrow), type(uint256).max);
        deadline = uint64(block.timestamp) + 10 days;
        vm.prank(owner);
        escrow.create(JOB, BUDGET, CAP, deadline);
    }

    function draw(uint64 batch, uint128 amount) internal {
        vm.prank(settler);
        escrow.draw(JOB, batch, amount);
    }

    function finalise(uint64 finalBatch) internal {
        vm.prank(settler);
        escrow.finalise(JOB, finalBatch);
    }

    /*//////////////////////////////////////////////////////////////
                                 CREATE
    //////////////////////////////////////////////////////////////*/

    function test_create_takes_the_budget() public view {
        IJobEscrow.Job memory job = escrow.jobOf(JOB);
        assertEq(job.owner, owner, "owner");
        assertEq(job.fundedWei, BUDGET, "funded");
        assertEq(job.capPerBatchWei, CAP, "cap");
        assertEq(job.deadline, deadline, "deadline");
        assertEq(escrow.remainingWei(JOB), BUDGET, "remaining");
        assertEq(token.balanceOf(address(escrow)), BUDGET, "balance");
    }

    function test_create_refuses_bad_values() public {
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.JobHashTaken.selector, JOB));
        escrow.create(JOB, 1, 1, deadline);
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.JobHashTaken.selector, 0));
        escrow.create(0, 1, 1, deadline);
        vm.expectRevert(IJobEscrow.ZeroAmount.selector);
        escrow.create("x", 0, 1, deadline);
        vm.expectRevert(IJobEscrow.ZeroAmount.selector);
        escrow.create("x", 1, 0, deadline);
        uint64 now_ = uint64(block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.DeadlineOutOfRange.selector, now_));
        escrow.create("x", 1, 1, now_);
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.DeadlineOutOfRange.selector, now_ + 365 days + 1));
        escrow.create("x", 1, 1, now_ + 365 days + 1);
    }

    function test_unknown_job_is_refused() public {
        bytes memory unknown = abi.encodeWithSelector(IJobEscrow.UnknownJob.selector, bytes32("x"));
        vm.expectRevert(unknown);
        escrow.jobOf("x");
        vm.expectRevert(unknown);
        escrow.fund("x", 1);
        vm.expectRevert(unknown);
        escrow.refund("x");
        vm.expectRevert(unknown);
        escrow.cancel("x");
    }

    function testFuzz_anyone_adds_to_a_running_job(uint128 amount) public {
        amount = uint128(bound(amount, 1, 1e30));
        token.mint(address(this), amount);
        token.approve(address(escrow), amount);
        escrow.fund(JOB, amount);
        assertEq(escrow.remainingWei(JOB), uint256(BUDGET) + amount, "remaining");
    }

    function test_ended_job_takes_no_more_money() public {
        vm.expectRevert(IJobEscrow.ZeroAmount.selector);
        escrow.fund(JOB, 0);
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.JobEnded.selector, JOB));
        escrow.fund(JOB, 1);
    }

    /*//////////////////////////////////////////////////////////////
                                  DRAW
    //////////////////////////////////////////////////////////////*/

    function testFuzz_draw_moves_exactly_that_into_the_distributor(uint128 amount) public {
        amount = uint128(bound(amount, 1, CAP));
        draw(1, amount);
        assertEq(token.balanceOf(address(distributor)), amount, "distributor's balance");
        assertEq(distributor.fundedWei(), amount, "funded");
        assertEq(escrow.remainingWei(JOB), BUDGET - amount, "remaining");
    }

    function testFuzz_only_the_settler_draws_and_finalises(address caller) public {
        vm.assume(caller != settler);
        bytes memory refused = abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, caller);
        vm.prank(caller);
        vm.expectRevert(refused);
        escrow.draw(JOB, 1, 1);
        vm.prank(caller);
        vm.expectRevert(refused);
        escrow.finalise(JOB, 1);
    }

    function testFuzz_cap_binds_the_draws_of_a_batch_together(uint128 first, uint128 second) public {
        first = uint128(bound(first, 1, CAP));
        second = uint128(bound(second, CAP - first + 1, type(uint128).max));
        draw(1, first);
        vm.prank(settler);
        vm.expectRevert(
            abi.encodeWithSelector(IJobEscrow.OverBatchCap.selector, uint256(first) + second, uint256(CAP))
        );
        escrow.draw(JOB, 1, second);
    }

    function test_next_batch_has_its_own_cap_and_the_budget_binds_all() public {
        for (uint64 batch = 1; batch <= 3; ++batch) {
            draw(batch, CAP);
            post(batch, "root", 0);
            vm.warp(block.timestamp + WINDOW);
        }
        vm.prank(settler);
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.OverBudget.selector, 1001, 1000));
        escrow.draw(JOB, 4, 101);
        draw(4, 100);
        assertEq(escrow.remainingWei(JOB), 0, "remaining");
    }

    function testFuzz_draws_are_for_the_batch_that_is_posted_next(uint64 batch) public {
        vm.assume(batch != 1);
        vm.prank(settler);
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.WrongBatch.selector, 1));
        escrow.draw(JOB, batch, 1);
    }

    /// @notice Going back to a vetoed number does not open a second cap.
    function test_veto_does_not_renew_the_cap() public {
        post(1, "fraud", 0);
        draw(2, CAP);
        veto();
        vm.prank(settler);
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.OverBatchCap.selector, 301, 300));
        escrow.draw(JOB, 1, 1);
    }

    function test_draws_end_with_the_job() public {
        vm.prank(settler);
        vm.expectRevert(IJobEscrow.ZeroAmount.selector);
        escrow.draw(JOB, 1, 0);
        vm.warp(deadline + 30 days);
        vm.prank(settler);
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.JobEnded.selector, JOB));
        escrow.draw(JOB, 1, 1);
    }

    /*//////////////////////////////////////////////////////////////
                           FINALISE AND REFUND
    //////////////////////////////////////////////////////////////*/

    function test_refund_waits_for_the_final_root() public {
        draw(1, CAP);
        finalise(1);
        bytes memory early = abi.encodeWithSelector(IJobEscrow.RefundTooEarly.selector, JOB);
        vm.expectRevert(early);
        escrow.refund(JOB);
        post(1, "root", 0);
        vm.warp(block.timestamp + WINDOW - 1);
        vm.expectRevert(early);
        escrow.refund(JOB);
        vm.warp(block.timestamp + 1);
        assertEq(escrow.refund(JOB), BUDGET - CAP, "refunded");
        assertEq(token.balanceOf(owner), 10 * BUDGET - CAP, "the owner has the rest");
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.JobEnded.selector, JOB));
        escrow.refund(JOB);
    }

    function test_veto_of_the_final_root_delays_the_refund() public {
        finalise(1);
        post(1, "fraud", 0);
        veto();
        vm.warp(block.timestamp + WINDOW);
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.RefundTooEarly.selector, JOB));
        escrow.refund(JOB);
        draw(1, 5);
        post(1, "honest", 0);
        vm.warp(block.timestamp + WINDOW);
        assertEq(escrow.refund(JOB), BUDGET - 5, "refunded");
    }

    function test_job_without_any_reward_is_refunded_at_once() public {
        finalise(0);
        assertEq(escrow.refund(JOB), BUDGET, "refunded");
    }

    function test_nothing_is_drawn_after_the_final_batch() public {
        finalise(1);
        post(1, "root", 0);
        vm.prank(settler);
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.JobEnded.selector, JOB));
        escrow.draw(JOB, 2, 1);
        vm.prank(settler);
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.JobEnded.selector, JOB));
        escrow.finalise(JOB, 2);
    }

    function testFuzz_final_batch_lies_at_most_one_ahead(uint64 batch) public {
        batch = uint64(bound(batch, 2, type(uint64).max));
        vm.prank(settler);
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.FinalBatchOutOfRange.selector, batch));
        escrow.finalise(JOB, batch);
    }

    function testFuzz_silent_settler_costs_the_owner_thirty_days(uint64 wait) public {
        draw(1, 10);
        vm.warp(deadline + bound(wait, 0, 30 days - 1));
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.RefundTooEarly.selector, JOB));
        escrow.refund(JOB);
        vm.warp(deadline + 30 days);
        vm.prank(stranger);
        assertEq(escrow.refund(JOB), BUDGET - 10, "refunded");
        assertEq(token.balanceOf(stranger), 0, "the caller gets nothing");
        assertEq(token.balanceOf(owner), 10 * BUDGET - 10, "the owner gets it");
    }

    function test_cancel_keeps_accepted_work_payable() public {
        vm.prank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.NotOwner.selector, JOB));
        escrow.cancel(JOB);
        vm.prank(owner);
        escrow.cancel(JOB);
        assertEq(escrow.jobOf(JOB).deadline, block.timestamp, "the deadline is now");
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.JobEnded.selector, JOB));
        escrow.fund(JOB, 1);
        draw(1, 20);
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.RefundTooEarly.selector, JOB));
        escrow.refund(JOB);
        vm.warp(block.timestamp + 30 days);
        assertEq(escrow.refund(JOB), BUDGET - 20, "refunded");
    }

    function test_late_cancel_does_not_move_the_deadline() public {
        vm.warp(deadline + 5 days);
        vm.prank(owner);
        escrow.cancel(JOB);
        assertEq(escrow.jobOf(JOB).deadline, deadline, "deadline");
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.JobEnded.selector, JOB));
        escrow.cancel(JOB);
    }
}
