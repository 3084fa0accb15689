// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MinerRegistry} from "../../../contracts/src/MinerRegistry.sol";
import {IMinerRegistry} from "../../../contracts/src/interfaces/IMinerRegistry.sol";
import {vm} from "./Vm.sol";

/// @notice Signs EIP-712 structs, written for clearness; the contracts' digests must be the same.
abstract contract Signing {
    /// @dev What is signed for the struct hash `message` in the domain `name`, version 1, of `chainId` and `verifying`.
    function typedDigest(string memory name, uint256 chainId, address verifying, bytes32 message)
        internal
        pure
        returns (bytes32)
    {
        bytes32 separator = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256("1"),
                chainId,
                verifying
            )
        );
        return keccak256(abi.encodePacked("\x19\x01", separator, message));
    }

    function sign(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    /// @dev As a node signs it.
    function signRegistration(MinerRegistry registry, uint256 key, address payout, uint256 deadline)
        internal
        view
        returns (IMinerRegistry.Registration memory registration, bytes memory signature)
    {
        registration = IMinerRegistry.Registration(vm.addr(key), payout, deadline);
        bytes32 message = keccak256(
            abi.encode(
                keccak256("Registration(address node,address payout,uint256 deadline)"),
                registration.node,
                payout,
                deadline
            )
        );
        signature = sign(key, typedDigest("AnyNode MinerRegistry", block.chainid, address(registry), message));
    }
}
