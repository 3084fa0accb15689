// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IRewardDistributor} from "./IRewardDistributor.sol";

/// @title IJobEscrow
/// @notice Holds the budget of each job. The settler draws what accepted work earned into the reward distributor, up
/// to a cap per batch, and can send tokens nowhere else; what is left goes back to the job's owner.
/// @dev Per job, at all times: funded = drawn + refunded + remaining. Amounts are exact wei; the ledger rounds what it
/// pays down to a gwei and carries the rest.
interface IJobEscrow {
    /// @notice What is stored of a job.
    /// @param owner Who created it and gets the refund.
    /// @param deadline Second at which the work ends; 30 days later the owner gets the rest whatever happens.
    /// @param cancelled The owner ended the job early.
    /// @param finalised The settler named the batch after which nothing more is drawn.
    /// @param refunded The rest went back; nothing remains.
    /// @param fundedWei Everything that was put in.
    /// @param drawnWei Everything that went to the distributor.
    /// @param refundedWei What went back to the owner.
    /// @param capPerBatchWei The most that may be drawn for one batch.
    /// @param lastBatchWei What was drawn for `lastBatch`.
    /// @param lastBatch The highest batch that was drawn for.
    /// @param finalBatch The batch whose active root ends the job, if `finalised`.
    struct Job {
        address owner;
        uint64 deadline;
        bool cancelled;
        bool finalised;
        bool refunded;
        uint128 fundedWei;
        uint128 drawnWei;
        uint128 capPerBatchWei;
        uint128 lastBatchWei;
        uint64 lastBatch;
        uint64 finalBatch;
        uint128 refundedWei;
    }

    /*//////////////////////////////////////////////////////////////
                                  EVENTS
    //////////////////////////////////////////////////////////////*/

    /// @notice `owner` opened the job with the hash `job`.
    event JobCreated(
        bytes32 indexed job, address indexed owner, uint128 budgetWei, uint128 capPerBatchWei, uint64 deadline
    );

    /// @notice `funder` added `amountWei` to the job.
    event JobFunded(bytes32 indexed job, address indexed funder, uint128 amountWei);

    /// @notice `amountWei` went to the distributor for `batch`.
    event JobDrawn(bytes32 indexed job, uint64 indexed batch, uint128 amountWei);

    /// @notice The owner ended the job; its deadline is now `deadline`.
    event JobCancelled(bytes32 indexed job, uint64 deadline);

    /// @notice After `finalBatch` nothing more is drawn.
    event JobFinalised(bytes32 indexed job, uint64 finalBatch);

    /// @notice What was left went back to `owner`.
    event JobRefunded(bytes32 indexed job, address indexed owner, uint128 amountWei);

    /*//////////////////////////////////////////////////////////////
                                  ERRORS
    //////////////////////////////////////////////////////////////*/

    /// @notice The hash is zero or belongs to a job already.
    error JobHashTaken(bytes32 job);

    /// @notice No job has this hash.
    error UnknownJob(bytes32 job);

    /// @notice Only the job's owner may do this.
    error NotOwner(bytes32 job);

    /// @notice A job needs a budget, and a cap per batch that is not zero.
    error ZeroAmount();

    /// @notice The deadline must lie ahead, at most a year.
    error DeadlineOutOfRange(uint64 deadline);

    /// @notice The job has ended (cancelled, finalised, refunded or past its time).
    error JobEnded(bytes32 job);

    /// @notice Draws are for the batch that is posted next.
    error WrongBatch(uint64 expected);

    /// @notice The draws for this batch would exceed the job's cap.
    error OverBatchCap(uint256 wouldBeWei, uint256 capWei);

    /// @notice The job does not hold that much.
    error OverBudget(uint256 wouldBeWei, uint256 fundedWei);

    /// @notice The final batch lies more than one ahead of the newest root.
    error FinalBatchOutOfRange(uint64 finalBatch);

    /// @notice The refund waits for the final batch's root, or for the deadline plus 30 days.
    error RefundTooEarly(bytes32 job);

    /// @notice The token moved `received` instead of `amount` (a fee on transfer, a lie, or a reentrant call).
    error TransferMismatch(uint256 amount, uint256 received);

    /*//////////////////////////////////////////////////////////////
                                  OWNER
    //////////////////////////////////////////////////////////////*/

    /// @notice Opens a job and takes its budget from the caller, who has approved it before.
    /// @param job Hash of the job's canonical description; becomes its id.
    /// @param budgetWei What the job may cost at most.
    /// @param capPerBatchWei The most that may be drawn for one batch.
    /// @param deadline Second at which the work ends; at most a year ahead.
    /// @return The job's id, equal to `job`.
    function create(bytes32 job, uint128 budgetWei, uint128 capPerBatchWei, uint64 deadline) external returns (bytes32);

    /// @notice Adds to a running job's budget. Anybody may; what is left goes to the owner.
    function fund(bytes32 job, uint128 amountWei) external;

    /// @notice Ends the work now. Work that was accepted is still paid; the rest is refunded once the settler has
    /// finalised the job, or 30 days from now.
    function cancel(bytes32 job) external;

    /// @notice Sends what is left to the owner, once the final batch's root is active or 30 days after the deadline.
    /// Anybody may send this.
    /// @return amountWei What went back.
    function refund(bytes32 job) external returns (uint128 amountWei);

    /*//////////////////////////////////////////////////////////////
                                 SETTLER
    //////////////////////////////////////////////////////////////*/

    /// @notice Moves what accepted work earned (payable and held back) into the distributor. Only the settler.
    /// @param job The job.
    /// @param batch The batch that is posted next.
    /// @param amountWei What to move.
    function draw(bytes32 job, uint64 batch, uint128 amountWei) external;

    /// @notice Ends the job: nothing is drawn for a later batch than `finalBatch`. Only the settler, once.
    /// @param job The job.
    /// @param finalBatch The batch that holds the job's last rewards; the active one if there is nothing to pay.
    function finalise(bytes32 job, uint64 finalBatch) external;

    /*//////////////////////////////////////////////////////////////
                                   READ
    //////////////////////////////////////////////////////////////*/

    /// @notice How long after the deadline the owner gets the rest whatever happens, in seconds.
    function REFUND_DELAY() external view returns (uint64);

    /// @notice How far ahead a deadline may lie, in seconds.
    function MAX_DURATION() external view returns (uint64);

    /// @notice The token that budgets are held in.
    function TOKEN() external view returns (IERC20);

    /// @notice Where draws go.
    function DISTRIBUTOR() external view returns (IRewardDistributor);

    /// @notice Everything stored of a job.
    function jobOf(bytes32 job) external view returns (Job memory);

    /// @notice What the job still holds, in wei.
    function remainingWei(bytes32 job) external view returns (uint256);
}
