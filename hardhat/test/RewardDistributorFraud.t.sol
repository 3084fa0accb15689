// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {RewardDistributor} from "../../contracts/src/RewardDistributor.sol";
import {IRewardDistributor} from "../../contracts/src/interfaces/IRewardDistributor.sol";
import {IVerifierSet} from "../../contracts/src/interfaces/IVerifierSet.sol";
import {FeeToken, PlainToken, ReentrantToken, RefusingToken} from "./support/HostileTokens.sol";
import {System, Tree} from "./support/System.sol";
import {vm} from "./support/Vm.sol";

/// @notice Proofs that end a waiting root, what they pay, and that none ends an honest one.
contract RewardDistributorFraudTest is System {
    uint256 private constant BOUNTY = 5 ether;
    uint256 private constant NODES = 4;

    PlainToken private token;

    /// @dev The active root's entries, and those of the root that waits.
    bytes32[] private active;
    bytes32[] private waiting;

    function setUp() public {
        vm.warp(1_800_000_000);
        begin(new PlainToken());
    }

    /// @dev One root is active, and bounties for two proofs are in place.
    function begin(PlainToken token_) private {
        token = token_;
        deploy(address(token_), WINDOW, DAILY_CAP_GWEI, BOUNTY);
        token.mint(address(this), 1e27);
        token.approve(address(distributor), type(uint256).max);
        distributor.fund(1_000_000 gwei);
        distributor.bond(2 * BOUNTY);
        for (uint32 i; i < NODES; ++i) active.push(Tree.pack(i, makeAddress("node"), 100 + i));
        activate(active);
        waiting = active;
    }

    function postWaiting() private {
        post(2, Tree.root(treeOf(waiting)), totalOf(active) + 100);
    }

    /// @dev Posts a root in which the index `place` has earned `cumulative`, less than before.
    function postDecrease(uint256 place, uint64 cumulative)
        private
        returns (IRewardDistributor.Proven memory former, IRewardDistributor.Proven memory entry)
    {
        waiting[place] = Tree.pack(uint32(place), makeAddress("node"), cumulative);
        postWaiting();
        return (proven(active, place), proven(waiting, place));
    }

    /// @dev Posts a root that names the index 1 twice, at the places 1 and 3.
    function postDuplicate()
        private
        returns (IRewardDistributor.Proven memory one, IRewardDistributor.Proven memory other)
    {
        waiting[3] = Tree.pack(1, makeAddress("other"), 5000);
        postWaiting();
        return (proven(waiting, 1), proven(waiting, 3));
    }

    function isRefused(bytes4 reason) private {
        vm.prank(stranger);
        vm.expectRevert(reason);
    }

    /*//////////////////////////////////////////////////////////////
                                DECREASE
    //////////////////////////////////////////////////////////////*/

    function testFuzz_decrease_ends_the_root_and_pays_who_shows_it(uint256 place, uint64 lower) public {
        place = bound(place, 0, NODES - 1);
        lower = uint64(bound(lower, 0, 99 + place));
        (IRewardDistributor.Proven memory former, IRewardDistributor.Proven memory entry) = postDecrease(place, lower);
        vm.expectEmit();
        emit IRewardDistributor.RootVetoed(2, Tree.root(treeOf(waiting)));
        vm.expectEmit();
        emit IRewardDistributor.FraudProven(2, uint32(place), stranger, BOUNTY);
        vm.prank(stranger);
        distributor.proveDecrease(former, entry);
        isEnded(BOUNTY);
    }

    function isEnded(uint256 leftWei) private {
        assertEq(token.balanceOf(stranger), BOUNTY, "the bounty");
        assertEq(distributor.bondWei(), leftWei, "what is left of the bond");
        assertEq(token.balanceOf(address(distributor)), 1_000_000 gwei + leftWei, "funds are untouched");
        (uint64 batch,,) = distributor.waitingRoot();
        assertEq(batch, 0, "nothing waits");
        assertEq(distributor.nextBatch(), 2, "the number is free again");
        assertEq(distributor.totalGwei(), totalOf(active), "the total is the former one");
        assertEq(distributor.cancelled(), 1, "one more was cancelled");
        vm.warp(block.timestamp + 10 * WINDOW);
        distributor.claim(active[0], Tree.proof(treeOf(active), 0, 0));
        post(2, Tree.root(treeOf(active)), totalOf(active));
    }

    function testFuzz_nothing_is_proven_of_an_honest_root(uint256 one, uint256 other, uint64[4] memory more) public {
        for (uint32 i; i < NODES; ++i) {
            waiting[i] = Tree.pack(i, makeAddress("node"), 100 + i + uint64(bound(more[i], 0, 1000)));
        }
        post(2, Tree.root(treeOf(waiting)), totalOf(waiting));
        (one, other) = (bound(one, 0, NODES - 1), bound(other, 0, NODES - 1));
        IRewardDistributor.Proven memory first = proven(active, one);
        IRewardDistributor.Proven memory second = proven(waiting, other);
        isRefused(IRewardDistributor.NoFraud.selector);
        distributor.proveDecrease(first, second);
        first = proven(waiting, one);
        isRefused(IRewardDistributor.NoFraud.selector);
        distributor.proveDuplicate(first, second);
    }

    function test_decrease_needs_both_roots() public {
        (IRewardDistributor.Proven memory former, IRewardDistributor.Proven memory entry) = postDecrease(1, 1);
        isRefused(IRewardDistributor.InvalidProof.selector);
        distributor.proveDecrease(entry, former);
        isRefused(IRewardDistributor.InvalidProof.selector);
        distributor.proveDecrease(former, former);
        former.entry = Tree.pack(1, makeAddress("node"), 1000);
        isRefused(IRewardDistributor.InvalidProof.selector);
        distributor.proveDecrease(former, entry);
    }

    /*//////////////////////////////////////////////////////////////
                                DUPLICATE
    //////////////////////////////////////////////////////////////*/

    function testFuzz_duplicate_ends_the_root(uint64 cumulative, address account) public {
        bytes32 again = Tree.pack(1, account, cumulative);
        vm.assume(again != waiting[1]);
        waiting[3] = again;
        post(2, Tree.root(treeOf(waiting)), totalOf(active));
        IRewardDistributor.Proven memory one = proven(waiting, 1);
        IRewardDistributor.Proven memory other = proven(waiting, 3);
        vm.expectEmit();
        emit IRewardDistributor.FraudProven(2, 1, stranger, BOUNTY);
        vm.prank(stranger);
        distributor.proveDuplicate(one, other);
        isEnded(BOUNTY);
    }

    function test_one_entry_is_no_duplicate_of_itself() public {
        postWaiting();
        IRewardDistributor.Proven memory one = proven(waiting, 1);
        isRefused(IRewardDistributor.NoFraud.selector);
        distributor.proveDuplicate(one, one);
    }

    function test_duplicate_needs_the_waiting_root() public {
        (, IRewardDistributor.Proven memory other) = postDuplicate();
        IRewardDistributor.Proven memory former = proven(active, 1);
        isRefused(IRewardDistributor.InvalidProof.selector);
        distributor.proveDuplicate(former, other);
        isRefused(IRewardDistributor.InvalidProof.selector);
        distributor.proveDuplicate(other, former);
    }

    /*//////////////////////////////////////////////////////////////
                                  WHEN
    //////////////////////////////////////////////////////////////*/

    function test_active_root_is_past_proofs() public {
        (IRewardDistributor.Proven memory one, IRewardDistributor.Proven memory other) = postDuplicate();
        vm.warp(block.timestamp + WINDOW);
        isRefused(IRewardDistributor.NoRootWaiting.selector);
        distributor.proveDuplicate(one, other);
        isRefused(IRewardDistributor.NoRootWaiting.selector);
        distributor.proveDecrease(one, other);
    }

    function test_root_is_ended_and_paid_for_once() public {
        (IRewardDistributor.Proven memory one, IRewardDistributor.Proven memory other) = postDuplicate();
        vm.prank(stranger);
        distributor.proveDuplicate(one, other);
        isRefused(IRewardDistributor.NoRootWaiting.selector);
        distributor.proveDuplicate(one, other);
    }

    function test_token_that_calls_back_is_paid_once() public {
        ReentrantToken reentrant = new ReentrantToken();
        delete active;
        begin(reentrant);
        (IRewardDistributor.Proven memory one, IRewardDistributor.Proven memory other) = postDuplicate();
        reentrant.callBack(address(distributor), abi.encodeCall(distributor.proveDuplicate, (one, other)));
        vm.prank(stranger);
        distributor.proveDuplicate(one, other);
        require(reentrant.refused(), "the call back was refused");
        isEnded(BOUNTY);
    }

    function test_token_that_refuses_the_finder_does_not_save_the_root() public {
        RefusingToken refusing = new RefusingToken();
        delete active;
        begin(refusing);
        refusing.refuse(stranger, RefusingToken.Refusal.Revert);
        (IRewardDistributor.Proven memory one, IRewardDistributor.Proven memory other) = postDuplicate();
        vm.expectEmit();
        emit IRewardDistributor.FraudProven(2, 1, stranger, 0);
        vm.prank(stranger);
        distributor.proveDuplicate(one, other);
        (uint64 batch,,) = distributor.waitingRoot();
        assertEq(batch, 0, "nothing waits");
        assertEq(distributor.bondWei(), 2 * BOUNTY, "the bond is whole");
    }

    /*//////////////////////////////////////////////////////////////
                                  BOND
    //////////////////////////////////////////////////////////////*/

    function test_no_root_without_a_bounty_in_place() public {
        for (uint64 i; i < 2; ++i) {
            (IRewardDistributor.Proven memory one, IRewardDistributor.Proven memory other) = postDuplicate();
            vm.prank(stranger);
            distributor.proveDuplicate(one, other);
        }
        IVerifierSet.Signature[] memory signatures = signRoot(2, "root", totalOf(active));
        vm.prank(poster);
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.BondMissing.selector, 0, BOUNTY));
        distributor.postRoot(2, "root", totalOf(active), DATA_HASH, signatures);
        distributor.bond(BOUNTY);
        post(2, "root", totalOf(active));
    }

    function testFuzz_anybody_may_add_to_the_bond_and_nobody_takes_it_back(uint48 gwei_) public {
        gwei_ = uint48(bound(gwei_, 1, 1e14));
        uint256 before = distributor.bondWei();
        token.mint(stranger, uint256(gwei_) * 1 gwei);
        vm.prank(stranger);
        token.approve(address(distributor), type(uint256).max);
        vm.prank(stranger);
        distributor.bond(uint256(gwei_) * 1 gwei);
        assertEq(distributor.bondWei(), before + uint256(gwei_) * 1 gwei, "bond");
        assertEq(distributor.fundedWei(), 1_000_000 gwei, "the bond funds no root");
    }

    function test_bond_is_whole_gwei_within_its_field() public {
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.BondOutOfRange.selector, 2 * BOUNTY + 1));
        distributor.bond(1);
        uint256 tooMuch = (uint256(1) << 48) * 1 gwei;
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.BondOutOfRange.selector, 2 * BOUNTY + tooMuch));
        distributor.bond(tooMuch);
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.BondOutOfRange.selector, 1));
        new RewardDistributor(IERC20(token), signers, address(authority), WINDOW, 1, 1);
    }

    function test_token_that_keeps_a_fee_is_refused() public {
        FeeToken fee = new FeeToken();
        deploy(address(fee), WINDOW, DAILY_CAP_GWEI, 0);
        fee.mint(address(this), 100 gwei);
        fee.approve(address(distributor), 100 gwei);
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.TransferMismatch.selector, 100 gwei, 99 gwei));
        distributor.bond(100 gwei);
    }
}
