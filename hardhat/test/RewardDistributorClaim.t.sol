// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

import {RewardDistributor} from "../../contracts/src/RewardDistributor.sol";
import {IRewardDistributor} from "../../contracts/src/interfaces/IRewardDistributor.sol";
import {PlainToken} from "./support/HostileTokens.sol";
import {System, Tree} from "./support/System.sol";
import {vm} from "./support/Vm.sol";

/// @notice A wallet that accepts one digest.
contract ContractWallet is IERC1271 {
    bytes32 public accepted;

    function accept(bytes32 digest) external {
        accepted = digest;
    }

    function isValidSignature(bytes32 digest, bytes memory) external view returns (bytes4) {
        return digest == accepted ? IERC1271.isValidSignature.selector : bytes4(0);
    }
}

/// @notice Claiming: what a proof proves, that nothing is paid twice, and that all three ways pay the same.
contract RewardDistributorClaimTest is System {
    PlainToken internal token;

    function setUp() public {
        vm.warp(1_800_000_000);
        token = new PlainToken();
        deploy(address(token));
        token.mint(address(this), 1e36);
        token.approve(address(distributor), type(uint256).max);
        distributor.fund(1e28);
    }

    /// @dev `count` entries with ascending indices with gaps, and amounts between 0 and 1e15 gwei.
    function makeEntries(uint256 seed, uint256 count) internal pure returns (bytes32[] memory entries) {
        entries = new bytes32[](count);
        uint32 index;
        for (uint256 i; i < count; ++i) {
            uint256 random = uint256(keccak256(abi.encode(seed, i)));
            index += 1 + uint32(random % 3);
            entries[i] = Tree.pack(index, accountOf(index), uint64((random >> 32) % 1e15));
        }
    }

    /// @dev The same accounts with higher amounts.
    function raise(bytes32[] memory entries, uint256 seed) internal pure returns (bytes32[] memory raised) {
        raised = new bytes32[](entries.length);
        for (uint256 i; i < entries.length; ++i) {
            raised[i] = bytes32(uint256(entries[i]) + uint256(keccak256(abi.encode(seed, i, "raise"))) % 1e15);
        }
    }

    function accountOf(uint32 index) internal pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encode("account", index)))));
    }

    function indexOf(bytes32 entry) internal pure returns (uint32) {
        return uint32(uint256(entry) >> 224);
    }

    function cumulativeOf(bytes32 entry) internal pure returns (uint64) {
        return uint64(uint256(entry));
    }

    /*//////////////////////////////////////////////////////////////
                                  CLAIM
    //////////////////////////////////////////////////////////////*/

    function testFuzz_claims_pay_each_account_its_amount_and_never_twice(uint256 seed, uint8 size) public {
        bytes32[] memory entries = makeEntries(seed, bound(size, 1, 24));
        for (uint256 round; round < 2; ++round) {
            bytes32[][] memory levels = activate(entries);
            for (uint256 i; i < entries.length; ++i) {
                bytes32[] memory proof = Tree.proof(levels, 0, i);
                uint32 index = indexOf(entries[i]);
                if (cumulativeOf(entries[i]) > distributor.claimedGwei(index)) distributor.claim(entries[i], proof);
                assertEq(
                    token.balanceOf(accountOf(index)), uint256(cumulativeOf(entries[i])) * 1 gwei, "paid to the wei"
                );
                assertEq(distributor.claimedGwei(index), cumulativeOf(entries[i]), "counter");
                vm.expectRevert(IRewardDistributor.NothingToClaim.selector);
                distributor.claim(entries[i], proof);
            }
            entries = raise(entries, seed);
        }
    }

    /// @notice claim == claimSubtree == OpenZeppelin's MerkleProof, for every aligned block of a random tree.
    function testFuzz_all_ways_agree(uint256 seed, uint8 size, uint8 height, uint8 block_) public {
        bytes32[] memory entries = makeEntries(seed, bound(size, 1, 24));
        bytes32[][] memory levels = treeOf(entries);
        uint256 k = bound(height, 0, levels.length - 1);
        uint256 position = bound(block_, 0, levels[k].length - 1);
        bytes32[] memory proof = Tree.proof(levels, k, position);
        require(MerkleProof.verify(proof, Tree.root(levels), levels[k][position]), "OpenZeppelin agrees");

        RewardDistributor single = distributor;
        activate(entries);
        uint256 sum;
        bytes32[] memory pushed = new bytes32[](1 << k);
        for (uint256 i; i < pushed.length; ++i) {
            uint256 leaf = (position << k) + i;
            if (leaf >= entries.length) continue;
            pushed[i] = entries[leaf];
            require(
                MerkleProof.verify(Tree.proof(levels, 0, leaf), Tree.root(levels), single.leafOf(entries[leaf])),
                "OpenZeppelin agrees on each leaf"
            );
            if (cumulativeOf(entries[leaf]) != 0) sum += single.claim(entries[leaf], Tree.proof(levels, 0, leaf));
        }

        deploy(address(token));
        token.approve(address(distributor), type(uint256).max);
        distributor.fund(1e28);
        levels = activate(entries);
        assertEq(distributor.claimSubtree(pushed, Tree.proof(levels, k, position)), sum, "same sum");
        for (uint256 i; i < pushed.length; ++i) {
            uint32 index = indexOf(pushed[i]);
            assertEq(distributor.claimedGwei(index), single.claimedGwei(index), "same counters");
            if (index == 0) continue;
            assertEq(
                token.balanceOf(accountOf(index)), 2 * uint256(cumulativeOf(pushed[i])) * 1 gwei, "paid by both"
            );
        }
        assertEq(distributor.claimSubtree(pushed, Tree.proof(levels, k, position)), 0, "a second push pays nothing");
    }

    function testFuzz_neighbours_in_a_word_do_not_touch_each_other(uint64 a, uint64 b, uint64 c, uint64 d) public {
        uint64[4] memory amounts = [a, b, c, d];
        bytes32[] memory entries = new bytes32[](4);
        uint128 total;
        for (uint32 i; i < 4; ++i) {
            amounts[i] = uint64(bound(amounts[i], 0, 2e17));
            entries[i] = Tree.pack(4 + i, accountOf(i), amounts[i]);
            total += amounts[i];
        }
        bytes32[][] memory levels = activate(entries);
        for (uint32 i; i < 4; ++i) {
            uint32 leaf = (i * 3 + uint32(a % 4)) % 4;
            if (amounts[leaf] != 0) distributor.claim(entries[leaf], Tree.proof(levels, 0, leaf));
        }
        for (uint32 i; i < 4; ++i) assertEq(distributor.claimedGwei(4 + i), amounts[i], "counter");
        distributor.claimSubtree(entries, new bytes32[](0));
        assertEq(token.balanceOf(address(distributor)), 1e28 - uint256(total) * 1 gwei, "balance = funded - paid");
    }

    function test_largest_amount_fits_its_counter() public {
        deploy(address(token), WINDOW, type(uint64).max, 0);
        token.approve(address(distributor), type(uint256).max);
        distributor.fund(uint256(type(uint64).max) * 1 gwei);
        bytes32[] memory entries = new bytes32[](1);
        entries[0] = Tree.pack(type(uint32).max, stranger, type(uint64).max);
        activate(entries);
        distributor.claim(entries[0], new bytes32[](0));
        assertEq(distributor.claimedGwei(type(uint32).max), type(uint64).max, "counter");
        assertEq(distributor.claimedGwei(type(uint32).max - 1), 0, "its neighbour");
    }

    /*//////////////////////////////////////////////////////////////
                              WRONG PROOFS
    //////////////////////////////////////////////////////////////*/

    function testFuzz_altered_entry_is_refused(uint256 seed, uint8 bit) public {
        bytes32[] memory entries = makeEntries(seed, 5);
        bytes32[][] memory levels = activate(entries);
        bytes32 altered = entries[2] ^ bytes32(uint256(1) << bit);
        vm.expectRevert(IRewardDistributor.InvalidProof.selector);
        distributor.claim(altered, Tree.proof(levels, 0, 2));
    }

    function testFuzz_proof_of_another_chain_is_refused(uint64 chain) public {
        chain = uint64(bound(chain, 1, 1 << 40));
        vm.assume(chain != block.chainid);
        bytes32[] memory entries = makeEntries(chain, 4);
        bytes32[][] memory levels = activate(entries);
        vm.chainId(chain);
        vm.expectRevert(IRewardDistributor.InvalidProof.selector);
        distributor.claim(entries[0], Tree.proof(levels, 0, 0));
    }

    /// @notice A root made for one distributor, posted on another by a careless poster, pays nobody there.
    function test_proof_of_another_contract_is_refused() public {
        bytes32[] memory entries = makeEntries(1, 4);
        bytes32[][] memory levels = treeOf(entries);
        deploy(address(token));
        token.approve(address(distributor), type(uint256).max);
        distributor.fund(1e28);
        post(1, Tree.root(levels), totalOf(entries));
        vm.warp(block.timestamp + WINDOW);
        vm.expectRevert(IRewardDistributor.InvalidProof.selector);
        distributor.claim(entries[0], Tree.proof(levels, 0, 0));
        vm.expectRevert(IRewardDistributor.InvalidProof.selector);
        distributor.claimSubtree(entries, new bytes32[](0));
    }

    function test_waiting_root_pays_nothing() public {
        bytes32[] memory entries = makeEntries(1, 4);
        bytes32[][] memory levels = treeOf(entries);
        post(1, Tree.root(levels), totalOf(entries));
        vm.warp(block.timestamp + WINDOW - 1);
        vm.expectRevert(IRewardDistributor.InvalidProof.selector);
        distributor.claim(entries[0], Tree.proof(levels, 0, 0));
        vm.expectRevert(IRewardDistributor.InvalidProof.selector);
        distributor.claimSubtree(entries, new bytes32[](0));
    }

    function test_vetoed_root_never_pays_and_the_former_one_goes_on() public {
        bytes32[] memory former = makeEntries(1, 4);
        bytes32[][] memory formerLevels = activate(former);
        bytes32[] memory fraud = raise(former, 2);
        bytes32[][] memory fraudLevels = treeOf(fraud);
        post(2, Tree.root(fraudLevels), totalOf(fraud));
        distributor.claim(former[0], Tree.proof(formerLevels, 0, 0));
        veto();
        distributor.claim(former[1], Tree.proof(formerLevels, 0, 1));
        vm.warp(block.timestamp + 10 * WINDOW);
        vm.expectRevert(IRewardDistributor.InvalidProof.selector);
        distributor.claim(fraud[2], Tree.proof(fraudLevels, 0, 2));
        distributor.claim(former[2], Tree.proof(formerLevels, 0, 2));
    }

    function test_former_root_stays_claimable_while_the_next_one_waits() public {
        bytes32[] memory former = makeEntries(1, 4);
        bytes32[][] memory levels = activate(former);
        post(2, "next", totalOf(former));
        distributor.claim(former[0], Tree.proof(levels, 0, 0));
    }

    /// @notice Neither an inner node nor a leaf passes for the other: a leaf hashes one word, a node two.
    function test_inner_node_is_not_an_entry() public {
        bytes32[] memory entries = makeEntries(1, 4);
        bytes32[][] memory levels = activate(entries);
        bytes32[] memory nodes = new bytes32[](2);
        (nodes[0], nodes[1]) = (levels[1][0], levels[1][1]);
        vm.expectRevert(IRewardDistributor.InvalidProof.selector);
        distributor.claimSubtree(nodes, new bytes32[](0));
        vm.expectRevert(IRewardDistributor.InvalidProof.selector);
        distributor.claim(levels[1][0], Tree.proof(levels, 1, 0));
    }

    function testFuzz_subtree_needs_a_power_of_two(uint8 length) public {
        vm.assume(length == 0 || length & (length - 1) != 0);
        vm.expectRevert(abi.encodeWithSelector(IRewardDistributor.NotPowerOfTwo.selector, length));
        distributor.claimSubtree(new bytes32[](length), new bytes32[](0));
    }

    function test_padding_pays_nothing_even_before_the_first_root() public {
        assertEq(distributor.claimSubtree(new bytes32[](1), new bytes32[](0)), 0, "nothing is paid");
        assertEq(token.balanceOf(address(distributor)), 1e28, "nothing has moved");
    }

    /*//////////////////////////////////////////////////////////////
                              OTHER ADDRESS
    //////////////////////////////////////////////////////////////*/

    function digestOf(bytes32 entry, address to, uint256 deadline) internal view returns (bytes32) {
        bytes32 message =
            keccak256(abi.encode(keccak256("Claim(bytes32 entry,address to,uint256 deadline)"), entry, to, deadline));
        return typedDigest("AnyNode RewardDistributor", block.chainid, address(distributor), message);
    }

    function testFuzz_signed_claim_pays_elsewhere_once(uint256 key, address to) public {
        key = bound(key, 1, type(uint128).max);
        vm.assume(to != address(0) && to != address(distributor));
        bytes32[] memory entries = new bytes32[](1);
        entries[0] = Tree.pack(7, vm.addr(key), 1000);
        activate(entries);
        uint256 deadline = block.timestamp;
        bytes memory signature = sign(key, digestOf(entries[0], to, deadline));
        uint256 before = token.balanceOf(to);
        distributor.claimWithSig(entries[0], new bytes32[](0), to, deadline, signature);
        assertEq(token.balanceOf(to) - before, 1000 gwei, "paid elsewhere");
        vm.expectRevert(IRewardDistributor.NothingToClaim.selector);
        distributor.claimWithSig(entries[0], new bytes32[](0), to, deadline, signature);
    }

    function test_signature_is_bound_to_signer_entry_receiver_and_time() public {
        bytes32[] memory entries = new bytes32[](1);
        entries[0] = Tree.pack(7, vm.addr(1), 1000);
        activate(entries);
        uint256 deadline = block.timestamp + 1;
        bytes memory signature = sign(1, digestOf(entries[0], owner, deadline));
        bytes memory foreign = sign(2, digestOf(entries[0], owner, deadline));
        bytes32[] memory none = new bytes32[](0);
        vm.expectRevert(IRewardDistributor.InvalidSignature.selector);
        distributor.claimWithSig(entries[0], none, owner, deadline, foreign);
        vm.expectRevert(IRewardDistributor.InvalidSignature.selector);
        distributor.claimWithSig(entries[0], none, stranger, deadline, signature);
        vm.expectRevert(IRewardDistributor.InvalidSignature.selector);
        distributor.claimWithSig(entries[0], none, owner, deadline + 1, signature);
        vm.expectRevert(IRewardDistributor.InvalidSignature.selector);
        distributor.claimWithSig(Tree.pack(7, vm.addr(1), 1001), none, owner, deadline, signature);
        vm.warp(deadline + 1);
        vm.expectRevert(IRewardDistributor.SignatureExpired.selector);
        distributor.claimWithSig(entries[0], none, owner, deadline, signature);
    }

    function test_contract_wallet_signs_by_eip1271() public {
        ContractWallet wallet = new ContractWallet();
        bytes32[] memory entries = new bytes32[](1);
        entries[0] = Tree.pack(7, address(wallet), 1000);
        activate(entries);
        uint256 deadline = block.timestamp;
        vm.expectRevert(IRewardDistributor.InvalidSignature.selector);
        distributor.claimWithSig(entries[0], new bytes32[](0), owner, deadline, "");
        wallet.accept(digestOf(entries[0], owner, deadline));
        distributor.claimWithSig(entries[0], new bytes32[](0), owner, deadline, "");
        assertEq(token.balanceOf(owner), 1000 gwei, "paid elsewhere");
    }
}
