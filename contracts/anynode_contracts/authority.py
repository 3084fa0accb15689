"""The AccessManager as its admin uses it: each action is scheduled in the open, and executed once its delay is over.

manager = AuthorityClient.of(verifier_set)
schedule, execute = manager.build_schedule(call), manager.build_execute(call)
"""

from __future__ import annotations

from anynode_contracts.calls import Call
from anynode_contracts.clients import ContractClient


class AuthorityClient(ContractClient):
    """AccessManager."""

    NAME = "AccessManager"

    @classmethod
    def of(cls, managed: ContractClient) -> AuthorityClient:
        """The manager that a contract asks who may do what."""
        return cls(managed.w3, managed.authority())

    def build_schedule(self, call: Call) -> Call:
        """To be sent by the admin: ``call`` may be executed as soon as the admin's delay has passed (`when` = 0)."""
        return self._build("schedule", call.to, call.data, 0)

    def build_execute(self, call: Call) -> Call:
        """To be sent by the admin who has scheduled ``call``, from when its delay has passed, for a week."""
        return self._build("execute", call.to, call.data)
