// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMinerRegistry} from "../../contracts/src/interfaces/IMinerRegistry.sol";
import {IStakeManager} from "../../contracts/src/interfaces/IStakeManager.sol";
import {StakedMiner} from "./support/StakedMiner.sol";
import {vm} from "./support/Vm.sol";

/// @notice A stake is put down and asked back; a verifier's bond stays as long as it belongs to the set.
contract StakeManagerTest is StakedMiner {
    /*//////////////////////////////////////////////////////////////
                                  STAKE
    //////////////////////////////////////////////////////////////*/

    function testFuzz_anybody_stakes_for_a_node(uint96 amountWei) public {
        amountWei = uint96(bound(amountWei, 1, 1e27));
        token.mint(stranger, amountWei);
        vm.prank(stranger);
        token.approve(address(stakes), amountWei);
        vm.expectEmit();
        emit IStakeManager.Staked(index, stranger, amountWei);
        vm.prank(stranger);
        stakes.stake(index, amountWei);
        assertStake(500 ether + amountWei, 0, 0);
        assertEq(token.balanceOf(address(stakes)), 500 ether + amountWei, "held");
    }

    function test_stake_refuses_nothing_and_nobody() public {
        vm.expectRevert(IStakeManager.ZeroAmount.selector);
        stakes.stake(index, 0);
        vm.expectRevert(abi.encodeWithSelector(IMinerRegistry.UnknownIndex.selector, 77));
        stakes.stake(77, 1);
    }

    /*//////////////////////////////////////////////////////////////
                                 UNSTAKE
    //////////////////////////////////////////////////////////////*/

    function testFuzz_what_is_asked_back_waits_14_days(uint128 amountWei, uint32 early) public {
        amountWei = uint128(bound(amountWei, 1, 500 ether));
        vm.expectEmit();
        emit IStakeManager.UnstakeRequested(index, amountWei, uint64(block.timestamp) + 14 days);
        unstake(amountWei);
        assertStake(500 ether - amountWei, amountWei, 0);
        uint64 notBefore = uint64(block.timestamp) + 14 days;
        pass(early % 14 days);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.StillUnbonding.selector, notBefore));
        stakes.withdraw(index);
        vm.warp(notBefore);
        vm.expectEmit();
        emit IStakeManager.Withdrawn(index, payout, amountWei);
        vm.prank(stranger);
        assertEq(stakes.withdraw(index), amountWei, "withdrawn");
        assertEq(token.balanceOf(payout), amountWei, "at the payout account");
        assertStake(500 ether - amountWei, 0, 0);
        vm.expectRevert(IStakeManager.ZeroAmount.selector);
        stakes.withdraw(index);
    }

    function test_a_second_request_waits_with_the_first() public {
        unstake(1 ether);
        pass(13 days);
        vm.prank(payout);
        stakes.requestUnstake(index, 2 ether);
        pass(13 days);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.StillUnbonding.selector, block.timestamp + 1 days));
        stakes.withdraw(index);
        pass(1 days);
        assertEq(stakes.withdraw(index), 3 ether, "both");
    }

    function test_unstake_refuses_strangers_nothing_and_too_much() public {
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.NotNodeOrPayout.selector, index));
        vm.prank(stranger);
        stakes.requestUnstake(index, 1);
        vm.expectRevert(IStakeManager.ZeroAmount.selector);
        unstake(0);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.OverStake.selector, 501 ether, 500 ether));
        unstake(501 ether);
    }

    /*//////////////////////////////////////////////////////////////
                                  BONDS
    //////////////////////////////////////////////////////////////*/

    function test_a_verifier_s_bond_stays_until_it_has_left() public {
        (address verifier, uint32 its) = newVerifier("verifier", 1);
        token.mint(address(this), 1);
        stakes.stake(index, 1); // another node's stake is no bond of this one
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.BondLocked.selector, BOND));
        vm.prank(verifier);
        stakes.requestUnstake(its, 1);
        token.mint(address(this), 5);
        stakes.stake(its, 5);
        vm.prank(verifier);
        stakes.requestUnstake(its, 5);
        vm.prank(verifier);
        verifierSet.resign();
        vm.prank(verifier);
        stakes.requestUnstake(its, BOND);
        assertEq(stakes.stakeOf(its).unbondingWei, BOND + 5, "unbonding");
    }

    function test_a_verifier_slashed_below_its_bond_leaves_the_set() public {
        (address verifier, uint32 its) = newVerifier("verifier", 1);
        token.mint(address(this), 5);
        stakes.stake(its, 5);
        uint256 small = propose(its, 5);
        uint256 large = propose(its, 1);
        pass(72 hours);
        stakes.execute(small);
        assertEq(verifierSet.isMember(verifier) ? 1 : 0, 1, "its bond is whole");
        stakes.execute(large);
        assertEq(verifierSet.isMember(verifier) ? 1 : 0, 0, "its bond is not");
    }
}
