// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IStakeManager} from "../../contracts/src/interfaces/IStakeManager.sol";
import {FeeToken, PlainToken, ReentrantToken, RefusingToken} from "./support/HostileTokens.sol";
import {Stakes} from "./support/Stakes.sol";
import {vm} from "./support/Vm.sol";

/// @notice Tokens that cheat, at stake: nothing is counted that did not arrive, and nobody can stop a slash.
contract HostileTokenStakesTest is Stakes {
    uint32 internal index;

    function setUp() public {
        vm.warp(1_800_000_000);
    }

    function start(PlainToken token_) internal {
        deployStakes(token_);
        openJob(JOB, 1000 ether);
        index = newStake("miner", 500 ether);
    }

    function test_fee_on_transfer_is_refused() public {
        deployStakes(new FeeToken());
        index = newNode("miner");
        token.mint(address(this), 1000);
        vm.expectRevert(abi.encodeWithSelector(IStakeManager.TransferMismatch.selector, 1000, 990));
        stakes.stake(index, 1000);
    }

    /// @notice A finder or an owner that the token refuses can be paid later, and what is to be burned too; the slash does
    /// not wait for it.
    function testFuzz_who_cannot_be_paid_stops_no_slash(uint8 how) public {
        RefusingToken refusing = new RefusingToken();
        start(refusing);
        vm.prank(settler);
        escrow.draw(JOB, 1, 100 ether);
        uint256 id = propose(index, 200 ether);
        escrow.cancel(JOB);
        refusing.refuse(finder, RefusingToken.Refusal(bound(how, 1, 2)));
        refusing.refuse(address(this), RefusingToken.Refusal(bound(how, 1, 2)));
        refusing.refuse(burned, RefusingToken.Refusal(bound(how, 1, 3)));
        vm.warp(block.timestamp + 72 hours);
        stakes.execute(id);
        assertEq(stakes.stakeOf(index).activeWei, 300 ether, "taken");
        try stakes.collect(finder) {
            revert("the token refuses it");
        } catch {}
        assertEq(stakes.creditedWei(finder), FEE, "still its own");
        refusing.refuse(finder, RefusingToken.Refusal.None);
        stakes.collect(finder);
        assertEq(token.balanceOf(finder), FEE, "paid later");
        refusing.refuse(burned, RefusingToken.Refusal.None);
        stakes.collect(burned);
        assertEq(token.balanceOf(burned), 100 ether - FEE, "burned later");
    }

    function test_reentrant_calls_find_nothing() public {
        ReentrantToken reentrant = new ReentrantToken();
        start(reentrant);
        uint256 id = propose(index, 200 ether);
        vm.prank(vm.addr(keyOf("miner")));
        stakes.requestUnstake(index, 100 ether);
        token.mint(address(this), 2);
        reentrant.callBack(address(stakes), abi.encodeCall(stakes.stake, (index, 1)));
        stakes.stake(index, 1);
        require(reentrant.refused(), "a stake within a stake is refused");

        vm.warp(block.timestamp + 14 days);
        reentrant.callBack(address(stakes), abi.encodeCall(stakes.withdraw, (index)));
        stakes.withdraw(index);
        require(reentrant.refused(), "a second withdrawal is refused");

        reentrant.callBack(address(stakes), abi.encodeCall(stakes.execute, (id)));
        stakes.execute(id);
        require(reentrant.refused(), "a second execution is refused");

        reentrant.callBack(address(stakes), abi.encodeCall(stakes.collect, (finder)));
        stakes.collect(finder);
        require(reentrant.refused(), "a second collection is refused");
        assertEq(token.balanceOf(finder), FEE, "paid once");
        assertEq(token.balanceOf(payoutOf("miner")), 100 ether, "paid once");
        assertEq(token.balanceOf(address(stakes)), 200 ether + 1, "balance = stakes");
    }
}
