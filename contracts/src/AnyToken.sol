// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title AnyToken
/// @notice What jobs are paid in. The whole supply exists from the first block; nobody can mint, pause or freeze.
/// @dev One billion tokens of 18 decimals are 1e18 gwei: a 64-bit count of gwei holds any amount.
contract AnyToken is ERC20, ERC20Permit {
    /// @notice The whole supply, in wei.
    uint256 public constant SUPPLY = 1_000_000_000 ether;

    /// @param holder Receives the whole supply.
    constructor(address holder) ERC20("AnyNode", "ANY") ERC20Permit("AnyNode") {
        _mint(holder, SUPPLY);
    }
}
