// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IJobEscrow} from "../../contracts/src/interfaces/IJobEscrow.sol";
import {IRewardDistributor} from "../../contracts/src/interfaces/IRewardDistributor.sol";
import {FeeToken, PlainToken, ReentrantToken, RefusingToken, SilentToken} from "./support/HostileTokens.sol";
import {System, Tree} from "./support/System.sol";
import {vm} from "./support/Vm.sol";

/// @notice Tokens that cheat: whatever they do, nobody is paid twice and nobody else is kept waiting.
contract HostileTokenTest is System {
    address internal alice = makeAddress("alice");
    address internal bob = makeAddress("bob");
    bytes32[] internal none;

    function setUp() public {
        vm.warp(1_800_000_000);
    }

    function pair() internal view returns (bytes32[] memory entries) {
        entries = new bytes32[](2);
        entries[0] = Tree.pack(1, alice, 100);
        entries[1] = Tree.pack(2, bob, 50);
    }

    function start(PlainToken token) internal {
        deploy(address(token));
        token.mint(address(this), 1_000_000 gwei);
        token.approve(address(distributor), type(uint256).max);
        token.approve(address(escrow), type(uint256).max);
    }

    /*//////////////////////////////////////////////////////////////
                             FEE ON TRANSFER
    //////////////////////////////////////////////////////////////*/

    function test_fee_on_transfer_is_refused_everywhere() public {
        start(new FeeToken());
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.TransferMismatch.selector, 1000, 990));
        distributor.fund(1000);
        vm.expectRevert(abi.encodeWithSelector(IJobEscrow.TransferMismatch.selector, 1000, 990));
        escrow.create("job", 1000, 1000, uint64(block.timestamp) + 1);
    }

    /*//////////////////////////////////////////////////////////////
                                REFUSALS
    //////////////////////////////////////////////////////////////*/

    /// @notice A push passes over a blacklisted account, however the token says no; it can be paid later.
    function testFuzz_push_skips_who_cannot_be_paid(uint8 how) public {
        RefusingToken token = new RefusingToken();
        start(token);
        distributor.fund(1000 gwei);
        bytes32[] memory entries = pair();
        bytes32[][] memory levels = activate(entries);
        token.refuse(alice, RefusingToken.Refusal(bound(how, 1, 3)));

        vm.expectEmit();
        emit IRewardDistributor.Skipped(1, entries[0]);
        assertEq(distributor.claimSubtree{gas: 15_000_000}(entries, none), 50 gwei, "the other one is paid");
        assertEq(distributor.claimedGwei(1), 0, "the skipped one keeps its claim");
        assertEq(distributor.claimedGwei(2), 50, "the paid one's counter");

        token.refuse(alice, RefusingToken.Refusal.None);
        distributor.claim(entries[0], Tree.proof(levels, 0, 0));
        assertEq(token.balanceOf(alice), 100 gwei, "paid later");
    }

    function test_single_claim_fails_whole_when_the_token_refuses() public {
        RefusingToken token = new RefusingToken();
        start(token);
        distributor.fund(1000 gwei);
        bytes32[] memory entries = pair();
        bytes32[][] memory levels = activate(entries);
        token.refuse(alice, RefusingToken.Refusal.ReturnFalse);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, token));
        distributor.claim(entries[0], Tree.proof(levels, 0, 0));
        token.refuse(alice, RefusingToken.Refusal.Revert);
        vm.expectRevert(abi.encodeWithSignature("Error(string)", "blacklisted"));
        distributor.claim(entries[0], Tree.proof(levels, 0, 0));
        assertEq(distributor.claimedGwei(1), 0, "the counter is untouched");
    }

    function test_token_that_returns_nothing_works() public {
        SilentToken token = new SilentToken();
        deploy(address(token));
        token.mint(address(this), 1000 gwei);
        token.approve(address(distributor), type(uint256).max);
        distributor.fund(1000 gwei);
        bytes32[] memory entries = pair();
        activate(entries);
        distributor.claimSubtree(entries, none);
        assertEq(token.balanceOf(alice), 100 gwei, "paid");
    }

    /*//////////////////////////////////////////////////////////////
                               REENTRANCY
    //////////////////////////////////////////////////////////////*/

    function test_reentrant_claim_finds_nothing() public {
        ReentrantToken token = new ReentrantToken();
        start(token);
        distributor.fund(1000 gwei);
        bytes32[] memory entries = pair();
        bytes32[][] memory levels = activate(entries);
        bytes memory again = abi.encodeCall(distributor.claim, (entries[0], Tree.proof(levels, 0, 0)));

        token.callBack(address(distributor), again);
        distributor.claim(entries[0], Tree.proof(levels, 0, 0));
        require(token.refused(), "the second claim was refused");
        assertEq(token.balanceOf(alice), 100 gwei, "paid once");
    }

    function test_reentrant_push_pays_each_once() public {
        ReentrantToken token = new ReentrantToken();
        start(token);
        distributor.fund(1000 gwei);
        bytes32[] memory entries = pair();
        activate(entries);
        token.callBack(address(distributor), abi.encodeCall(distributor.claimSubtree, (entries, none)));
        distributor.claimSubtree(entries, none);
        assertEq(token.balanceOf(alice), 100 gwei, "paid once");
        assertEq(token.balanceOf(bob), 50 gwei, "paid once");
        assertEq(token.balanceOf(address(distributor)), 850 gwei, "balance = funded - paid");
    }

    function test_reentrant_fund_is_refused() public {
        ReentrantToken token = new ReentrantToken();
        start(token);
        token.callBack(address(distributor), abi.encodeCall(distributor.fund, (0)));
        distributor.fund(1000);
        require(token.refused(), "the inner call was refused");
        assertEq(distributor.fundedWei(), 1000, "counted once");
    }

    function test_reentrant_refund_is_refused() public {
        ReentrantToken token = new ReentrantToken();
        start(token);
        escrow.create("a", 600, 600, uint64(block.timestamp) + 1);
        escrow.create("b", 600, 600, uint64(block.timestamp) + 1);
        vm.warp(block.timestamp + 31 days);
        token.callBack(address(escrow), abi.encodeCall(escrow.refund, ("a")));
        escrow.refund("a");
        require(token.refused(), "the second refund was refused");
        assertEq(token.balanceOf(address(escrow)), 600, "the other job's budget is whole");
    }

    function test_reentrant_create_is_refused() public {
        ReentrantToken token = new ReentrantToken();
        start(token);
        uint64 deadline = uint64(block.timestamp) + 1;
        token.callBack(address(escrow), abi.encodeCall(escrow.create, ("inner", 600, 600, deadline)));
        escrow.create("outer", 600, 600, deadline);
        require(token.refused(), "the inner call was refused");
    }
}
