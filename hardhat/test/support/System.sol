// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

import {JobEscrow} from "../../../contracts/src/JobEscrow.sol";
import {RewardDistributor} from "../../../contracts/src/RewardDistributor.sol";
import {vm} from "./Vm.sol";

/// @notice The reward tree, written for clearness: a complete binary tree over padded leaves.
library Tree {
    function pack(uint32 index, address account, uint64 cumulativeGwei) internal pure returns (bytes32) {
        return bytes32(abi.encodePacked(index, account, cumulativeGwei));
    }

    function leafOf(uint256 chainId, address distributor, bytes32 entry) internal pure returns (bytes32) {
        if (entry == 0) return 0;
        bytes32 domain = keccak256(abi.encode(chainId, distributor));
        return keccak256(abi.encode(keccak256(abi.encode(domain, entry))));
    }

    /// @dev Levels from the leaves to the root.
    function build(bytes32[] memory leaves) internal pure returns (bytes32[][] memory levels) {
        uint256 height;
        while (1 << height < leaves.length) ++height;
        levels = new bytes32[][](height + 1);
        levels[0] = new bytes32[](1 << height);
        for (uint256 i; i < leaves.length; ++i) levels[0][i] = leaves[i];
        for (uint256 level = 1; level <= height; ++level) {
            bytes32[] memory below = levels[level - 1];
            levels[level] = new bytes32[](below.length / 2);
            for (uint256 i; i < levels[level].length; ++i) {
                levels[level][i] = Hashes.commutativeKeccak256(below[2 * i], below[2 * i + 1]);
            }
        }
    }

    function root(bytes32[][] memory levels) internal pure returns (bytes32) {
        return levels[levels.length - 1][0];
    }

    function proof(bytes32[][] memory levels, uint256 height, uint256 position)
        internal
        pure
        returns (bytes32[] memory siblings)
    {
        siblings = new bytes32[](levels.length - 1 - height);
        for (uint256 i; i < siblings.length; ++i) siblings[i] = levels[height + i][(position >> i) ^ 1];
    }
}

/// @notice The contracts with their roles, as every test starts from.
abstract contract System {
    uint64 internal constant WINDOW = 24 hours;
    uint64 internal constant DAILY_CAP_GWEI = 1e18;
    bytes32 internal constant DATA_HASH = keccak256("entries");

    address internal immutable poster = makeAddress("poster");
    address internal immutable guardian = makeAddress("guardian");
    address internal immutable settler = makeAddress("settler");
    address internal immutable owner = makeAddress("owner");
    address internal immutable stranger = makeAddress("stranger");

    AccessManager internal authority;
    RewardDistributor internal distributor;
    JobEscrow internal escrow;

    function deploy(address token) internal {
        deploy(token, WINDOW, DAILY_CAP_GWEI);
    }

    function deploy(address token, uint64 window, uint64 dailyCapGwei) internal {
        authority = new AccessManager(address(this));
        distributor = new RewardDistributor(IERC20(token), address(authority), window, dailyCapGwei);
        escrow = new JobEscrow(distributor, address(authority));
        grant(address(distributor), RewardDistributor.postRoot.selector, 1, poster);
        grant(address(distributor), RewardDistributor.veto.selector, 2, guardian);
        grant(address(escrow), JobEscrow.draw.selector, 3, settler);
        grant(address(escrow), JobEscrow.finalise.selector, 3, settler);
    }

    function grant(address target, bytes4 selector, uint64 role, address holder) private {
        bytes4[] memory selectors = new bytes4[](1);
        selectors[0] = selector;
        authority.setTargetFunctionRole(target, selectors, role);
        authority.grantRole(role, holder, 0);
    }

    function makeAddress(string memory name) internal pure returns (address) {
        return address(uint160(uint256(keccak256(bytes(name)))));
    }

    function leafOf(bytes32 entry) internal view returns (bytes32) {
        return Tree.leafOf(block.chainid, address(distributor), entry);
    }

    function treeOf(bytes32[] memory entries) internal view returns (bytes32[][] memory) {
        bytes32[] memory leaves = new bytes32[](entries.length);
        for (uint256 i; i < entries.length; ++i) leaves[i] = leafOf(entries[i]);
        return Tree.build(leaves);
    }

    function totalOf(bytes32[] memory entries) internal pure returns (uint128 total) {
        for (uint256 i; i < entries.length; ++i) total += uint64(uint256(entries[i]));
    }

    function post(uint64 batch, bytes32 root, uint128 totalGwei) internal {
        vm.prank(poster);
        distributor.postRoot(batch, root, totalGwei, DATA_HASH);
    }

    function veto() internal {
        vm.prank(guardian);
        distributor.veto();
    }

    /// @dev Posts the next root over `entries` and lets its window pass.
    function activate(bytes32[] memory entries) internal returns (bytes32[][] memory levels) {
        levels = treeOf(entries);
        post(distributor.nextBatch(), Tree.root(levels), totalOf(entries));
        vm.warp(block.timestamp + distributor.WINDOW());
    }

    function bound(uint256 value, uint256 low, uint256 high) internal pure returns (uint256) {
        return low + value % (high - low + 1);
    }

    error NotEqual(string what, uint256 found, uint256 expected);

    function assertEq(uint256 found, uint256 expected, string memory what) internal pure {
        if (found != expected) revert NotEqual(what, found, expected);
    }

    function assertEq(bytes32 found, bytes32 expected, string memory what) internal pure {
        assertEq(uint256(found), uint256(expected), what);
    }

    function assertEq(address found, address expected, string memory what) internal pure {
        assertEq(uint160(found), uint160(expected), what);
    }
}
