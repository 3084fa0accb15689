// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MinerRegistry} from "../../../contracts/src/MinerRegistry.sol";
import {IMinerRegistry} from "../../../contracts/src/interfaces/IMinerRegistry.sol";
import {vm} from "./Vm.sol";

/// @notice Signs registrations as a node does.
abstract contract Signing {
    function signRegistration(MinerRegistry registry, uint256 key, address payout, uint256 deadline)
        internal
        view
        returns (IMinerRegistry.Registration memory registration, bytes memory signature)
    {
        registration = IMinerRegistry.Registration(vm.addr(key), payout, deadline);
        bytes32 separator = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("AnyNode MinerRegistry"),
                keccak256("1"),
                block.chainid,
                address(registry)
            )
        );
        bytes32 message = keccak256(
            abi.encode(
                keccak256("Registration(address node,address payout,uint256 deadline)"),
                registration.node,
                payout,
                deadline
            )
        );
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, keccak256(abi.encodePacked("\x19\x01", separator, message)));
        signature = abi.encodePacked(r, s, v);
    }
}
