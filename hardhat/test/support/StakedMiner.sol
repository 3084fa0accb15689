// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IStakeManager} from "../../../contracts/src/interfaces/IStakeManager.sol";
import {PlainToken} from "./HostileTokens.sol";
import {Stakes} from "./Stakes.sol";
import {vm} from "./Vm.sol";

/// @notice A miner with 500 tokens at stake, and a running job.
abstract contract StakedMiner is Stakes {
    uint32 internal index;
    address internal node;
    address internal payout;

    function setUp() public {
        vm.warp(1_800_000_000);
        deployStakes(new PlainToken());
        openJob(JOB, 1000 ether);
        index = newStake("miner", 500 ether);
        (node, payout) = registry.infoOf(index);
    }

    function unstake(uint128 amountWei) internal {
        vm.prank(node);
        stakes.requestUnstake(index, amountWei);
    }

    function pass(uint256 duration) internal {
        vm.warp(block.timestamp + duration);
    }

    function assertStake(uint128 activeWei, uint128 unbondingWei, uint128 frozenWei) internal view {
        IStakeManager.Stake memory held = stakes.stakeOf(index);
        assertEq(held.activeWei, activeWei, "active");
        assertEq(held.unbondingWei, unbondingWei, "unbonding");
        assertEq(held.frozenWei, frozenWei, "frozen");
    }
}
