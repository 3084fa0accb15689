// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {RewardDistributor} from "../../contracts/src/RewardDistributor.sol";
import {IRewardDistributor} from "../../contracts/src/interfaces/IRewardDistributor.sol";
import {PlainToken} from "./support/HostileTokens.sol";
import {System, Tree} from "./support/System.sol";
import {vm} from "./support/Vm.sol";

/// @notice Posting, waiting and vetoing roots: who may do what, when, and with which numbers.
contract RewardDistributorTest is System {
    PlainToken internal token;

    function setUp() public {
        vm.warp(1_800_000_000);
        token = new PlainToken();
        deploy(address(token));
        token.mint(address(this), 1e27);
        token.approve(address(distributor), type(uint256).max);
        distributor.fund(1_000_000 gwei);
    }

    /*//////////////////////////////////////////////////////////////
                                 WINDOW
    //////////////////////////////////////////////////////////////*/

    function testFuzz_window_below_the_floor_is_refused_on_a_public_chain(uint64 chain, uint64 window) public {
        chain = uint64(bound(chain, 1, 1 << 40));
        vm.assume(chain != 31337);
        window = uint64(bound(window, 0, distributor.MIN_WINDOW() - 1));
        vm.chainId(chain);
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.WindowOutOfRange.selector, window));
        new RewardDistributor(IERC20(token), signers, address(authority), window, 1, 0);
    }

    function test_window_of_six_hours_is_accepted_on_a_public_chain() public {
        vm.chainId(1);
        assertEq(new RewardDistributor(IERC20(token), signers, address(authority), 6 hours, 1, 0).WINDOW(), 6 hours, "window");
    }

    function test_development_chain_may_shorten_the_window_but_not_drop_it() public {
        assertEq(new RewardDistributor(IERC20(token), signers, address(authority), 1, 1, 0).WINDOW(), 1, "window");
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.WindowOutOfRange.selector, 0));
        new RewardDistributor(IERC20(token), signers, address(authority), 0, 1, 0);
    }

    function test_absurdly_long_window_is_refused() public {
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.WindowOutOfRange.selector, 30 days + 1));
        new RewardDistributor(IERC20(token), signers, address(authority), 30 days + 1, 1, 0);
    }

    function testFuzz_root_is_inactive_until_the_window_ends_and_active_from_then_on(uint64 wait) public {
        post(1, "root", 10);
        uint256 posted = block.timestamp;
        vm.warp(posted + bound(wait, 0, WINDOW - 1));
        (uint64 batch, bytes32 root) = distributor.activeRoot();
        assertEq(batch, 0, "no batch is active");
        assertEq(root, 0, "no root is active");
        (batch, root,) = distributor.waitingRoot();
        assertEq(batch, 1, "batch 1 waits");
        assertEq(root, "root", "its root waits");
        vm.warp(posted + bound(wait, WINDOW, WINDOW * 100));
        (batch, root) = distributor.activeRoot();
        assertEq(batch, 1, "batch 1 is active without another transaction");
        assertEq(root, "root", "its root is active");
        (batch, root,) = distributor.waitingRoot();
        assertEq(batch, 0, "nothing waits");
    }

    /*//////////////////////////////////////////////////////////////
                                  POST
    //////////////////////////////////////////////////////////////*/

    function testFuzz_only_the_poster_posts(address caller) public {
        vm.assume(caller != poster);
        vm.prank(caller);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, caller));
        distributor.postRoot(1, "root", 0, DATA_HASH, unsigned());
    }

    function testFuzz_waiting_root_cannot_be_replaced(uint64 wait, uint64 batch, bytes32 root) public {
        post(1, "root", 10);
        uint64 activeAt = uint64(block.timestamp) + WINDOW;
        vm.warp(block.timestamp + bound(wait, 0, WINDOW - 1));
        vm.prank(poster);
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.RootWaiting.selector, activeAt));
        distributor.postRoot(batch, root, 10, DATA_HASH, unsigned());
    }

    function testFuzz_batches_count_without_gaps(uint64 batch) public {
        vm.assume(batch != 1);
        vm.prank(poster);
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.WrongBatch.selector, 1));
        distributor.postRoot(batch, "root", 0, DATA_HASH, unsigned());
    }

    function testFuzz_total_never_falls(uint64 total, uint64 lower) public {
        total = uint64(bound(total, 1, 1_000_000));
        lower = uint64(bound(lower, 0, total - 1));
        post(1, "root", total);
        vm.warp(block.timestamp + WINDOW);
        vm.prank(poster);
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.TotalOutOfRange.selector, lower));
        distributor.postRoot(2, "other", lower, DATA_HASH, unsigned());
    }

    function test_total_beyond_64_bits_is_refused() public {
        vm.prank(poster);
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.TotalOutOfRange.selector, uint128(1) << 64));
        distributor.postRoot(1, "root", uint128(1) << 64, DATA_HASH, unsigned());
    }

    function testFuzz_funds_must_be_in_place(uint64 total) public {
        total = uint64(bound(total, 1_000_001, type(uint64).max));
        vm.prank(poster);
        vm.expectRevert(
            abi.encodeWithSelector(IRewardDistributor.NotFunded.selector, uint256(total) * 1 gwei, 1_000_000 gwei)
        );
        distributor.postRoot(1, "root", total, DATA_HASH, unsigned());
    }

    function test_tokens_sent_without_fund_do_not_count() public {
        token.transfer(address(distributor), 1e24);
        vm.prank(poster);
        vm.expectRevert(
            abi.encodeWithSelector(IRewardDistributor.NotFunded.selector, 1_000_001 gwei, 1_000_000 gwei)
        );
        distributor.postRoot(1, "root", 1_000_001, DATA_HASH, unsigned());
    }

    function test_zero_root_is_refused() public {
        vm.prank(poster);
        vm.expectRevert(IRewardDistributor.ZeroRoot.selector);
        distributor.postRoot(1, 0, 0, DATA_HASH, unsigned());
    }

    function test_post_says_everything_in_its_event() public {
        vm.expectEmit();
        emit IRewardDistributor.RootPosted(1, "root", 10, DATA_HASH, uint64(block.timestamp) + WINDOW);
        post(1, "root", 10);
    }

    /// @notice A payment of nothing would be an event of nothing, which is none in anybody's books.
    function test_nobody_pays_nothing_in() public {
        vm.expectRevert(IRewardDistributor.ZeroAmount.selector);
        distributor.fund(0);
        vm.expectRevert(IRewardDistributor.ZeroAmount.selector);
        distributor.bond(0);
    }

    /*//////////////////////////////////////////////////////////////
                                DAILY CAP
    //////////////////////////////////////////////////////////////*/

    function test_roots_of_one_day_stay_within_the_cap() public {
        deploy(address(token), 6 hours, 1000, 0);
        token.approve(address(distributor), type(uint256).max);
        distributor.fund(1_000_000 gwei);
        vm.warp((block.timestamp / 1 days + 1) * 1 days);
        post(1, "a", 600);
        vm.warp(block.timestamp + 6 hours);
        vm.prank(poster);
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.DailyCapExceeded.selector, 1001));
        distributor.postRoot(2, "b", 1001, DATA_HASH, unsigned());
        post(2, "b", 1000);
        vm.warp(block.timestamp + 18 hours);
        post(3, "c", 2000);
    }

    function test_veto_gives_the_day_its_promise_back() public {
        deploy(address(token), 6 hours, 1000, 0);
        token.approve(address(distributor), type(uint256).max);
        distributor.fund(1_000_000 gwei);
        post(1, "fraud", 1000);
        veto();
        post(1, "honest", 1000);
        assertEq(distributor.totalGwei(), 1000, "total");
    }

    /*//////////////////////////////////////////////////////////////
                                  VETO
    //////////////////////////////////////////////////////////////*/

    function testFuzz_only_the_guardian_vetoes(address caller) public {
        vm.assume(caller != guardian);
        post(1, "root", 10);
        vm.prank(caller);
        vm.expectRevert(abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, caller));
        distributor.veto();
    }

    function test_active_root_cannot_be_vetoed() public {
        post(1, "root", 10);
        vm.warp(block.timestamp + WINDOW);
        vm.prank(guardian);
        vm.expectRevert(IRewardDistributor.NoRootWaiting.selector);
        distributor.veto();
    }

    function test_nothing_to_veto_before_the_first_root_and_after_a_veto() public {
        vm.prank(guardian);
        vm.expectRevert(IRewardDistributor.NoRootWaiting.selector);
        distributor.veto();
        post(1, "root", 10);
        veto();
        vm.prank(guardian);
        vm.expectRevert(IRewardDistributor.NoRootWaiting.selector);
        distributor.veto();
    }

    function test_vetoed_number_is_posted_again_and_the_total_is_restored() public {
        post(1, "first", 10);
        vm.warp(block.timestamp + WINDOW);
        post(2, "fraud", 1000);
        vm.expectEmit();
        emit IRewardDistributor.RootVetoed(2, "fraud");
        veto();
        assertEq(distributor.nextBatch(), 2, "the number is free again");
        assertEq(distributor.totalGwei(), 10, "the total is the former one");
        vm.warp(block.timestamp + 10 * WINDOW);
        (uint64 batch, bytes32 root) = distributor.activeRoot();
        assertEq(batch, 1, "the former batch stays active");
        assertEq(root, "first", "the former root stays active");
        post(2, "second", 20);
    }

    function test_guardian_can_do_nothing_else() public {
        bytes memory refused =
            abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, guardian);
        vm.prank(guardian);
        vm.expectRevert(refused);
        distributor.postRoot(1, "root", 0, DATA_HASH, unsigned());
        vm.prank(guardian);
        vm.expectRevert(refused);
        escrow.draw("job", 1, 1);
        vm.prank(guardian);
        vm.expectRevert(refused);
        escrow.finalise("job", 1);
    }

    /// @notice A closed target stops posts and vetoes; claims ask nobody.
    function test_admin_cannot_pause_claims() public {
        bytes32[] memory entries = new bytes32[](1);
        entries[0] = Tree.pack(1, stranger, 10);
        activate(entries);
        authority.setTargetClosed(address(distributor), true);
        distributor.claim(entries[0], new bytes32[](0));
        assertEq(token.balanceOf(stranger), 10 gwei, "the claim was paid");
    }
}
