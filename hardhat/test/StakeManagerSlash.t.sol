// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

import {IJobEscrow} from "../../contracts/src/interfaces/IJobEscrow.sol";
import {IStakeManager} from "../../contracts/src/interfaces/IStakeManager.sol";
import {StakedMiner} from "./support/StakedMiner.sol";
import {vm} from "./support/Vm.sol";

/// @notice A slash is proposed, contested and carried out, and what was taken goes to the harmed job and the
/// finder, or to nobody.
contract StakeManagerSlashTest is StakedMiner {
    function appeal(uint256 id) private {
        vm.prank(node);
        stakes.appeal(id, EVIDENCE);
    }

    function rule(uint256 id, bool upheld) private {
        vm.prank(arbiter);
        stakes.rule(id, upheld);
    }

    /*//////////////////////////////////////////////////////////////
                                 PROPOSE
    //////////////////////////////////////////////////////////////*/

    function test_a_proposed_slash_freezes_and_takes_nothing() public {
        vm.expectEmit();
        emit IStakeManager.SlashProposed(
            1, index, JOB, 200 ether, finder, EVIDENCE, uint64(block.timestamp) + 72 hours
        );
        assertEq(propose(index, 200 ether), 1, "id");
        assertStake(500 ether, 0, 200 ether);
        IStakeManager.Slash memory slash = stakes.slashOf(1);
        assertEq(uint8(slash.status), uint8(IStakeManager.Status.Proposed), "status");
        assertEq(slash.job, JOB, "job");
        assertEq(slash.amountWei, 200 ether, "amount");
        assertEq(token.balanceOf(address(stakes)), 500 ether, "held");
    }

    function test_only_the_slasher_proposes() public {
        address[4] memory others = [arbiter, guardian, poster, stranger];
        for (uint256 i; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, others[i]));
            vm.prank(others[i]);
            stakes.proposeSlash(index, 1, JOB, finder, EVIDENCE);
        }
    }

    function test_only_the_verifier_set_slashes_without_a_window() public {
        address[4] memory others = [slasher, arbiter, address(authority), address(this)];
        for (uint256 i; i < others.length; ++i) {
            vm.expectRevert(IStakeManager.NotVerifierSet.selector);
            vm.prank(others[i]);
            stakes.slashProven(index, JOB, finder);
        }
    }

    function test_propose_refuses_bad_values() public {
        vm.expectRevert(IStakeManager.ZeroAmount.selector);
        propose(index, 0);
        vm.expectRevert(IStakeManager.FinderIsCaller.selector);
        vm.prank(slasher);
        stakes.proposeSlash(index, 1, JOB, slasher, EVIDENCE);
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.UnknownJob.selector, EVIDENCE));
        vm.prank(slasher);
        stakes.proposeSlash(index, 1, EVIDENCE, finder, EVIDENCE);
    }

    /// @notice A stake that has become smaller in the meantime, or that others have frozen, is taken as far as it goes.
    function testFuzz_propose_freezes_what_is_there(uint128 amountWei, uint128 goneWei, uint128 frozenWei) public {
        amountWei = uint128(bound(amountWei, 1, 600 ether));
        goneWei = uint128(bound(goneWei, 1, 400 ether));
        frozenWei = uint128(bound(frozenWei, 1, 99 ether));
        unstake(goneWei);
        propose(index, frozenWei);
        pass(14 days);
        stakes.withdraw(index); // in front of the slasher
        uint128 freeWei = 500 ether - goneWei - frozenWei;
        uint128 expectedWei = amountWei < freeWei ? amountWei : freeWei;
        vm.expectEmit();
        emit IStakeManager.SlashProposed(
            2, index, JOB, expectedWei, finder, EVIDENCE, uint64(block.timestamp) + 72 hours
        );
        assertEq(propose(index, amountWei), 2, "id");
        assertEq(stakes.slashOf(2).amountWei, expectedWei, "amount");
        assertStake(500 ether - goneWei, 0, frozenWei + expectedWei);
    }

    function test_where_nothing_is_free_nothing_is_proposed() public {
        propose(index, 500 ether);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.OverStake.selector, 1, 0));
        propose(index, 1);
    }

    /// @notice Who sees a slash coming cannot run away with the stake; what is not frozen can be withdrawn.
    function testFuzz_frozen_stake_cannot_be_withdrawn(uint128 frozenWei, uint128 askedWei) public {
        frozenWei = uint128(bound(frozenWei, 1, 500 ether - 1));
        askedWei = uint128(bound(askedWei, 1, 500 ether));
        unstake(askedWei);
        pass(14 days - 1);
        propose(index, frozenWei);
        pass(1);
        uint128 freeWei = 500 ether - frozenWei;
        assertEq(stakes.withdraw(index), freeWei < askedWei ? freeWei : askedWei, "the free part");
        pass(72 hours);
        stakes.execute(1);
        IStakeManager.Stake memory held = stakes.stakeOf(index);
        assertEq(
            held.activeWei + held.unbondingWei + token.balanceOf(payout) + frozenWei, 500 ether, "everything is somewhere"
        );
    }

    function test_nothing_of_a_stake_that_is_frozen_whole_can_be_withdrawn() public {
        unstake(500 ether);
        pass(14 days - 1);
        propose(index, 500 ether);
        pass(1);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.StakeFrozen.selector, 500 ether));
        stakes.withdraw(index);
    }

    /*//////////////////////////////////////////////////////////////
                            APPEAL AND EXECUTE
    //////////////////////////////////////////////////////////////*/

    /// @notice Nobody takes anything in the first 72 hours, whoever agrees with whom.
    function testFuzz_no_role_passes_the_window(uint32 early, bool contested) public {
        uint256 id = propose(index, 100 ether);
        uint64 notBefore = uint64(block.timestamp) + 72 hours;
        pass(early % 72 hours);
        if (contested) {
            appeal(id);
            rule(id, true);
        }
        address[5] memory all = [slasher, arbiter, guardian, finder, address(this)];
        for (uint256 i; i < all.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IStakeManager.TooEarly.selector, id, notBefore));
            vm.prank(all[i]);
            stakes.execute(id);
        }
        vm.warp(notBefore);
        vm.prank(stranger);
        stakes.execute(id);
        assertStake(400 ether, 0, 0);
        vm.expectRevert(
            abi.encodeWithSelector(IStakeManager.WrongStatus.selector, id, IStakeManager.Status.Executed)
        );
        stakes.execute(id);
    }

    function test_an_appeal_stops_the_slash_until_it_is_decided() public {
        uint256 id = propose(index, 100 ether);
        pass(72 hours - 1);
        vm.expectEmit();
        emit IStakeManager.SlashAppealed(id, EVIDENCE, uint64(block.timestamp) + 14 days);
        appeal(id);
        pass(7 days);
        vm.expectRevert(
            abi.encodeWithSelector(IStakeManager.WrongStatus.selector, id, IStakeManager.Status.Appealed)
        );
        stakes.execute(id);
        vm.expectEmit();
        emit IStakeManager.SlashRuled(id, false);
        rule(id, false);
        assertStake(500 ether, 0, 0);
        vm.expectRevert(
            abi.encodeWithSelector(IStakeManager.WrongStatus.selector, id, IStakeManager.Status.Dismissed)
        );
        stakes.execute(id);
    }

    function test_an_upheld_slash_is_executed() public {
        uint256 id = propose(index, 100 ether);
        vm.prank(payout);
        stakes.appeal(id, EVIDENCE);
        pass(14 days);
        rule(id, true);
        stakes.execute(id);
        assertStake(400 ether, 0, 0);
    }

    function test_an_appeal_comes_in_time_and_from_the_node() public {
        uint256 id = propose(index, 100 ether);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.NotNodeOrPayout.selector, index));
        vm.prank(stranger);
        stakes.appeal(id, EVIDENCE);
        pass(72 hours);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.AppealTooLate.selector, id));
        appeal(id);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.WrongStatus.selector, 9, IStakeManager.Status.None));
        appeal(9);
    }

    function test_only_the_arbiter_rules_and_only_on_appeals() public {
        uint256 id = propose(index, 100 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IStakeManager.WrongStatus.selector, id, IStakeManager.Status.Proposed)
        );
        rule(id, true);
        appeal(id);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, slasher));
        vm.prank(slasher);
        stakes.rule(id, true);
    }

    /// @notice An arbiter that says nothing decides for the node.
    function test_an_appeal_without_a_ruling_lapses() public {
        uint256 id = propose(index, 100 ether);
        appeal(id);
        uint64 until = uint64(block.timestamp) + 14 days;
        vm.warp(until);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.TooEarly.selector, id, until + 1));
        stakes.lapse(id);
        vm.warp(until + 1);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.RulingTooLate.selector, id));
        rule(id, true);
        vm.prank(stranger);
        stakes.lapse(id);
        assertStake(500 ether, 0, 0);
        vm.expectRevert(
            abi.encodeWithSelector(IStakeManager.WrongStatus.selector, id, IStakeManager.Status.Dismissed)
        );
        stakes.lapse(id);
    }

    /*//////////////////////////////////////////////////////////////
                                PROCEEDS
    //////////////////////////////////////////////////////////////*/

    /// @dev So much of the job's budget has been paid for work.
    function draw(uint128 amountWei) private {
        vm.prank(settler);
        escrow.draw(JOB, 1, amountWei);
    }

    function test_proceeds_go_to_the_running_job_and_the_finder() public {
        draw(400 ether);
        uint256 id = propose(index, 200 ether);
        pass(72 hours);
        vm.expectEmit();
        emit IStakeManager.Slashed(index, JOB, 200 ether, 0);
        vm.expectEmit();
        emit IStakeManager.Credited(finder, JOB, FEE);
        vm.expectEmit();
        emit IStakeManager.JobCompensated(JOB, 200 ether - FEE);
        vm.prank(stranger);
        stakes.execute(id);
        assertEq(escrow.remainingWei(JOB), 800 ether - FEE, "the job's budget");
        assertEq(stakes.creditedWei(finder), FEE, "the finder's fee");
        assertEq(token.balanceOf(stranger), 0, "the caller gets nothing");
        assertEq(token.balanceOf(burned), 0, "nothing is burned");
        stakes.collect(finder);
        assertEq(token.balanceOf(finder), FEE, "collected");
        vm.expectRevert(IStakeManager.ZeroAmount.selector);
        stakes.collect(finder);
    }

    function testFuzz_the_fee_is_at_most_a_tenth(uint128 amountWei) public {
        amountWei = uint128(bound(amountWei, 1, 500 ether));
        draw(500 ether);
        uint256 id = propose(index, amountWei);
        pass(72 hours);
        stakes.execute(id);
        uint256 feeWei = amountWei / 10 < FEE ? amountWei / 10 : FEE;
        assertEq(stakes.creditedWei(finder), feeWei, "fee");
        assertEq(escrow.remainingWei(JOB), 500 ether + amountWei - feeWei, "the rest");
    }

    function test_without_a_finder_everything_goes_to_the_job() public {
        draw(200 ether);
        vm.prank(slasher);
        uint256 id = stakes.proposeSlash(index, 200 ether, JOB, address(0), EVIDENCE);
        pass(72 hours);
        stakes.execute(id);
        assertEq(escrow.remainingWei(JOB), 1000 ether, "everything");
    }

    /// @notice However a job has ended, its owner gets what its budget would have.
    function testFuzz_an_ended_job_s_owner_is_compensated(uint8 how) public {
        how = uint8(bound(how, 0, 3));
        draw(500 ether);
        uint256 id = propose(index, 200 ether);
        if (how == 0) escrow.cancel(JOB);
        if (how == 1) pass(30 days);
        if (how >= 2) {
            vm.prank(settler);
            escrow.finalise(JOB, 0);
        }
        if (how == 3) escrow.refund(JOB);
        pass(72 hours);
        stakes.execute(id);
        assertEq(stakes.creditedWei(address(this)), 200 ether - FEE, "the owner's");
        uint256 before = token.balanceOf(address(this));
        stakes.collect(address(this));
        assertEq(token.balanceOf(address(this)) - before, 200 ether - FEE, "collected");
    }

    /// @notice A slasher that names a cheap job, of its own perhaps, gives it no more than that job has paid, in however
    /// many slashes; the rest is nobody's.
    function testFuzz_a_job_gets_at_most_what_it_has_paid(uint128 drawnWei, uint128 firstWei, bool ended) public {
        drawnWei = uint128(bound(drawnWei, 0, 600 ether));
        firstWei = uint128(bound(firstWei, 1, 499 ether));
        if (drawnWei != 0) draw(drawnWei);
        if (ended) escrow.cancel(JOB);
        uint256 heldWei = escrow.remainingWei(JOB);
        uint256[2] memory ids = [propose(index, firstWei), propose(index, 500 ether - firstWei)];
        pass(72 hours);
        for (uint256 i; i < ids.length; ++i) stakes.execute(ids[i]);
        uint256 leftWei = 500 ether - stakes.creditedWei(finder);
        uint256 expectedWei = leftWei < drawnWei ? leftWei : drawnWei;
        assertEq(stakes.creditedWei(address(this)), ended ? expectedWei : 0, "the owner's");
        assertEq(escrow.remainingWei(JOB) - heldWei, ended ? 0 : expectedWei, "the budget's");
        assertEq(stakes.compensatedWei(JOB), expectedWei, "counted");
        assertEq(token.balanceOf(burned), leftWei - expectedWei, "burned");
    }

    function testFuzz_active_stake_is_taken_first(uint128 askedWei, uint128 takenWei) public {
        askedWei = uint128(bound(askedWei, 1, 500 ether));
        takenWei = uint128(bound(takenWei, 1, 500 ether));
        unstake(askedWei);
        uint256 id = propose(index, takenWei);
        pass(72 hours);
        stakes.execute(id);
        uint128 activeWei = 500 ether - askedWei;
        uint128 fromActiveWei = takenWei < activeWei ? takenWei : activeWei;
        assertStake(activeWei - fromActiveWei, askedWei - (takenWei - fromActiveWei), 0);
    }
}
