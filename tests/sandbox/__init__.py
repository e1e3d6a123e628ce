"""A Drift account to test with: nobody has a real one, so this one has to be true."""

from tests.sandbox.account import Account
from tests.sandbox.server import TOKEN, Sandbox

__all__ = ["TOKEN", "Account", "Sandbox"]
