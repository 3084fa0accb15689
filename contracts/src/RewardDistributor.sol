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
import {IVerifierSet} from "./interfaces/IVerifierSet.sol";
import {isDevelopmentChain} from "./libraries/DevelopmentChain.sol";
import {RewardTree} from "./libraries/RewardTree.sol";

/// @title RewardDistributor
/// @notice See {IRewardDistributor}, which is the specification.
contract RewardDistributor is IRewardDistributor, AccessManaged, EIP712, ReentrancyGuard {
    using SafeERC20 for IERC20;

    /// @dev About the newest root, in one slot. While it waits, `previousTotalGwei` is what a veto restores.
    struct Head {
        uint40 activeAt;
        uint24 cancelled;
        uint64 batch;
        uint64 totalGwei;
        uint64 previousTotalGwei;
    }

    /// @dev What is in place, how much was promised on `day` (days since 1970), and what bounties are paid from, in one
    /// slot.
    struct Funds {
        uint128 fundedWei;
        uint64 promisedGwei;
        uint16 day;
        uint48 bondGwei;
    }

    /*//////////////////////////////////////////////////////////////
                                 STORAGE
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IRewardDistributor
    uint64 public constant MIN_WINDOW = 6 hours;

    /// @inheritdoc IRewardDistributor
    uint64 public constant MAX_WINDOW = 30 days;

    /// @dev What verifiers sign.
    bytes32 private constant _ROOT_TYPEHASH =
        keccak256("Root(uint64 batch,uint24 cancelled,bytes32 root,uint128 totalGwei,bytes32 dataHash)");

    /// @dev What an account signs that wants its tokens elsewhere.
    bytes32 private constant _CLAIM_TYPEHASH = keccak256("Claim(bytes32 entry,address to,uint256 deadline)");

    /// @inheritdoc IRewardDistributor
    IERC20 public immutable TOKEN;

    /// @inheritdoc IRewardDistributor
    IVerifierSet public immutable VERIFIER_SET;

    /// @inheritdoc IRewardDistributor
    uint64 public immutable WINDOW;

    /// @inheritdoc IRewardDistributor
    uint64 public immutable DAILY_CAP_GWEI;

    /// @inheritdoc IRewardDistributor
    uint256 public immutable BOUNTY_WEI;

    /// @dev The newest root known to be active. A claim reads only this slot until `_newest` has become active.
    bytes32 private _active;

    /// @dev The root that waits or has become active by itself; equal to `_active` after a veto.
    bytes32 private _newest;

    /// @dev Number, totals and time of the newest root.
    Head private _head;

    /// @dev What roots and bounties can be paid from.
    Funds private _funds;

    /// @dev Four counters of 64 bits, in gwei, share a word: index i is at `i / 4`, bits `64 * (i % 4)` and up.
    mapping(uint256 word => uint256 counters) private _claimed;

    /// @param token What is paid.
    /// @param verifierSet Says whose signatures a root needs. It may be deployed after this contract.
    /// @param authority The AccessManager that knows the poster and the guardian.
    /// @param window How long a root waits, in seconds: 24 hours, never below 6 hours but on a development chain.
    /// @param dailyCapGwei By how much the roots of one day may raise the total.
    /// @param bountyWei What is paid for a proof of fraud.
    constructor(
        IERC20 token,
        IVerifierSet verifierSet,
        address authority,
        uint64 window,
        uint64 dailyCapGwei,
        uint256 bountyWei
    ) AccessManaged(authority) EIP712("AnyNode RewardDistributor", "1") {
        uint64 floor = isDevelopmentChain() ? 1 : MIN_WINDOW;
        if (window < floor || window > MAX_WINDOW) revert WindowOutOfRange(window);
        TOKEN = token;
        VERIFIER_SET = verifierSet;
        WINDOW = window;
        DAILY_CAP_GWEI = dailyCapGwei;
        _wholeGwei(bountyWei);
        BOUNTY_WEI = bountyWei;
    }

    /*//////////////////////////////////////////////////////////////
                              FUND AND POST
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IRewardDistributor
    function fund(uint256 amount) external nonReentrant {
        _pull(amount);
        _funds.fundedWei += SafeCast.toUint128(amount);
        emit Funded(msg.sender, amount);
    }

    /// @inheritdoc IRewardDistributor
    function bond(uint256 amount) external nonReentrant {
        _pull(amount);
        Funds storage funds = _funds;
        funds.bondGwei = _wholeGwei(uint256(funds.bondGwei) * 1 gwei + amount);
        emit Bonded(msg.sender, amount);
    }

    /// @inheritdoc IRewardDistributor
    function postRoot(
        uint64 batch,
        bytes32 root,
        uint128 total,
        bytes32 dataHash,
        IVerifierSet.Signature[] calldata signatures
    ) external restricted {
        Head memory head = _head;
        if (block.timestamp < head.activeAt) revert RootWaiting(head.activeAt);
        if (batch != head.batch + 1) revert WrongBatch(head.batch + 1);
        if (root == 0) revert ZeroRoot();
        if (total < head.totalGwei || total > type(uint64).max) revert TotalOutOfRange(total);
        _promise(uint64(total), head.totalGwei);
        VERIFIER_SET.checkQuorum(_rootDigest(batch, head.cancelled, root, total, dataHash), signatures);

        bytes32 former = _newest;
        if (_active != former) _active = former;
        _newest = root;
        uint40 activeAt = uint40(block.timestamp) + uint40(WINDOW);
        _head = Head(activeAt, head.cancelled, batch, uint64(total), head.totalGwei);
        emit RootPosted(batch, root, total, dataHash, activeAt);
    }

    /// @inheritdoc IRewardDistributor
    function veto() external restricted {
        _cancel(_waiting());
    }

    /*//////////////////////////////////////////////////////////////
                                  FRAUD
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IRewardDistributor
    function proveDecrease(Proven calldata former, Proven calldata entry) external nonReentrant {
        Head memory head = _waiting();
        // While a root waits, the former one is in `_active`.
        if (_rootOf(former) != _active || _rootOf(entry) != _newest) revert InvalidProof();
        uint32 index = RewardTree.indexOf(entry.entry);
        bool isDecrease = RewardTree.cumulativeOf(entry.entry) < RewardTree.cumulativeOf(former.entry);
        if (!isDecrease || index != RewardTree.indexOf(former.entry)) revert NoFraud();
        _punish(head, index);
    }

    /// @inheritdoc IRewardDistributor
    function proveDuplicate(Proven calldata one, Proven calldata other) external nonReentrant {
        Head memory head = _waiting();
        if (_rootOf(one) != _newest || _rootOf(other) != _newest) revert InvalidProof();
        uint32 index = RewardTree.indexOf(one.entry);
        if (one.entry == other.entry || index != RewardTree.indexOf(other.entry)) revert NoFraud();
        _punish(head, index);
    }

    /*//////////////////////////////////////////////////////////////
                                  CLAIM
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IRewardDistributor
    function claim(bytes32 entry, bytes32[] calldata proof) external returns (uint256 amount) {
        _checkActive(RewardTree.walk(RewardTree.leaf(domain(), entry), proof));
        amount = _settle(entry);
        TOKEN.safeTransfer(RewardTree.accountOf(entry), amount);
    }

    /// @inheritdoc IRewardDistributor
    function claimSubtree(bytes32[] calldata entries, bytes32[] calldata proof) external returns (uint256 amount) {
        _checkActive(RewardTree.walk(RewardTree.subtreeRoot(domain(), entries), proof));
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
        if (!SignatureChecker.isValidSignatureNowCalldata(RewardTree.accountOf(entry), digest, signature)) {
            revert InvalidSignature();
        }
        _checkActive(RewardTree.walk(RewardTree.leaf(domain(), entry), proof));
        amount = _settle(entry);
        emit Redirected(RewardTree.indexOf(entry), to);
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
        return RewardTree.leaf(domain(), entry);
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
    function cancelled() external view returns (uint24) {
        return _head.cancelled;
    }

    /// @inheritdoc IRewardDistributor
    function rootDigest(uint64 batch, bytes32 root, uint128 total, bytes32 dataHash) external view returns (bytes32) {
        return _rootDigest(batch, _head.cancelled, root, total, dataHash);
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
    function bondWei() external view returns (uint256) {
        return uint256(_funds.bondGwei) * 1 gwei;
    }

    /// @inheritdoc IRewardDistributor
    function claimedGwei(uint32 index) external view returns (uint64) {
        return uint64(_claimed[index >> 2] >> ((index & 3) << 6));
    }

    /*//////////////////////////////////////////////////////////////
                                 INTERNAL
    //////////////////////////////////////////////////////////////*/

    /// @dev Takes `amount` from the caller and insists that exactly that arrived.
    function _pull(uint256 amount) private {
        if (amount == 0) revert ZeroAmount();
        uint256 before = TOKEN.balanceOf(address(this));
        TOKEN.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = TOKEN.balanceOf(address(this)) - before;
        if (received != amount) revert TransferMismatch(amount, received);
    }

    /// @dev Sees that a new total is funded, that this day's roots stay within the cap, and that the bond is there.
    function _promise(uint64 total, uint64 former) private {
        Funds memory funds = _funds;
        if (uint256(total) * 1 gwei > funds.fundedWei) revert NotFunded(uint256(total) * 1 gwei, funds.fundedWei);
        uint256 bonded = uint256(funds.bondGwei) * 1 gwei;
        if (bonded < BOUNTY_WEI) revert BondMissing(bonded, BOUNTY_WEI);
        uint16 day = uint16(block.timestamp / 1 days);
        uint256 promised = total - former;
        if (funds.day == day) promised += funds.promisedGwei;
        if (promised > DAILY_CAP_GWEI) revert DailyCapExceeded(promised);
        (funds.promisedGwei, funds.day) = (uint64(promised), day);
        _funds = funds;
    }

    /// @dev The root that waits; there must be one.
    function _waiting() private view returns (Head memory head) {
        head = _head;
        if (block.timestamp >= head.activeAt) revert NoRootWaiting();
    }

    /// @dev Puts the former root in the place of the one that waits.
    function _cancel(Head memory head) private {
        // What the cancelled root would have added to this day's promises is free again.
        _funds.promisedGwei -= head.totalGwei - head.previousTotalGwei;
        bytes32 root = _newest;
        _newest = _active;
        _head = Head(0, head.cancelled + 1, head.batch - 1, head.previousTotalGwei, head.previousTotalGwei);
        emit RootVetoed(head.batch, root);
    }

    /// @dev Cancels the waiting root and pays the caller. The bond is there: it was when the root was posted, and only
    /// this takes of it, which ends the root. A token that refuses the caller, or has been claimed away under a root whose
    /// total was a lie, must not save the root: then it ends unpaid.
    function _punish(Head memory head, uint32 index) private {
        _cancel(head);
        _funds.bondGwei -= uint48(BOUNTY_WEI / 1 gwei);
        bool isPaid = TOKEN.trySafeTransfer(msg.sender, BOUNTY_WEI);
        if (!isPaid) _funds.bondGwei += uint48(BOUNTY_WEI / 1 gwei);
        emit FraudProven(head.batch, index, msg.sender, isPaid ? BOUNTY_WEI : 0);
    }

    /// @dev The root that a proof leads to.
    function _rootOf(Proven calldata proven) private view returns (bytes32) {
        return RewardTree.walk(RewardTree.leaf(domain(), proven.entry), proven.proof);
    }

    /// @dev `amount` in gwei, as the bond holds it.
    function _wholeGwei(uint256 amount) private pure returns (uint48) {
        uint256 gwei_ = amount / 1 gwei;
        if (gwei_ * 1 gwei != amount || gwei_ > type(uint48).max) revert BondOutOfRange(amount);
        return uint48(gwei_);
    }

    /// @dev What verifiers sign for a root.
    function _rootDigest(uint64 batch, uint24 cancelled_, bytes32 root, uint128 total, bytes32 dataHash)
        private
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(keccak256(abi.encode(_ROOT_TYPEHASH, batch, cancelled_, root, total, dataHash)));
    }

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
        emit Claimed(RewardTree.indexOf(entry), entry);
    }

    /// @dev Pays one entry of a subtree; returns what was paid in wei, 0 if there was nothing to pay or the token
    /// refused. The counter is raised before the transfer, so that a reentrant token finds nothing to claim, and
    /// lowered again if the transfer failed.
    function _push(bytes32 entry) private returns (uint256) {
        (uint256 amount, uint256 raised) = _raise(entry);
        if (amount == 0) return 0;
        if (TOKEN.trySafeTransfer(RewardTree.accountOf(entry), amount)) return amount;
        _claimed[uint256(entry) >> 226] -= raised;
        emit Skipped(RewardTree.indexOf(entry), entry);
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
}
