// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title IMinerRegistry
/// @notice Gives every node key one index for ever. Indices are handed out in order, starting at 1, and are never
/// reused: a reward that belongs to an index belongs to the same node key for as long as the chain lives.
/// @dev The node key signs its registration (EIP-712), so anybody can pay the gas for it; a newcomer needs neither
/// ETH nor tokens. Nobody administers this contract.
interface IMinerRegistry {
    /// @notice A node key's wish to be registered, signed by the node key.
    /// @param node The node key (secp256k1 address) that gets the index.
    /// @param payout The account that rewards go to.
    /// @param deadline The last second at which the signature is accepted.
    struct Registration {
        address node;
        address payout;
        uint256 deadline;
    }

    /*//////////////////////////////////////////////////////////////
                                  EVENTS
    //////////////////////////////////////////////////////////////*/

    /// @notice `node` received `index`; its rewards go to `payout`.
    event Registered(uint32 indexed index, address indexed node, address payout);

    /// @notice From `effectiveAt` on, the rewards of `index` go to `payout`, unless that is cancelled before.
    event PayoutChangeRequested(uint32 indexed index, address payout, uint64 effectiveAt);

    /// @notice The waiting payout change of `index` was withdrawn.
    event PayoutChangeCancelled(uint32 indexed index);

    /*//////////////////////////////////////////////////////////////
                                  ERRORS
    //////////////////////////////////////////////////////////////*/

    /// @notice The node key already has this index.
    error AlreadyRegistered(uint32 index);

    /// @notice No node key has this index.
    error UnknownIndex(uint32 index);

    /// @notice The zero address can be neither a node key nor a payout account.
    error ZeroAddress();

    /// @notice The registration of `node` was presented after its deadline.
    error SignatureExpired(address node);

    /// @notice The signature is not one of `node` over this registration, on this chain, for this contract.
    error InvalidSignature(address node);

    /// @notice There must be one signature per registration.
    error LengthMismatch();

    /// @notice Only the node key or its payout account may do this.
    error NotNodeOrPayout(uint32 index);

    /// @notice No payout change is waiting for this index.
    error NoChangeWaiting(uint32 index);

    /*//////////////////////////////////////////////////////////////
                                 REGISTER
    //////////////////////////////////////////////////////////////*/

    /// @notice Registers the caller as a node key.
    /// @param payout The account that rewards go to.
    /// @return index The caller's index.
    function register(address payout) external returns (uint32 index);

    /// @notice Registers many node keys at once; anybody may send this.
    /// @dev A node key that is registered already keeps its index and its payout, and the call goes on: nobody can
    /// spoil a collection by registering one of its members first.
    /// @param registrations What the node keys signed.
    /// @param signatures One signature per registration, in the same order.
    /// @return indices The index of each node key, in the same order.
    function registerMany(Registration[] calldata registrations, bytes[] calldata signatures)
        external
        returns (uint32[] memory indices);

    /*//////////////////////////////////////////////////////////////
                               PAYOUT CHANGE
    //////////////////////////////////////////////////////////////*/

    /// @notice Asks that the rewards of `index` go to `payout` 48 hours from now. Replaces a waiting change and
    /// starts the 48 hours anew. Only the node key or its payout account.
    /// @dev The wait protects against a stolen node key, which lives on a machine: the payout account, which need
    /// not, sees the request and cancels it.
    function requestPayoutChange(uint32 index, address payout) external;

    /// @notice Withdraws the waiting payout change. Only the node key or its payout account.
    function cancelPayoutChange(uint32 index) external;

    /*//////////////////////////////////////////////////////////////
                                   READ
    //////////////////////////////////////////////////////////////*/

    /// @notice How long a payout change waits, in seconds.
    function PAYOUT_CHANGE_DELAY() external view returns (uint64);

    /// @notice How many node keys are registered; the highest index.
    function count() external view returns (uint32);

    /// @notice The index of `node`, or 0 if it is not registered.
    function indexOf(address node) external view returns (uint32);

    /// @notice The node key of `index` and the account its rewards go to now.
    function infoOf(uint32 index) external view returns (address node, address payout);

    /// @notice The waiting payout change of `index`; zeros if none is waiting.
    function payoutChangeOf(uint32 index) external view returns (address payout, uint64 effectiveAt);
}
