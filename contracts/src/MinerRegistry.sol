// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {IMinerRegistry} from "./interfaces/IMinerRegistry.sol";

/// @title MinerRegistry
/// @notice See {IMinerRegistry}, which is the specification.
contract MinerRegistry is IMinerRegistry, EIP712 {
    /// @dev `payout` is who is paid until `changeAt`, and `nextPayout` from then on; `changeAt` is 0 if nothing waits.
    struct Miner {
        address node;
        address payout;
        uint64 changeAt;
        address nextPayout;
    }

    /*//////////////////////////////////////////////////////////////
                                 STORAGE
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IMinerRegistry
    uint64 public constant PAYOUT_CHANGE_DELAY = 48 hours;

    /// @dev What a node signs to be registered by somebody else.
    bytes32 private constant _REGISTRATION_TYPEHASH =
        keccak256("Registration(address node,address payout,uint256 deadline)");

    /// @inheritdoc IMinerRegistry
    uint32 public count;

    /// @inheritdoc IMinerRegistry
    mapping(address node => uint32 index) public indexOf;

    /// @dev Every node that was ever registered.
    mapping(uint32 index => Miner) private _miners;

    /// @dev Names the domain in which nodes sign their registrations.
    constructor() EIP712("AnyNode MinerRegistry", "1") {}

    /*//////////////////////////////////////////////////////////////
                                 REGISTER
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IMinerRegistry
    function register(address payout) external returns (uint32) {
        uint32 index = indexOf[msg.sender];
        if (index != 0) revert AlreadyRegistered(index);
        return _append(msg.sender, payout);
    }

    /// @inheritdoc IMinerRegistry
    function registerMany(Registration[] calldata registrations, bytes[] calldata signatures)
        external
        returns (uint32[] memory indices)
    {
        uint256 length = registrations.length;
        if (signatures.length != length) revert LengthMismatch();
        indices = new uint32[](length);
        for (uint256 i; i < length; ++i) {
            Registration calldata registration = registrations[i];
            uint32 index = indexOf[registration.node];
            if (index == 0) {
                _checkSignature(registration, signatures[i]);
                index = _append(registration.node, registration.payout);
            }
            indices[i] = index;
        }
    }

    /*//////////////////////////////////////////////////////////////
                               PAYOUT CHANGE
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IMinerRegistry
    function requestPayoutChange(uint32 index, address payout) external {
        if (payout == address(0)) revert ZeroAddress();
        Miner storage miner = _authorised(index);
        if (_isDue(miner)) miner.payout = miner.nextPayout;
        uint64 changeAt = uint64(block.timestamp) + PAYOUT_CHANGE_DELAY;
        miner.nextPayout = payout;
        miner.changeAt = changeAt;
        emit PayoutChangeRequested(index, payout, changeAt);
    }

    /// @inheritdoc IMinerRegistry
    function cancelPayoutChange(uint32 index) external {
        Miner storage miner = _authorised(index);
        if (miner.changeAt == 0 || _isDue(miner)) revert NoChangeWaiting(index);
        miner.changeAt = 0;
        miner.nextPayout = address(0);
        emit PayoutChangeCancelled(index);
    }

    /*//////////////////////////////////////////////////////////////
                                   READ
    //////////////////////////////////////////////////////////////*/

    /// @inheritdoc IMinerRegistry
    function infoOf(uint32 index) external view returns (address node, address payout) {
        Miner storage miner = _known(index);
        return (miner.node, _payoutOf(miner));
    }

    /// @inheritdoc IMinerRegistry
    function payoutChangeOf(uint32 index) external view returns (address payout, uint64 effectiveAt) {
        Miner storage miner = _known(index);
        if (!_isDue(miner)) (payout, effectiveAt) = (miner.nextPayout, miner.changeAt);
    }

    /*//////////////////////////////////////////////////////////////
                                 INTERNAL
    //////////////////////////////////////////////////////////////*/

    /// @dev The node key must be new; the caller has checked that.
    function _append(address node, address payout) private returns (uint32 index) {
        if (node == address(0) || payout == address(0)) revert ZeroAddress();
        index = ++count;
        indexOf[node] = index;
        Miner storage miner = _miners[index];
        miner.node = node;
        miner.payout = payout;
        emit Registered(index, node, payout);
    }

    /// @dev The node key must have signed exactly this, for this contract on this chain, and not too long ago.
    function _checkSignature(Registration calldata registration, bytes calldata signature) private view {
        if (block.timestamp > registration.deadline) revert SignatureExpired(registration.node);
        bytes32 digest = _hashTypedDataV4(
            keccak256(
                abi.encode(_REGISTRATION_TYPEHASH, registration.node, registration.payout, registration.deadline)
            )
        );
        (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure != ECDSA.RecoverError.NoError || signer != registration.node) {
            revert InvalidSignature(registration.node);
        }
    }

    /// @dev The miner, who must be registered.
    function _known(uint32 index) private view returns (Miner storage miner) {
        miner = _miners[index];
        if (miner.node == address(0)) revert UnknownIndex(index);
    }

    /// @dev The miner, if the caller is its node key or its payout account.
    function _authorised(uint32 index) private view returns (Miner storage miner) {
        miner = _known(index);
        if (msg.sender != miner.node && msg.sender != _payoutOf(miner)) revert NotNodeOrPayout(index);
    }

    /// @dev Who is paid now.
    function _payoutOf(Miner storage miner) private view returns (address) {
        return _isDue(miner) ? miner.nextPayout : miner.payout;
    }

    /// @dev Whether a payout change was asked for and its wait is over.
    function _isDue(Miner storage miner) private view returns (bool) {
        uint64 changeAt = miner.changeAt;
        return changeAt != 0 && block.timestamp >= changeAt;
    }
}
