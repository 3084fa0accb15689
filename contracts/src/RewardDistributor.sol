// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20, SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

import {IRewardDistributor} from "./interfaces/IRewardDistributor.sol";

/// @title RewardDistributor
/// @notice See {IRewardDistributor}, which is the specification.
contract RewardDistributor is IRewardDistributor, AccessManaged, EIP712, ReentrancyGuard {
    using SafeERC20 for IERC20;

    /// @dev About the newest root, in one slot. While it waits, `previousTotalGwei` is what a veto restores.
    struct Head {
        uint64 activeAt;
        uint64 batch;
        uint64 totalGwei;
        uint64 previousTotalGwei;
    }

    /// @dev What is in place, and how much was promised on `day` (days since 1970), in one slot.
    struct Funds {
        uint128 fundedWei;
        uint64 promisedGwei;
        uint64 day;
    }

    /*//////////////////////////////////////////////////////////////
                                 STORAGE
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IRewardDistributor
    uint64 public constant MIN_WINDOW = 6 hours;

    /// @inheritdoc IRewardDistributor
    uint64 public constant MAX_WINDOW = 30 days;

    uint256 private constant _DEVELOPMENT_CHAIN_ID = 31337;

    bytes32 private constant _CLAIM_TYPEHASH = keccak256("Claim(bytes32 entry,address to,uint256 deadline)");

    /// @inheritdoc IRewardDistributor
    IERC20 public immutable TOKEN;

    /// @inheritdoc IRewardDistributor
    uint64 public immutable WINDOW;

    /// @inheritdoc IRewardDistributor
    uint64 public immutable DAILY_CAP_GWEI;

    /// @dev The newest root known to be active. A claim reads only this slot until `_newest` has become active.
    bytes32 private _active;

    /// @dev The root that waits or has become active by itself; equal to `_active` after a veto.
    bytes32 private _newest;

    Head private _head;

    Funds private _funds;

    /// @dev Four counters of 64 bits, in gwei, share a word: index i is at `i / 4`, bits `64 * (i % 4)` and up.
    mapping(uint256 word => uint256 counters) private _claimed;

    /// @param token What is paid.
    /// @param authority The AccessManager that knows the poster and the guardian.
    /// @param window How long a root waits, in seconds: 24 hours, never below 6 hours but on a development chain.
    /// @param dailyCapGwei By how much the roots of one day may raise the total.
    constructor(IERC20 token, address authority, uint64 window, uint64 dailyCapGwei)
        AccessManaged(authority)
        EIP712("AnyNode RewardDistributor", "1")
    {
        uint64 floor = block.chainid == _DEVELOPMENT_CHAIN_ID ? 1 : MIN_WINDOW;
        if (window < floor || window > MAX_WINDOW) revert WindowOutOfRange(window);
        TOKEN = token;
        WINDOW = window;
        DAILY_CAP_GWEI = dailyCapGwei;
    }

    /*//////////////////////////////////////////////////////////////
                              FUND AND POST
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IRewardDistributor
    function fund(uint256 amount) external nonReentrant {
        uint256 before = TOKEN.balanceOf(address(this));
        TOKEN.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = TOKEN.balanceOf(address(this)) - before;
        if (received != amount) revert TransferMismatch(amount, received);
        _funds.fundedWei += SafeCast.toUint128(amount);
        emit Funded(msg.sender, amount);
    }

    /// @inheritdoc IRewardDistributor
    function postRoot(uint64 batch, bytes32 root, uint128 total, bytes32 dataHash) external restricted {
        Head memory head = _head;
        if (block.timestamp < head.activeAt) revert RootWaiting(head.activeAt);
        if (batch != head.batch + 1) revert WrongBatch(head.batch + 1);
        if (root == 0) revert ZeroRoot();
        if (total < head.totalGwei || total > type(uint64).max) revert TotalOutOfRange(total);

        Funds memory funds = _funds;
        if (uint256(total) * 1 gwei > funds.fundedWei) revert NotFunded(uint256(total) * 1 gwei, funds.fundedWei);
        uint64 day = uint64(block.timestamp / 1 days);
        uint256 promised = total - head.totalGwei;
        if (funds.day == day) promised += funds.promisedGwei;
        if (promised > DAILY_CAP_GWEI) revert DailyCapExceeded(promised);
        _funds = Funds(funds.fundedWei, uint64(promised), day);

        bytes32 former = _newest;
        if (_active != former) _active = former;
        _newest = root;
        uint64 activeAt = uint64(block.timestamp) + WINDOW;
        _head = Head(activeAt, batch, uint64(total), head.totalGwei);
        emit RootPosted(batch, root, total, dataHash, activeAt);
    }

    /// @inheritdoc IRewardDistributor
    function veto() external restricted {
        Head memory head = _head;
        if (block.timestamp >= head.activeAt) revert NoRootWaiting();
        // What the vetoed root would have added to this day's promises is free again.
        _funds.promisedGwei -= head.totalGwei - head.previousTotalGwei;
        bytes32 vetoed = _newest;
        _newest = _active;
        _head = Head(0, head.batch - 1, head.previousTotalGwei, head.previousTotalGwei);
        emit RootVetoed(head.batch, vetoed);
    }

    /*//////////////////////////////////////////////////////////////
                                  CLAIM
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IRewardDistributor
    function claim(bytes32 entry, bytes32[] calldata proof) external returns (uint256 amount) {
        _checkActive(_walk(_leaf(domain(), entry), proof));
        amount = _settle(entry);
        TOKEN.safeTransfer(_accountOf(entry), amount);
    }

    /// @inheritdoc IRewardDistributor
    function claimSubtree(bytes32[] calldata entries, bytes32[] calldata proof) external returns (uint256 amount) {
        _checkActive(_walk(_subtreeRoot(entries), proof));
        uint256 length = entries.length;
        bytes32[] memory paid = new bytes32[](length);
        uint256 count;
        for (uint256 i; i < length; ++i) {
            bytes32 entry = entries[i];
            uint256 pushed = _push(entry);
            if (pushed != 0) {
                amount += pushed;
                paid[count++] = entry;
            }
        }
        assembly ("memory-safe") {
            mstore(paid, count)
        }
        if (count != 0) emit SubtreeClaimed(paid);
    }

    /// @inheritdoc IRewardDistributor
    function claimWithSig(
        bytes32 entry,
        bytes32[] calldata proof,
        address to,
        uint256 deadline,
        bytes calldata signature
    ) external returns (uint256 amount) {
        if (block.timestamp > deadline) revert SignatureExpired();
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(_CLAIM_TYPEHASH, entry, to, deadline)));
        if (!SignatureChecker.isValidSignatureNowCalldata(_accountOf(entry), digest, signature)) {
            revert InvalidSignature();
        }
        _checkActive(_walk(_leaf(domain(), entry), proof));
        amount = _settle(entry);
        emit Redirected(_indexOf(entry), to);
        TOKEN.safeTransfer(to, amount);
    }

    /*//////////////////////////////////////////////////////////////
                                   READ
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IRewardDistributor
    function domain() public view returns (bytes32) {
        // Computed, not stored: after a fork of the chain each side has its own.
        return Hashes.efficientKeccak256(bytes32(block.chainid), bytes32(uint256(uint160(address(this)))));
    }

    /// @inheritdoc IRewardDistributor
    function leafOf(bytes32 entry) external view returns (bytes32) {
        return _leaf(domain(), entry);
    }

    /// @inheritdoc IRewardDistributor
    function activeRoot() external view returns (uint64 batch, bytes32 root) {
        Head memory head = _head;
        if (block.timestamp >= head.activeAt) return (head.batch, _newest);
        return (head.batch - 1, _active);
    }

    /// @inheritdoc IRewardDistributor
    function waitingRoot() external view returns (uint64 batch, bytes32 root, uint64 activeAt) {
        Head memory head = _head;
        if (block.timestamp < head.activeAt) return (head.batch, _newest, head.activeAt);
    }

    /// @inheritdoc IRewardDistributor
    function nextBatch() external view returns (uint64) {
        return _head.batch + 1;
    }

    /// @inheritdoc IRewardDistributor
    function totalGwei() external view returns (uint64) {
        return _head.totalGwei;
    }

    /// @inheritdoc IRewardDistributor
    function fundedWei() external view returns (uint256) {
        return _funds.fundedWei;
    }

    /// @inheritdoc IRewardDistributor
    function claimedGwei(uint32 index) external view returns (uint64) {
        return uint64(_claimed[index >> 2] >> ((index & 3) << 6));
    }

    /*//////////////////////////////////////////////////////////////
                                 INTERNAL
    //////////////////////////////////////////////////////////////*/

    /// @dev Accepts the hash of an active root. The first claim on a root whose window has ended stores that it is
    /// active, so that later claims read one slot.
    function _checkActive(bytes32 hash) private {
        if (hash == _active) return;
        if (hash != _newest || block.timestamp < _head.activeAt) revert InvalidProof();
        _active = hash;
    }

    /// @dev Raises the counter of `entry` to its cumulative amount; returns the difference in wei.
    function _settle(bytes32 entry) private returns (uint256 amount) {
        (amount,) = _raise(entry);
        if (amount == 0) revert NothingToClaim();
        emit Claimed(_indexOf(entry), entry);
    }

    /// @dev Pays one entry of a subtree; returns what was paid in wei, 0 if there was nothing to pay or the token
    /// refused. The counter is raised before the transfer, so that a reentrant token finds nothing to claim, and
    /// lowered again if the transfer failed.
    function _push(bytes32 entry) private returns (uint256) {
        (uint256 amount, uint256 raised) = _raise(entry);
        if (amount == 0) return 0;
        if (TOKEN.trySafeTransfer(_accountOf(entry), amount)) return amount;
        _claimed[uint256(entry) >> 226] -= raised;
        emit Skipped(_indexOf(entry), entry);
        return 0;
    }

    /// @dev Raises the counter of `entry`, never lowers it. As the sum fits into the counter's 64 bits, no carry
    /// reaches its neighbour.
    /// @return amount By how much, in wei; 0 if nothing was to be raised.
    /// @return raised What was added to the word of the four counters.
    function _raise(bytes32 entry) private returns (uint256 amount, uint256 raised) {
        unchecked {
            uint256 word = uint256(entry) >> 226;
            uint256 shift = (uint256(entry) >> 218) & 0xc0;
            uint256 counters = _claimed[word];
            uint256 cumulative = uint64(uint256(entry));
            uint256 paid = uint64(counters >> shift);
            if (cumulative <= paid) return (0, 0);
            amount = (cumulative - paid) * 1 gwei;
            raised = (cumulative - paid) << shift;
            _claimed[word] = counters + raised;
        }
    }

    /// @dev The first field of an entry.
    function _indexOf(bytes32 entry) private pure returns (uint32) {
        return uint32(uint256(entry) >> 224);
    }

    /// @dev The second field of an entry.
    function _accountOf(bytes32 entry) private pure returns (address) {
        return address(uint160(uint256(entry) >> 64));
    }

    /// @dev A leaf hashes one word and an inner node two, so neither can be taken for the other.
    function _leaf(bytes32 domain_, bytes32 entry) private pure returns (bytes32 leaf) {
        leaf = Hashes.efficientKeccak256(domain_, entry);
        assembly ("memory-safe") {
            mstore(0x00, leaf)
            leaf := keccak256(0x00, 0x20)
        }
    }

    /// @dev Hashes from a node up to the root, pairs in sorted order: OpenZeppelin's `processProofCalldata`, without
    /// its bounds checks. The smaller of two hashes goes to offset 0x00, the other to 0x20.
    function _walk(bytes32 node, bytes32[] calldata proof) private pure returns (bytes32) {
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
    function _subtreeRoot(bytes32[] calldata entries) private view returns (bytes32 root) {
        uint256 width = entries.length;
        if (width == 0 || width & (width - 1) != 0) revert NotPowerOfTwo(width);
        bytes32 domain_ = domain();
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
