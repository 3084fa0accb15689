// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title AnyToken
/// @notice What jobs are paid in. The whole supply exists from the first block; nobody can mint, pause or freeze.
/// @dev One billion tokens of 18 decimals are 1e18 gwei: a 64-bit count of gwei holds any amount.
contract AnyToken is ERC20, ERC20Permit {
    /// @notice What one holder has from the first block on.
    /// @param holder Who gets it.
    /// @param amountWei How much, in wei.
    struct Allocation {
        address holder;
        uint256 amountWei;
    }

    /// @notice The allocations add up to `sumWei` and not to the supply.
    error NotTheSupply(uint256 sumWei);

    /// @notice The whole supply, in wei.
    uint256 public constant SUPPLY = 1_000_000_000 ether;

    /// @param genesis Who gets how much; together the whole supply. The creating transaction shows it for ever.
    constructor(Allocation[] memory genesis) ERC20("AnyNode", "ANY") ERC20Permit("AnyNode") {
        for (uint256 i; i < genesis.length; ++i) _mint(genesis[i].holder, genesis[i].amountWei);
        if (totalSupply() != SUPPLY) revert NotTheSupply(totalSupply());
    }
}
