// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

import {JobEscrow} from "../../../contracts/src/JobEscrow.sol";
import {MinerRegistry} from "../../../contracts/src/MinerRegistry.sol";
import {RewardDistributor} from "../../../contracts/src/RewardDistributor.sol";
import {StakeManager} from "../../../contracts/src/StakeManager.sol";
import {VerifierSet} from "../../../contracts/src/VerifierSet.sol";
import {IRewardDistributor} from "../../../contracts/src/interfaces/IRewardDistributor.sol";
import {IVerifierSet} from "../../../contracts/src/interfaces/IVerifierSet.sol";
import {Signing} from "./Signing.sol";
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

/// @notice The contracts with their roles, as every test starts from, and verifiers that sign what is posted.
abstract contract System is Signing {
    uint64 internal constant WINDOW = 24 hours;
    uint64 internal constant DAILY_CAP_GWEI = 1e18;
    bytes32 internal constant DATA_HASH = keccak256("entries");
    uint32 internal constant SIGNERS = 3;
    uint32 internal constant SIGNERS_NEEDED = 2;

    address internal immutable poster = makeAddress("poster");
    address internal immutable guardian = makeAddress("guardian");
    address internal immutable settler = makeAddress("settler");
    address internal immutable owner = makeAddress("owner");
    address internal immutable stranger = makeAddress("stranger");

    AccessManager internal authority;
    RewardDistributor internal distributor;
    JobEscrow internal escrow;

    /// @dev The verifiers whose signatures the distributor asks for. They have no bond: tests of bonds make their own.
    VerifierSet internal signers;

    /// @dev Their keys, in the order of their addresses.
    uint256[] internal signerKeys;

    function deploy(address token) internal {
        deploy(token, WINDOW, DAILY_CAP_GWEI, 0);
    }

    function deploy(address token, uint64 window, uint64 dailyCapGwei, uint256 bountyWei) internal {
        authority = new AccessManager(address(this));
        MinerRegistry registry = new MinerRegistry();
        address ahead = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 3);
        IVerifierSet set = IVerifierSet(ahead);
        distributor = new RewardDistributor(IERC20(token), set, address(authority), window, dailyCapGwei, bountyWei);
        escrow = new JobEscrow(distributor, address(authority));
        StakeManager bonds = new StakeManager(escrow, registry, set, address(authority), 0);
        signers = new VerifierSet(bonds, address(authority), 0);
        enroll(registry);
        grant(address(distributor), RewardDistributor.postRoot.selector, 1, poster);
        grant(address(distributor), RewardDistributor.veto.selector, 2, guardian);
        grant(address(escrow), JobEscrow.draw.selector, 3, settler);
        grant(address(escrow), JobEscrow.finalise.selector, 3, settler);
    }

    /// @dev Adds the verifiers that sign roots.
    function enroll(MinerRegistry registry) private {
        delete signerKeys;
        for (uint256 i; i < SIGNERS; ++i) {
            uint256 key = uint256(keccak256(abi.encode("signer", i)));
            signerKeys.push(key);
            for (uint256 place = i; place > 0 && vm.addr(signerKeys[place]) < vm.addr(signerKeys[place - 1]); --place) {
                (signerKeys[place], signerKeys[place - 1]) = (signerKeys[place - 1], signerKeys[place]);
            }
            vm.prank(vm.addr(key));
            registry.register(vm.addr(key));
            signers.add(vm.addr(key), uint32((i + 1) / 2 + 1));
        }
    }

    function grant(address target, bytes4 selector, uint64 role, address holder) internal {
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

    /// @dev The entry at `place` with its proof, as the proofs of fraud take it.
    function proven(bytes32[] memory entries, uint256 place) internal view returns (IRewardDistributor.Proven memory) {
        return IRewardDistributor.Proven(entries[place], Tree.proof(treeOf(entries), 0, place));
    }

    function totalOf(bytes32[] memory entries) internal pure returns (uint128 total) {
        for (uint256 i; i < entries.length; ++i) total += uint64(uint256(entries[i]));
    }

    function post(uint64 batch, bytes32 root, uint128 totalGwei) internal {
        IVerifierSet.Signature[] memory signatures = signRoot(batch, root, totalGwei);
        vm.prank(poster);
        distributor.postRoot(batch, root, totalGwei, DATA_HASH, signatures);
    }

    /// @dev As many verifiers as must sign it for the distributor as it stands.
    function signRoot(uint64 batch, bytes32 root, uint128 totalGwei)
        internal
        view
        returns (IVerifierSet.Signature[] memory signatures)
    {
        bytes32 digest = rootDigest(batch, distributor.cancelled(), root, totalGwei);
        signatures = new IVerifierSet.Signature[](SIGNERS_NEEDED);
        for (uint256 i; i < SIGNERS_NEEDED; ++i) {
            signatures[i] = IVerifierSet.Signature(vm.addr(signerKeys[i]), sign(signerKeys[i], digest));
        }
    }

    function rootDigest(uint64 batch, uint24 cancelled, bytes32 root, uint128 totalGwei)
        internal
        view
        returns (bytes32)
    {
        return rootDigest(block.chainid, address(distributor), batch, cancelled, root, totalGwei);
    }

    function rootDigest(
        uint256 chainId,
        address distributor_,
        uint64 batch,
        uint24 cancelled,
        bytes32 root,
        uint128 totalGwei
    ) internal pure returns (bytes32) {
        bytes32 message = keccak256(
            abi.encode(
                keccak256("Root(uint64 batch,uint24 cancelled,bytes32 root,uint128 totalGwei,bytes32 dataHash)"),
                batch,
                cancelled,
                root,
                totalGwei,
                DATA_HASH
            )
        );
        return typedDigest("AnyNode RewardDistributor", chainId, distributor_, message);
    }

    /// @dev No signatures, for what is refused before anybody looks at them.
    function unsigned() internal pure returns (IVerifierSet.Signature[] memory) {
        return new IVerifierSet.Signature[](0);
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
