// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @notice A token that anyone can mint, to build worse ones upon.
contract PlainToken is ERC20 {
    constructor() ERC20("Plain", "PLAIN") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}

/// @notice Keeps a hundredth of every transfer.
contract FeeToken is PlainToken {
    function _update(address from, address to, uint256 amount) internal override {
        if (from != address(0) && to != address(0)) {
            super._update(from, address(this), amount / 100);
            amount -= amount / 100;
        }
        super._update(from, to, amount);
    }
}

/// @notice Refuses some receivers, by reverting or by returning false.
contract RefusingToken is PlainToken {
    enum Refusal {
        None,
        Revert,
        ReturnFalse,
        WasteGas
    }

    mapping(address => Refusal) public refusal;

    function refuse(address to, Refusal how) external {
        refusal[to] = how;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        Refusal how = refusal[to];
        require(how != Refusal.Revert, "blacklisted");
        if (how == Refusal.ReturnFalse) return false;
        if (how == Refusal.WasteGas) assembly { invalid() }
        return super.transfer(to, amount);
    }
}

/// @notice Returns nothing from `transfer` and `transferFrom`, as some old tokens do.
contract SilentToken {
    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function approve(address spender, uint256 amount) external {
        allowance[msg.sender][spender] = amount;
    }

    function transfer(address to, uint256 amount) external {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
    }

    function transferFrom(address from, address to, uint256 amount) external {
        allowance[from][msg.sender] -= amount;
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// @notice Calls back before it moves anything, once, and tells whether that call was refused.
contract ReentrantToken is PlainToken {
    address public target;
    bytes public data;
    bool public refused;

    function callBack(address target_, bytes calldata data_) external {
        (target, data) = (target_, data_);
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (target != address(0)) {
            address called = target;
            target = address(0);
            (bool success,) = called.call(data);
            refused = !success;
        }
        super._update(from, to, amount);
    }
}
