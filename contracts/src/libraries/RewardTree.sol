// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

import {IRewardDistributor} from "../interfaces/IRewardDistributor.sol";

/// @title RewardTree
/// @notice The entries of a reward root, and the way from them to the root. {IRewardDistributor} says what they are.
library RewardTree {
    /// @dev The first field of an entry.
    function indexOf(bytes32 entry) internal pure returns (uint32) {
        return uint32(uint256(entry) >> 224);
    }

    /// @dev The second field of an entry.
    function accountOf(bytes32 entry) internal pure returns (address) {
        return address(uint160(uint256(entry) >> 64));
    }

    /// @dev The third field of an entry.
    function cumulativeOf(bytes32 entry) internal pure returns (uint64) {
        return uint64(uint256(entry));
    }

    /// @dev A leaf hashes one word and an inner node two, so neither can be taken for the other.
    function leaf(bytes32 domain_, bytes32 entry) internal pure returns (bytes32 node) {
        node = Hashes.efficientKeccak256(domain_, entry);
        assembly ("memory-safe") {
            mstore(0x00, node)
            node := keccak256(0x00, 0x20)
        }
    }

    /// @dev Hashes from a node up to the root, pairs in sorted order: OpenZeppelin's `processProofCalldata`, without
    /// its bounds checks. The smaller of two hashes goes to offset 0x00, the other to 0x20.
    function walk(bytes32 node, bytes32[] calldata proof) internal pure returns (bytes32) {
        assembly ("memory-safe") {
            let end := add(proof.offset, shl(5, proof.length))
            for { let at := proof.offset } lt(at, end) { at := add(at, 0x20) } {
                let sibling := calldataload(at)
                let place := shl(5, gt(node, sibling))
                mstore(place, node)
                mstore(xor(place, 0x20), sibling)
                node := keccak256(0x00, 0x40)
            }
        }
        return node;
    }

    /// @dev The root of an aligned block of 2^k entries; a zero word is a padded position, whose leaf is zero. Level by
    /// level in memory behind the free pointer, which is not moved, because nothing is kept.
    function subtreeRoot(bytes32 domain_, bytes32[] calldata entries) internal pure returns (bytes32 root) {
        uint256 width = entries.length;
        if (width == 0 || width & (width - 1) != 0) revert IRewardDistributor.NotPowerOfTwo(width);
        assembly ("memory-safe") {
            let preimage := mload(0x40)
            let nodes := add(preimage, 0x40)
            let size := shl(5, width)
            mstore(preimage, domain_)
            for { let at := 0 } lt(at, size) { at := add(at, 0x20) } {
                let entry := calldataload(add(entries.offset, at))
                let node := 0
                if entry {
                    mstore(add(preimage, 0x20), entry)
                    mstore(0x00, keccak256(preimage, 0x40))
                    node := keccak256(0x00, 0x20)
                }
                mstore(add(nodes, at), node)
            }
            for {} gt(size, 0x20) {} {
                size := shr(1, size)
                for { let at := 0 } lt(at, size) { at := add(at, 0x20) } {
                    let pair := add(nodes, shl(1, at))
                    let left := mload(pair)
                    let right := mload(add(pair, 0x20))
                    let place := shl(5, gt(left, right))
                    mstore(place, left)
                    mstore(xor(place, 0x20), right)
                    mstore(add(nodes, at), keccak256(0x00, 0x40))
                }
            }
            root := mload(nodes)
        }
    }
}
