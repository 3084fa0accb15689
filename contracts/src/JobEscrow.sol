// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20, SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

import {IJobEscrow} from "./interfaces/IJobEscrow.sol";
import {IRewardDistributor} from "./interfaces/IRewardDistributor.sol";

/// @title JobEscrow
/// @notice See {IJobEscrow}, which is the specification.
contract JobEscrow is IJobEscrow, AccessManaged, ReentrancyGuard {
    using SafeERC20 for IERC20;

    /*//////////////////////////////////////////////////////////////
                                 STORAGE
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IJobEscrow
    uint64 public constant REFUND_DELAY = 30 days;

    /// @inheritdoc IJobEscrow
    uint64 public constant MAX_DURATION = 365 days;

    /// @inheritdoc IJobEscrow
    IERC20 public immutable TOKEN;

    /// @inheritdoc IJobEscrow
    IRewardDistributor public immutable DISTRIBUTOR;

    /// @dev Every job that was ever opened, by the hash of its description.
    mapping(bytes32 job => Job) private _jobs;

    /// @param distributor Where draws go; its token is the escrow's.
    /// @param authority The AccessManager that knows the settler.
    constructor(IRewardDistributor distributor, address authority) AccessManaged(authority) {
        DISTRIBUTOR = distributor;
        TOKEN = distributor.TOKEN();
        // The distributor pulls only from who calls it, so this approval serves `draw` alone.
        distributor.TOKEN().forceApprove(address(distributor), type(uint256).max);
    }

    /*//////////////////////////////////////////////////////////////
                                  OWNER
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IJobEscrow
    function create(bytes32 job, uint128 budgetWei, uint128 capPerBatchWei, uint64 deadline)
        external
        nonReentrant
        returns (bytes32)
    {
        Job storage stored = _jobs[job];
        if (job == 0 || stored.owner != address(0)) revert JobHashTaken(job);
        if (budgetWei == 0 || capPerBatchWei == 0) revert ZeroAmount();
        if (deadline <= block.timestamp || deadline > block.timestamp + MAX_DURATION) {
            revert DeadlineOutOfRange(deadline);
        }
        stored.owner = msg.sender;
        stored.deadline = deadline;
        stored.fundedWei = budgetWei;
        stored.capPerBatchWei = capPerBatchWei;
        emit JobCreated(job, msg.sender, budgetWei, capPerBatchWei, deadline);
        _pull(budgetWei);
        return job;
    }

    /// @inheritdoc IJobEscrow
    function fund(bytes32 job, uint128 amountWei) external nonReentrant {
        Job storage stored = _known(job);
        if (amountWei == 0) revert ZeroAmount();
        if (stored.cancelled || stored.finalised || stored.refunded || block.timestamp >= stored.deadline) {
            revert JobEnded(job);
        }
        stored.fundedWei += amountWei;
        emit JobFunded(job, msg.sender, amountWei);
        _pull(amountWei);
    }

    /// @inheritdoc IJobEscrow
    function cancel(bytes32 job) external {
        Job storage stored = _known(job);
        if (msg.sender != stored.owner) revert NotOwner(job);
        if (stored.cancelled || stored.finalised || stored.refunded) revert JobEnded(job);
        stored.cancelled = true;
        if (block.timestamp < stored.deadline) stored.deadline = uint64(block.timestamp);
        emit JobCancelled(job, stored.deadline);
    }

    /// @inheritdoc IJobEscrow
    function refund(bytes32 job) external nonReentrant returns (uint128 amountWei) {
        Job storage stored = _known(job);
        if (stored.refunded) revert JobEnded(job);
        if (block.timestamp < stored.deadline + REFUND_DELAY) {
            (uint64 activeBatch,) = DISTRIBUTOR.activeRoot();
            if (!stored.finalised || activeBatch < stored.finalBatch) revert RefundTooEarly(job);
        }
        amountWei = stored.fundedWei - stored.drawnWei;
        stored.refunded = true;
        stored.refundedWei = amountWei;
        emit JobRefunded(job, stored.owner, amountWei);
        TOKEN.safeTransfer(stored.owner, amountWei);
    }

    /*//////////////////////////////////////////////////////////////
                                 SETTLER
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IJobEscrow
    function draw(bytes32 job, uint64 batch, uint128 amountWei) external restricted nonReentrant {
        Job storage stored = _known(job);
        if (amountWei == 0) revert ZeroAmount();
        if (stored.refunded || block.timestamp >= stored.deadline + REFUND_DELAY) revert JobEnded(job);
        if (stored.finalised && batch > stored.finalBatch) revert JobEnded(job);
        uint64 next = DISTRIBUTOR.nextBatch();
        if (batch != next) revert WrongBatch(next);

        // After a veto the number goes back; what is drawn then still counts against the higher batch's cap.
        bool isLater = batch > stored.lastBatch;
        uint256 batchWei = isLater ? amountWei : uint256(stored.lastBatchWei) + amountWei;
        uint256 cap = stored.capPerBatchWei;
        if (batchWei > cap) revert OverBatchCap(batchWei, cap);
        uint256 drawnWei = uint256(stored.drawnWei) + amountWei;
        if (drawnWei > stored.fundedWei) revert OverBudget(drawnWei, stored.fundedWei);
        if (isLater) stored.lastBatch = batch;
        stored.lastBatchWei = uint128(batchWei);
        stored.drawnWei = uint128(drawnWei);
        emit JobDrawn(job, batch, amountWei);
        DISTRIBUTOR.fund(amountWei);
    }

    /// @inheritdoc IJobEscrow
    function finalise(bytes32 job, uint64 finalBatch) external restricted {
        Job storage stored = _known(job);
        if (stored.finalised || stored.refunded) revert JobEnded(job);
        if (finalBatch > DISTRIBUTOR.nextBatch()) revert FinalBatchOutOfRange(finalBatch);
        stored.finalised = true;
        stored.finalBatch = finalBatch;
        emit JobFinalised(job, finalBatch);
    }

    /*//////////////////////////////////////////////////////////////
                                   READ
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IJobEscrow
    function jobOf(bytes32 job) external view returns (Job memory) {
        return _known(job);
    }

    /// @inheritdoc IJobEscrow
    function remainingWei(bytes32 job) external view returns (uint256) {
        Job storage stored = _known(job);
        return stored.fundedWei - stored.drawnWei - stored.refundedWei;
    }

    /*//////////////////////////////////////////////////////////////
                                 INTERNAL
    //////////////////////////////////////////////////////////////*/

    /// @dev The job, which must exist.
    function _known(bytes32 job) private view returns (Job storage stored) {
        stored = _jobs[job];
        if (stored.owner == address(0)) revert UnknownJob(job);
    }

    /// @dev Takes `amount` from the caller and insists that exactly that arrived.
    function _pull(uint256 amount) private {
        uint256 before = TOKEN.balanceOf(address(this));
        TOKEN.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = TOKEN.balanceOf(address(this)) - before;
        if (received != amount) revert TransferMismatch(amount, received);
    }
}
